package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/newfile"
)

// manyFiles is where one flush of the whole file system becomes cheaper than
// one for each file.
const manyFiles = 32

func syncfs(f *os.File) error {
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("flush the file system of %s: %w", f.Name(), err)
	}
	return nil
}

// syncAll flushes the store's file system. The descriptor is as old as the
// Store, so a write error since then is reported here and not lost.
func (s *Store) syncAll() error {
	if s.opts.NoSync {
		return nil
	}
	return syncfs(s.root)
}

// syncFile flushes one open file.
func (s *Store) syncFile(f *os.File) error {
	if s.opts.NoSync {
		return nil
	}
	return f.Sync()
}

// syncParents makes the names of the given paths durable, once for each
// directory and all at a time, for then they share one commit of the journal.
func (s *Store) syncParents(paths []string) error {
	if s.opts.NoSync {
		return nil
	}
	if len(paths) > manyFiles {
		return s.syncAll()
	}
	var g errgroup.Group
	done := map[string]bool{}
	for _, p := range paths {
		if dir := filepath.Dir(p); !done[dir] {
			done[dir] = true
			g.Go(func() error { return newfile.SyncDir(dir) })
		}
	}
	return g.Wait()
}

// writeDurably gives path the content data, whole or not at all, and returns
// when both survive a power loss. The name comes after names, paths that are
// flushed beside the content.
func (s *Store) writeDurably(path string, data []byte, mode os.FileMode, names ...string) error {
	var g errgroup.Group
	g.Go(func() error { return s.syncParents(names) })
	err := s.replaceFile(path, data, mode, func(f *os.File) error { return errors.Join(s.syncFile(f), g.Wait()) })
	if err != nil {
		_ = g.Wait() // it is in err, unless ready was not reached
		return err
	}
	if s.opts.NoSync {
		return nil
	}
	return newfile.SyncDir(filepath.Dir(path))
}

// writeQuickly gives path the content data for other processes to see, whole
// or not at all. After a power loss it may be anything.
func (s *Store) writeQuickly(path string, data []byte) error {
	return s.replaceFile(path, data, 0o600, func(*os.File) error { return nil })
}

// appendFileOnce appends to a file that is there, in one write, which the kernel
// keeps apart from those of other processes. It returns how much was written.
func appendFileOnce(path string, data []byte) (int, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Write(data)
}

// replaceFile writes a temporary file, and renames it when ready agrees.
func (s *Store) replaceFile(path string, data []byte, mode os.FileMode, ready func(*os.File) error) error {
	dir, err := s.tempDir()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "write-")
	if err != nil {
		return spaceError(s.dir, s.dir, err)
	}
	defer os.Remove(f.Name()) // does nothing after the rename
	defer f.Close()
	if err := errors.Join(newfile.Inherit(f), fillFile(f, data, mode, ready)); err != nil {
		return spaceError(s.dir, s.dir, fmt.Errorf("write %s: %w", path, err))
	}
	return spaceError(s.dir, s.dir, s.moveInto(f.Name(), path, true))
}

func fillFile(f *os.File, data []byte, mode os.FileMode, ready func(*os.File) error) error {
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	return ready(f)
}

// moveInto renames a file to its place in a sharded directory, and makes the
// shard when it is the first there, flushed if asked to. A collector that is
// about to unlink the path sees either the old file or the new one.
func (s *Store) moveInto(file, path string, sync bool) error {
	move := func() error { return os.Rename(file, path) }
	err := s.gate.pass(move)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	shard := filepath.Dir(path)
	if err := newfile.Mkdir(shard, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if sync && !s.opts.NoSync {
		if err := newfile.SyncDir(filepath.Dir(shard)); err != nil {
			return err
		}
	}
	return s.gate.pass(move)
}
