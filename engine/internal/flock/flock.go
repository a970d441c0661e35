// Package flock locks files against other processes, and against other
// openings of the same file in this one: flock(2). All of b9 that locks a whole
// file does it here. The package imports nothing of b9. It does not lock ranges
// of a file; the store does that for its keys.
//
//	Patience         how a wait goes on: who is told of it, and what ends it
//	Try              lock an open file at once, or not
//	Patience.Wait, Patience.Poll   wait for the lock on an open file, or for one of another kind
//	Patience.Open, TryOpen         open a file or a directory and lock it: in time, at once
//	HeldError        why a wait was given up, with the process that holds the lock
//
// A lock belongs to the opening of the file. It ends when the last descriptor of
// that opening is closed, so it outlives no process that holds one, however the
// process ends. A child process that inherits the descriptor keeps the lock. Whoever
// has one is found in /proc (holder.go), and named to those who wait.
package flock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/newfile"
)

// Mode is how a lock is held.
type Mode int

// The modes. To lock a file again in the other mode gives up the lock first: in
// between another process may lock it.
const (
	Shared    Mode = unix.LOCK_SH // with others that share it
	Exclusive Mode = unix.LOCK_EX // alone
)

// ErrLocked is what [TryOpen] returns for a file that another opening has locked.
var ErrLocked = errors.New("another process holds the lock")

// Patience is how a wait goes on. Whatever it is, the wait ends with its context, and
// when a process that holds the lock has been stopped (SIGSTOP) for [StoppedLimit].
type Patience struct {
	// Tell is given a text about who is waited for, such as `process 12 (b9 build
	// //:x)`, once the wait has lasted [NoticeAfter], and again when that changes.
	Tell func(holder string)
	// Most is how long the wait may last; zero is as long as a process that is not
	// stopped holds the lock.
	Most time.Duration
}

// The limits of waits.
const (
	NoticeAfter  = 2 * time.Second
	StoppedLimit = 20 * time.Second
	// Moments is the patience for a lock that everybody holds for moments only: who
	// has it for longer hangs.
	Moments = 5 * time.Minute
)

// Unlock gives the lock on f up. Closing f does so, too.
func Unlock(f *os.File) error { return call(f, unix.LOCK_UN) }

// Try locks f if that can be done at once. ok is false, without an error, while
// another opening of the file has a lock that is in the way.
func Try(f *os.File, how Mode) (ok bool, err error) {
	err = call(f, int(how)|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// mostPause is the longest time between two tries of Poll.
const mostPause = 50 * time.Millisecond

// Wait waits for the lock on f. An error is that of ctx, or a [HeldError]. It sees
// within 50 ms that the file was unlocked: the kernel's own waiting can't be
// cancelled. It tries once even if ctx is done already.
func (p Patience) Wait(ctx context.Context, f *os.File, how Mode) error {
	return p.Poll(ctx, f, Lock{}, func() (bool, error) { return Try(f, how) })
}

// Poll is Wait for any kind of lock on f: it calls try until that reports that the
// lock is had, or fails. The lock tells who holds it.
func (p Patience) Poll(ctx context.Context, f *os.File, lock Lock, try func() (ok bool, err error)) error {
	w := watch{patience: p, file: f, lock: lock, began: time.Now()}
	for pause := time.Millisecond; ; pause = min(2*pause, mostPause) {
		if ok, err := try(); ok || err != nil {
			return err
		}
		if err := w.look(); err != nil {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Open opens what is at path, which may be a directory, with the flags of
// open(2), and waits for the lock. A file that it makes has mode 0600, is open for reading
// and writing, and belongs to whom its directory belongs. Closing the file unlocks it.
func (p Patience) Open(ctx context.Context, path string, flag int, how Mode) (*os.File, error) {
	return openLocked(path, flag, func(f *os.File) error { return p.Wait(ctx, f, how) })
}

// TryOpen opens and locks as [Patience.Open] does, and waits for nobody: an error is
// [ErrLocked] while another opening of the file has a lock that is in the way.
func TryOpen(path string, flag int, how Mode) (*os.File, error) {
	return openLocked(path, flag, func(f *os.File) error {
		ok, err := Try(f, how)
		if err == nil && !ok {
			err = ErrLocked
		}
		return err
	})
}

func openLocked(path string, flag int, lock func(*os.File) error) (*os.File, error) {
	open := os.OpenFile
	if flag&os.O_CREATE != 0 {
		open, flag = newfile.Open, flag&^os.O_CREATE
	}
	f, err := open(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// call calls flock(2) until no signal interrupts it.
func call(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}
