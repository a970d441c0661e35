package flock

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain is, told by a variable, the other process: it locks a file as it was
// told, says so, and ends with its standard input.
func TestMain(m *testing.M) {
	path := os.Getenv("FLOCK_TEST_PATH")
	if path == "" {
		os.Exit(m.Run())
	}
	how := Exclusive
	if os.Getenv("FLOCK_TEST_HOW") == "shared" {
		how = Shared
	}
	if _, err := (Patience{}).Open(context.Background(), path, os.O_RDWR|os.O_CREATE, how); err != nil {
		println(err.Error())
		os.Exit(1)
	}
	os.Stdout.WriteString("locked\n")
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// other is a process that holds a lock, or waits for it.
type other struct {
	cmd  *exec.Cmd
	says *bufio.Reader
	in   io.Closer
}

func start(t *testing.T, path, how string) *other {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "FLOCK_TEST_PATH="+path, "FLOCK_TEST_HOW="+how)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return &other{cmd, bufio.NewReader(out), in}
}

// locked waits until the process has the lock.
func (o *other) locked(t *testing.T) {
	t.Helper()
	if line, err := o.says.ReadString('\n'); line != "locked\n" {
		t.Fatalf("the other process says %q (%v)", line, err)
	}
}

// end lets the process end by itself.
func (o *other) end(t *testing.T) {
	t.Helper()
	o.in.Close()
	if err := o.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

func file(t *testing.T) (*os.File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lock")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, path
}

// try expects what Try answers.
func try(t *testing.T, f *os.File, how Mode, want bool) {
	t.Helper()
	if ok, err := Try(f, how); ok != want || err != nil {
		t.Errorf("try: %t, %v; want %t", ok, err, want)
	}
}

func TestOtherProcesses(t *testing.T) {
	f, path := file(t)
	holder := start(t, path, "exclusive")
	holder.locked(t)
	try(t, f, Exclusive, false)
	try(t, f, Shared, false)
	holder.end(t)
	try(t, f, Exclusive, true)
	if err := Unlock(f); err != nil {
		t.Fatal(err)
	}
	holder = start(t, path, "shared")
	holder.locked(t)
	try(t, f, Exclusive, false)
	try(t, f, Shared, true)
}

// A process that is killed leaves no lock, and who waits gets it.
func TestKilledHolder(t *testing.T) {
	f, path := file(t)
	holder := start(t, path, "exclusive")
	holder.locked(t)
	got := make(chan error, 2)
	go func() { got <- Patience{}.Wait(t.Context(), f, Exclusive) }()
	holder.cmd.Process.Kill()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	waiter := start(t, path, "exclusive")
	if err := Unlock(f); err != nil {
		t.Fatal(err)
	}
	waiter.locked(t)
	go func() { got <- Patience{}.Wait(t.Context(), f, Shared) }()
	waiter.end(t)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	try(t, f, Exclusive, true)
}

func TestCancelledWait(t *testing.T) {
	f, path := file(t)
	start(t, path, "exclusive").locked(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (Patience{}).Wait(ctx, f, Shared); err != context.Canceled {
		t.Errorf("wait that was cancelled: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := (Patience{}).Wait(ctx, f, Exclusive); err != context.DeadlineExceeded {
		t.Errorf("wait that took too long: %v", err)
	}
	g, _ := file(t)
	if err := (Patience{}).Wait(ctx, g, Exclusive); err != nil {
		t.Errorf("free, though the context is done: %v", err)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	holder, err := (Patience{}).Open(t.Context(), dir, os.O_RDONLY, Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := TryOpen(dir, os.O_RDONLY, Shared); !errors.Is(err, ErrLocked) || !strings.HasPrefix(err.Error(), "lock "+dir+": ") {
		t.Errorf("a directory that is locked: %v", err)
	}
	holder.Close()
	if holder, err = TryOpen(dir, os.O_RDONLY, Shared); err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	path := filepath.Join(dir, "new")
	if _, err := (Patience{}).Open(t.Context(), path, os.O_RDWR, Exclusive); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	f, err := (Patience{}).Open(t.Context(), path, os.O_RDWR|os.O_CREATE, Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode().Perm()&^0o600 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestKernelRefuses(t *testing.T) {
	f, _ := file(t)
	f.Close()
	if ok, err := Try(f, Shared); ok || err != syscall.EBADF {
		t.Errorf("a closed file: %t, %v", ok, err)
	}
	if err := (Patience{}).Wait(t.Context(), f, Shared); err != syscall.EBADF {
		t.Errorf("a closed file: %v", err)
	}
}
