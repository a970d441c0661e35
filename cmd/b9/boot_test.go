package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// machineSystem is a system for the disk of docs/build-files.md. A program that tells
// who the machine is and ends it comes last of all at boot. What a script has made that
// names one machine is forgotten by debian_machine().
const machineSystem = `
load("@b9//debian.star", "debian_machine")
system = debian_machine(
    name = "system",
    suite = "bookworm",
    kernel = "cloud",
    size = "1400M",
    packages = ["systemd-boot-efi", "grub-common", "grub-pc-bin", "openssh-server", "ssl-cert"],
    hostname = "box",
    users = {"ann": {"groups": ["adm"], "sudo": True}},
    locale = "de_DE.UTF-8",
    timezone = "Europe/Berlin",
    keyboard = "de:nodeadkeys",
    shares = {"/src": "src"},
    script = [
        "mkdir /etc/nvme; echo 0123 > /etc/nvme/hostid; ssh-keygen -A; systemd-machine-id-setup",
        "cp /src/tell.sh /; cp /src/tell.service /etc/systemd/system",
        # On a host under load a device can come later than the 90 s for which systemd waits.
        "mkdir /etc/systemd/system.conf.d; printf '[Manager]\\nDefaultDeviceTimeoutSec=20min\\n' >/etc/systemd/system.conf.d/late.conf",
        "mkdir -p /etc/systemd/system/multi-user.target.wants; ln -s ../tell.service /etc/systemd/system/multi-user.target.wants",
    ],
)
load("@b9//boot.star", small_disk = "bootable")
small_disk(
    lxc_exec(
        images = {"/": system},
        shares = {"/src": "src"},
        script = [
            "mkdir -p /etc/dracut.conf.d",
            """echo 'hostonly="no" compress="gzip -1" add_dracutmodules+=" systemd-veritysetup " add_drivers+=" dm-verity " install_items+=" /etc/systemd/system.conf.d/late.conf "' >/etc/dracut.conf.d/verity.conf""",
            "apt-get update; apt-get install --yes --no-install-recommends dracut; apt-get clean",
            "rm /sbin/init; install /src/init.sh /sbin/init",
        ],
    )["/"],
    name = "small",
    loader = "uki",
    cmdline = "b9.test=uki no_timer_check panic=-1 init=/sbin/init",
    console = ["tty0", "ttyS0"],
    secure_boot = {"key": secret(file = "db.key"), "cert": "db.pem"},
    verity = True,
)
` + otherRoots

// otherRoots are the same system in other file systems, from which GRUB, which has to read
// them, starts nothing but what tells so.
const otherRoots = `
packed = lxc_exec(
    images = {"/": system},
    shares = {"/src": "src", "/mnt": writable()},
    network = "none",
    script = [
        "install -D /src/init.sh /usr/local/sbin/tell; mkdir -p /srv/data; echo in a subvolume >/srv/data/file",
        "tar --one-file-system --xattrs --acls --exclude=./mnt/* --exclude=./src --exclude=./usr/share/doc --exclude=./usr/share/locale --exclude=./var/cache/apt/* -cf /mnt/root.tar .",
    ],
)
[small_disk(
    image(fs = kind, content = packed["/mnt"]["root.tar"], content_format = "tar", free = "64M", **more),
    name = "from_" + kind,
    firmware = "bios",
    cmdline = "b9.test=%s no_timer_check panic=-1 init=/usr/local/sbin/tell" % kind,
) for kind, more in [("xfs", {}), ("btrfs", {"subvolumes": {"srv/data": "rw"}})]]
`

// smallInit is all that the disk of unified kernel images starts.
const smallInit = `#!/bin/sh
mountpoint -q /proc || mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sysfs /sys
exec >/dev/ttyS1
tell() { printf '\nb9: %s %s\n' "$@"; }
[ -d /sys/firmware/efi ] && tell firmware uefi
for word in $(cat /proc/cmdline); do tell "${word%%=*}" "$word"; done
tell version $(uname -r)
tell mounted $(findmnt -no SOURCE,FSTYPE / | tr -s ' ' ,)
tell secure $(dmesg | grep -c 'Secure boot enabled')
echo o >/proc/sysrq-trigger
sleep 1000
`

const tellService = `[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh /tell.sh
ExecStopPost=systemctl poweroff --force
`

