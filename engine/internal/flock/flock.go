// Package flock locks files against other processes, and against other
// openings of the same file in this one: flock(2). All of b9 that locks a whole
// file does it here. The package imports nothing of b9. It does not lock ranges
// of a file; the store does that for its keys.
//
//	Lock, Try, Wait  lock an open file: as long as it takes, at once, until a context ends
//	Poll             wait so for a lock of another kind
//	Open, TryOpen    open a file or a directory and lock it: as long as it takes, at once
//
// A lock belongs to the opening of the file. It ends when the last descriptor of
// that opening is closed, so it outlives no process that holds one, however the
// process ends. A child process that inherits the descriptor keeps the lock.
package flock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
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

// Lock waits for the lock on f, however long that takes.
func Lock(f *os.File, how Mode) error { return call(f, int(how)) }

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

// Wait waits for the lock on f until ctx is done; the error is then that of ctx.
// It sees within 50 ms that the file was unlocked: the kernel's own waiting
// can't be cancelled. It tries once even if ctx is done already.
func Wait(ctx context.Context, f *os.File, how Mode) error {
	return Poll(ctx, func() (bool, error) { return Try(f, how) })
}

// Poll is Wait for any kind of lock: it calls try until that reports that the lock
// is had, or fails.
func Poll(ctx context.Context, try func() (ok bool, err error)) error {
	for pause := time.Millisecond; ; pause = min(2*pause, mostPause) {
		if ok, err := try(); ok || err != nil {
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
// open(2), and waits for the lock, however long that takes. A file that it makes
// has mode 0600. Closing the file unlocks it.
func Open(path string, flag int, how Mode) (*os.File, error) {
	return openLocked(path, flag, func(f *os.File) error { return Lock(f, how) })
}

// TryOpen is [Open] that waits for nobody: an error is [ErrLocked] while another
// opening of the file has a lock that is in the way.
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
	f, err := os.OpenFile(path, flag, 0o600)
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
