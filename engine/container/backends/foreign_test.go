package backends

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/engine/container"
)

// foreign is a backend whose commands are said to be of another machine, so that they
// run where an emulator is registered. Those of this machine run there, too.
type foreign struct{ container.Backend }

const foreignArch = "aarch64"

// Run implements container.Backend.
func (f foreign) Run(ctx context.Context, spec container.Spec, to container.IO) (container.Result, error) {
	if spec.Arch == "" {
		spec.Arch = foreignArch
	}
	return f.Backend.Run(ctx, spec, to)
}

// foreignPromises are those of the contract that a user namespace could break. What
// the kernel keeps for root of the host is not among them: attributes of chattr(1), raw
// sockets on the host's network, devices on a file system that
// the script mounts.
var foreignPromises = [...]string{
	"surroundings", "user", "mounts", "readOnlyRoot", "traces", "hostFiles", "arch", "capabilities", "memory",
	"cancel", "terminal", "ownerKilled", "helperKilled", "noLoops", "nothingOutlives", "noGroups", "programs",
}

// TestForeign holds backends to the contract where an emulator runs the commands.
func TestForeign(t *testing.T) {
	needTool(t, "busybox", "mke2fs", "e2fsck", "debugfs")
	e, err := container.FindEmulator(t.Context(), foreignArch)
	if err != nil || e == nil {
		t.Skipf("needs an emulator for %s (Debian packages qemu-user-static, and before Linux 6.7 binfmt-support): %v", foreignArch, err)
	}
	root := rootImage(t)
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			b, f := openBackend(t, name)
			w := &world{backend: foreign{b}, features: f, root: root}
			t.Cleanup(func() { checkNothingLeft(t, root) })
			tests := map[string]func(*testing.T, *world){"nodes": testForeignNodes, "emulated": func(t *testing.T, w *world) { testEmulated(t, w, e.Own) }}
			for _, name := range foreignPromises {
				tests[name] = promises()[name]
			}
			for name, test := range tests {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(t, w)
				})
			}
		})
	}
}

// foreignProgram is a program that prints a line, for Linux on aarch64.
func foreignProgram() []byte {
	const base, code = 0x400000, 64 + 56
	text := "emulated\n"
	words := []uint32{
		0xd2800020,                        // mov x0, #1: standard output
		0x10000000 | 7<<5 | 1,             // adr x1, text
		0xd2800002 | uint32(len(text))<<5, // mov x2, its length
		0xd2800808, 0xd4000001,            // mov x8, #64: write; svc #0
		0xd2800000, 0xd2800ba8, 0xd4000001, // exit(0)
	}
	size := uint64(code + 4*len(words) + len(text))
	var b bytes.Buffer
	for _, part := range []any{
		elf.Header64{
			Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
			Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_AARCH64), Version: 1, Entry: base + code, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
		},
		elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: 0x10000},
		words, []byte(text),
	} {
		_ = binary.Write(&b, binary.LittleEndian, part) // to memory
	}
	return b.Bytes()
}

// testEmulated runs a program of another machine, beside those of this one. What b9
// registers itself serves its own commands alone.
func testEmulated(t *testing.T, w *world, own bool) {
	tree := busyboxTree(t, "proc", "sys", "dev")
	write(t, filepath.Join(tree, "bin/foreign"), foreignProgram(), 0o755)
	image := imageOf(t, tree)
	r := script(w.backend, image, "foreign; chroot / /bin/foreign; su ann -c foreign; cat /proc/self/uid_map")
	if got := strings.Fields(r.output(t)); strings.Join(got, " ") != "emulated emulated emulated 0 0 4294967295" {
		t.Errorf("got %q", got)
	}
	direct := script(w.backend, image, "")
	direct.spec.Argv = []string{"/bin/foreign"}
	if got := direct.output(t); got != "emulated\n" {
		t.Errorf("as the command: %q", got)
	}
	native := script(w.backend.(foreign).Backend, image, "foreign 2>/dev/null || echo refused")
	native.spec.Arch = container.MachineArch()
	if got := native.output(t); (got == "refused\n") != own {
		t.Errorf("a command of this machine, where b9 registered the emulator itself (%v): %q", own, got)
	}
}

// testForeignNodes makes device nodes where the kernel would refuse it.
func testForeignNodes(t *testing.T, w *world) {
	r, image := w.script(t, `set -e
mknod /dev/mine c 1 3; echo x >/dev/mine; test -c /dev/mine -a ! -s /dev/mine
mkdir -p /a/b; ln -s /a/b /link
cd /a; mknod near c 1 5; mknod b/../beside b 7 3; mknod /link/../../top c 1 3
(umask 077; mknod private b 8 0)
mkdir -p /jail/bin /jail/dev; cp /bin/busybox /jail/bin; chroot /jail /bin/busybox mknod /dev/jailed c 1 7
cd /jail; chroot . /bin/busybox mknod ../jailed c 1 8
mkfifo pipe; test -p pipe
! mknod /nowhere/x c 1 3 2>/dev/null
! mknod near c 1 3 2>/dev/null
chmod 777 /a; ! su ann -c 'mknod /a/hers c 1 3' 2>/dev/null
ln -s /absent /a/dangling; ! mknod /a/dangling c 1 3 2>/dev/null
stat -c '%n %F %t:%T %a %u:%g' /a/near /a/beside /top /a/private /jail/dev/jailed /jail/jailed`)
	want := `/a/near character special file 1:5 644 0:0
/a/beside block special file 7:3 644 0:0
/top character special file 1:3 644 0:0
/a/private block special file 8:0 600 0:0
/jail/dev/jailed character special file 1:7 644 0:0
/jail/jailed character special file 1:8 644 0:0
`
	if got := r.output(t); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	checkImageClean(t, image)
	limited := w.peek("mknod /dev/x c 1 3 || echo refused")
	limited.spec.User = "ann"
	if got := limited.output(t); got != "refused\n" {
		t.Errorf("without the right to: %q", got)
	}
	if _, err := os.Stat("/dev/mine"); err == nil {
		t.Error("the node is on the host")
	}
}