// On a serial line of its own: that of the console is hung up for a login.
const tellScript = `exec >/dev/ttyS1
tell() { printf '\nb9: %s %s\n' "$@"; }
of() { tell $1 $(sha256sum <$2 | head -c 16); }
[ -d /sys/firmware/efi ] && tell firmware uefi || tell firmware bios
tell sshd $(systemctl is-active ssh)
tell failed $(systemctl --failed --no-legend | wc -l)
of machine-id /etc/machine-id
of host-key /etc/ssh/ssh_host_ed25519_key.pub
of certificate /etc/ssl/certs/ssl-cert-snakeoil.pem
of nvme /etc/nvme/hostid
of seed /var/lib/systemd/random-seed
tell host $(hostname)
tell groups $(id -nG ann | tr ' ' ,)
tell sudo $(runuser -u ann -- sudo -n id -un)
tell locales $(locale -a | grep -c de_DE)
tell zone $(readlink -f /etc/localtime | cut -d/ -f5-)
tell keyboard $(systemctl is-active keyboard-setup)
tell keymap $(find /etc/console-setup/cached_setup_terminal.sh -newer /etc/default/keyboard -newer /etc/default/console-setup -printf compiled)
tell networkd $(systemctl is-active systemd-networkd)
tell resolver $(readlink /etc/resolv.conf)
tell login $(systemctl is-active serial-getty@ttyS0)
tell root-key $(cut -d' ' -f2 /root/.ssh/authorized_keys)
tell megabytes $(($(df -k --output=size / | tail -1) / 1024))
`

// TestBoots starts the disk that the chapter on boot loaders makes, by UEFI and by BIOS:
// each gets to the end of its boot with nothing failed, and the two machines have no
// identity in common though the image is one. A second disk, a signed unified kernel image
// and a root that is checked as it is read, starts by a firmware with secure boot, which
// refuses the first one. GRUB starts the same system from an xfs and a btrfs.
func TestBoots(t *testing.T) {
	firmware := needMachine(t)
	key, cert, secure := secureFirmware(t)
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"db.key": key, "db.pem": cert, "b9.toml": "", "B9BUILD.star": machineSystem + bootRecipe(t), "src/tell.sh": tellScript, "src/tell.service": tellService, "src/init.sh": smallInit,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	built := b9(t, "-C", dir, "--store", t.TempDir(), "build", ":bootable", ":small", ":from_xfs", ":from_btrfs")
	// The BIOS machine has a larger disk than was built, and gets its settings as credentials.
	large := filepath.Join(dir, "large.raw")
	if out, err := exec.Command("cp", "--sparse=always", filepath.Join(dir, built.Results[0].Path), large).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Truncate(large, 6<<30); err != nil {
		t.Fatal(err)
	}
	disks := []string{filepath.Join(dir, built.Results[0].Path), large}
	for _, r := range built.Results[1:] {
		disks = append(disks, filepath.Join(dir, r.Path))
	}
	var told [5]map[string]string
	var all errgroup.Group
	for i, flags := range [][]string{firmware, credentials("ssh.authorized_keys.root=ssh-ed25519 AAAA root", "firstboot.timezone=Asia/Tokyo"), secure, nil, nil} {
		all.Go(func() (err error) {
			told[i], err = boot(t, disks[i], flags...)
			return err
		})
	}
	all.Go(func() error { return refused(t, disks[0], secure...) })
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	uefi, bios, small := told[0], told[1], told[2]
	for i, kind := range []string{"xfs", "btrfs"} {
		if m := told[3+i]; m["b9.test"] != "b9.test="+kind || !strings.HasSuffix(m["mounted"], ","+kind) || m["firmware"] != "" {
			t.Errorf("a root in %s: %v", kind, m)
		}
	}
	if small["firmware"] != "uefi" || small["b9.test"] != "b9.test=uki" || small["mounted"] != "/dev/mapper/root,ext4" || small["secure"] != "1" || len(small["roothash"]) != len("roothash=")+64 || small["console"] != "console=ttyS0" || small["version"] == "" {
		t.Errorf("a signed unified kernel image with a checked root: %v", small)
	}
	if uefi["firmware"] != "uefi" || bios["firmware"] != "bios" {
		t.Errorf("started by %q and %q", uefi["firmware"], bios["firmware"])
	}
	empty := "e3b0c44298fc1c14" // of nothing
	for _, name := range []string{"machine-id", "host-key", "certificate", "nvme", "seed"} {
		if uefi[name] == bios[name] || uefi[name] == empty || bios[name] == empty || len(uefi[name]) != len(empty) || len(bios[name]) != len(empty) {
			t.Errorf("%s: %q and %q", name, uefi[name], bios[name])
		}
	}
	if uefi["zone"] != "Europe/Berlin" || bios["zone"] != "Asia/Tokyo" || uefi["root-key"] != "" || bios["root-key"] != "AAAA" {
		t.Errorf("zones %q and %q, keys of root %q and %q: want those of the image, and of credentials", uefi["zone"], bios["zone"], uefi["root-key"], bios["root-key"])
	}
	if n, err := strconv.Atoi(bios["megabytes"]); err != nil || n < 4500 {
		t.Errorf("on a disk of 6 GiB the root has %q MB", bios["megabytes"])
	}
	for _, m := range []map[string]string{uefi, bios} {
		for name, want := range map[string]string{
			"host": "box", "groups": "ann,adm", "sudo": "root", "locales": "1", "keyboard": "active", "keymap": "compiled", "networkd": "active",
			"resolver": "../run/systemd/resolve/stub-resolv.conf", "login": "active",
		} {
			if m[name] != want {
				t.Errorf("%s: %s is %q, want %q", m["firmware"], name, m[name], want)
			}
		}
		if m["sshd"] != "active" || m["failed"] != "0" {
			t.Errorf("%s: sshd is %q, %q units failed", m["firmware"], m["sshd"], m["failed"])
		}
	}
}

