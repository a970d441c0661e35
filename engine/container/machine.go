package container

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/near"
)

// machine is a kind of machine that programs are for, and what tells whether a
// kernel runs them: a program of a few bytes that ends with status 0.
type machine struct {
	name   string // as uname(2) has it
	goarch string // as Go has it
	qemu   string // as qemu-user(1) has it in the names of its programs

	class elf.Class
	order elf.Data
	elf   elf.Machine
	flags uint32 // of the ELF header; the processor's supplement of the ABI
	exit  []byte // exit(0) in its language
}

// Kernels and emulators for these machines read ELF files of their own class,
// byte order and number only. The programs load a zero as the status, the number
// of exit, and call the kernel: syscall(2) has the registers, the kernel's tables
// the numbers.
var machineTable = [...]machine{
	{"x86_64", "amd64", "x86_64", elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_X86_64, 0, []byte{0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05}},
	{"i686", "386", "i386", elf.ELFCLASS32, elf.ELFDATA2LSB, elf.EM_386, 0, []byte{0x31, 0xdb, 0x31, 0xc0, 0x40, 0xcd, 0x80}},
	{"aarch64", "arm64", "aarch64", elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_AARCH64, 0, little(0xd2800000, 0xd2800ba8, 0xd4000001)},
	{"armv7l", "arm", "arm", elf.ELFCLASS32, elf.ELFDATA2LSB, elf.EM_ARM, 0x05000200, little(0xe3a00000, 0xe3a07001, 0xef000000)},
	{"riscv64", "riscv64", "riscv64", elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_RISCV, 0, little(0x00000513, 0x05d00893, 0x00000073)},
	{"ppc64le", "ppc64le", "ppc64le", elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_PPC64, 2, little(0x38600000, 0x38000001, 0x44000002)},
	{"s390x", "s390x", "s390x", elf.ELFCLASS64, elf.ELFDATA2MSB, elf.EM_S390, 0, []byte{0xa7, 0x29, 0, 0, 0x0a, 0x01}},
	{"mips64", "mips64le", "mips64el", elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_MIPS, 0x80000000, little(0x24040000, 0x240213c2, 0x0000000c)},
	{"loongarch64", "loong64", "loongarch64", elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_LOONGARCH, 0x43, little(0x03800004, 0x0381740b, 0x002b0000)},
}

