package container

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestProgramsEndWell lets Debian's emulators judge the programs of a few bytes.
func TestProgramsEndWell(t *testing.T) {
	for _, m := range machineTable {
		t.Run(m.name, func(t *testing.T) {
			emulator := m.emulator()
			if emulator == "" {
				t.Skipf("needs qemu-%s-static of the Debian package qemu-user-static", m.qemu)
			}
			file := filepath.Join(t.TempDir(), "program")
			if err := os.WriteFile(file, m.program(), 0o755); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(emulator, file).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			damaged := bytes.ReplaceAll(m.program(), m.exit, bytes.Repeat([]byte{0xff}, len(m.exit)))
			if err := os.WriteFile(file, damaged, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := exec.Command(emulator, file).Run(); err == nil {
				t.Error("a program without its instructions ends well, too")
			}
		})
	}
}

// TestProgramsAreOfTheirMachine reads them with another reader of ELF.
func TestProgramsAreOfTheirMachine(t *testing.T) {
	for _, m := range machineTable {
		f, err := elf.NewFile(bytes.NewReader(m.program()))
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		if f.Machine != m.elf || f.Class != m.class || f.Data != m.order || f.Type != elf.ET_EXEC || len(f.Progs) != 1 {
			t.Errorf("%s: %+v", m.name, f.FileHeader)
		}
	}
}

func TestRuns(t *testing.T) {
	own, err := findMachine(MachineArch())
	if err != nil {
		t.Fatal(err)
	}
	if runs, err := own.runs(t.Context()); !runs || err != nil {
		t.Errorf("the machine's own program runs: %v, %v", runs, err)
	}
	none := own
	none.elf = elf.EM_H8_300
	if runs, err := none.runs(t.Context()); runs || err != nil {
		t.Errorf("a program that no kernel runs: %v, %v", runs, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := own.runs(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestRunsAsArchTestSays holds the probe against arch-test(1).
func TestRunsAsArchTestSays(t *testing.T) {
	archTest, err := exec.LookPath("arch-test")
	if err != nil {
		t.Skip("needs arch-test")
	}
	for debian, name := range map[string]string{"amd64": "x86_64", "i386": "i686", "arm64": "aarch64", "armhf": "armv7l", "riscv64": "riscv64", "ppc64el": "ppc64le", "s390x": "s390x"} {
		m, err := findMachine(name)
		if err != nil {
			t.Fatal(err)
		}
		runs, err := m.runs(t.Context())
		if want := exec.Command(archTest, debian).Run() == nil; err != nil || runs != want {
			t.Errorf("%s runs: %v, %v; arch-test says %v", name, runs, err, want)
		}
	}
}

// needEmulators skips a test where b9 can't register an emulator of its own.
func needEmulators(t *testing.T, arch string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	m, err := findMachine(arch)
	if err != nil {
		t.Fatal(err)
	}
	if m.emulator() == "" {
		t.Skip("needs the Debian package qemu-user-static")
	}
	var kernel *namespaceError
	if err := (&Emulator{Arch: arch, Own: true, machine: m}).try(t.Context()); errors.As(err, &kernel) {
		t.Skip(err)
	}
}

// TestFindEmulator finds one for every architecture of other machines, and the host
// has as many registrations afterwards as before.
func TestFindEmulator(t *testing.T) {
	needEmulators(t, "aarch64")
	m, _ := findMachine("aarch64")
	if registeredFor(m) != nil {
		t.Skip("this machine has an emulator registered for aarch64")
	}
	for _, arch := range Archs() {
		e, err := FindEmulator(t.Context(), arch)
		switch {
		case err != nil:
			t.Errorf("%s: %v", arch, err)
		case slices.Contains(KernelArchs(t.Context()), arch):
			if e != nil {
				t.Errorf("the kernel runs %s: %v", arch, e)
			}
		case e == nil || !e.Own || e.Arch != arch:
			t.Errorf("%s: %+v", arch, e)
		default:
			if v, err := e.Program().Version(t.Context(), e.Path); err != nil || !strings.Contains(v, "version") {
				t.Errorf("%s: version %q, %v", arch, v, err)
			}
		}
	}
	if registeredFor(m) != nil {
		t.Error("the host has an emulator registered now")
	}
	if runs, err := m.runs(t.Context()); runs || err != nil {
		t.Errorf("a program of aarch64 runs on the host now: %v, %v", runs, err)
	}
}

// TestUsers keeps a registration while it is held, for processes that join.
func TestUsers(t *testing.T) {
	needEmulators(t, "aarch64")
	m, _ := findMachine("aarch64")
	e := &Emulator{Arch: m.name, Path: m.emulator(), Own: true, machine: m}
	u, err := NewUsers(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	ns, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", u.Namespace.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, m.program(), 0o755); err != nil {
		t.Fatal(err)
	}
	joined := func() error {
		cmd := exec.Command("nsenter", "--user="+probePath, file)
		cmd.ExtraFiles = []*os.File{ns}
		return cmd.Run()
	}
	if err := joined(); err != nil {
		t.Errorf("while it is held: %v", err)
	}
	u.Close()
	if err := joined(); err == nil {
		t.Error("the registration outlives its release")
	}
	if err := exec.Command(file).Run(); !errors.Is(err, syscall.ENOEXEC) {
		t.Errorf("on the host: %v", err)
	}
}
