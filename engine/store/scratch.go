package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/flock"
	"b9.build/b9/engine/internal/newfile"
)

// Scratch is a private directory on the store's file system. It belongs to
// the process that made it, by a lock that dies with the process.
type Scratch struct {
	store *Store
	dir   string
	lock  *os.File // the directory itself, under an exclusive flock
}

// maxScratchLabel is how many bytes of a label a scratch directory's name
// has, so that the paths of sockets in it stay short enough.
const maxScratchLabel = 36

// Scratch makes an empty directory with mode 0700. The label only makes its
// name readable; what follows the last "-" is random.
func (s *Store) Scratch(label string) (*Scratch, error) {
	if err := s.ReadOnly(); err != nil {
		return nil, err
	}
	var id [6]byte
	rand.Read(id[:])
	name := cutName(strings.TrimPrefix(encodeName(label), "="), maxScratchLabel) + "-" + hex.EncodeToString(id[:])
	dir := filepath.Join(s.dir, scratchDir, name)
	if c := s.spares.take(dir); c != nil {
		return c, nil
	}
	guard, err := s.lockFile(s.lockPath("scratch"), flock.Shared)
	if err != nil {
		return nil, err
	}
	defer guard.Close() // keeps Reap away until the directory is locked
	if err := newfile.Mkdir(dir, 0o700); err != nil {
		return nil, spaceError(s.dir, s.dir, fmt.Errorf("make a scratch directory: %w", err))
	}
	lock, err := s.lockFile(dir, flock.Exclusive)
	if err == nil {
		err = plain(lock)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	return &Scratch{store: s, dir: dir, lock: lock}, nil
}

// Working lists the scratch directories of processes that are alive.
func (s *Store) Working() (dirs []string, err error) {
	err = eachIn(filepath.Join(s.dir, scratchDir), func(path string, info fs.FileInfo) error {
		if !info.IsDir() {
			return nil
		}
		f, err := flock.TryOpen(path, os.O_RDONLY, flock.Shared)
		if errors.Is(err, flock.ErrLocked) {
			dirs = append(dirs, path)
			return nil
		}
		if err == nil {
			f.Close()
		}
		return nil // it went, or nobody has it
	})
	return dirs, err
}

// plain takes from a new directory what it has of the one above, and what all
// that is made in it would have: a default access control list, and set-group-id
// with its group.
func plain(dir *os.File) error {
	for _, name := range []string{"system.posix_acl_default", "system.posix_acl_access"} {
		err := unix.Fremovexattr(int(dir.Fd()), name)
		if err != nil && err != unix.ENODATA && err != unix.EOPNOTSUPP {
			return &fs.PathError{Op: "removexattr", Path: dir.Name(), Err: err}
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return err
	}
	if int(st.Uid) == os.Geteuid() { // else it was given away, with its group
		if err := dir.Chown(-1, os.Getegid()); err != nil {
			return err
		}
	}
	return unix.Fchmod(int(dir.Fd()), 0o700)
}

// Dir returns the absolute path of the directory.
func (c *Scratch) Dir() string { return c.dir }

// Close removes the directory and all that is in it, unless Keep moved it
// away. It refuses while a file system is mounted inside. An empty directory may
// serve again: to make one costs a file system more than all else in a small step.
func (c *Scratch) Close() error {
	if c.lock == nil || c.empty() && c.store.spares.put(c) {
		return nil
	}
	return c.remove()
}

func (c *Scratch) remove() error {
	err := errors.Join(c.store.dropForks(c.dir), RemoveTree(c.dir))
	c.lock.Close()
	c.lock = nil
	return err
}

// empty reports whether the directory is as Store.Scratch made it.
func (c *Scratch) empty() bool {
	info, err := c.lock.Stat()
	if err != nil || info.Mode() != fs.ModeDir|0o700 {
		return false
	}
	if _, err := c.lock.Seek(0, io.SeekStart); err != nil {
		return false
	}
	_, err = c.lock.Readdirnames(1)
	return err == io.EOF
}

// spares are empty directories that were given back. They lie in the Store's own, with
// which they go, and have the lock that they had.
type spares struct {
	mu     sync.Mutex
	list   []*Scratch
	closed bool
}

// maxSpares is how many are kept, each an open file: as many as there are steps at a time
// whose outputs are flushed together, which had them a moment ago.
const maxSpares = 256

// take returns a directory of that name, nil where there is none to spare.
func (p *spares) take(dir string) *Scratch {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.list) == 0 {
		return nil
	}
	c := p.list[len(p.list)-1]
	p.list = p.list[:len(p.list)-1]
	if err := os.Rename(c.dir, dir); err != nil {
		c.lock.Close()
		return nil
	}
	c.dir = dir
	return c
}

// put keeps the directory of a Scratch, unless there are enough, and closes that.
func (p *spares) put(c *Scratch) bool {
	temp, err := c.store.tempDir()
	if err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	dir := filepath.Join(temp, filepath.Base(c.dir))
	if p.closed || len(p.list) >= maxSpares || os.Rename(c.dir, dir) != nil {
		return false
	}
	p.list = append(p.list, &Scratch{store: c.store, dir: dir, lock: c.lock})
	c.lock = nil
	return true
}

// close gives up their locks. The Store's own directory is removed after that.
func (p *spares) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.list {
		c.lock.Close()
	}
	p.list, p.closed = nil, true
}

