package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/engine/container"
)

// fakeBackend answers Probe as told; nothing else of it is called.
type fakeBackend struct {
	container.Backend
	name string
	err  error
}

func (f fakeBackend) Name() string { return f.name }
func (f fakeBackend) Probe(context.Context) (container.Features, error) {
	return container.Features{Archs: []string{"x86_64"}, Networks: []string{"host", "none"}, TTY: true, Version: "v1"}, f.err
}

// healthy is a machine where everything is well.
func healthy(t *testing.T) Host {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	return Host{
		StoreDir: t.TempDir(),
		Backend:  "auto",
		Backends: []container.Backend{fakeBackend{name: "embedded"}, fakeBackend{name: "libvirt-lxc"}},
		Root: fstest.MapFS{
			"proc/meminfo":                          file("MemTotal: 4194304 kB\n"),
			"proc/filesystems":                      file("nodev\ttmpfs\n\text4\nnodev\toverlay\n"),
			"proc/sys/kernel/osrelease":             file("6.1.0-test\n"),
			"lib/modules/6.1.0-test/modules.dep":    file("kernel/fs/xfs/xfs.ko.xz: kernel/lib/libcrc32c.ko\nkernel/fs/btrfs/btrfs.ko:\n"),
			"proc/self/mountinfo":                   file("30 20 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"),
			"sys/fs/cgroup/cgroup.controllers":      file("cpuset cpu io memory pids\n"),
			"proc/self/ns/user":                     file(""),
			"proc/sys/user/max_user_namespaces":     file("31000\n"),
			keyring:                                 file("k"),
			strings.Replace(lxcDriver, "*", "x", 1): file("e"),
		},
		LookPath: func(name string) (string, error) { return "/usr/bin/" + name, nil },
		UID:      func() int { return 0 },
		Fuse:     os.DevNull,
		Dial:     func(context.Context, string) error { return nil },
		Emulator: func(context.Context, string) (*container.Emulator, error) { return nil, nil },
	}
}

// named returns the check of that name.
func named(t *testing.T, checks []check, name string) check {
	t.Helper()
	for _, c := range checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check %q in %+v", name, checks)
	return check{}
}

// host are the checks that look at the real machine.
var host = map[string]bool{"kernel": true, "loop devices": true, "private networks": true, "/dev/kvm": true, "store": true, "reflink": true}

func TestDoctorHealthy(t *testing.T) {
	checks := Examine(t.Context(), healthy(t))
	for _, c := range checks {
		if !host[c.Name] && (c.Status != statusOK || c.Detail == "" || c.Fix != "") {
			t.Errorf("%+v", c)
		}
		if c.Status != statusOK && c.Fix == "" {
			t.Errorf("no way out: %+v", c)
		}
	}
	want := "the kernel mounts xfs, btrfs, overlay, tmpfs; b9 serves vfat, iso9660, squashfs through /dev/fuse"
	if c := named(t, checks, "other file systems"); c.Detail != want {
		t.Errorf("%+v", c)
	}
	modules := healthy(t)
	modules.Root.(fstest.MapFS)["lib/modules/6.1.0-test/modules.dep"] = &fstest.MapFile{Data: []byte("kernel/fs/fat/vfat.ko: kernel/fs/fat/fat.ko\nkernel/fs/isofs/isofs.ko:\nkernel/fs/squashfs/squashfs.ko:\n")}
	want = "the kernel mounts overlay, vfat, iso9660, squashfs, tmpfs; not xfs, btrfs: images that hold one cannot be mounted"
	if c := named(t, Examine(t.Context(), modules), "other file systems"); c.Detail != want {
		t.Errorf("%+v", c)
	}
	if c := named(t, checks, "memory and processors"); !strings.HasPrefix(c.Detail, "4GiB and ") {
		t.Errorf("%+v", c)
	}
	if c := named(t, checks, "container backend embedded"); c.Detail != "v1; architectures x86_64; networks host, none; no memory or processor limits" {
		t.Errorf("%+v", c)
	}
}

