package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// machineSystem is a system for the disk of docs/build-files.md. A program that tells
// who the machine is and ends it comes last of all at boot. What a script has made that
// names one machine is forgotten by cleanup().
const machineSystem = `
load("@b9//debian.star", "cleanup", "check_identities")
base = bootstrap(
    suite = "bookworm",
    label = "root",
    size = "1400M",
    packages = ["systemd-sysv", "udev", "linux-image-cloud-amd64", "initramfs-tools", "systemd-boot-efi", "grub-common", "grub-pc-bin", "openssh-server", "ssl-cert", "login"],
)
system = lxc_exec(
    images = {"/": base},
    shares = {"/src": "src"},
    script = [
        "mkdir /etc/nvme; echo 0123 > /etc/nvme/hostid; ssh-keygen -A; systemd-machine-id-setup",
        "cp /src/tell.sh /; cp /src/tell.service /etc/systemd/system",
        "mkdir -p /etc/systemd/system/multi-user.target.wants; ln -s ../tell.service /etc/systemd/system/multi-user.target.wants",
        "echo 'LABEL=root / ext4 defaults 0 1' > /etc/fstab",
    ] + cleanup() + check_identities(),
)["/"]
load("@b9//boot.star", small_disk = "bootable")
small_disk(
    lxc_exec(images = {"/": base}, shares = {"/src": "src"}, script = ["rm /sbin/init; install /src/init.sh /sbin/init"])["/"],
    name = "small",
    loader = "uki",
    cmdline = "b9.test=uki",
    console = ["tty0", "ttyS0"],
)
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
`

// TestBoots starts the disk that the chapter on boot loaders makes, by UEFI and by BIOS:
// each gets to the end of its boot with nothing failed, and the two machines have no
// identity in common though the image is one. A second disk starts by a unified kernel
// image.
func TestBoots(t *testing.T) {
	firmware := needMachine(t)
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"b9.toml": "", "B9BUILD.star": machineSystem + bootRecipe(t), "src/tell.sh": tellScript, "src/tell.service": tellService, "src/init.sh": smallInit,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	built := b9(t, "-C", dir, "--store", t.TempDir(), "build", ":bootable", ":small")
	var told [3]map[string]string
	var all errgroup.Group
	for i, flags := range [][]string{firmware, nil, firmware} {
		all.Go(func() (err error) {
			told[i], err = boot(t, filepath.Join(dir, built.Results[i/2].Path), flags...)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	uefi, bios, small := told[0], told[1], told[2]
	if small["firmware"] != "uefi" || small["b9.test"] != "b9.test=uki" || small["mounted"] != "/dev/vda2,ext4" || !strings.HasPrefix(small["root"], "root=PARTUUID=") || small["console"] != "console=ttyS0" || small["version"] == "" {
		t.Errorf("a unified kernel image: %v", small)
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
	for _, m := range []map[string]string{uefi, bios} {
		if m["sshd"] != "active" || m["failed"] != "0" {
			t.Errorf("%s: sshd is %q, %q units failed", m["firmware"], m["sshd"], m["failed"])
		}
	}
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
	return recipe
}

// boot starts a machine, without network and with nothing written to the disk, waits
// for its end, and returns what it told on its serial line.
func boot(t *testing.T, disk string, flags ...string) (map[string]string, error) {
	const patience = 15 * time.Minute // a minute on a machine with nothing else to do
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
