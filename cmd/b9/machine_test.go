package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/engine/vm"
	"b9.build/b9/engine/vm/vmtest"
)

// machineSite is a workspace with machines.
type machineSite struct {
	*crashSite
}

const machineFile = `
load("@b9//vm.star", "vm")
vm("stays", image(source = "stays.raw", format = "raw"), memory = "32M", tpm = True)
vm("off", image(source = "off.raw", format = "raw"), memory = "32M")
`

func newMachineSite(t *testing.T, file string) *machineSite {
	t.Helper()
	if _, err := exec.LookPath(vm.Program); err != nil {
		t.Skip("needs the Debian package qemu-system-x86")
	}
	w := &machineSite{&crashSite{t: t, dir: t.TempDir(), store: filepath.Join(t.TempDir(), "store")}}
	w.write("b9.toml", "")
	w.write("B9BUILD.star", file)
	w.write("stays.raw", string(vmtest.BootSector("b9 stays\r\n", vmtest.Stays)))
	w.write("off.raw", string(vmtest.BootSector("b9 is off\r\n", vmtest.Off)))
	return w
}

// started starts a machine, and returns when its console has said so.
func (w *machineSite) started(until string, stdin io.Reader, args ...string) (*exec.Cmd, *follower) {
	w.t.Helper()
	return w.startedAs("run", until, stdin, args...)
}

// startedAs is started with another command than run.
func (w *machineSite) startedAs(command, until string, stdin io.Reader, args ...string) (*exec.Cmd, *follower) {
	w.t.Helper()
	cmd, _ := w.command(append([]string{command}, args...)...)
	out := &follower{found: make(chan struct{}), until: until}
	cmd.Stdout, cmd.Stderr, cmd.Stdin = out, out, stdin
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = cmd.Process.Kill() })
	select {
	case <-out.found:
	case <-time.After(10 * time.Minute):
		w.t.Fatalf("%q does not come: %s", until, out)
	}
	return cmd, out
}

// follower waits for a text in what is written.
type follower struct {
	until string
	found chan struct{}

	mu   sync.Mutex
	said bytes.Buffer
	once bool
}

// Write implements io.Writer.
func (f *follower) Write(data []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.said.Write(data)
	if !f.once && strings.Contains(f.said.String(), f.until) {
		f.once = true
		close(f.found)
	}
	return n, err
}

func (f *follower) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.said.String()
}

// descendants are the processes that a process has started.
func descendants(pid int) []int {
	var all []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range tasks {
		data, _ := os.ReadFile(file)
		for _, word := range strings.Fields(string(data)) {
			var child int
			fmt.Sscan(word, &child)
			all = append(append(all, child), descendants(child)...)
		}
	}
	return all
}

// alive reports whether a process runs; one that nobody has waited for does not, once all
// its threads have ended, which have its files until then.
func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(data), ") ")
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	return err == nil && (len(threads) > 1 || !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X"))
}

// TestMachineEndsWithB9 stops and kills b9 while a machine runs: no process of it, no port
// and no file stays.
func TestMachineEndsWithB9(t *testing.T) {
	w := newMachineSite(t, machineFile)
	w.run("build", "//:stays")
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGKILL} {
		cmd, out := w.started("b9 stays", nil, "//:stays", "--forward", "0:80", "--display", "vnc", "--gdb=false")
		lent := regexp.MustCompile(`127\.0\.0\.1:(\d+)`).FindStringSubmatch(out.String())
		if lent == nil {
			t.Fatalf("no port is told: %s", out)
		}
		if conn, err := net.Dial("tcp", lent[0]); err != nil {
			t.Errorf("%v: while the machine runs: %v", sig, err)
		} else {
			_ = conn.Close()
		}
		processes := descendants(cmd.Process.Pid)
		if len(processes) < 2 { // QEMU and the TPM
			t.Fatalf("b9 has the processes %v", processes)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); sig != syscall.SIGKILL && got != exit.Interrupted {
			t.Errorf("%v: status %d, %v\n%s", sig, got, err, out)
		}
		for _, pid := range processes {
			for alive(pid) { // the kernel kills them, which b9 no longer waits for
				time.Sleep(10 * time.Millisecond)
			}
		}
		if conn, err := net.Dial("tcp", lent[0]); err == nil {
			_ = conn.Close()
			t.Errorf("%v: the port is still there", sig)
		}
		if sig != syscall.SIGKILL { // after which the next b9 tidies up
			w.noScratch(sig)
		}
	}
	w.run("build", "//:off")
	w.noScratch("the next b9")
}

// TestBootTestEndsWithB9 stops and kills b9 while it tests a machine, which answers no
// check: no process of it stays, and no file of the step's.
func TestBootTestEndsWithB9(t *testing.T) {
	w := newMachineSite(t, machineFile+`
boot_test(name = "hangs", vm = ":stays", checks = [{"name": "answers", "check": "http", "port": 80, "path": "/", "status": 200}])
`)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		cmd, out := w.startedAs("build", "b9 stays", nil, "-v", "//:hangs")
		processes := descendants(cmd.Process.Pid)
		if len(processes) < 2 { // QEMU and the TPM
			t.Fatalf("b9 has the processes %v", processes)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); sig != syscall.SIGKILL && got != exit.Interrupted {
			t.Errorf("%v: status %d, %v\n%s", sig, got, err, out)
		}
		for _, pid := range processes {
			for alive(pid) { // the kernel kills them, which b9 no longer waits for
				time.Sleep(10 * time.Millisecond)
			}
		}
		if sig == syscall.SIGKILL { // after which the next b9 tidies up
			w.run("build", "//:off")
		}
		if left, _ := filepath.Glob(filepath.Join(w.store, "scratch", "*hangs*")); len(left) > 0 {
			t.Errorf("%v: left: %v", sig, left)
		}
	}
	w.noScratch("a test")
}

