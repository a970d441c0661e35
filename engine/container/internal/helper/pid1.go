package helper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ending is how a process ended.
type ending struct {
	status unix.WaitStatus
	usage  unix.Rusage
	at     time.Time
}

// reaper waits for every child of this process, which as process 1 inherits
// all orphans of its namespace.
type reaper struct {
	ended chan ending   // the main process, once
	none  chan struct{} // closed when there is no child left
}

// checkInit refuses to be anything but process 1: signals to "all processes"
// would otherwise reach the host's.
func checkInit() error {
	if pid := os.Getpid(); pid != 1 {
		return fmt.Errorf("process %d is not the first of a container", pid)
	}
	return nil
}

// newReaper begins to wait. No other part of the program may wait for
// children from then on.
func newReaper(main int) *reaper {
	r := &reaper{ended: make(chan ending, 1), none: make(chan struct{})}
	go r.run(main)
	return r
}

func (r *reaper) run(main int) {
	defer close(r.none)
	for {
		var e ending
		pid, err := unix.Wait4(-1, &e.status, 0, &e.usage)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		if pid == main && (e.status.Exited() || e.status.Signaled()) {
			e.at = time.Now()
			r.ended <- e
		}
	}
}

// killAll ends every other process of the namespace.
func (r *reaper) killAll() {
	for {
		signalAll(unix.SIGKILL)
		select {
		case <-r.none:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// signalAll signals every process of the namespace but this one. It is an
// error only where there is no other.
func signalAll(s unix.Signal) { _ = unix.Kill(-1, s) }

// commands is what the caller's side sends while the command runs.
type commands struct {
	stop chan stop     // at most one is taken
	lost chan struct{} // closed when the other side died
}

func newCommands(w *wire) *commands {
	c := &commands{stop: make(chan stop, 1), lost: make(chan struct{})}
	go c.run(w)
	return c
}

func (c *commands) run(w *wire) {
	defer close(c.lost)
	for {
		m, files, err := w.receive()
		closeAll(files)
		if err != nil {
			return
		}
		if m.Stop != nil {
			select {
			case c.stop <- *m.Stop:
			default:
			}
		}
	}
}

// untilStop is a context that ends when the caller's side asks to stop, or has died.
// The returned function ends it, too. A request to stop stays to be answered.
func (c *commands) untilStop() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		select {
		case s := <-c.stop:
			select {
			case c.stop <- s:
			default: // another one has come
			}
		case <-c.lost:
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// isLost tells whether the other side has died.
func (c *commands) isLost() bool {
	select {
	case <-c.lost:
		return true
	default:
		return false
	}
}

// await returns when the main process has ended and no other is left. After a
// stop the processes have the grace to end; when the other side is lost they
// have none.
func (c *commands) await(r *reaper) (e ending, stopped bool) {
	var kill <-chan time.Time
	for {
		select {
		case e = <-r.ended:
			r.killAll()
			return e, stopped
		case s := <-c.stop:
			stopped = true
			signalAll(unix.SIGTERM)
			kill = time.After(s.Grace)
		case <-kill:
			signalAll(unix.SIGKILL)
			kill = time.After(10 * time.Millisecond)
		case <-c.lost:
			r.killAll()
			return <-r.ended, stopped
		}
	}
}
