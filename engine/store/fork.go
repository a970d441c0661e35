package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/layer"
	"b9.build/b9/engine/internal/overlay"
	"b9.build/b9/engine/internal/sparse"
)

// A fork is a private copy of a file object that is written to. Where the file system
// shares blocks it is a clone. Elsewhere a copy costs as much as the object has data,
// so that above some size, and where FUSE can be had, nothing is copied: what is
// written goes into a difference (package layer), and a process shows that and the
// object as one file (package overlay). In place of the fork there is a symbolic link to
// that file then, which programs, loop devices and mounts open as any file.
//
// The difference has a name beside the link. It is finished when the fork is adopted,
// or kept with the directory of a failed step; for that the link names the difference,
// until Resume shows the file again. A difference without a trailer is of no use: it is
// what a process left that was killed, and goes with the directory.

// forkAbove is how much data an object has that is not copied, in bytes, where
// [Options.ForkAbove] does not say: below, the copy is made and hashed before another
// process has shown the file.
const forkAbove = 64 << 20

// differencePrefix begins the names of differences in scratch directories.
const differencePrefix = ".difference-"

// forks are what is shown as files.
type forks struct {
	mu     sync.Mutex
	server *overlay.Server
	none   error // why there is no server, and will be none
	open   map[string]*fork
	count  int
}

// fork is one of them.
type fork struct {
	of         Digest
	difference string // its path
	shown      string // where it is shown
	served     *overlay.File
}

// serve shows an object, and what is written, as one file. The difference is a new file
// in the directory dir, or the one that resume names.
func (s *Store) serve(d Digest, dir, resume string) (_ *fork, err error) {
	s.forks.mu.Lock()
	defer s.forks.mu.Unlock()
	if err := s.startServer(); err != nil {
		return nil, err
	}
	c, err := s.openChain(d)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	f := &fork{of: d, difference: resume}
	flags := os.O_RDWR
	if resume == "" {
		f.difference = filepath.Join(dir, fmt.Sprint(differencePrefix, s.forks.count))
		s.forks.count++
		flags |= os.O_CREATE | os.O_EXCL
	}
	diff, err := os.OpenFile(f.difference, flags, 0o600)
	if err != nil {
		return nil, err
	}
	f.served, err = s.forks.server.Serve(overlay.Image{Files: c.files, Of: d, Difference: diff, Continue: resume != ""})
	if err = errors.Join(err, diff.Close()); err != nil {
		if resume == "" {
			os.Remove(f.difference)
		}
		return nil, err
	}
	f.shown = f.served.Path()
	s.forks.open[f.shown] = f
	return f, nil
}

// startServer starts the process that shows files, once.
func (s *Store) startServer() error {
	if s.forks.server != nil || s.forks.none != nil {
		return s.forks.none
	}
	if s.forks.server, s.forks.none = overlay.Start(); s.forks.none != nil {
		return s.forks.none
	}
	s.forks.open = map[string]*fork{}
	return nil
}

// Fork makes dst, which must not exist, a private copy of the file object d
// with mode 0600, in the cheapest way there is: sharing the data; keeping only
// what is written, if dst lies directly in a [Scratch] of this Store, when it is a
// symbolic link that is good until that is closed; else copying the data without its
// holes. It is not flushed to the disk. After an error there is no dst.
func (s *Store) Fork(ctx context.Context, d Digest, dst string) error {
	return s.ForkPlaced(ctx, d, dst, Placing{})
}

// ForkPlaced is Fork in the given way.
func (s *Store) ForkPlaced(ctx context.Context, d Digest, dst string, how Placing) error {
	if err := s.need(Object{Kind: File, Digest: d}); err != nil {
		return fmt.Errorf("fork %s: %w", d, err)
	}
	done, err := s.forkWithout(d, dst)
	if err == nil && !done {
		err = s.copyOut(ctx, d, dst, copying{how, 0o600, s.opts.Workers})
	}
	if err != nil {
		return spaceError(s.dir, dst, err)
	}
	return nil
}

// forkWithout makes dst a fork without a copy, if it can and that pays.
func (s *Store) forkWithout(d Digest, dst string) (done bool, err error) {
	above := s.opts.ForkAbove
	if above == 0 {
		above = forkAbove
	}
	var st unix.Stat_t
	kind, err := s.find(Object{Kind: File, Digest: d}, &st)
	if err != nil || above < 0 || kind == objectsDir && st.Blocks*512 <= above {
		return false, err
	}
	if real, err := s.insideScratch(dst); err != nil || filepath.Dir(filepath.Dir(real)) != filepath.Join(s.dir, scratchDir) {
		return false, nil
	}
	if kind == objectsDir {
		if cloned, err := cloneFile(s.shard(kind, d), dst); cloned || err != nil {
			return cloned, err
		}
	}
	f, err := s.serve(d, filepath.Dir(dst), "")
	if errors.Is(err, overlay.ErrUnavailable) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := os.Symlink(f.shown, dst); err != nil {
		return false, errors.Join(err, s.drop(f), os.Remove(f.difference))
	}
	return true, nil
}

