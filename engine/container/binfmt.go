package container

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// registration is a line of binfmt_misc: the kernel's documentation,
// admin-guide/binfmt-misc.
type registration struct {
	interpreter string
	fixed       bool // the flag F: it is opened once, and so found from every root
	offset      int
	magic, mask []byte
}

// matches reports whether a file that begins with head is the interpreter's.
func (r *registration) matches(head []byte) bool {
	if r.offset < 0 || r.offset+len(r.magic) > len(head) || len(r.magic) == 0 {
		return false
	}
	for i, b := range r.magic {
		mask := byte(0xff)
		if i < len(r.mask) {
			mask = r.mask[i]
		}
		if (head[r.offset+i]^b)&mask != 0 {
			return false
		}
	}
	return true
}

// hostTable is where the host's registrations are shown, if they are.
const hostTable = "/proc/sys/fs/binfmt_misc"

// registeredFor is what the host has registered for programs of the machine,
// nil for nothing. The table is read where no mount shows it, too.
func registeredFor(m machine) *registration {
	dir := hostTable
	if fd, err := mountedNowhere("binfmt_misc"); err == nil {
		defer unix.Close(fd)
		dir = fmt.Sprintf("/proc/self/fd/%d", fd)
	}
	return registered(dir, m.program())
}

// mountedNowhere mounts a file system at no place.
func mountedNowhere(fstype string) (int, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
}

// registered looks a program up in a table. Of several that match the kernel
// takes the one that was registered last, which the table does not tell.
func registered(dir string, program []byte) *registration {
	if data, err := os.ReadFile(filepath.Join(dir, "status")); err != nil || strings.TrimSpace(string(data)) != "enabled" {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if r := parseRegistration(data); err == nil && r != nil && r.matches(program) {
			return r
		}
	}
	return nil
}

// parseRegistration reads a line as the kernel shows it, nil for one that is
// disabled, goes by the file's name, or is none.
func parseRegistration(data []byte) *registration {
	r := &registration{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	if !lines.Scan() || lines.Text() != "enabled" {
		return nil
	}
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		var err error
		switch name {
		case "interpreter":
			r.interpreter = value
		case "flags:":
			r.fixed = strings.Contains(value, "F")
		case "offset":
			_, err = fmt.Sscan(value, &r.offset)
		case "magic":
			r.magic, err = hex.DecodeString(value)
		case "mask":
			r.mask, err = hex.DecodeString(value)
		}
		if err != nil {
			return nil
		}
	}
	return r
}

// registration is the line for the emulator. It is for programs and libraries of
// the machine's class, byte order and number, whatever system they say they are for.
// The emulator is opened now (F), sees how the program was called (P), and a program
// with set-id bits has them (C).
func (e *Emulator) registration() string {
	head := e.machine.program()[:20]
	mask := bytes.Repeat([]byte{0xff}, len(head))
	const system, abi, kind = 7, 8, 16 // offsets in the file
	mask[system], mask[abi] = 0, 0
	low := kind // ET_EXEC is 2, ET_DYN 3
	if e.machine.order == elf.ELFDATA2MSB {
		low++
	}
	mask[low] = 0xfe
	escaped := func(data []byte) string {
		var b strings.Builder
		for _, c := range data {
			fmt.Fprintf(&b, `\x%02x`, c)
		}
		return b.String()
	}
	return fmt.Sprintf(":b9-%s:M::%s:%s:%s:FPC", e.Arch, escaped(head), escaped(mask), e.Path)
}

// How a shell of [Emulator.Script] ends that could not do what it was to.
const (
	cannotMount    = 122
	cannotRegister = 123
)

// Script is what a shell in namespaces of [Emulator.Namespaces] runs first: it
// registers the emulator there. It is empty where the host has done so.
func (e *Emulator) Script() string {
	if !e.Own {
		return ""
	}
	script := fmt.Sprintf("at=%s; [ -d $at ] || at=/mnt; mount -t binfmt_misc b9 $at || exit %d\n", hostTable, cannotMount)
	if e.Path != "" {
		line := "'" + strings.ReplaceAll(e.registration(), "'", `'\''`) + "'"
		script += fmt.Sprintf("printf %%s %s >$at/register || exit %d\n", line, cannotRegister)
	}
	return script
}

// namespaceError tells why the kernel has no registrations for a user namespace.
type namespaceError struct{ cause string }

func (e *namespaceError) Error() string {
	return "a user namespace has registrations of its own from Linux 6.7 on: " + e.cause
}

// try registers the emulator in namespaces and runs a program of the machine there.
func (e *Emulator) try(ctx context.Context) error {
	f, err := e.machine.file()
	if err != nil {
		return err
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	cmd, err := e.shell(ctx, "exec "+probePath, 0)
	if err != nil {
		return err
	}
	cmd.ExtraFiles = []*os.File{f}
	said, err := cmd.CombinedOutput()
	switch code := cmd.ProcessState.ExitCode(); {
	case cmd.ProcessState == nil:
		return &namespaceError{err.Error()}
	case code == cannotMount:
		return &namespaceError{firstLine(said)}
	case e.Path == "":
		return errors.New("no emulator is installed")
	case err != nil:
		return fmt.Errorf("%s does not run them: %w: %s", e.Path, err, firstLine(said))
	}
	return nil
}

func firstLine(said []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(said)), "\n")
	return line
}
