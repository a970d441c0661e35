package container

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tableOf is a table of registrations as the kernel shows it.
func tableOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// What Debian's qemu-user-static 7.2 registers for aarch64 with binfmt-support.
const aarch64Line = `interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
`

func TestRegistered(t *testing.T) {
	aarch64, err := findMachine("aarch64")
	if err != nil {
		t.Fatal(err)
	}
	riscv64, err := findMachine("riscv64")
	if err != nil {
		t.Fatal(err)
	}
	const status = "enabled\n"
	loose := strings.Replace(aarch64Line, "POF", "PO", 1)
	for name, c := range map[string]struct {
		files map[string]string
		m     machine
		want  *registration
	}{
		"registered":        {map[string]string{"status": status, "qemu-aarch64": "enabled\n" + aarch64Line, "register": ""}, aarch64, &registration{interpreter: "/usr/libexec/qemu-binfmt/aarch64-binfmt-P", fixed: true}},
		"without F":         {map[string]string{"status": status, "qemu-aarch64": "enabled\n" + loose}, aarch64, &registration{interpreter: "/usr/libexec/qemu-binfmt/aarch64-binfmt-P"}},
		"any name":          {map[string]string{"status": status, "mine": "enabled\n" + aarch64Line}, aarch64, &registration{interpreter: "/usr/libexec/qemu-binfmt/aarch64-binfmt-P", fixed: true}},
		"disabled":          {map[string]string{"status": status, "qemu-aarch64": "disabled\n" + aarch64Line}, aarch64, nil},
		"all disabled":      {map[string]string{"status": "disabled\n", "qemu-aarch64": "enabled\n" + aarch64Line}, aarch64, nil},
		"of another":        {map[string]string{"status": status, "qemu-aarch64": "enabled\n" + aarch64Line}, riscv64, nil},
		"by extension":      {map[string]string{"status": status, "jar": "enabled\ninterpreter /usr/bin/jexec\nflags: \nextension .jar\n"}, aarch64, nil},
		"for a longer file": {map[string]string{"status": status, "far": "enabled\ninterpreter /x\nflags: F\noffset 4000\nmagic 00\n"}, aarch64, nil},
		"damaged":           {map[string]string{"status": status, "bad": "enabled\ninterpreter /x\nflags: F\noffset 0\nmagic 7\n"}, aarch64, nil},
		"no table":          {nil, aarch64, nil},
	} {
		got := registered(tableOf(t, c.files), c.m.program())
		switch {
		case (got == nil) != (c.want == nil):
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		case got != nil && (got.interpreter != c.want.interpreter || got.fixed != c.want.fixed):
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

// TestRegistrationIsForItsMachineAlone matches what is registered for each machine
// with the programs of all.
func TestRegistrationIsForItsMachineAlone(t *testing.T) {
	for _, m := range machineTable {
		e := &Emulator{Arch: m.name, Path: "/usr/bin/emulator", Own: true, machine: m}
		fields := strings.Split(e.registration(), ":")
		if len(fields) != 8 || fields[2] != "M" || fields[6] != e.Path || fields[7] != "FPC" {
			t.Fatalf("%s: %q", m.name, fields)
		}
		r := &registration{magic: unescape(t, fields[4]), mask: unescape(t, fields[5])}
		for _, other := range machineTable {
			program := other.program()
			if got := r.matches(program); got != (other.name == m.name) {
				t.Errorf("what is registered for %s is for %s: %v", m.name, other.name, got)
			}
			shared := append([]byte(nil), program...) // ET_DYN, of Linux
			shared[7] = 3
			if other.order == 1 {
				shared[16] = 3
			} else {
				shared[17] = 3
			}
			if got := r.matches(shared); got != (other.name == m.name) {
				t.Errorf("what is registered for %s is for programs of %s at any address: %v", m.name, other.name, got)
			}
		}
	}
}

func unescape(t *testing.T, text string) []byte {
	t.Helper()
	var out []byte
	for part := range strings.SplitSeq(text[2:], `\x`) {
		var b byte
		for _, digit := range part {
			b = b<<4 | byte(strings.IndexRune("0123456789abcdef", digit))
		}
		out = append(out, b)
	}
	return out
}

func TestEmulatorErrorSaysWhatToDo(t *testing.T) {
	old := &namespaceError{"mount: permission denied"}
	for _, c := range []struct {
		err  EmulatorError
		want string
	}{
		{EmulatorError{Arch: "i686", Cause: errors.New("none")}, "install the Debian package qemu-user-static, which b9 then uses by itself"},
		{EmulatorError{Arch: "i686", Cause: old}, "install the Debian packages qemu-user-static and binfmt-support, which registers it on this machine (b9 registers it itself only where it can: a user namespace has registrations of its own from Linux 6.7 on: mount: permission denied)"},
		{EmulatorError{Arch: "i686", Cause: old, Installed: true}, "its emulator is installed and not registered: install the Debian package binfmt-support"},
		{EmulatorError{Arch: "i686", Cause: old, Installed: true, Loose: true}, "its emulator is registered without the flag F"},
		{EmulatorError{Arch: "i686", Cause: errors.New("/q does not run them"), Installed: true}, "this machine runs no programs of i686: /q does not run them"},
	} {
		if got := c.err.Error(); !strings.Contains(got, c.want) || !strings.HasPrefix(got, "this machine runs no programs of i686") {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}