// credentials are QEMU's flags that hand systemd credentials, each NAME=VALUE.
func credentials(values ...string) []string {
	var flags []string
	for _, v := range values {
		flags = append(flags, "-smbios", "type=11,value=io.systemd.credential:"+v)
	}
	return flags
}

// needMachine skips the test where no machine can be started or built, and returns the
// flags of one with UEFI.
func needMachine(t *testing.T) []string {
	t.Helper()
	if os.Getenv(longTests) == "" {
		t.Skip("installs and boots Debian: set B9_LONG_TESTS=1, as `make test` does")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for _, name := range []string{"qemu-system-x86_64", "mmdebstrap"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs %s", name)
		}
	}
	var flags []string
	for _, name := range []string{"OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"} {
		file := filepath.Join("/usr/share/OVMF", name)
		if _, err := os.Stat(file); err != nil {
			t.Skipf("needs the Debian package ovmf: %v", err)
		}
		flags = append(flags, "-drive", "if=pflash,format=raw,file="+file)
	}
	return flags
}

// secureFirmware returns the key and certificate that Debian's package ovmf has for tests,
// and QEMU's flags of a machine whose firmware starts what they have signed.
func secureFirmware(t *testing.T) (key, cert string, flags []string) {
	t.Helper()
	const name = "/usr/share/ovmf/PkKek-1-snakeoil"
	plain, err := exec.Command("openssl", "rsa", "-in", name+".key", "-passin", "pass:snakeoil").Output()
	if err != nil {
		t.Fatalf("openssl: %v", err)
	}
	public, err := os.ReadFile(name + ".pem")
	if err != nil {
		t.Fatal(err)
	}
	return string(plain), string(public), []string{
		"-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
		"-drive", "if=pflash,format=raw,unit=1,file=/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd",
	}
}

// refused starts a machine and waits until its firmware says that it may not start what
// the disk has.
func refused(t *testing.T, disk string, flags ...string) error {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append([]string{
		"-m", "512", "-cpu", "max", "-accel", "tcg", "-display", "none", "-nic", "none", "-monitor", "none", "-snapshot",
		"-serial", "stdio", "-drive", "if=virtio,format=raw,file=" + disk,
	}, flags...)...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return err
	}
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan() && !strings.Contains(lines.Text(), "Access Denied"); {
		said.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "Linux version") {
			err = errors.New("a machine with secure boot started what nobody had signed")
		}
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("the firmware refused nothing; it said\n%s", said.String())
	}
	cancel()
	_ = cmd.Wait() // it was killed
	return err
}

// bootRecipe is the build file of the chapter.
func bootRecipe(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "build-files.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, chapter, _ := strings.Cut(string(doc), "\n## A boot loader\n")
	_, recipe, _ := strings.Cut(chapter, "```python\n")
	recipe, _, found := strings.Cut(recipe, "\n```\n")
	if !found || !strings.Contains(recipe, `name = "bootable"`) {
		t.Fatal("docs/build-files.md has no such recipe")
	}
	// Without KVM, a kernel that waits for its clock on a machine under load can give up.
	return strings.Replace(recipe, `name = "bootable",`, `name = "bootable", cmdline = "no_timer_check panic=-1",`, 1)
}

// patience is for a machine under load: a boot takes a minute on one with nothing else to do.
const patience = 15 * time.Minute

// boot starts a machine, without network and with nothing written to the disk, waits
// for its end, and returns what it told on its serial line.
func boot(t *testing.T, disk string, flags ...string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir := t.TempDir()
	console, line := filepath.Join(dir, "console"), filepath.Join(dir, "line")
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append([]string{
		"-m", "1024", "-smp", "1", "-cpu", "max", "-accel", "tcg", "-display", "none", "-nic", "none", "-no-reboot", "-snapshot",
		"-serial", "file:" + console, "-serial", "file:" + line, "-drive", "if=virtio,format=raw,file=" + disk,
	}, flags...)...)
	out, err := cmd.CombinedOutput()
	told := make(map[string]string)
	text, rerr := os.ReadFile(line)
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) == 3 && words[0] == "b9:" {
			told[words[1]] = words[2]
		}
	}
	if err = errors.Join(err, rerr); err != nil || len(told) == 0 {
		said, _ := os.ReadFile(console) // may be missing
		lines := strings.Split(string(said), "\n")
		t.Logf("qemu: %v: %s\n%s", err, out, strings.Join(lines[max(0, len(lines)-40):], "\n"))
	}
	return told, err
}
