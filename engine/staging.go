package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"b9.build/b9/engine/internal/flock"
)

// staging is a directory beside the results in which they are written before
// they are renamed to their names. It is locked while its process lives;
// whoever makes the next one removes those that nobody holds.
type staging struct {
	path string
	lock *os.File // the directory itself
}

const stagingPrefix = ".b9-staging-"

// newStaging makes a staging directory in dir, which must exist.
func newStaging(dir string) (*staging, error) {
	// The lock on dir keeps others from believing a directory to be a dead
	// process's before its owner has locked it.
	guard, err := flock.Open(dir, os.O_RDONLY, flock.Exclusive)
	if err != nil {
		return nil, err
	}
	defer guard.Close()
	if err := reapStaging(dir); err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp(dir, stagingPrefix+"*")
	if err != nil {
		return nil, err
	}
	lock, err := flock.TryOpen(path, os.O_RDONLY, flock.Exclusive)
	if err != nil {
		return nil, err
	}
	return &staging{path, lock}, nil
}

func reapStaging(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), stagingPrefix) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		f, err := flock.TryOpen(path, os.O_RDONLY, flock.Exclusive)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, flock.ErrLocked) {
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(os.RemoveAll(path), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (s *staging) close() error {
	return errors.Join(os.RemoveAll(s.path), s.lock.Close())
}
