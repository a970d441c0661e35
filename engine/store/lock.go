package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/flock"
)

// keyLocks lets one holder have a key at a time: a channel for each key
// among the goroutines of this Store, and one locked byte of one file, at
// an offset made from the key, among Stores. So no lock leaves a file behind,
// and all of a process's die with it.
type keyLocks struct {
	f    *os.File
	mu   sync.Mutex
	held map[Digest]chan struct{} // closed when given up; made when needed
}

// LockKey waits until no other process and no other caller in this one holds
// the key, and locks it. unlock may be called more than once. A process that
// waits sees within 50 ms that another has unlocked or died.
func (s *Store) LockKey(ctx context.Context, key Digest) (unlock func(), err error) {
	k := &s.keys
	mine, err := k.enter(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("wait for key %s: %w", key, err)
	}
	if s.readOnly != nil { // nobody writes what the lock is for
		return sync.OnceFunc(func() { k.leave(key, mine) }), nil
	}
	if err := k.lockByte(ctx, key, s.patience("it works on the same step")); err != nil {
		k.leave(key, mine)
		return nil, fmt.Errorf("lock key %s: %w", key, err)
	}
	return sync.OnceFunc(func() {
		_ = k.byteLock(key, unix.F_UNLCK)
		k.leave(key, mine)
	}), nil
}

// enter waits for the other goroutines.
func (k *keyLocks) enter(ctx context.Context, key Digest) (chan struct{}, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		k.mu.Lock()
		other, taken := k.held[key]
		if !taken {
			mine := make(chan struct{})
			if k.held == nil {
				k.held = map[Digest]chan struct{}{}
			}
			k.held[key] = mine
			k.mu.Unlock()
			return mine, nil
		}
		k.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (k *keyLocks) leave(key Digest, mine chan struct{}) {
	k.mu.Lock()
	delete(k.held, key)
	k.mu.Unlock()
	close(mine)
}

// lockByte waits for the other processes. The kernel's own waiting could not
// be cancelled.
func (k *keyLocks) lockByte(ctx context.Context, key Digest, patience flock.Patience) error {
	return patience.Poll(ctx, k.f, flock.Byte(byteOf(key)), func() (bool, error) {
		err := k.byteLock(key, unix.F_WRLCK)
		if err == unix.EAGAIN || err == unix.EACCES {
			return false, nil
		}
		return true, err
	})
}

func (k *keyLocks) byteLock(key Digest, how int16) error {
	lk := unix.Flock_t{Type: how, Whence: io.SeekStart, Start: byteOf(key), Len: 1}
	return ignoringEINTR(func() error { return unix.FcntlFlock(k.f.Fd(), unix.F_OFD_SETLK, &lk) })
}

// byteOf is the offset of the byte that stands for the key.
func byteOf(key Digest) int64 {
	const mask = 1<<62 - 1 // offsets are signed, and the byte must have an end
	return int64(binary.LittleEndian.Uint64(key[:]) & mask)
}

// LockFile opens the file or directory at path with the flags of open(2) and
// waits until this process alone has locked it, which others do for moments only. A
// file that it makes has mode 0600. Closing the result unlocks it. It is for what
// other packages keep beside the store. Tell, if it is not nil, is given a text about
// the process that is waited for, once that lasts.
func LockFile(ctx context.Context, path string, flag int, tell func(holder string)) (*os.File, error) {
	return flock.Patience{Tell: tell, Most: flock.Moments}.Open(ctx, path, flag, flock.Exclusive)
}

// TryLockFile is [LockFile] that waits for nobody: a file that another process
// has locked is an error.
func TryLockFile(path string, flag int) (*os.File, error) {
	return flock.TryOpen(path, flag, flock.Exclusive)
}

// LockFile is the function of that name. It tells [Options].Waiting of the wait, which
// [Options].Interrupted ends, too.
func (s *Store) LockFile(ctx context.Context, path string, flag int) (*os.File, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(s.uninterrupted(), stop)()
	return s.brief("it has "+path+" locked").Open(ctx, path, flag, flock.Exclusive)
}

// patience is for a lock that others may hold for long. The text says what they do
// then, after who they are.
func (s *Store) patience(doing string) flock.Patience {
	if s.opts.Waiting == nil {
		return flock.Patience{}
	}
	return flock.Patience{Tell: func(holder string) { s.opts.Waiting("waiting for " + holder + ": " + doing) }}
}

// brief is the patience for a lock that others hold for moments.
func (s *Store) brief(doing string) flock.Patience {
	p := s.patience(doing)
	p.Most = flock.Moments
	return p
}

// uninterrupted is done with [Options].Interrupted.
func (s *Store) uninterrupted() context.Context {
	return interruption{context.Background(), s.opts.Interrupted}
}

type interruption struct {
	context.Context
	done <-chan struct{}
}

func (i interruption) Done() <-chan struct{} { return i.done }

func (i interruption) Err() error {
	select {
	case <-i.done:
		return context.Canceled
	default:
		return nil
	}
}