func TestDoctorIll(t *testing.T) {
	broken := errors.New("no such luck")
	for name, c := range map[string]struct {
		spoil   func(*Host)
		status  string
		mention string
	}{
		"user":                          {func(d *Host) { d.UID = func() int { return 1000 } }, statusFail, "sudo"},
		"ext4":                          {func(d *Host) { d.Root = fstest.MapFS{} }, statusFail, "modprobe ext4"},
		"memory and processors":         {func(d *Host) { d.Root = fstest.MapFS{} }, statusWarn, "mount /proc"},
		"control groups":                {func(d *Host) { d.Root = fstest.MapFS{} }, statusWarn, "mount /proc"},
		"Debian's keys":                 {func(d *Host) { d.Root = fstest.MapFS{} }, statusWarn, "debian-archive-keyring"},
		"tool mke2fs":                   {without("mke2fs"), statusFail, "apt-get install e2fsprogs"},
		"tool mmdebstrap":               {without("mmdebstrap"), statusWarn, "apt-get install mmdebstrap"},
		"container backend embedded":    {func(d *Host) { d.Backends = []container.Backend{fakeBackend{name: "embedded", err: broken}} }, statusFail, "no such luck"},
		"container backend libvirt-lxc": {func(d *Host) { d.Backends[1] = fakeBackend{name: "libvirt-lxc", err: broken} }, statusWarn, "no such luck"},
		"libvirtd": {func(d *Host) {
			d.LibvirtURI = "lxc+ssh://far/"
			d.Dial = func(context.Context, string) error { return broken }
		}, statusWarn, "(libvirt.uri is lxc+ssh://far/)"},
		"store":               {func(d *Host) { d.StoreDir = "/proc/b9" }, statusFail, "choose another place"},
		"32-bit containers":   {func(d *Host) { d.Emulator = noEmulator }, statusWarn, "install the Debian package qemu-user-static"},
		"other architectures": {func(d *Host) { d.Emulator = noEmulator }, statusWarn, "install the Debian package qemu-user-static"},
		"other file systems":  {func(d *Host) { d.Fuse = "/dev/nosuch" }, statusWarn, "not vfat, iso9660, squashfs: /dev/fuse does not open"},
		"private networks":    {func(d *Host) { d.Tun = "/dev/net/nosuch" }, statusFail, "modprobe tun"},
	} {
		d := healthy(t)
		c.spoil(&d)
		got := named(t, Examine(t.Context(), d), name)
		if got.Status != c.status || !strings.Contains(got.Detail+got.Fix, c.mention) {
			t.Errorf("%s: %+v, want %s that mentions %q", name, got, c.status, c.mention)
		}
	}
}

func noEmulator(_ context.Context, arch string) (*container.Emulator, error) {
	return nil, &container.EmulatorError{Arch: arch, Cause: errors.New("none")}
}

// TestDoctorArchitectures says what runs the programs of other machines.
func TestDoctorArchitectures(t *testing.T) {
	if container.MachineArch() != "x86_64" {
		t.Skip("is about machines of x86-64")
	}
	d := healthy(t)
	d.Emulator = func(ctx context.Context, arch string) (*container.Emulator, error) {
		if arch != "i686" && arch != "aarch64" && arch != "riscv64" {
			return noEmulator(ctx, arch)
		}
		return &container.Emulator{Arch: arch, Path: "/usr/bin/qemu-" + arch, Own: arch != "riscv64"}, nil
	}
	checks := Examine(t.Context(), d)
	for name, want := range map[string]string{
		"32-bit containers":   "programs of i686 are run by /usr/bin/qemu-i686, registered in a user namespace of b9's own",
		"other architectures": "aarch64 by qemu-aarch64, riscv64 by qemu-riscv64 as this machine has it registered; not armv7l, ppc64le, s390x, mips64, loongarch64",
	} {
		if c := named(t, checks, name); c.Status != statusOK || c.Detail != want {
			t.Errorf("%+v, want %s", c, want)
		}
	}
	if c := named(t, Examine(t.Context(), healthy(t)), "32-bit containers"); c.Detail != "the kernel runs programs of i686" {
		t.Errorf("%+v", c)
	}
}

// TestDoctorOtherNetwork: who has chosen another network for all can do without.
func TestDoctorOtherNetwork(t *testing.T) {
	d := healthy(t)
	d.Tun, d.Network = "/dev/net/nosuch", container.NetworkHost
	if c := named(t, Examine(t.Context(), d), "private networks"); c.Status != statusWarn || !strings.Contains(c.Detail, "/dev/net/nosuch") {
		t.Errorf("%+v", c)
	}
}

func without(program string) func(*Host) {
	return func(d *Host) {
		d.LookPath = func(name string) (string, error) {
			if name == program {
				return "", os.ErrNotExist
			}
			return name, nil
		}
	}
}

