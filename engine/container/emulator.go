package container

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"path/filepath"

	"b9.build/b9/engine/tool"
)

// Programs of another architecture
//
// The kernel executes programs of its own machine, often those of a narrower one,
// and by binfmt_misc those that an emulator was registered for: the emulator of
// qemu-user reads the program and passes its system calls on. Whether a program
// runs is found out by running one.
//
// A registration holds for a user namespace and those below it, since Linux 6.7:
// so b9 registers the emulator in a user namespace of its own and changes nothing
// of the host. Where the kernel can't, what the host has registered serves.

// Emulator is what runs programs of an architecture that this machine's kernel
// does not run.
type Emulator struct {
	Arch string // as uname(2) names the machine
	Path string // of the emulator

	// Own tells that the emulator is registered in a user namespace that b9
	// makes for the commands. It maps every id to itself, but what the kernel lets
	// only root of the host do is refused there: to make device nodes, to
	// mount disks, to set the attributes of chattr(1) and those that begin
	// with trusted.
	Own bool

	machine machine
}

// FindEmulator returns what runs programs of arch, nil where this machine's
// kernel does so by itself. The error says what to install where nothing does.
func FindEmulator(ctx context.Context, arch string) (*Emulator, error) {
	if arch == "" || arch == MachineArch() {
		return nil, nil
	}
	m, err := findMachine(arch)
	if err != nil {
		return nil, err
	}
	runs, err := m.runs(ctx)
	if err != nil {
		return nil, err
	}
	host := registeredFor(m)
	if runs && host == nil {
		return nil, nil
	}
	own := &Emulator{Arch: arch, Path: m.emulator(), Own: true, machine: m}
	refused := own.try(ctx)
	switch {
	case refused == nil:
		return own, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case runs && host.fixed:
		return &Emulator{Arch: arch, Path: realPath(host.interpreter), machine: m}, nil
	}
	return nil, &EmulatorError{Arch: arch, Cause: refused, Installed: own.Path != "", Loose: host != nil && !host.fixed}
}

// realPath is the path without symbolic links: an emulator does what the name says
// that it is called by.
func realPath(path string) string {
	if to, err := filepath.EvalSymlinks(path); err == nil {
		return to
	}
	return path
}

// emulator is the path of Debian's emulator for the machine, "" for none. One
// that is linked with libraries would not find them in an image.
func (m *machine) emulator() string {
	for _, name := range []string{"qemu-" + m.qemu + "-static", "qemu-" + m.qemu} {
		if path, err := tool.Find(name); err == nil && static(path) {
			return path
		}
	}
	return ""
}

// static reports whether a program needs no loader.
func static(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return false
		}
	}
	return true
}

// Program is the emulator as a tool, whose version counts.
func (e *Emulator) Program() tool.Program {
	return tool.Program{Name: e.Path, VersionArgs: []string{"--version"}}
}

// String says what runs what, and by whose registration.
func (e *Emulator) String() string {
	how := "registered in a user namespace of b9's own"
	if !e.Own {
		how = "as this machine has it registered"
	}
	return fmt.Sprintf("programs of %s are run by %s, %s", e.Arch, e.Path, how)
}

// EmulatorError tells of an architecture whose programs can't be run here.
type EmulatorError struct {
	Arch      string
	Cause     error // why no emulator is registered in a namespace
	Installed bool  // the emulator is there
	Loose     bool  // the host has registered one that images would have to hold
}

// Error says what to do about it.
func (e *EmulatorError) Error() string {
	text := fmt.Sprintf("this machine runs no programs of %s", e.Arch)
	var kernel *namespaceError
	switch {
	case !e.Installed && errors.As(e.Cause, &kernel):
		return fmt.Sprintf("%s, neither by its kernel nor by an emulator: install the Debian packages qemu-user-static and binfmt-support, which registers it on this machine (b9 registers it itself only where it can: %v)", text, e.Cause)
	case !e.Installed:
		return text + ", neither by its kernel nor by an emulator: install the Debian package qemu-user-static, which b9 then uses by itself"
	case e.Loose:
		return fmt.Sprintf("%s in images: its emulator is registered without the flag F: install the Debian package qemu-user-static, whose registration has it (b9 has none of its own: %v)", text, e.Cause)
	case errors.As(e.Cause, &kernel):
		return fmt.Sprintf("%s: its emulator is installed and not registered: install the Debian package binfmt-support, which does it (b9 does it itself only where it can: %v)", text, e.Cause)
	}
	return fmt.Sprintf("%s: %v", text, e.Cause)
}

// Unwrap returns the cause.
func (e *EmulatorError) Unwrap() error { return e.Cause }
