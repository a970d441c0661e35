package trial

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/engine/vm"
	"b9.build/b9/engine/vm/vmtest"
)

// linux is a machine that starts a Linux.
func linux(t *testing.T) *vm.Machine {
	t.Helper()
	m := sector(t, "", vmtest.Stays)
	dir := t.TempDir()
	vmtest.Linux(t, dir)
	m.Memory, m.NICs = 160<<20, []vm.NIC{{Model: "virtio"}}
	m.Kernel, m.Initrd, m.Cmdline = filepath.Join(dir, "kernel"), filepath.Join(dir, "initrd"), "console=ttyS0 quiet"
	return m
}

// serve is a web server of one document in the guest, which comes late.
const serve = `(sleep 1; while :; do printf 'HTTP/1.0 404 no\r\nLocation: http://127.0.0.1:1/\r\n\r\nnothing here' | nc -l -p 80; done) >/dev/null 2>&1 &`

// asks is a command that asks a server of this host what it says.
func asks(t *testing.T) string {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	go func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "the host\n")
			_ = conn.Close()
		}
	}()
	return fmt.Sprintf("nc -w 3 10.0.2.2 %d </dev/null | grep host", socket.Addr().(*net.TCPAddr).Port)
}

// TestLinux runs commands through the guest's agent, asks a server, starts the guest anew and
// switches it off.
func TestLinux(t *testing.T) {
	t.Parallel()
	retry := runs(0, "^2$", "/bin/sh", "-c", "echo x >>/tmp/tries; wc -l </tmp/tries")
	retry.Retry = true
	got := try(t, t.Context(), linux(t), patience,
		says("guest is up"),
		runs(0, "^a  b\n$", "echo", "a  b"),
		runs(7, "^out\n$", "/bin/sh", "-c", "echo out; echo errors >&2; exit 7"),
		retry,
		runs(0, "", "/bin/sh", "-c", serve),
		Check{Name: "serves", Kind: kindHTTP, Port: 80, Path: "/x", Status: 404, Pattern: "^nothing"},
		runs(1, "", "/bin/sh", "-c", asks(t)),
		Check{Name: "reboot", Kind: kindReboot},
		says("guest is up"),
		runs(1, "", "test", "-e", "/tmp/tries"),
		Check{Name: "poweroff", Kind: kindPoweroff},
	)
	if got.err != nil || got.Channel != byAgent || got.Checks[10].Status != Passed {
		t.Errorf("%v: %+v\n%s", got.err, got.Report, got.log)
	}
	if n := strings.Count(got.console, "guest is up"); n != 2 || strings.Count(got.log, "guest is up\n") != 2 {
		t.Errorf("the guest is up %d times:\n%s", n, got.console)
	}
}

// TestLinuxBySSH runs commands in a guest that has no agent, and tells what a command that
// failed has printed.
func TestLinuxBySSH(t *testing.T) {
	t.Parallel()
	m := linux(t)
	m.Cmdline += " noagent"
	got := tryOpen(t, t.Context(), m, patience, true,
		runs(0, "^a  b it's$", "echo", "a  b", "it's"),
		runs(0, "^the host$", "/bin/sh", "-c", asks(t)),
		runs(7, "^out\n$", "/bin/sh", "-c", "echo out; echo errors >&2; exit 7"),
		runs(0, "", "/bin/sh", "-c", "echo out; echo errors >&2; exit 7"),
	)
	if got.err == nil || got.Channel != bySSH || got.Checks[3].Error != "the command ended with status 7, want 0, and printed:\nout\nerrors" {
		t.Errorf("%v: %+v\n%s", got.err, got.Report, got.log)
	}
	if got.Checks[2].Status != Passed || !strings.Contains(got.log, "through ssh") {
		t.Errorf("%+v\n%s", got.Report, got.log)
	}
}