// cloneFile makes dst a file that shares the data of src, where the file system can.
func cloneFile(src, dst string) (done bool, err error) {
	in, err := os.Open(src)
	if err != nil {
		return false, err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false, err
	}
	done = unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil
	if err = out.Close(); err != nil || !done {
		err = errors.Join(err, os.Remove(dst))
	}
	return done, err
}

// Expose gives the file object d, which is there, a path of the host, until release is called. It
// must not be written to. A difference is shown as a file for that: in dir, the directory of a
// [Scratch], where it is kept with what else is there, or in one of its own if dir is "". Where
// nothing can be shown, the object is made whole.
func (s *Store) Expose(ctx context.Context, d Digest, dir string) (path string, release func() error, err error) {
	if err := s.need(Object{Kind: File, Digest: d}); err != nil {
		return "", nil, err
	}
	release = func() error { return nil }
	if s.isWhole(d) {
		return s.shard(objectsDir, d), release, nil
	}
	if dir == "" && s.readOnly == nil {
		c, err := s.Scratch("expose")
		if err != nil {
			return "", nil, err
		}
		dir, release = c.Dir(), c.Close
	}
	path = filepath.Join(dir, ".exposed-"+d.Hex()[:16])
	if s.IsFork(path) {
		return path, release, nil
	}
	done, err := s.forkWithout(d, path)
	if err == nil && !done {
		path, err = s.shard(objectsDir, d), s.makeWhole(ctx, d)
	}
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("expose %s: %w", d, err), release())
	}
	return path, release, nil
}

// drop ends the showing of a fork, of which nothing changes from then on.
func (s *Store) drop(f *fork) error {
	s.forks.mu.Lock()
	delete(s.forks.open, f.shown)
	s.forks.mu.Unlock()
	return f.served.Close()
}

// forkAt returns the fork that path is the link of, nil for anything else. The link may
// have been renamed.
func (s *Store) forkAt(path string) *fork {
	target, err := os.Readlink(path)
	if err != nil {
		return nil
	}
	s.forks.mu.Lock()
	defer s.forks.mu.Unlock()
	return s.forks.open[target]
}

// IsFork reports whether path is a file that [Store.Fork] made and of which only what is
// written is kept: a symbolic link that [Store.Adopt] takes for a file.
func (s *Store) IsFork(path string) bool { return s.forkAt(path) != nil }

// Written lists the parts [from, to), in order, of the file at path in which it may
// differ from the object d that it is a fork of; nil where that is not known, of a plain
// copy.
func (s *Store) Written(d Digest, path string) (parts [][2]int64, err error) {
	f := s.forkAt(path)
	if f == nil || f.of != d {
		return s.writtenToClone(d, path)
	}
	t, err := f.finish()
	if err != nil {
		return nil, fmt.Errorf("what was written to %s: %w", path, err)
	}
	parts = [][2]int64{}
	for _, r := range t.Runs {
		parts = append(parts, [2]int64{r.Start * layer.BlockSize, min(r.End()*layer.BlockSize, t.Size)})
	}
	if t.Kept < t.Size { // what lies there came with a change of size
		for len(parts) > 0 && parts[len(parts)-1][1] >= t.Kept {
			t.Kept, parts = min(t.Kept, parts[len(parts)-1][0]), parts[:len(parts)-1]
		}
		parts = append(parts, [2]int64{t.Kept, t.Size})
	}
	return parts, nil
}

