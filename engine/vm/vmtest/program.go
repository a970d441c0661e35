package vmtest

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Program is a program of the host that Debian's kernel runs in a guest, with nothing
// but busybox and the programs that it needs. It is slow: QEMU translates each of its
// instructions.
type Program struct {
	Argv    []string          // the first is a path
	Env     []string          // beside PATH and HOME
	Tools   map[string]string // further programs by path, and the Debian packages that have them
	Modules []string          // of the kernel, for them, in the order in which they are loaded
	Limit   time.Duration     // how long it may take
}

// programInit is the guest's first process. The root of the kernel's initial file
// system can't be pivoted away from, as containers do; a mount of it can.
const programInit = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount --bind / /new; cd /new; mount --move . /; exec chroot . /start
`

const programStart = `#!/bin/busybox sh
cd /
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /dev/pts /dev/shm; mount -t devpts pts /dev/pts; mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /tmp; mount -t tmpfs run /run
mount --bind /lib/modules /lib/modules
for m in $(cat /modules); do insmod /lib/modules/$m.ko || echo "no module $m"; done
ip link set lo up
%s
echo "$? is the status of the program"
poweroff -f
`

// status is what the guest says at the end.
var status = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^(\d+) is the status of the program\r?$`)
})

// Run boots the guest and returns the release of its kernel, what the program printed,
// and its status. It skips the test where the host has not what the guest is made of.
func (p *Program) Run(t *testing.T) (release, said string, code int) {
	t.Helper()
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skip("needs the Debian package qemu-system-x86")
	}
	dir := t.TempDir()
	release = p.write(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), p.Limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1024",
		"-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-kernel", filepath.Join(dir, "kernel"), "-initrd", filepath.Join(dir, "initrd"), "-append", "console=ttyS0 quiet panic=-1 mitigations=off")
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	found := status().FindSubmatchIndex(out)
	if found == nil {
		t.Fatalf("Linux %s: the program did not end: %v\n%s", release, err, out)
	}
	code, _ = strconv.Atoi(string(out[found[2]:found[3]]))
	return release, strings.ReplaceAll(string(out[:found[0]]), "\r\n", "\n"), code
}

// write writes the guest's kernel and initial file system into dir.
func (p *Program) write(t *testing.T, dir string) (release string) {
	t.Helper()
	kernel, release := debianKernel(t)
	files := archive{}
	files.host(t, "/bin/busybox", "busybox-static")
	files.program(t, p.Argv[0], "")
	files["program"] = files[strings.TrimPrefix(p.Argv[0], "/")]
	delete(files, strings.TrimPrefix(p.Argv[0], "/"))
	for path, pkg := range p.Tools {
		files.program(t, path, pkg)
	}
	files.modules(t, filepath.Join("/lib/modules", release), p.Modules)
	var line []string
	for _, word := range slices.Concat([]string{"env"}, p.Env, []string{"/program"}, p.Argv[1:]) {
		line = append(line, "'"+strings.ReplaceAll(word, "'", `'\''`)+"'")
	}
	files["init"] = entry{0o100755, []byte(programInit)}
	files["start"] = entry{0o100755, fmt.Appendf(nil, programStart, strings.Join(line, " "))}
	files["etc/passwd"] = entry{0o100644, []byte("root:x:0:0:root:/root:/bin/sh\n")}
	files["etc/hosts"] = entry{0o100644, []byte("127.0.0.1 localhost\n")}
	files["etc/resolv.conf"] = entry{0o100644, nil}
	for _, name := range []string{"new", "proc", "sys", "dev", "tmp", "root", "run"} {
		files[name] = entry{mode: 0o040755}
	}
	files.writeGuest(t, dir, kernel)
	return release
}

// program adds a program of the host with its libraries.
func (a archive) program(t *testing.T, path, pkg string) {
	t.Helper()
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Skipf("needs the Debian package %s: %v", pkg, err)
	}
	a.host(t, real, pkg)
	a[strings.TrimPrefix(path, "/")] = a[strings.TrimPrefix(real, "/")]
	a.libraries(t, real)
}
