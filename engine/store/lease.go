package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/flock"
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

func openLease(dir string) (*os.File, error) {
	for n := range maxLeases {
		f, err := flock.TryOpen(filepath.Join(dir, strconv.Itoa(n)), os.O_RDWR|os.O_CREATE, flock.Exclusive)
		switch {
		case errors.Is(err, flock.ErrLocked):
		case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
			return shareLease(dir)
		case err != nil:
			return nil, fmt.Errorf("open a lease: %w", err)
		case stampAndShare(f):
			return f, nil
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
func shareLease(dir string) (*os.File, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range files {
		if f, err := flock.TryOpen(filepath.Join(dir, e.Name()), os.O_RDWR, flock.Shared); err == nil {
			return f, nil
		}
	}
	return nil, fmt.Errorf("open a lease in %s: %w", dir, unix.ENOSPC)
}

// mtime is when the file was last modified, as Unix time in nanoseconds.
func mtime(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.ModTime().UnixNano(), nil
}

// oldestLease returns when the longest-open Store other than the one with
// the lease own was opened; ok is false when there is none.
func oldestLease(dir string, own lease) (start int64, ok bool, err error) {
	err = eachIn(dir, func(path string, _ fs.FileInfo) error {
		if path == own.f.Name() {
			return nil
		}
		f, err := flock.TryOpen(path, os.O_RDWR, flock.Exclusive)
		switch {
		case err == nil:
			return f.Close()
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case !errors.Is(err, flock.ErrLocked):
			return err
		}
		info, err := os.Stat(path) // its time as of now: it may have been locked since the list was read
		if err == nil && (!ok || info.ModTime().UnixNano() < start) {
			start, ok = info.ModTime().UnixNano(), true
		}
		return err
	})
	return start, ok, err
}

// gate keeps the short step in which a collector checks an object and
// unlinks it apart from the one in which a user renews an old object.
type gate struct {
	mu   sync.Mutex // flock does not tell goroutines apart
	f    *os.File
	wait func(f *os.File, how flock.Mode) error
}

// pass runs fn while no collector is deleting.
func (g *gate) pass(fn func() error) error { return g.locked(flock.Shared, fn) }

// shut runs fn while nobody passes. It waits for other processes only for
// as long as they renew one object.
func (g *gate) shut(fn func() error) error { return g.locked(flock.Exclusive, fn) }

func (g *gate) locked(how flock.Mode, fn func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.wait(g.f, how); err != nil {
		return fmt.Errorf("lock %s: %w", g.f.Name(), err)
	}
	defer flock.Unlock(g.f)
	return fn()
}

// use marks the object as used by this Store, with what it rests on, and reports its size in bytes
// (of a tree: of its manifest). ok is false when it is not there.
//
// After a true result no collector removes the object until the Store is
// closed. An object that was written to is hashed first, and one that is damaged is
// not there any more.
func (s *Store) use(o Object) (size int64, ok bool, err error) {
	s.used.add(o.Digest)
	var st unix.Stat_t
	kind, err := s.find(o, &st)
	if err != nil {
		return 0, false, notThere(s.shard(kind, o.Digest), err)
	}
	if kind == differencesDir {
		return s.useDifference(o, &st)
	}
	if ok, err := s.sound(context.Background(), o, &st); !ok || err != nil {
		return 0, false, err
	}
	return s.renewFrom(kind, o.Digest, &st)
}

// renew marks a file of any sharded directory as used.
func (s *Store) renew(kind string, d Digest) (size int64, ok bool, err error) {
	s.used.add(d)
	var st unix.Stat_t
	if err := s.lstat(kind, d, &st); err != nil {
		return 0, false, notThere(s.shard(kind, d), err)
	}
	return s.renewFrom(kind, d, &st)
}

// renewFrom is renew of a file of which stat said st.
func (s *Store) renewFrom(kind string, d Digest, st *unix.Stat_t) (size int64, ok bool, err error) {
	if s.readOnly != nil {
		return st.Size, true, nil
	}
	want := s.now()
	if st.Mtim.Nano() >= want-int64(useGrain) {
		return st.Size, true, nil
	}
	path := s.shard(kind, d)
	err = s.gate.pass(func() error { return setMTime(path, want) })
	if err != nil {
		return 0, false, notThere(path, err)
	}
	s.renewed(kind, d)
	return st.Size, true, nil
}

// need is use of an object that must be there.
func (s *Store) need(o Object) error {
	_, ok, err := s.use(o)
	if err == nil && !ok {
		err = ErrNotInStore
	}
	return err
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