// writtenToClone is Written of a clone: what does not share the object's blocks.
func (s *Store) writtenToClone(d Digest, path string) (parts [][2]int64, err error) {
	a, err := os.Open(s.shard(objectsDir, d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it is a difference, of which there are no clones
	}
	if err != nil {
		return nil, err
	}
	defer a.Close()
	b, info, err := sparse.Open(path)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	shared, err := sparse.Shared(a, b)
	if err != nil || len(shared) == 0 {
		return nil, err
	}
	parts = [][2]int64{}
	at := int64(0)
	for _, r := range append(shared, [2]int64{info.Size(), info.Size()}) {
		if r[0] > at {
			parts = append(parts, [2]int64{at, r[0]})
		}
		at = max(at, r[1])
	}
	return parts, nil
}

// finish makes the difference whole, and reads what it says of itself.
func (f *fork) finish() (*layer.Trailer, error) {
	if err := f.served.Finish(); err != nil {
		return nil, err
	}
	diff, err := os.Open(f.difference)
	if err != nil {
		return nil, err
	}
	defer diff.Close()
	return layer.Read(diff)
}

// adopt stores what a fork has become, whose link is at path. Both are gone afterwards.
func (s *Store) adopt(ctx context.Context, f *fork, path string) (Object, error) {
	t, err := f.finish()
	if err = errors.Join(err, s.drop(f)); err != nil {
		return Object{}, err
	}
	o := Object{File, f.of, t.Size}
	// An object that has not changed gets a new time, as one does that is adopted.
	size, ok, err := s.use(o)
	if err != nil {
		return Object{}, err
	}
	if !ok || size != t.Size || len(t.Runs) > 0 || t.Kept < t.Size {
		if o, err = s.adoptFork(ctx, f.of, f.difference, t); err != nil {
			return Object{}, err
		}
	}
	return o, errors.Join(os.Remove(path), os.RemoveAll(f.difference))
}

// forksIn are the forks whose differences lie in dir.
func (s *Store) forksIn(dir string) (list []*fork) {
	s.forks.mu.Lock()
	defer s.forks.mu.Unlock()
	for _, f := range s.forks.open {
		if filepath.Dir(f.difference) == dir {
			list = append(list, f)
		}
	}
	return list
}

// dropForks ends the showing of the forks in dir, which goes away.
func (s *Store) dropForks(dir string) error {
	var errs []error
	for _, f := range s.forksIn(dir) {
		errs = append(errs, s.drop(f))
	}
	return errors.Join(errs...)
}

// keepForks ends the showing of the forks in dir, so that Resume can go on with it: their
// differences are whole, and what was the link to a file is one to the difference. A fork
// that has no link in dir any more is not kept: it may hold what nothing is to keep.
func (s *Store) keepForks(dir string) error {
	var errs []error
	for _, f := range s.forksIn(dir) {
		links, err := linksTo(f.shown, dir)
		if err == nil && len(links) == 0 {
			errs = append(errs, s.drop(f), os.Remove(f.difference))
			continue
		}
		if err == nil {
			_, err = f.finish()
		}
		errs = append(errs, err, s.drop(f))
		for _, link := range links {
			errs = append(errs, replaceLink(filepath.Base(f.difference), link))
		}
	}
	return errors.Join(errs...)
}

// linksTo lists the symbolic links in dir to target.
func linksTo(target, dir string) (links []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if got, err := os.Readlink(path); err == nil && got == target {
			links = append(links, path)
		}
	}
	return links, err
}

// replaceLink makes the symbolic link at path one to target.
func replaceLink(target, path string) error {
	temp := path + ".link"
	if err := os.Symlink(target, temp); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// Resume shows the forks in the directory of a failed step again, which the caller has
// locked, until release is called. One that was written to by a process that was
// killed can't be shown.
func (s *Store) Resume(dir string) (release func() error, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Type() != fs.ModeSymlink {
			continue
		}
		if err := s.resume(filepath.Join(dir, e.Name())); err != nil {
			return nil, errors.Join(fmt.Errorf("resume %s: %w", filepath.Join(dir, e.Name()), err), s.keepForks(dir))
		}
	}
	return func() error { return s.keepForks(dir) }, nil
}

// resume shows the fork again that the link at path stands for; other links stay.
func (s *Store) resume(path string) error {
	target, err := os.Readlink(path)
	if err != nil || !strings.HasPrefix(target, differencePrefix) {
		if strings.HasPrefix(target, "/proc/") && s.forkAt(path) == nil {
			err = errors.New("a b9 that had it open was killed: build again")
		}
		return err
	}
	difference := filepath.Join(filepath.Dir(path), target)
	diff, err := os.Open(difference)
	if err != nil {
		return err
	}
	t, err := layer.Read(diff)
	if err = errors.Join(err, diff.Close()); err != nil {
		return err
	}
	if err := s.need(Object{Kind: File, Digest: t.Base}); err != nil {
		return fmt.Errorf("what it was made from, %s: %w any more: build again", t.Base, err)
	}
	f, err := s.serve(t.Base, "", difference)
	if err != nil {
		return err
	}
	return replaceLink(f.shown, path)
}

// closeForks ends the process that shows files.
func (s *Store) closeForks() error {
	s.forks.mu.Lock()
	defer s.forks.mu.Unlock()
	if s.forks.server == nil {
		return nil
	}
	return s.forks.server.Close()
}
