package backends

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

// testDevices makes nodes of the host's devices, which packages' scripts may, and
// opens them, which nobody may: in /dev, in the image, and, where none is opened, on a
// file system that the script mounts.
func testDevices(t *testing.T, w *world) {
	image, _ := w.script(t, `set -e
mkdir -p /m /root/dev
open() { if (exec 3<>$1) 2>/dev/null; then echo opened $1; fi; }
for dir in /dev /root/dev /m; do
	[ $dir != /m ] || mount -t tmpfs none /m
	while read name kind major minor; do
		mknod $dir/my-$name $kind $major $minor
		open $dir/my-$name
	done <<END
null c 1 3
zero c 1 5
urandom c 1 9
mem c 1 1
kmsg c 1 11
loop0 b 7 0
loop-control c 10 237
sda b 8 0
vda b 254 0
nvme b 259 0
ram b 1 0
nbd b 43 0
dm-control c 10 236
dm b 253 0
hwrng c 10 183
btrfs-control c 10 234
fuse c 10 229
tun c 10 200
kvm c 10 232
rtc c 252 0
tty1 c 4 1
console c 5 1
END
done`)
	image.spec.Capabilities = []string{"sys_admin"}
	want := ""
	for _, dir := range []string{"/dev", "/root/dev"} {
		for _, name := range []string{"null", "zero", "urandom"} {
			want += fmt.Sprintf("opened %s/my-%s\n", dir, name)
		}
	}
	if got := image.output(t); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	limited := w.peek("mknod /dev/my-loop b 7 0; (exec 3</dev/my-loop) 2>/dev/null && echo opened; echo >/dev/null && echo null")
	limited.spec.Memory, limited.spec.CPUs = 64<<20, 1
	if got := limited.output(t); got != "null\n" {
		t.Errorf("with limits: %q", got)
	}
}

// testNoLoops attaches a loop device as a script that has everything may try to.
func testNoLoops(t *testing.T, w *world) {
	r, image := w.script(t, `mknod /dev/loop-control c 10 237
for n in 0 1 2 3 4 5 6 7; do mknod /dev/loop$n b 7 $n; done
dd if=/dev/zero of=/file bs=1M count=1 2>/dev/null
losetup -f /file 2>/dev/null && echo attached
for n in 0 1 2 3 4 5 6 7; do losetup /dev/loop$n /file 2>/dev/null && echo attached; done
exit 0`)
	r.spec.Capabilities = []string{"sys_admin"}
	if got := r.output(t); got != "" {
		t.Errorf("got %q", got)
	}
	for _, name := range loopFiles(t) {
		if name == "/file" || strings.HasPrefix(name, image) {
			t.Errorf("a loop device is left on %s", name)
		}
	}
}

func loopFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil {
			names = append(names, strings.TrimSpace(string(data)))
		}
	}
	return names
}

// testNothingOutlives tries what the kernel keeps outside of namespaces.
func testNothingOutlives(t *testing.T, w *world) {
	needTool(t, "perl")
	swaps := readFile(t, "/proc/swaps")
	share := t.TempDir()
	key := "b9-" + newID()
	ipc := readFile(t, "/proc/sysvipc/shm") + readFile(t, "/proc/sysvipc/msg") + readFile(t, "/proc/sysvipc/sem")
	r, _ := w.script(t, fmt.Sprintf(`mkdir /share/m && mount -t tmpfs none /share/m && touch /share/m/hidden && echo mounted
dd if=/dev/zero of=/swap bs=1M count=2 2>/dev/null; mkswap /swap >/dev/null; swapon /swap 2>/dev/null && echo swap
perl -e '
my ($type, $name, $data) = ("user", "%s", "x"); $add = syscall(248, $type, $name, $data, 1, -4); print "key\n" if $add > 0;
print "shared memory\n" if defined shmget(4711, 4096, 01600);
print "queue\n" if defined msgget(4711, 01600);
print "semaphore\n" if defined semget(4711, 1, 01600);'`, key))
	r.spec.Capabilities = []string{"sys_admin"}
	r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: share, Target: "/share", Kind: container.Dir})
	r.withHostTools()
	if got := r.output(t); got != "mounted\nshared memory\nqueue\nsemaphore\n" {
		t.Errorf("got %q", got)
	}
	if now := readFile(t, "/proc/swaps"); now != swaps {
		t.Errorf("swap areas: %s\nbefore: %s", now, swaps)
	}
	if id, err := unix.KeyctlSearch(unix.KEY_SPEC_USER_KEYRING, "user", key, 0); err == nil {
		t.Errorf("key %d is left", id)
	}
	if now := readFile(t, "/proc/sysvipc/shm") + readFile(t, "/proc/sysvipc/msg") + readFile(t, "/proc/sysvipc/sem"); now != ipc {
		t.Errorf("objects of System V: %s\nbefore: %s", now, ipc)
	}
	if entries, err := os.ReadDir(filepath.Join(share, "m")); err != nil || len(entries) != 0 {
		t.Errorf("the mount is seen on the host: %v, %v", entries, err)
	}
}

