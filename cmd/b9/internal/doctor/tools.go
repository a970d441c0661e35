package doctor

import (
	"context"
	"io/fs"
	"net"
	"strings"
	"time"

	"b9.build/b9/engine/tool"
)

// hostTools are the programs that b9 calls. A missing one is a failure when
// needed is set, else a warning.
var hostTools = [...]struct {
	program string
	use     string
	needed  bool
}{
	{"mke2fs", "makes ext4 file systems", true},
	{"e2fsck", "checks ext4 file systems", true},
	{"resize2fs", "resizes ext4 file systems", true},
	{"mmdebstrap", "makes Debian root file systems", false},
	{"apt-get", "fetches the packages of Debian root file systems", false},
	{"dpkg", "unpacks the packages of Debian root file systems", false},
	{"gpgv", "verifies the Debian archive", false},
	{"qemu-system-x86_64", "boots what was built", false},
	{"fsck.vfat", "checks vfat file systems", false},
	{"mkfs.xfs", "makes xfs file systems", false},
	{"xfs_repair", "checks xfs file systems", false},
	{"btrfs", "checks btrfs file systems", false},
	{"mkfs.erofs", "makes erofs file systems", false},
	{"mkfs.f2fs", "makes f2fs file systems", false},
	{"sbsign", "signs programs of UEFI", false},
}

// keyring is what verifies Debian's archive.
const keyring = "usr/share/keyrings/debian-archive-keyring.gpg"

// tools lists what is missing, or in one line all that is there.
func (d *Host) tools() []check {
	var missing []check
	var found []string
	for _, t := range hostTools {
		if _, err := d.LookPath(t.program); err == nil {
			found = append(found, t.program)
			continue
		}
		lack := warn
		if t.needed {
			lack = fail
		}
		missing = append(missing, lack("tool "+t.program, "not installed; it "+t.use, "apt-get install "+tool.Package(t.program)))
	}
	if _, err := fs.Stat(d.Root, keyring); err != nil {
		missing = append(missing, warn("Debian's keys", "/"+keyring+" is not there; it verifies Debian's archive", "apt-get install debian-archive-keyring"))
	}
	return append([]check{ok("tools", strings.Join(found, ", "))}, missing...)
}

// libvirtSockets are where the daemons that can run LXC containers listen.
var libvirtSockets = [...]string{"/run/libvirt/libvirt-sock", "/run/libvirt/virtlxcd-sock"}

// lxcDriver matches libvirt's driver for containers.
const lxcDriver = "usr/lib/*/libvirt/connection-driver/libvirt_driver_lxc.so"

func (d *Host) libvirtd(ctx context.Context) check {
	driver, _ := fs.Glob(d.Root, lxcDriver) // the pattern is well-formed
	for _, s := range libvirtSockets {
		if d.Dial(ctx, s) != nil {
			continue
		}
		if len(driver) == 0 && strings.HasSuffix(s, "libvirt-sock") {
			return warn("libvirtd", "listens at "+s+", but its LXC driver is not installed", "apt-get install libvirt-daemon-driver-lxc, then restart libvirtd")
		}
		return ok("libvirtd", "listens at "+s)
	}
	detail := "nothing listens at " + strings.Join(libvirtSockets[:], " or ")
	if d.LibvirtURI != "" && d.LibvirtURI != "lxc:///" {
		detail += " (libvirt.uri is " + d.LibvirtURI + ")"
	}
	return warn("libvirtd", detail, "only the libvirt-lxc backend needs it: apt-get install libvirt-daemon libvirt-daemon-driver-lxc, then start libvirtd")
}

// dialSocket reports whether somebody listens at a Unix socket.
func dialSocket(ctx context.Context, socket string) error {
	dialer := net.Dialer{Timeout: 2 * time.Second}
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	return conn.Close()
}