// A backend that was asked for by name fails, though it would not by default.
func TestDoctorChosenBackend(t *testing.T) {
	d := healthy(t)
	d.Backend = "libvirt-lxc"
	d.Backends = []container.Backend{fakeBackend{name: "embedded", err: errors.New("x")}, fakeBackend{name: "libvirt-lxc", err: errors.New("y")}}
	checks := Examine(t.Context(), d)
	if c := named(t, checks, "container backend embedded"); c.Status != statusWarn {
		t.Errorf("%+v", c)
	}
	if c := named(t, checks, "container backend libvirt-lxc"); c.Status != statusFail || !Failed(checks) {
		t.Errorf("%+v", c)
	}
}

func TestDoctorLibvirtWithoutDriver(t *testing.T) {
	d := healthy(t)
	delete(d.Root.(fstest.MapFS), strings.Replace(lxcDriver, "*", "x", 1))
	if c := named(t, Examine(t.Context(), d), "libvirtd"); c.Status != statusWarn || !strings.Contains(c.Fix, "libvirt-daemon-driver-lxc") {
		t.Errorf("%+v", c)
	}
}

func TestCgroupLayouts(t *testing.T) {
	hybrid := "31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup memory rw,memory\n" +
		"32 25 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cpu rw,cpu,cpuacct\n" +
		"33 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n"
	for _, c := range []struct{ mounts, status, detail string }{
		{hybrid, statusOK, "version 1, with version 2 at /sys/fs/cgroup/unified; memory and processor limits work"},
		{strings.SplitAfter(hybrid, "\n")[0], statusWarn, "version 1; no cpu controller seen"},
		{"", statusWarn, "none mounted; no memory or cpu controller seen"},
		{"30 20 0:26 / /cg rw - cgroup2 cgroup2 rw\nodd line\n", statusWarn, "version 2 (open cg/cgroup.controllers: file does not exist); no memory or cpu controller seen"},
	} {
		d := Host{Root: fstest.MapFS{"proc/self/mountinfo": {Data: []byte(c.mounts)}}}
		if got := d.cgroups(); got.Status != c.status || got.Detail != c.detail {
			t.Errorf("%q: %+v", c.mounts, got)
		}
	}
}

func TestUserNamespaces(t *testing.T) {
	for file, value := range map[string]string{
		"proc/sys/user/max_user_namespaces": "0\n", "proc/sys/kernel/unprivileged_userns_clone": "0\n",
		"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n",
	} {
		d := Host{Root: fstest.MapFS{file: {Data: []byte(value)}, "proc/self/ns/user": {}}}
		if c := d.userNamespaces(); !strings.HasPrefix(c.Detail, "for root only") {
			t.Errorf("%s: %+v", file, c)
		}
	}
}

func TestStorePlace(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		fs     string
		free   int64
		status string
	}{{"ext4", 6 << 30, statusOK}, {"ext4", 1 << 30, statusWarn}, {"ext4", 1 << 20, statusFail}, {"tmpfs", 6 << 30, statusWarn}, {"nfs", 6 << 30, statusWarn}} {
		got := freeSpace(dir, dir, c.fs, c.free)
		if got.Status != c.status || (got.Fix == "") != (c.status == statusOK) {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}

// Trying the store leaves nothing there, and a store that is not there yet is
// not made.
func TestStoreUntouched(t *testing.T) {
	dir := t.TempDir()
	aboutStore(filepath.Join(dir, "not", "yet"))
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

func TestDialSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := dialSocket(t.Context(), path); err == nil {
		t.Error("somebody listens at a socket that is not there")
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := dialSocket(t.Context(), path); err != nil {
		t.Error(err)
	}
}

func TestText(t *testing.T) {
	checks := []check{
		{Name: "user", Status: statusOK, Detail: "root"},
		{Name: "loop devices", Status: statusFail, Detail: "none \x1b[2J<here>", Fix: "modprobe loop"},
		{Name: "libvirtd", Status: statusWarn, Detail: "nothing listens", Fix: "start it"},
	}
	var doc bytes.Buffer
	if err := output.Print(&doc, output.Doctor{Checks: checks}); err != nil {
		t.Fatal(err)
	}
	want := `ok    user          root
fail  loop devices  none <here>
                    fix: modprobe loop
warn  libvirtd      nothing listens
                    fix: start it
1 ok, 1 warning, 1 failure: builds that use containers or images will not work here
`
	if text := Text(checks); text != want {
		t.Errorf("got:\n%s\nwant:\n%s", text, want)
	}
	var back output.Doctor
	if err := json.Unmarshal(doc.Bytes(), &back); err != nil || !reflect.DeepEqual(back.Checks, checks) {
		t.Errorf("%v: %s", err, doc.String())
	}
}