// withHostTools lets the command run the host's programs beside busybox.
func (r *run) withHostTools() {
	for _, dir := range []string{"/usr", "/lib", "/lib64"} {
		r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: dir, Target: dir, Kind: container.Dir, ReadOnly: true})
	}
	r.spec.Env = []string{"PATH=/bin:/usr/bin"}
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// testNoGroups looks that no control group is left of a run, one that the command made
// included, and that the command can't leave its own, which would let it open devices.
func testNoGroups(t *testing.T, w *world) {
	id := newID()
	r, _ := w.script(t, `mkdir /cg && mount -t cgroup2 none /cg && mkdir -p /cg/`+id+`/inner
for p in $(find /cg -name cgroup.procs); do echo $$ >$p; done 2>/dev/null
echo $$ >/cg/cgroup.procs
mknod /loop b 7 0; mknod /null c 1 3
(exec 3</loop) 2>/dev/null && echo opened; echo >/null && echo null`)
	r.spec.ID, r.spec.Capabilities = id, []string{"sys_admin"}
	if got := r.output(t); got != "null\n" {
		t.Errorf("got %q", got)
	}
	left := func() []string {
		var all []string
		err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // somebody else's
			}
			if err == nil && d.IsDir() && strings.Contains(d.Name(), id) {
				all = append(all, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if got := left(); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

// testPrograms says what is wrong with a command that the kernel would only call
// missing.
func testPrograms(t *testing.T, w *world) {
	dir := t.TempDir()
	loader, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "plain"), nil, 0o644)
	for want, content := range map[string]string{
		"carriage returns": "#!/bin/sh\r\necho\r\n",
		"its interpreter /usr/bin/python3, which the #! line names, is not in the image":       "#!/usr/bin/python3\n",
		"its interpreter python3, which the #! line has /bin/env look up, is not in the image": "#!/bin/env python3\n",
		"its interpreter /opt/tool, which the #! line names, is not in the image":              "#! /opt/tool -x\n",
		"it has no #! line":                                             "echo hello\n",
		"begins with a byte-order mark":                                 "\xef\xbb\xbf#!/bin/sh\necho\n",
		"its #! line names no interpreter":                              "#!\n",
		"its interpreter /tmp, which the #! line names, is a directory": "#!/tmp\n",
		"its interpreter /tmp/plain, which the #! line names, is a file that can't be executed":  "#!/tmp/plain\n",
		"its interpreter /tmp/p86, which the #! line names, is run by itself, or by this script": "#!/tmp/p86\n",
		"which is not in the image: install the C":                                               string(loader),
	} {
		name := fmt.Sprintf("p%d", len(want))
		write(t, filepath.Join(dir, name), []byte(content), 0o755)
		r := w.peek("true")
		r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: dir, Target: "/tmp", Kind: container.Dir, ReadOnly: true})
		r.spec.Argv = []string{"/tmp/" + name}
		r.refused(t, want)
	}
	if _, err := os.Stat("/proc/sys/fs/binfmt_misc/qemu-riscv64"); err != nil {
		other := foreignProgram()
		binary.LittleEndian.PutUint16(other[18:], uint16(elf.EM_RISCV))
		write(t, filepath.Join(dir, "other"), other, 0o755)
		write(t, filepath.Join(dir, "script"), []byte("#!/tmp/other\n"), 0o755)
		for _, name := range []string{"other", "script"} {
			r := w.peek("true")
			r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: dir, Target: "/tmp", Kind: container.Dir, ReadOnly: true})
			r.spec.Argv = []string{"/tmp/" + name}
			r.refused(t, `is a program for riscv64, and nothing here runs it in a container for `)
		}
	}
	write(t, filepath.Join(dir, "fine"), []byte("#!/bin/env sh\necho fine\n"), 0o755)
	r := w.peek("true")
	r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: dir, Target: "/tmp", Kind: container.Dir, ReadOnly: true})
	r.spec.Argv = []string{"/tmp/fine"}
	if got := r.output(t); got != "fine\n" {
		t.Errorf("got %q", got)
	}
}

// testMemoryShared runs out of memory in the ways that scripts do.
func testMemoryShared(t *testing.T, w *world) {
	for _, text := range []string{
		"dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null || exit 1",
		"(dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null); exit $?",
		"dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null | cat; test ${PIPESTATUS:-1} = 0",
		"set -e; sh -c 'dd if=/dev/zero of=/dev/null bs=200M count=1'",
		"exec dd if=/dev/zero of=/dev/null bs=200M count=1",
		"cat /dev/zero >/dev/shm/x",
		"for i in 1 2 3 4 5 6 7 8; do dd if=/dev/zero of=/dev/null bs=20M count=300 2>/dev/null & done; for p in $(jobs -p); do wait $p || exit 1; done",
	} {
		r := w.peek(text)
		r.spec.Memory = 64 << 20
		if res := r.do(t); res.Reason != container.OutOfMemory || res.Code == 0 {
			t.Errorf("%s: got %+v", text, res)
		}
	}
}
