package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"b9.build/b9/cmd/b9/internal/exit"
)

// TestInterruptedWait holds what a build waits for: it says which process that is, and
// one Ctrl-C ends it at once.
func TestInterruptedWait(t *testing.T) {
	s := newSite(t, map[string]string{"b9.toml": "", "B9BUILD.star": "file(name = \"a\", content = \"x\")\n"})
	if status, out, errs := s.b9("build", "//:a"); status != exit.OK {
		t.Fatal(status, out, errs)
	}
	for _, lock := range []string{filepath.Join(s.store, "locks", "gate"), filepath.Join(s.store, "locks", "scratch"), filepath.Join(s.dir, "b9-out")} {
		t.Run(filepath.Base(lock), func(t *testing.T) {
			if err := os.Remove(filepath.Join(s.dir, "b9-out", "a")); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			f, err := os.Open(lock)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(os.Args[0])
			cmd.Args = []string{"b9", "-C", s.dir, "--store", s.store, "build", "//:a"}
			errs, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			said := bufio.NewReader(errs)
			for line := ""; !strings.Contains(line, fmt.Sprintf("b9: waiting for process %d (", os.Getpid())); {
				if line, err = said.ReadString('\n'); err != nil {
					t.Fatalf("it did not say what it waits for: %v", err)
				}
			}
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			rest, _ := io.ReadAll(said)
			if cmd.Wait(); cmd.ProcessState.ExitCode() != exit.Interrupted {
				t.Errorf("%v\n%s", cmd.ProcessState, rest)
			}
		})
	}
}