// noScratch looks for what a machine left in the store.
func (w *machineSite) noScratch(after any) {
	w.t.Helper()
	for _, pattern := range []string{filepath.Join(w.store, "scratch", "*machine*"), "/var/tmp/vl.*", filepath.Join(os.TempDir(), "vl.*")} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			w.t.Errorf("%v: left: %v", after, left)
		}
	}
}

// TestMachineOnATerminal types into the console of a Linux: commands to b9, commands to the
// guest, which knows how large the terminal is.
func TestMachineOnATerminal(t *testing.T) {
	w := newMachineSite(t, linuxFile)
	vmtest.Linux(t, w.dir)
	w.run("build", "//:linux")
	person, terminal := newTerminal(t)
	size := func(rows, cols uint16) {
		if err := unix.IoctlSetWinsize(int(person.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
			t.Fatal(err)
		}
	}
	size(40, 100)
	cmd, _ := w.command("run", "//:linux")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	_ = terminal.Close() // so that an end of b9 is seen
	seen := &screen{t: t, from: person}
	seen.wait("guest is up")
	seen.wait("# ")
	seen.repeat("stty size\r", "40 100")
	size(50, 120)
	seen.repeat("stty size\r", "50 120")
	fmt.Fprint(person, `sh -c 'trap "echo Ctrl-C is for $((40+2)); exit" INT; echo waits $((40+1)); while sleep 1; do :; done'`+"\r")
	seen.wait("waits 41")
	fmt.Fprint(person, "\x03")
	seen.wait("Ctrl-C is for 42")
	fmt.Fprint(person, "\x01h")
	seen.wait("Ctrl-A z")
	fmt.Fprint(person, "\x01z")
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("b9 is %v, %v", status, err)
	}
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	seen.repeat("echo on $((6*7))\r", "on 42")
	fmt.Fprint(person, "\x01x")
	if err := cmd.Wait(); err != nil {
		t.Errorf("Ctrl-A x: %v", err)
	}
}

// linuxFile has a machine that starts Linux, of which the disk says what is kept.
const linuxFile = `
load("@b9//vm.star", "vm")
vm("linux", image(source = "off.raw", format = "raw"), memory = "160M", kernel = "kernel", initrd = "initrd", cmdline = "console=ttyS0 quiet")
`

// TestMachineBySSH runs commands in a machine, whose status, output and words come through.
func TestMachineBySSH(t *testing.T) {
	w := newMachineSite(t, linuxFile)
	vmtest.Linux(t, w.dir)
	w.run("build", "//:linux")
	script := `cat; printf '%s|' "$@"; echo once kept >/dev/vda; sync; ( sleep 1; poweroff -f ) >/dev/null 2>&1 & exit 7`
	cmd, out := w.command("run", "-q", "--ssh", "--persist", "//:linux", "--", "sh", "-c", script, "x", "a  b", "it's")
	var errs bytes.Buffer
	cmd.Stderr, cmd.Stdin = &errs, strings.NewReader("typed ")
	var status *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &status) || status.ExitCode() != 7 {
		t.Errorf("%v: %s%s", err, out, &errs)
	}
	if got, want := out.String(), "typed a  b|it's|"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	kept, err := os.ReadFile(filepath.Join(w.dir, "b9-out", "linux.kept", "disk0.raw"))
	if err != nil || !bytes.HasPrefix(kept, []byte("once kept\n")) {
		t.Errorf("kept is %.20q, %v", kept, err)
	}
	if placed, err := os.ReadFile(filepath.Join(w.dir, "b9-out", "linux", "disk0.raw")); err != nil || bytes.HasPrefix(placed, []byte("once")) {
		t.Errorf("the result is %.20q, %v", placed, err)
	}
	if matches, _ := filepath.Glob(filepath.Join(w.store, "scratch", "*", "key")); len(matches) > 0 {
		t.Errorf("the key stayed: %v", matches)
	}
}

// newTerminal makes a terminal: the person's side, and the program's.
func newTerminal(t *testing.T) (person, terminal *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = person.Close(), terminal.Close() })
	return person, terminal
}

// screen is what a person has seen on a terminal.
type screen struct {
	t    *testing.T
	from *os.File
	all  string
	read int // how much of it was waited for
}

// wait reads until a text comes that was not waited for before.
func (s *screen) wait(text string) {
	s.t.Helper()
	if !s.within(text, 10*time.Minute) {
		s.t.Fatalf("%q does not come: %s", text, s.all)
	}
}

func (s *screen) within(text string, patience time.Duration) bool {
	buf, end := make([]byte, 4096), time.Now().Add(patience)
	for !strings.Contains(s.all[s.read:], text) {
		fds := []unix.PollFd{{Fd: int32(s.from.Fd()), Events: unix.POLLIN}}
		if n, _ := unix.Poll(fds, 100); n <= 0 {
			if time.Now().After(end) {
				return false
			}
			continue
		}
		n, err := s.from.Read(buf)
		if s.all += string(buf[:n]); err != nil {
			return false
		}
	}
	s.read += strings.Index(s.all[s.read:], text) + len(text)
	return true
}

// repeat types until an answer comes: what it is about may take its time.
func (s *screen) repeat(typed, answer string) {
	s.t.Helper()
	for range 100 {
		fmt.Fprint(s.from, typed)
		if s.within(answer, 2*time.Second) {
			return
		}
	}
	s.t.Fatalf("%q is never answered by %q: %s", typed, answer, s.all)
}