// Keep moves the directory to where [Store.Failed] finds it under name, in
// place of an older one, and returns its new path. The Scratch is closed.
func (c *Scratch) Keep(name string) (string, error) {
	if c.lock == nil {
		return "", fmt.Errorf("keep %q: the scratch directory is closed", name)
	}
	if err := c.store.keepForks(c.dir); err != nil {
		return "", fmt.Errorf("keep %q: %w", name, err)
	}
	if err := setMTime(c.dir, time.Now().UnixNano()); err != nil {
		return "", fmt.Errorf("keep %q: %w", name, err)
	}
	dir := c.store.failedPath(name)
	if err := c.replaceFailed(name, dir); err != nil {
		return "", err
	}
	c.dir = dir
	c.lock.Close()
	c.lock = nil
	return dir, nil
}

// replaceFailed moves the directory to dir, which other builds in which the
// same step fails may be doing, too: the last one wins.
func (c *Scratch) replaceFailed(name, dir string) error {
	for until := time.Now().Add(failedPatience); ; {
		if err := c.store.DropFailed(name); err != nil {
			return err
		}
		err := os.Rename(c.dir, dir)
		if err == nil {
			return nil
		}
		taken := errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST)
		if !taken || time.Now().After(until) {
			return spaceError(c.store.dir, c.store.dir, fmt.Errorf("keep %q: %w", name, err))
		}
	}
}

// failedPatience is how long a build waits for others that keep or drop the
// same failed step. Who has it open in a shell has it for longer.
const failedPatience = time.Second

// FailedStep is a kept scratch directory.
type FailedStep struct {
	Name string // as given to Keep; a very long one is cut and ends in a space and a hash
	Dir  string
	Time time.Time
}

// Failed lists the kept directories, newest first.
func (s *Store) Failed() ([]FailedStep, error) {
	var steps []FailedStep
	err := eachIn(filepath.Join(s.dir, failedDir), func(path string, info fs.FileInfo) error {
		steps = append(steps, FailedStep{unescapeName(info.Name()), path, info.ModTime()})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list failed steps: %w", err)
	}
	slices.SortStableFunc(steps, func(a, b FailedStep) int { return b.Time.Compare(a.Time) })
	return steps, nil
}

// LockFailed keeps the directory of a failed step from being replaced,
// dropped or collected until unlock is called or the process ends.
func (s *Store) LockFailed(name string) (unlock func(), err error) {
	f, err := lockThere(s.failedPath(name))
	if errors.Is(err, flock.ErrLocked) {
		err = ErrInUse
	}
	if err != nil {
		return nil, fmt.Errorf("failed step %q: %w", name, err)
	}
	return func() { f.Close() }, nil
}

// lockThere locks what is at path once it has the lock: another owner may
// have replaced it in between.
func lockThere(path string) (*os.File, error) {
	for {
		f, err := tryLock(path, flock.Exclusive)
		if err != nil {
			return nil, err
		}
		mine, err := f.Stat()
		if err == nil {
			var there fs.FileInfo
			if there, err = os.Lstat(path); err == nil && os.SameFile(mine, there) {
				return f, nil
			}
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}

// ErrInUse is returned for a failed step that another process has open.
var ErrInUse = errors.New("in use by another b9: close its shell first")

// DropFailed removes what Keep kept under name. A name that is not there is
// no error. One that is open elsewhere gives an error with [ErrInUse].
func (s *Store) DropFailed(name string) error {
	unlock, err := s.LockFailed(name)
	for until := time.Now().Add(failedPatience); errors.Is(err, ErrInUse) && time.Now().Before(until); {
		time.Sleep(10 * time.Millisecond)
		unlock, err = s.LockFailed(name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	return RemoveTree(s.failedPath(name))
}

func (s *Store) failedPath(name string) string {
	return filepath.Join(s.dir, failedDir, escapeName(name, 200))
}

// Reap removes the scratch directories whose owners are gone, with all the
// unfinished files in them. Those of live processes are never touched.
func (s *Store) Reap() error {
	if s.readOnly != nil {
		return nil // they stay, and are in nobody's way
	}
	dead, err := s.deadScratches()
	errs := []error{err}
	for _, lock := range dead {
		errs = append(errs, RemoveTree(lock.Name()))
		lock.Close()
	}
	return errors.Join(errs...)
}

// deadScratches locks every scratch directory that has no owner. It is quick,
// for nobody can make a scratch directory meanwhile.
func (s *Store) deadScratches() ([]*os.File, error) {
	guard, err := s.lockFile(s.lockPath("scratch"), flock.Exclusive)
	if err != nil {
		return nil, err
	}
	defer guard.Close()
	var dead []*os.File
	err = eachIn(filepath.Join(s.dir, scratchDir), func(path string, _ fs.FileInfo) error {
		if lock, err := tryLock(path, flock.Exclusive); err == nil {
			dead = append(dead, lock)
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("list scratch directories: %w", err)
	}
	return dead, err
}

// lockFile opens the file or directory at path and waits for the lock on it, which
// others hold for moments. Closing the result gives it up.
func (s *Store) lockFile(path string, how flock.Mode) (*os.File, error) {
	return s.brief("it has the store locked").Open(s.uninterrupted(), path, os.O_RDONLY|unix.O_NOFOLLOW, how)
}

// tryLock is lockFile that waits for nobody: see [flock.ErrLocked].
func tryLock(path string, how flock.Mode) (*os.File, error) {
	return flock.TryOpen(path, os.O_RDONLY|unix.O_NOFOLLOW, how)
}

// mountedBelow returns a mount point at or below dir, which is free of
// symbolic links, as this process sees it; "" when there is none.
func mountedBelow(dir string) (string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("look for mounts below %s: %w", dir, err)
	}
	unquote := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		at := unquote.Replace(fields[4])
		if at == dir || strings.HasPrefix(at, dir+"/") {
			return at, nil
		}
	}
	return "", nil
}
