package trial

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/vm"
	"b9.build/b9/engine/vm/vmtest"
)

// patience is the limit of a check that is to succeed.
const patience = 10 * time.Minute

// sector is a machine that starts a boot sector.
func sector(t *testing.T, text, ending string) *vm.Machine {
	t.Helper()
	if _, err := exec.LookPath(vm.Program); err != nil {
		t.Skip("needs the Debian package qemu-system-x86")
	}
	disk := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(disk, vmtest.BootSector(text, ending), 0o600); err != nil {
		t.Fatal(err)
	}
	return &vm.Machine{Name: "m", Memory: 32 << 20, CPUs: 1, Type: "q35", Firmware: "bios", Disks: []vm.Disk{{File: disk, Format: "raw", Controller: "virtio-blk"}}}
}

// tried is how a trial went.
type tried struct {
	*Report
	err          error
	log, console string
}

func try(t *testing.T, ctx context.Context, m *vm.Machine, limit time.Duration, checks ...Check) tried {
	t.Helper()
	return tryOpen(t, ctx, m, limit, false, checks...)
}

func tryOpen(t *testing.T, ctx context.Context, m *vm.Machine, limit time.Duration, open bool, checks ...Check) tried {
	t.Helper()
	if err := Valid(checks); err != nil {
		t.Fatal(err)
	}
	var log, console bytes.Buffer
	picture := filepath.Join(t.TempDir(), "screen.png")
	r, err := Run(ctx, m, checks, Options{Accel: "tcg", Scratch: t.TempDir(), Open: open, Limit: limit, Log: io.MultiWriter(&log, t.Output()), Console: &console, Screenshot: picture})
	if _, serr := os.Stat(picture); r != nil && (serr == nil) != (r.Status == Failed) {
		t.Errorf("a trial that %s: its picture: %v", r.Status, serr)
	}
	return tried{r, err, log.String(), console.String()}
}

func says(pattern string) Check {
	return Check{Name: "says " + pattern, Kind: kindConsole, Pattern: pattern}
}

func runs(status int, stdout string, argv ...string) Check {
	return Check{Name: "runs " + argv[0], Kind: kindCommand, Argv: argv, Status: status, Pattern: stdout}
}

// TestConsole waits for texts of a console, in their order.
func TestConsole(t *testing.T) {
	m := sector(t, "\x1b[1mfirst\x1b[0m\r\nsecond\r\nthird", vmtest.Stays)
	got := try(t, t.Context(), m, patience, says("^first\\s"), says("^second$"))
	if got.err != nil || got.Status != Passed || len(got.Checks) != 2 || got.Checks[1].Status != Passed {
		t.Errorf("%v: %+v", got.err, got.Report)
	}
	if !strings.Contains(got.console, "\x1b[1mfirst\x1b[0m\r\n") {
		t.Errorf("kept of the console is %q", got.console)
	}
	if !strings.Contains(got.log, "first\n") || !strings.Contains(got.log, "second\n") || !strings.Contains(got.log, "b9: passed: says ^first") {
		t.Errorf("the log is %q", got.log)
	}
	data, err := got.Document()
	if err != nil {
		t.Fatal(err)
	}
	if read, err := ReadReport(data); err != nil || read.Checks[0] != got.Checks[0] || read.Machine != "m" || read.Accelerator != "tcg" {
		t.Errorf("read back: %+v, %v", read, err)
	}
	if _, err := ReadReport([]byte(`{"schema": "boot_test/9"}`)); err == nil {
		t.Error("a report of another version is read")
	}
}

// TestConsoleFails ends with the limit where a text does not come, or came before one that
// was waited for; later checks are not run.
func TestConsoleFails(t *testing.T) {
	m := sector(t, "first second", vmtest.Stays)
	got := try(t, t.Context(), m, patience, says("second"))
	if got.err != nil {
		t.Fatal(got.err)
	}
	got = try(t, t.Context(), m, 10*time.Second, says("."), says("first|never"), says("second"))
	if got.err == nil || !strings.Contains(got.err.Error(), "says first|never: it did not come so within 10s") {
		t.Errorf("the error is %v", got.err)
	}
	if got.Status != Failed || got.Checks[2].Status != NotRun || got.Checks[2].Seconds != 0 {
		t.Errorf("the report is %+v", got.Report)
	}
}

// TestOff ends at once where the machine goes off before a check comes out.
func TestOff(t *testing.T) {
	got := try(t, t.Context(), sector(t, "bye", vmtest.Off), patience, says("bye"), says("never"), says("nor this"))
	if !errors.Is(got.err, errOff) || !strings.Contains(got.err.Error(), "says never: ") {
		t.Errorf("the error is %v", got.err)
	}
	if got.Status != Failed || got.Checks[0].Status != Passed || got.Checks[1].Status != Failed || got.Checks[1].Error == "" || got.Checks[2].Status != NotRun {
		t.Errorf("the report is %+v", got.Report)
	}
}

// TestStopped is no failure of a check.
func TestStopped(t *testing.T) {
	m := sector(t, "up", vmtest.Stays)
	ctx, cancel := context.WithCancelCause(t.Context())
	because := errors.New("because")
	time.AfterFunc(time.Millisecond, func() { cancel(because) })
	if got := try(t, ctx, m, patience, says("never")); !errors.Is(got.err, because) && !errors.Is(got.err, context.Canceled) {
		t.Errorf("the error is %v", got.err)
	}
}
