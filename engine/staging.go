package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
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
	if !isThere(guard, dir) {
		return nil, fmt.Errorf("%s was removed meanwhile: %w", dir, fs.ErrNotExist)
	}
	if _, err := reapStaging(dir); err != nil {
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

// reapStaging removes what dead processes have left, and reports whether a live one has a
// staging directory. The caller has locked dir.
func reapStaging(dir string) (alive bool, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), stagingPrefix) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		f, err := flock.TryOpen(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, flock.Exclusive)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, flock.ErrLocked) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			alive = alive || errors.Is(err, flock.ErrLocked)
			continue // gone, in use, or nothing that a b9 made
		}
		if err != nil {
			return alive, err
		}
		if err := errors.Join(os.RemoveAll(path), f.Close()); err != nil {
			return alive, err
		}
	}
	return alive, nil
}

// replace gives the file of that name beside the staging directory the content
// that write writes, whole or not at all. The content is on the disk before it has the name; the
// name is there when the directory was flushed.
func (s *staging) replace(name string, write func(io.Writer) error) error {
	temp := filepath.Join(s.path, name)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o666)
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
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

// fewResults is how many are flushed one by one.
const fewResults = 16

// few reports whether the results are so few, and all of them files in a directory that
// was there.
func (p *placer) few(list []placing) bool {
	return !p.made && len(list) <= fewResults && !slices.ContainsFunc(list, func(t placing) bool { return t.artifact.Kind() == store.Tree })
}

// flushContents brings what was staged to the disk, and the claims.
func (p *placer) flushContents(staged []placing) error {
	if !p.few(staged) {
		return p.flush()
	}
	var names []string
	for _, t := range staged {
		names = append(names, filepath.Join(filepath.Base(p.staging.path), t.staged()))
	}
	return p.flushEach(append(names, "."))
}

// flushNames brings the names of results to the disk, and what the last save wrote.
func (p *placer) flushNames(placed []placing) error {
	if !p.few(placed) {
		return p.flush()
	}
	var dirs []string
	for _, t := range placed {
		for dir := filepath.Dir(t.rel); dir != "." && !slices.Contains(dirs, dir); dir = filepath.Dir(dir) {
			dirs = append(dirs, dir)
		}
	}
	return p.flushEach(append(dirs, "."))
}

// flushEach flushes files and directories, or all of their file system where one can't
// be flushed alone: a symbolic link, or a directory of some file systems.
func (p *placer) flushEach(names []string) error {
	for _, name := range names {
		f, err := p.root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			return p.flush()
		}
		err = errors.Join(f.Sync(), f.Close())
		if errors.Is(err, unix.EINVAL) {
			return p.flush()
		}
		if err != nil {
			return fmt.Errorf("flush %s: %w", filepath.Join(p.dir, name), err)
		}
	}
	return nil
}

// flush brings everything that was written in the directory to the disk. The
// descriptor is older than that, so an error of the disk is not lost.
func (p *placer) flush() error {
	if err := unix.Syncfs(int(p.top.Fd())); err != nil {
		return fmt.Errorf("flush the file system of %s: %w", p.dir, err)
	}
	return nil
}

// retired are files whose names were given to new results. To free the blocks of a
// file can take longer than all the rest, such as 30 ms for a few megabytes on a file
// system that discards them: the kernel does it when the last descriptor is closed,
// which happens here, beside what is still to be done.
type retired struct{ closing errgroup.Group }

// maxRetired is how many files are freed at a time. The next one waits for its turn.
const maxRetired = 8

// add holds the file of that name, if there is one, and returns what lets go of it.
func (r *retired) add(dir int, name string) (release func()) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return func() {} // there is none, or it is freed at once
	}
	return func() { r.closing.Go(func() error { return unix.Close(fd) }) }
}

// wait returns when all are freed.
func (r *retired) wait() error { return r.closing.Wait() }
