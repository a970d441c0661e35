package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/flock"
	"b9.build/b9/engine/internal/newfile"
	"b9.build/b9/engine/store"
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
func newStaging(ctx context.Context, st *store.Store, dir string) (*staging, error) {
	// The lock on dir keeps others from believing a directory to be a dead
	// process's before its owner has locked it.
	guard, err := st.LockFile(ctx, dir, os.O_RDONLY)
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
	lock, err := flock.TryOpen(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, flock.Exclusive)
	if err == nil {
		err = newfile.Inherit(lock) // whoever finds it dead can remove it
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
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
		f, err := flock.TryOpen(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, flock.Exclusive)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, flock.ErrLocked) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue // gone, in use, or nothing that a b9 made
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

// replace gives the file of that name beside the staging directory the content
// text, whole or not at all. The content is on the disk before it has the name; the
// name is there when the directory was flushed.
func (s *staging) replace(name, text string) error {
	temp := filepath.Join(s.path, name)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = errors.Join(newfile.Inherit(f), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(filepath.Dir(s.path), name))
}

func (s *staging) close() error {
	return errors.Join(os.RemoveAll(s.path), s.lock.Close())
}
