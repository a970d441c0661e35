package qemu

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/tool"
	"b9.build/b9/engine/vm"
	"b9.build/b9/engine/vm/vmtest"
)

// sector is a machine that starts a boot sector, and how it is started.
func sector(t *testing.T, text, ending string) (*vm.Machine, Options) {
	t.Helper()
	if _, err := exec.LookPath(vm.Program); err != nil {
		t.Skip("needs the Debian package qemu-system-x86")
	}
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk.raw")
	if err := os.WriteFile(disk, vmtest.BootSector(text, ending), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &vm.Machine{Name: "m", Memory: 32 << 20, CPUs: 1, Type: "q35", Firmware: "bios", Disks: []vm.Disk{{File: disk, Format: "raw", Controller: "virtio-blk"}}}
	return m, Options{Accel: "tcg", Scratch: dir}
}

// TestDebugger holds a machine for a debugger, at a socket that has no port.
func TestDebugger(t *testing.T) {
	m, o := sector(t, "b9 boots", vmtest.Stays)
	o.GDB = true
	r, err := Start(t.Context(), m, o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if filepath.Dir(r.GDB) != o.Scratch {
		t.Errorf("a debugger is waited for at %s, want a file in %s", r.GDB, o.Scratch)
	}
	conn, err := net.Dial("unix", r.GDB)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Write([]byte("$?#3f")); err != nil { // why did it stop?
		t.Fatal(err)
	}
	answer := make([]byte, 3)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "+$T" {
		t.Errorf("the stub says %q, %v", answer, err)
	}
	o.Scratch = filepath.Join(o.Scratch, strings.Repeat("long", 30))
	if _, err := Start(t.Context(), m, o); err == nil || !strings.Contains(err.Error(), "use a store whose path is shorter") {
		t.Errorf("a path that is too long: %v", err)
	}
}

// TestLinesDebugger has no port of every user in the command line either.
func TestLinesDebugger(t *testing.T) {
	m, o := sector(t, "", vmtest.Off)
	m.Name, o.GDB, o.Network.Kind = "a.b", true, "none"
	lines, err := Lines(m, o)
	if err != nil || len(lines) != 1 {
		t.Fatal(lines, err)
	}
	if line := strings.Join(lines[0], " "); strings.Contains(line, "tcp") || !strings.Contains(line, "path=a.b.gdb -gdb chardev:gdb -S") {
		t.Errorf("the line is %s", line)
	}
}

// TestTPM starts a TPM that keeps its state in a directory with a comma in its name, and one
// by the command lines.
func TestTPM(t *testing.T) {
	if _, err := tool.Find("swtpm"); err != nil {
		t.Skip("needs the Debian package swtpm")
	}
	m, o := sector(t, "", vmtest.Stays)
	m.TPM, o.Keep = true, filepath.Join(o.Scratch, "kept, whole")
	r, err := Start(t.Context(), m, o)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if _, err := os.Stat(filepath.Join(o.Keep, "m.tpm", "tpm2-00.permall")); err != nil {
		t.Error(err)
	}
	if _, err := Lines(m, o); err == nil || !strings.Contains(err.Error(), "swtpm takes no path with a comma") {
		t.Errorf("lines with a comma: %v", err)
	}
	o.Keep = filepath.Join(o.Scratch, "it's kept")
	lines, err := Lines(m, o)
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for _, words := range lines {
		for _, w := range words {
			fmt.Fprintf(&script, "'%s' ", strings.ReplaceAll(w, "'", `'\''`))
		}
		script.WriteByte('\n')
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-e", "-c", script.String())
	cmd.Stdin = strings.NewReader("\x01x") // ends QEMU
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s\n%s", err, out, script.String())
	}
	if _, err := os.Stat(filepath.Join(o.Keep, "m.tpm", "tpm2-00.permall")); err != nil {
		t.Error(err)
	}
}

// TestDied tells a guest that is off from a QEMU that has died.
func TestDied(t *testing.T) {
	m, o := sector(t, "", vmtest.Off)
	off, err := Start(t.Context(), m, o)
	if err != nil {
		t.Fatal(err)
	}
	defer off.Close()
	<-off.Down()
	if err := off.Died(); err != nil {
		t.Errorf("a guest is off: %v", err)
	}
	off.monitor.process.kill()
	<-off.Ended()
	for !off.monitor.gone() {
		runtime.Gosched() // the monitor hears of it in a moment
	}
	if err := off.Died(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("QEMU was killed: %v", err)
	}
}
