// Package vmtest makes the smallest guests that tests can start: a boot sector, which
// starts in no time, and a Linux with busybox, an ssh server and QEMU's guest agent, which is
// there after some seconds without KVM.
package vmtest

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Endings of a boot sector.
const (
	Off   = "\xba\x04\x06\xb8\x00\x20\xef" // switches a machine of type q35 off
	Stays = "\xf4\xeb\xfd"                 // halts
)

// BootSector is a disk that says a text on the first serial line, and ends so.
func BootSector(text, ending string) []byte {
	code := []byte{
		0x31, 0xc0, 0x8e, 0xd8, // ds = 0
		0xba, 0xf8, 0x03, // dx = COM1
		0xbe, 0x00, 0x7c, // si = the text behind the code
		0xfc, 0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8, // each byte of it to dx
	}
	code = append(code, ending+Stays...)
	code[8] = byte(len(code))
	sector := make([]byte, 1<<20)
	copy(sector, append(code, text+"\x00"...))
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}

// modules are what the guest needs of Debian's kernel for the cloud, in the order in which
// they are loaded.
var modules = [...]string{
	"virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci",
	"failover", "net_failover", "virtio_net", "virtio_console", "virtio_blk",
}

// initScript is the guest's first process. It lets the key in that a credential of
// systemd's names, as systemd does.
const initScript = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/usr/sbin:/sbin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts; mount -t devpts pts /dev/pts
for m in $(cat /modules); do insmod /lib/modules/$m.ko; done
ip link set lo up
if ip link set eth0 up; then ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2; fi
tr '\000' '\n' </sys/firmware/dmi/tables/DMI | sed -n 's/^.*io.systemd.credential:ssh.authorized_keys.root=//p' >/root/.ssh/authorized_keys
chmod 700 /root/.ssh
/usr/sbin/sshd
grep -q noagent /proc/cmdline || for port in /dev/vport*; do qemu-ga -m virtio-serial -p $port -t /tmp & done
if [ -b /dev/vda ]; then head -c 512 /dev/vda | tr -d '\000' | head -n 1; fi
echo guest is up
while true; do setsid cttyhack sh -i; done
`

// shutdownScript is shutdown(8) as systemd has it, for what of it tests ask.
const shutdownScript = `#!/bin/sh
case $1 in
-r) reboot -f ;;
-P) poweroff -f ;;
esac
`

// Linux writes the kernel and the initial root file system of the guest into dir, as
// "kernel" and "initrd". It skips the test where the host has not what it is made of.
func Linux(t *testing.T, dir string) {
	t.Helper()
	kernel, release := debianKernel(t)
	files := archive{}
	files.host(t, "/bin/busybox", "busybox-static")
	for _, program := range [][2]string{{"/usr/sbin/sshd", "openssh-server"}, {"/usr/sbin/qemu-ga", "qemu-guest-agent"}} {
		files.host(t, program[0], program[1])
		files.libraries(t, program[0])
	}
	files.modules(t, filepath.Join("/lib/modules", release), modules[:])
	key := filepath.Join(t.TempDir(), "host_key")
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Skipf("ssh-keygen, of the Debian package openssh-client: %v: %s", err, out)
	}
	files.host(t, key, "")
	files["host_key"] = entry{0o100600, files[strings.TrimPrefix(key, "/")].data}
	for name, text := range map[string]string{
		"init": initScript, "sbin/shutdown": shutdownScript, "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/bin/false\n", "etc/group": "root:x:0:\n",
		"etc/shells": "/bin/sh\n", "etc/ssh/sshd_config": "HostKey /host_key\nStrictModes no\n",
	} {
		files[name] = entry{0o100755, []byte(text)}
	}
	for _, name := range []string{"proc", "sys", "dev", "tmp", "root", "root/.ssh", "run", "run/sshd", "var", "var/run"} {
		files[name] = entry{mode: 0o040755}
	}
	files.writeGuest(t, dir, kernel)
}

// debianKernel is the newest of Debian's kernels for the cloud that is installed.
func debianKernel(t *testing.T) (path, release string) {
	t.Helper()
	kernels, _ := filepath.Glob("/boot/vmlinuz-*-cloud-amd64")
	if len(kernels) == 0 {
		t.Skip("needs the Debian package linux-image-cloud-amd64")
	}
	path = slices.Max(kernels)
	return path, strings.TrimPrefix(filepath.Base(path), "vmlinuz-")
}

// writeGuest writes a kernel and the archive into dir.
func (a archive) writeGuest(t *testing.T, dir, kernel string) {
	t.Helper()
	data, err := os.ReadFile(kernel)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"kernel": data, "initrd": a.bytes()} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// archive is a cpio archive of the kind that Linux unpacks: files by name.
type archive map[string]entry

type entry struct {
	mode uint32
	data []byte
}

func (a archive) host(t *testing.T, path, pkg string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Skipf("needs the Debian package %s: %v", pkg, err)
	}
	a[strings.TrimPrefix(path, "/")] = entry{0o100755, data}
}

// libraries adds what a program of the host is linked with.
func (a archive) libraries(t *testing.T, program string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ldd", program).Output()
	if err != nil {
		t.Fatalf("ldd %s: %v", program, err)
	}
	for _, found := range regexp.MustCompile(`(?:=> |^\s*)(/\S+) \(`).FindAllStringSubmatch(string(out), -1) {
		a.host(t, found[1], "")
	}
	for _, found := range regexp.MustCompile(`\n\s*(/\S+) \(`).FindAllStringSubmatch(string(out), -1) {
		a.host(t, found[1], "")
	}
}

// modules adds some of the kernel's.
func (a archive) modules(t *testing.T, dir string, modules []string) {
	t.Helper()
	var loaded []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimSuffix(filepath.Base(path), ".ko")
		if err != nil || d.IsDir() || !slices.Contains(modules, name) {
			return err
		}
		a.host(t, path, "linux-image-cloud-amd64")
		a["lib/modules/"+name+".ko"] = a[strings.TrimPrefix(path, "/")]
		delete(a, strings.TrimPrefix(path, "/"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range modules {
		if _, ok := a["lib/modules/"+name+".ko"]; ok {
			loaded = append(loaded, name)
		}
	}
	a["modules"] = entry{0o100644, []byte(strings.Join(loaded, "\n") + "\n")}
}

// bytes is the archive in the form "newc", directories before what is in them.
func (a archive) bytes() []byte {
	for name := range a {
		for up := filepath.Dir(name); up != "."; up = filepath.Dir(up) {
			if _, ok := a[up]; !ok {
				a[up] = entry{mode: 0o040755}
			}
		}
	}
	var names []string
	for name := range a {
		names = append(names, name)
	}
	slices.Sort(names)
	var b bytes.Buffer
	pad := func() { b.Write(make([]byte, -b.Len()&3)) }
	add := func(number int, name string, e entry) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", number, e.mode, 0, 0, 1, 0, len(e.data), 0, 0, 0, 0, len(name)+1, 0)
		b.WriteString(name + "\x00")
		pad()
		b.Write(e.data)
		pad()
	}
	for i, name := range names {
		add(i+1, name, a[name])
	}
	add(0, "TRAILER!!!", entry{})
	return b.Bytes()
}
