package helper

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"b9.build/b9/engine/container"
)

// TestTimeoutBeginsWithTheCommand lets an hour pass before the command runs, and
// then one that is too slow.
func TestTimeoutBeginsWithTheCommand(t *testing.T) {
	for _, c := range []struct {
		slow bool
		want container.Reason
	}{{false, container.Exited}, {true, container.TimedOut}} {
		synctest.Test(t, func(t *testing.T) {
			w, remote, err := newWires()
			if err != nil {
				t.Fatal(err)
			}
			defer w.close()
			defer remote.Close()
			s := &session{spec: container.Spec{Timeout: time.Second}, wire: w, started: make(chan struct{})}
			outcomes := make(chan *outcome)
			go func() {
				time.Sleep(time.Hour)
				close(s.started)
				if c.slow {
					time.Sleep(2 * time.Second)
				}
				outcomes <- &outcome{}
			}()
			if _, why := s.supervise(t.Context(), outcomes); why != c.want {
				t.Errorf("ended because it %v, want %v", why, c.want)
			}
		})
	}
}

// idle is a process 1 that waits for a request.
type idle struct{ killed, waited bool }

func (*idle) Complete(*Request) {}
func (i *idle) Kill()           { i.killed = true }
func (i *idle) Wait(context.Context) (string, bool) {
	i.waited = true
	return "", false
}

// TestProcessThatGetsNothingToRun has a process 1 come up for images that can't be
// mounted: the error is theirs, and the process is gone when it is returned. Where none
// comes up either, the error is still what the specification can mend.
func TestProcessThatGetsNothingToRun(t *testing.T) {
	missing := []container.Mount{{Source: t.TempDir() + "/missing", Target: "/", Kind: container.Dir}}
	noProcess := errors.New("no process")
	for _, c := range []struct {
		mounts []container.Mount
		start  error
		want   error
	}{
		{missing, nil, fs.ErrNotExist},
		{missing, noProcess, fs.ErrNotExist},
		{nil, noProcess, noProcess},
	} {
		process := &idle{}
		s := &session{spec: container.Spec{Mounts: c.mounts, Network: container.NetworkNone}, started: make(chan struct{})}
		_, err := s.run(t.Context(), container.IO{}, func(_ context.Context, remote *os.File) (FirstProcess, error) {
			return process, errors.Join(c.start, remote.Close())
		})
		if !errors.Is(err, c.want) {
			t.Errorf("with %v the error is %v, want %v", c.start, err, c.want)
		}
		if ended := process.killed && process.waited; ended != (c.start == nil) {
			t.Errorf("with %v the process was killed: %v, and waited for: %v", c.start, process.killed, process.waited)
		}
	}
}

// TestContainerThatCannotBeServed has a terminal that is none: the container, which has
// its images mounted, is ended before anybody waits for these.
func TestContainerThatCannotBeServed(t *testing.T) {
	ours, remote, err := newWires()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := newWire(remote)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.close()
	none, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer none.Close()
	process := &idle{}
	s := &session{firstProcess: process, wire: ours, terminal: &terminal{tty: none}, started: make(chan struct{})}
	if err := theirs.send(message{Console: &console{}}, none); err != nil {
		t.Fatal(err)
	}
	if out := s.listen(); out == nil || out.Error == "" || !process.killed {
		t.Errorf("outcome %+v, and the process was killed: %v", out, process.killed)
	}
}
