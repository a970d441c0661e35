package flock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// signal sends the process a signal, and returns when it is in the state.
func (o *other) signal(t *testing.T, sig syscall.Signal, stopped bool) {
	t.Helper()
	if err := o.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	for processOf(o.cmd.Process.Pid).stopped != stopped {
		time.Sleep(time.Millisecond)
	}
}

// wait waits in made-up time, and returns what was told and how long it took.
func wait(t *testing.T, f *os.File, how Mode, most time.Duration, after func(said int)) (told []string, took time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		p := Patience{Most: most, Tell: func(h string) {
			told = append(told, h)
			after(len(told))
		}}
		err = p.Wait(t.Context(), f, how)
		took = time.Since(began)
	})
	return told, took, err
}

// TestWhoHoldsIt waits for holders of every kind: the wait names the process and ends.
func TestWhoHoldsIt(t *testing.T) {
	nothing := func(int) {}
	f, path := file(t)
	o := start(t, path, "shared")
	o.locked(t)
	name := fmt.Sprintf("process %d (%s)", o.cmd.Process.Pid, plain(os.Args[0]))
	t.Run("works", func(t *testing.T) {
		told, took, err := wait(t, f, Exclusive, Moments, nothing)
		if want := fmt.Sprintf("%s has held the lock for 5m0s: end it if it hangs (kill %d)", name, o.cmd.Process.Pid); err == nil || err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
		if !slices.Equal(told, []string{name}) || took < Moments || took > Moments+2*lookEvery {
			t.Errorf("told %q, waited %v", told, took)
		}
	})
	t.Run("is stopped", func(t *testing.T) {
		o.signal(t, syscall.SIGSTOP, true)
		told, took, err := wait(t, f, Exclusive, 0, nothing)
		var held *HeldError
		if !errors.As(err, &held) || !strings.Contains(err.Error(), fmt.Sprintf("kill -CONT %d", o.cmd.Process.Pid)) {
			t.Errorf("error %v", err)
		}
		if !slices.Equal(told, []string{name + ", which is stopped"}) || took > NoticeAfter+StoppedLimit+2*lookEvery {
			t.Errorf("told %q, waited %v", told, took)
		}
	})
	t.Run("goes on", func(t *testing.T) {
		told, _, err := wait(t, f, Exclusive, Moments, func(said int) {
			if said == 1 {
				o.signal(t, syscall.SIGCONT, false)
			}
		})
		if err == nil || !slices.Equal(told, []string{name + ", which is stopped", name}) {
			t.Errorf("told %q, %v", told, err)
		}
	})
	t.Run("is killed", func(t *testing.T) {
		o.signal(t, syscall.SIGSTOP, true)
		_, _, err := wait(t, f, Exclusive, 0, func(int) {
			o.cmd.Process.Kill()
			o.cmd.Wait()
		})
		if err != nil {
			t.Errorf("after its death: %v", err)
		}
	})
}

// TestHolderThatNobodySees is a lock that is in the way although no process that
// could be seen has it: as on a share that another machine has locked.
func TestHolderThatNobodySees(t *testing.T) {
	f, _ := file(t)
	synctest.Test(t, func(t *testing.T) {
		err := Patience{Most: Moments}.Poll(t.Context(), f, Lock{}, func() (bool, error) { return false, nil })
		if err == nil || err.Error() != "a process that can't be seen from here has held the lock for 5m0s" {
			t.Error(err)
		}
	})
}

// TestHolderOfAByte tells apart who has which byte of a file.
func TestHolderOfAByte(t *testing.T) {
	f, path := file(t)
	g, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	const at = 1<<61 + 7
	lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: at, Len: 1}
	if err := unix.FcntlFlock(g.Fd(), unix.F_OFD_SETLK, &lk); err != nil {
		t.Fatal(err)
	}
	if h := holderOf(f, Byte(at)); h.pid != os.Getpid() {
		t.Errorf("found %v", h)
	}
	for _, other := range []Lock{Byte(at + 1), {}} {
		if h := holderOf(f, other); h.pid != 0 {
			t.Errorf("%v: found %v", other, h)
		}
	}
}

// TestInterruptedWait ends at once, whoever holds the lock.
func TestInterruptedWait(t *testing.T) {
	f, path := file(t)
	o := start(t, path, "exclusive")
	o.locked(t)
	o.signal(t, syscall.SIGSTOP, true)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		err := Patience{Tell: func(string) { cancel() }}.Wait(ctx, f, Exclusive)
		if err != context.Canceled {
			t.Error(err)
		}
	})
	o.signal(t, syscall.SIGCONT, false)
}

func TestCommandLinesAreTamed(t *testing.T) {
	long := strings.Repeat("é", longestCommand+1)
	for words, want := range map[string]string{
		"b9\x00build\x00//:x":   "b9 build //:x",
		"b9\x00\x1b[2J\n\u009b": "b9  [2J  ",
		long:                    strings.Repeat("é", longestCommand-1) + "…",
	} {
		if got := plain(words); got != want {
			t.Errorf("%q: %q, want %q", words, got, want)
		}
	}
	if h := processOf(os.Getpid()); h.command == "" || !strings.HasPrefix(h.command, filepath.Dir(os.Args[0])) {
		t.Errorf("this process: %v", h)
	}
}
