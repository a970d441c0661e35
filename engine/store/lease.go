package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"b9.build/b9/engine/internal/flock"
	"golang.org/x/sys/unix"
)

// useGrain is how exactly the time of an object's last use is kept. Within
// it a repeated use writes nothing; a collector adds it as a margin.
const useGrain = 15 * time.Minute

// maxLeases bounds the search for a free lease file.
const maxLeases = 4096

// lease is the proof that a Store is open: a shared flock on one of a few
// files that are used again and again, so that opening a store works on a
// full disk. The modification time of the file is the time of opening, or
// earlier.
type lease struct {
	f     *os.File
	start int64 // Unix time, nanoseconds
}

func openLease(dir string) (*lease, error) {
	for n := range maxLeases {
		f, err := flock.TryOpen(filepath.Join(dir, strconv.Itoa(n)), os.O_RDWR|os.O_CREATE, flock.Exclusive)
		switch {
		case errors.Is(err, flock.ErrLocked):
		case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
			return shareLease(dir)
		case err != nil:
			return nil, fmt.Errorf("open a lease: %w", err)
		case stampAndShare(f):
			return newLease(f)
		default:
			f.Close()
		}
	}
	return nil, fmt.Errorf("open a lease: %d are in use in %s", maxLeases, dir)
}

// stampAndShare sets the time of a lease file that is locked, and goes over to
// a shared lock. A collector may probe the file in between and lock it for that
// moment: then ok is false, and another file must serve.
func stampAndShare(f *os.File) (ok bool) {
	if setMTime(f.Name(), time.Now().UnixNano()) == nil {
		ok, _ = flock.Try(f, flock.Shared)
	}
	return ok
}

// shareLease joins an earlier owner's lease when a full disk has no room for
// one more file. The owner opened earlier, so no less is protected.
func shareLease(dir string) (*lease, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range files {
		if f, err := flock.TryOpen(filepath.Join(dir, e.Name()), os.O_RDWR, flock.Shared); err == nil {
			return newLease(f)
		}
	}
	return nil, fmt.Errorf("open a lease in %s: %w", dir, unix.ENOSPC)
}

func newLease(f *os.File) (*lease, error) {
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &lease{f: f, start: info.ModTime().UnixNano()}, nil
}

func (l *lease) close() { l.f.Close() }

// oldestLease returns when the longest-open Store other than the one with
// the lease own was opened; ok is false when there is none.
func oldestLease(dir string, own *lease) (start int64, ok bool, err error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return 0, false, err
	}
	for _, e := range files {
		path := filepath.Join(dir, e.Name())
		at, live, err := probeLease(path, path == own.f.Name())
		if err != nil {
			return 0, false, err
		}
		if live && (!ok || at < start) {
			start, ok = at, true
		}
	}
	return start, ok, nil
}

// probeLease reports whether the lease at path has an owner besides the
// caller, and its time.
func probeLease(path string, own bool) (at int64, live bool, err error) {
	if own {
		return 0, false, nil
	}
	f, err := flock.TryOpen(path, os.O_RDWR, flock.Exclusive)
	if err == nil {
		return 0, false, f.Close()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if !errors.Is(err, flock.ErrLocked) {
		return 0, false, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, false, err
	}
	return info.ModTime().UnixNano(), true, nil
}

// gate keeps the short step in which a collector checks an object and
// unlinks it apart from the one in which a user renews an old object.
type gate struct {
	mu sync.Mutex // flock does not tell goroutines apart
	f  *os.File
}

func openGate(path string) (*gate, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &gate{f: f}, nil
}

// pass runs fn while no collector is deleting.
func (g *gate) pass(fn func() error) error { return g.locked(flock.Shared, fn) }

// shut runs fn while nobody passes. It waits for other processes only for
// as long as they renew one object.
func (g *gate) shut(fn func() error) error { return g.locked(flock.Exclusive, fn) }

func (g *gate) locked(how flock.Mode, fn func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := flock.Lock(g.f, how); err != nil {
		return fmt.Errorf("lock %s: %w", g.f.Name(), err)
	}
	defer flock.Unlock(g.f)
	return fn()
}

func (g *gate) close() { g.f.Close() }

// use marks the object as used by this Store and reports its size in bytes
// (of a tree: of its manifest). ok is false when it is not there.
//
// After a true result no collector removes the object until the Store is
// closed.
func (s *Store) use(o Object) (size int64, ok bool, err error) {
	s.used.add(o.Digest)
	var st unix.Stat_t
	if err := s.lstat(o.Kind.dir(), o.Digest, &st); err != nil {
		return 0, false, notThere(s.objectPath(o), err)
	}
	want := s.now()
	if st.Mtim.Nano() >= want-int64(useGrain) {
		return st.Size, true, nil
	}
	path := s.objectPath(o)
	err = s.gate.pass(func() error { return setMTime(path, want) })
	if err != nil {
		return 0, false, notThere(path, err)
	}
	return st.Size, true, nil
}

// now is the time to stamp a used object with: never before the lease's
// own, whatever happens to the clock.
func (s *Store) now() int64 { return max(time.Now().UnixNano(), s.lease.start) }

// notThere turns "does not exist" into no error.
func notThere(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("look at %s: %w", path, err)
}

func setMTime(path string, ns int64) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(ns)}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, times, unix.AT_SYMLINK_NOFOLLOW)
}

func ignoringEINTR(fn func() error) error {
	for {
		if err := fn(); err != unix.EINTR {
			return err
		}
	}
}
