package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// staging is a directory beside the results in which they are written before
// they are renamed to their names. It is locked while its process lives;
// whoever makes the next one removes those that nobody holds.
type staging struct {
	path string
	lock *os.File // the directory itself
}

const stagingPattern = ".b9-staging-*"

// newStaging makes a staging directory in dir, which must exist.
func newStaging(dir string) (*staging, error) {
	guard, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer guard.Close()
	// The lock on dir keeps others from taking a directory for a dead one
	// before its owner has locked it.
	if err := flock(guard, unix.LOCK_EX); err != nil {
		return nil, err
	}
	if err := reapStaging(dir); err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp(dir, stagingPattern)
	if err != nil {
		return nil, err
	}
	lock, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &staging{path, lock}, flock(lock, unix.LOCK_EX|unix.LOCK_NB)
}

func reapStaging(dir string) error {
	dead, err := filepath.Glob(filepath.Join(globEscape(dir), stagingPattern))
	if err != nil {
		return err
	}
	for _, path := range dead {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if flock(f, unix.LOCK_EX|unix.LOCK_NB) == nil {
			err = os.RemoveAll(path)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// globEscape makes a path match itself alone.
func globEscape(path string) string {
	var b []rune
	for _, r := range path {
		if r == '*' || r == '?' || r == '[' || r == '\\' {
			b = append(b, '\\')
		}
		b = append(b, r)
	}
	return string(b)
}

func (s *staging) close() error {
	return errors.Join(os.RemoveAll(s.path), s.lock.Close())
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}
