package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// bootSector says "b9 boots" on the first serial line and ends QEMU with status 85
// through isa-debug-exit.
func bootSector() []byte {
	code := append([]byte{
		0x31, 0xc0, 0x8e, 0xd8, // ds = 0
		0xba, 0xf8, 0x03, // dx = COM1
		0xbe, 0x1a, 0x7c, // si = the text behind the code
		0xfc, 0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8, // each byte of it to dx
		0xb0, 0x2a, 0xe6, 0xf4, // out 0xf4, 42
		0xf4, 0xeb, 0xfd,
	}, "b9 boots\n\x00"...)
	sector := make([]byte, 1<<20)
	copy(sector, code)
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}

// needQEMU skips a test where there is none.
func needQEMU(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath(Program); err != nil {
		t.Skip("needs the Debian package qemu-system-x86")
	}
}

// simple is the smallest machine with a disk.
func simple() Machine {
	return Machine{Name: "m", Memory: 128 << 20, CPUs: 1, Type: "q35", Firmware: "bios", Disks: []Disk{{File: "disk0.raw", Format: "raw", Controller: "virtio-blk"}}}
}

// TestScriptStarts starts a disk at every controller with the script for a shell.
func TestScriptStarts(t *testing.T) {
	needQEMU(t)
	for _, name := range Controllers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := simple()
			m.Name, m.CPUs = "a.b", 2
			m.NICs = []NIC{{Model: "virtio"}, {Model: "e1000", MAC: "52:54:00:12:34:56"}}
			m.Seed, m.Shares = "seed it's.iso", []Share{{Tag: "src", Dir: "share-src"}}
			m.Disks[0].Controller = name
			if name == "ide" {
				m.Type = "pc"
			}
			if err := m.Check(); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "a place, 'quoted'")
			write(t, dir, map[string][]byte{"disk0.raw": bootSector(), "seed it's.iso": make([]byte, 2048), "share-src/a": nil, "start.sh": []byte(m.Script())})
			cmd := exec.CommandContext(t.Context(), "/bin/sh", filepath.Join(dir, "start.sh"), "-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-no-reboot")
			cmd.Env = append(os.Environ(), "ACCEL=tcg")
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 2*0x2a+1 || !strings.Contains(string(out), "b9 boots") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// TestScriptStartsUEFI gets a machine with UEFI, secure boot and a TPM to where its
// firmware looks for something to start, and finds its variables and its TPM's state
// kept beside its disks.
func TestScriptStartsUEFI(t *testing.T) {
	if os.Getenv("B9_LONG_TESTS") == "" {
		t.Skip("starts a UEFI without KVM: set B9_LONG_TESTS=1, as `make test` does")
	}
	needQEMU(t)
	if _, err := os.Stat(filepath.Join(firmwareDir, firmwareSets(true)[0][0])); err != nil {
		t.Skipf("needs the Debian package ovmf: %v", err)
	}
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Skip("needs the Debian package swtpm")
	}
	m := simple()
	m.Firmware, m.SecureBoot, m.TPM = "uefi", true, true
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir, map[string][]byte{"disk0.raw": bootSector(), "start.sh": []byte(m.Script())})
	cmd := exec.CommandContext(t.Context(), "/bin/sh", filepath.Join(dir, "start.sh"))
	cmd.Env = append(os.Environ(), "ACCEL=tcg")
	cmd.Stderr = cmd.Stdout
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for buf := make([]byte, 4096); !strings.Contains(said.String(), "BdsDxe"); {
		n, err := out.Read(buf)
		said.Write(buf[:n])
		if err != nil {
			t.Fatalf("%v: %s", err, said.String())
		}
	}
	fmt.Fprint(in, "\x01x") // the monitor's way out
	go func() { _, _ = out.Read(make([]byte, 1<<16)) }()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"m.vars", "m.tpm/tpm2-00.permall"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func write(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