// little is instructions as a little-endian machine has them in memory.
func little(words ...uint32) []byte {
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

// Archs are the architectures that a command can be for, as uname(2) names
// machines. This machine runs them itself or with an emulator, see [FindEmulator].
func Archs() []string {
	var names []string
	for _, m := range machineTable {
		names = append(names, m.name)
	}
	return names
}

// MachineArch is the name that uname(2) gives this machine.
func MachineArch() string {
	for _, m := range machineTable {
		if m.goarch == runtime.GOARCH {
			return m.name
		}
	}
	return runtime.GOARCH
}

func findMachine(arch string) (machine, error) {
	i := slices.IndexFunc(machineTable[:], func(m machine) bool { return m.name == arch })
	if i < 0 {
		return machine{}, fmt.Errorf("unknown architecture %q (have %s)%s", arch, strings.Join(Archs(), ", "), near.Hint(arch, Archs()))
	}
	return machineTable[i], nil
}

// KernelArchs are the architectures that this machine's kernel runs without an
// emulator, its own first: a 64-bit kernel may run programs of 32 bits, too.
func KernelArchs(ctx context.Context) []string {
	archs := []string{MachineArch()}
	for _, m := range machineTable {
		if m.name == narrowArch() {
			if runs, err := m.runs(ctx); err == nil && runs && registeredFor(m) == nil {
				archs = append(archs, m.name)
			}
		}
	}
	return archs
}

// narrowArch is the 32-bit architecture that a kernel of this machine may run
// beside its own, "" for none.
func narrowArch() string {
	return map[string]string{"amd64": "i686", "arm64": "armv7l"}[runtime.GOARCH]
}

// Narrow reports whether a command of that architecture is to be told, by
// personality(2), that this machine is one of 32 bits.
func Narrow(arch string) bool { return arch != "" && arch == narrowArch() }

// program is the machine's program as an ELF file with one segment: System V
// ABI, chapters 4 and 5.
func (m *machine) program() []byte {
	const base, page = 0x400000, 0x10000
	order := binary.ByteOrder(binary.LittleEndian)
	if m.order == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	var parts []any
	ident := [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(m.class), byte(m.order), byte(elf.EV_CURRENT)}
	if m.class == elf.ELFCLASS64 {
		const code = 64 + 56
		size := uint64(code + len(m.exit))
		parts = []any{
			elf.Header64{Ident: ident, Type: uint16(elf.ET_EXEC), Machine: uint16(m.elf), Version: 1, Entry: base + code, Phoff: 64, Flags: m.flags, Ehsize: 64, Phentsize: 56, Phnum: 1},
			elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: page},
		}
	} else {
		const code = 52 + 32
		size := uint32(code + len(m.exit))
		parts = []any{
			elf.Header32{Ident: ident, Type: uint16(elf.ET_EXEC), Machine: uint16(m.elf), Version: 1, Entry: base + code, Phoff: 52, Flags: m.flags, Ehsize: 52, Phentsize: 32, Phnum: 1},
			elf.Prog32{Type: uint32(elf.PT_LOAD), Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Flags: uint32(elf.PF_R | elf.PF_X), Align: page},
		}
	}
	var b bytes.Buffer
	for _, part := range append(parts, m.exit) {
		_ = binary.Write(&b, order, part) // to memory
	}
	return b.Bytes()
}

// probeLimit is how long a probe may take: it takes milliseconds, on a machine
// that has nothing else to do.
const probeLimit = 30 * time.Second

// runs reports whether the kernel executes a program of the machine and the
// program ends as it should. That personality(2) succeeds, or that the kernel was
// built for it, says nothing: a filter or a setting may be in the way.
func (m *machine) runs(ctx context.Context) (bool, error) {
	f, err := m.file()
	if err != nil {
		return false, err
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, probePath)
	cmd.ExtraFiles = []*os.File{f}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return false, fmt.Errorf("try a program of %s: %w", m.name, context.Cause(ctx))
	case errors.Is(err, syscall.ENOEXEC), errors.As(err, &exit):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("try a program of %s: %w", m.name, err)
	}
	return true, nil
}

// CheckMachine reports a program that a container for arch can't execute: it is for
// another machine, and neither the kernel nor what the host has registered runs it.
func CheckMachine(ctx context.Context, program *elf.File, arch string) error {
	arch = cmp.Or(arch, MachineArch())
	i := slices.IndexFunc(machineTable[:], func(m machine) bool {
		return m.class == program.Class && m.order == program.Data && m.elf == program.Machine
	})
	if i < 0 {
		return nil
	}
	m := machineTable[i]
	if m.name == arch || m.name == MachineArch() || registeredFor(m) != nil {
		return nil
	}
	if m.name == narrowArch() {
		if runs, err := m.runs(ctx); err != nil || runs {
			return nil
		}
	}
	return fmt.Errorf("it is a program for %s, and nothing here runs it in a container for %s: say arch = %q, or take an image for %[2]s", m.name, arch, m.name)
}

// probePath is where a child finds the first file that it is given.
const probePath = "/proc/self/fd/3"

// file is the machine's program in a file without a name. Nobody may have it
// open for writing when it is executed, not even a child that is about to be
// another program: execve(2), ETXTBSY.
func (m *machine) file() (*os.File, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.MemfdCreate("b9-"+m.name, unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // a kernel before 6.3
		fd, err = unix.MemfdCreate("b9-"+m.name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	w := os.NewFile(uintptr(fd), "program of "+m.name)
	defer w.Close()
	if _, err := w.Write(m.program()); err != nil {
		return nil, err
	}
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
}
