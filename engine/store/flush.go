package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/newfile"
)

// manyFiles is where one flush of the whole file system becomes cheaper than
// one for each file.
const manyFiles = 32

// largeFile is the size, in bytes, above which a file is flushed by itself.
const largeFile = 1 << 20

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

// flusher does the flushes of many goroutines at once: steps that are done together
// share one commit of the journal, or one flush of the file system. Who needs
// something on the disk adds it and waits. While one flush runs, what is added gathers
// for the next, so that each flush begins after all that it is for was written.
type flusher struct {
	mu      sync.Mutex
	next    *flush // gathers while one runs; nil for none
	running bool
}

// flush is what one flush is for.
type flush struct {
	items []*flushItem
	done  chan struct{} // closed after the flush
}

// flushItem is an open file or, without one, the names in a directory.
type flushItem struct {
	file *os.File
	dir  string
	err  error // of the flush
}

// onDisk returns when all the items survive a power loss. The error is that of one of
// them or, where the whole file system was flushed, may be that of others.
func (s *Store) onDisk(items ...*flushItem) error {
	if s.opts.NoSync || len(items) == 0 {
		return nil
	}
	s.flusher.wait(items, s.flushAll)
	var errs []error
	for _, it := range items {
		errs = append(errs, it.err)
	}
	return errors.Join(errs...)
}

// wait adds the items and waits for their flush, which the first of those that wait runs.
func (f *flusher) wait(items []*flushItem, run func([]*flushItem)) {
	f.mu.Lock()
	if f.next == nil {
		f.next = &flush{done: make(chan struct{})}
	}
	mine := f.next
	mine.items = append(mine.items, items...)
	first := !f.running
	f.running = true
	f.mu.Unlock()
	if first {
		f.runNext(run)
	}
	<-mine.done
}

// runNext flushes what has gathered. What gathers meanwhile is flushed by a goroutine
// that ends with the last of those who wait.
func (f *flusher) runNext(run func([]*flushItem)) {
	f.mu.Lock()
	now := f.next
	f.next = nil
	f.mu.Unlock()
	run(now.items)
	f.mu.Lock()
	f.running = f.next != nil
	if f.running {
		go f.runNext(run)
	}
	f.mu.Unlock()
	close(now.done)
}

// flushAll flushes each item, all at a time, for then they share commits of the journal,
// and directories once; or the file system where that is cheaper.
func (s *Store) flushAll(items []*flushItem) {
	if len(items) > manyFiles {
		err := s.syncAll()
		for _, it := range items {
			it.err = err
		}
		return
	}
	dirs := map[string]func() error{}
	var group sync.WaitGroup
	for _, it := range items {
		sync1 := func() error { return it.file.Sync() }
		if it.file == nil {
			if dirs[it.dir] == nil {
				dirs[it.dir] = sync.OnceValue(func() error { return newfile.SyncDir(it.dir) })
			}
			sync1 = dirs[it.dir]
		}
		group.Go(func() { it.err = sync1() })
	}
	group.Wait()
}

// syncFile flushes one open file. A large one takes so long that nobody else waits for it.
func (s *Store) syncFile(f *os.File) error {
	if s.opts.NoSync {
		return nil
	}
	if st, err := f.Stat(); err != nil || st.Size() > largeFile {
		return errors.Join(err, f.Sync())
	}
	return s.onDisk(&flushItem{file: f})
}

// parents are the directories of the paths, each once, to be flushed.
func parents(paths []string) []*flushItem {
	var items []*flushItem
	seen := map[string]bool{}
	for _, p := range paths {
		if dir := filepath.Dir(p); !seen[dir] {
			seen[dir] = true
			items = append(items, &flushItem{dir: dir})
		}
	}
	return items
}

// syncParents makes the names of the given paths durable.
func (s *Store) syncParents(paths []string) error { return s.onDisk(parents(paths)...) }

// writeDurably gives path the content data, whole or not at all, and returns
// when both survive a power loss. The name comes after names, paths that are
// flushed beside the content.
func (s *Store) writeDurably(path string, data []byte, mode os.FileMode, names ...string) error {
	err := s.replaceFile(path, data, mode, func(f *os.File) error {
		return s.onDisk(append(parents(names), &flushItem{file: f})...)
	})
	if err != nil {
		return err
	}
	return s.syncParents([]string{path})
}

// writeQuickly gives path the content data for other processes to see, whole
// or not at all. After a power loss it may be anything.
func (s *Store) writeQuickly(path string, data []byte) error {
	return s.replaceFile(path, data, 0o600, nil)
}

// appendFileOnce appends to a file that is there, in one write, which the kernel
// keeps apart from those of other processes. It returns which file that is, and where in
// it the data ends.
func appendFileOnce(path string, data []byte) (file fs.FileInfo, end int64, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return nil, 0, err
	}
	if end, err = f.Seek(0, io.SeekCurrent); err != nil {
		return nil, 0, err
	}
	file, err = f.Stat()
	return file, end, err
}

// replaceFile writes a temporary file, and renames it when ready agrees, which sees to
// the flush; nil is for a file that needs none.
func (s *Store) replaceFile(path string, data []byte, mode os.FileMode, ready func(*os.File) error) error {
	dir, err := s.tempDir()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "write-")
	if err != nil {
		return spaceError(s.dir, s.dir, err)
	}
	defer f.Close()
	err = errors.Join(newfile.InheritFrom(f, s.owner), fillFile(f, data, mode, ready))
	if err != nil {
		err = fmt.Errorf("write %s: %w", path, err)
	} else {
		err = s.moveInto(f.Name(), path, ready != nil)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return spaceError(s.dir, s.dir, err)
}

func fillFile(f *os.File, data []byte, mode os.FileMode, ready func(*os.File) error) error {
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if ready == nil {
		return nil
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
	if sync {
		if err := s.syncParents([]string{shard}); err != nil {
			return err
		}
	}
	return s.gate.pass(move)
}
