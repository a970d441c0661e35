package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/layer"
	"b9.build/b9/engine/internal/sparse"
)

// Objects that are kept as differences
//
// A file object is whole, a file in objects/, or the difference to another file object, its
// base, in differences/ (see package layer); the base may be a difference, too. The digest is that
// of the image in both cases, and whoever reads an object by Open does not notice. Where
// there are both forms, the whole one counts.
//
// A difference is of no use without its base, so a use of it is one of its base, and
// a collection removes differences before what they rest on. One whose base is gone all the
// same (it was damaged, or an older b9 has collected it) counts as not there, until the base is.
//
// Nothing is named before what it rests on: the base has its name, flushed, before the record of
// the step that read it, and Commit flushes the names of all bases of an output again.

// differencesDir holds objects that are differences.
const differencesDir = "differences"

// chain is an open file object: the whole object that it rests on, and the
// differences above that.
type chain struct {
	names    []Digest         // of the image that each file completes
	files    []*os.File       // the whole object's first
	trailers []*layer.Trailer // of files[1:]
}

// depth is the number of differences.
func (c *chain) depth() int { return len(c.trailers) }

func (c *chain) Close() error {
	var errs []error
	for _, f := range c.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// image is the object as one blob. Closing it closes the chain's files; after an error they
// stay open.
func (c *chain) image() (blob.Blob, error) {
	base, err := blob.FromFile(c.files[0])
	if err != nil || len(c.trailers) == 0 {
		return base, err
	}
	var layers []layer.Layer
	for i, t := range c.trailers {
		layers = append(layers, layer.Layer{Trailer: t, File: c.files[i+1]})
	}
	return layer.Compose(base, layers...)
}

// openChain opens the files of a file object.
func (s *Store) openChain(d Digest) (c *chain, err error) {
	for range 3 {
		c, err = s.tryChain(d)
		if !errors.Is(err, fs.ErrNotExist) {
			return c, err
		}
		// It may have got another form between two looks.
	}
	return nil, fmt.Errorf("open %s: %w", d, err)
}

func (s *Store) tryChain(d Digest) (_ *chain, err error) {
	c := &chain{}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	for at, whole := d, false; !whole; {
		f, isWhole, err := s.openPart(at)
		if err != nil {
			return nil, err
		}
		c.names, c.files, whole = append(c.names, at), append(c.files, f), isWhole
		if whole {
			break
		}
		t, err := layer.Read(f)
		if err != nil {
			return nil, err
		}
		if c.trailers = append(c.trailers, t); len(c.trailers) > layer.MaxDepth {
			return nil, fmt.Errorf("%s: too many differences rest on one another", f.Name())
		}
		at = t.Base
	}
	slices.Reverse(c.names)
	slices.Reverse(c.files)
	slices.Reverse(c.trailers)
	return c, nil
}

// openPart opens the file of an object, whichever form it has.
func (s *Store) openPart(d Digest) (f *os.File, whole bool, err error) {
	const flags = os.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK
	f, err = os.OpenFile(s.shard(objectsDir, d), flags, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, true, err
	}
	f, err = os.OpenFile(s.shard(differencesDir, d), flags, 0)
	return f, false, err
}

// Open opens the content of the file object d, whatever form it has. It does not count as a
// use: ask [Store.Has] before.
func (s *Store) Open(d Digest) (blob.Blob, error) {
	c, err := s.openChain(d)
	if err != nil {
		return nil, err
	}
	b, err := c.image()
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return b, nil
}

// Files lists the files that hold the bytes of the file object d, each of these at the offset
// that it has in the object: its own file, and those of what it rests on. Some of what is in the
// latter is not the object's. Who looks for blocks by content finds all of the object's there.
func (s *Store) Files(d Digest) []string { return s.pathsOf(Object{Kind: File, Digest: d}) }

// find asks for the state of an object, and returns the directory that it is in.
func (s *Store) find(o Object, st *unix.Stat_t) (kind string, err error) {
	if o.Kind == Tree {
		return treesDir, s.lstat(treesDir, o.Digest, st)
	}
	for range 2 {
		if err = s.lstat(objectsDir, o.Digest, st); !errors.Is(err, fs.ErrNotExist) {
			return objectsDir, err
		}
		if err = s.lstat(differencesDir, o.Digest, st); !errors.Is(err, fs.ErrNotExist) {
			return differencesDir, err
		}
		// It may have become whole between the two looks, but only where it was not.
	}
	return objectsDir, err
}

// restsOn lists what an object rests on that is a difference.
func (s *Store) restsOn(d Digest) []Digest {
	c, err := s.openChain(d)
	if err != nil {
		return nil
	}
	defer c.Close()
	return c.names[:len(c.names)-1]
}

// pathsOf lists where an object lies, with what it rests on: what has to be on the disk.
func (s *Store) pathsOf(o Object) []string {
	var st unix.Stat_t
	kind, _ := s.find(o, &st)
	paths := []string{s.shard(kind, o.Digest)}
	if kind == differencesDir {
		for _, d := range s.restsOn(o.Digest) {
			paths = append(paths, s.objectPath(Object{Kind: File, Digest: d}))
		}
	}
	return paths
}

// isWhole reports whether the object, which is there, is no difference.
func (s *Store) isWhole(d Digest) bool {
	var st unix.Stat_t
	return s.lstat(objectsDir, d, &st) == nil
}

// trailers remember what differences say of themselves.
type trailers struct {
	mu   sync.Mutex
	seen map[Digest]trailer
}

// trailer is what is remembered of a difference.
type trailer struct {
	ino  uint64
	base Digest
	size int64 // of the image, in bytes
}

// trailerOf returns what the difference says, of which stat said st.
func (s *Store) trailerOf(d Digest, st *unix.Stat_t) (trailer, error) {
	s.trailers.mu.Lock()
	defer s.trailers.mu.Unlock()
	if t, ok := s.trailers.seen[d]; ok && t.ino == st.Ino {
		return t, nil
	}
	t, err := readTrailer(s.shard(differencesDir, d))
	if err != nil {
		return trailer{}, err
	}
	if s.trailers.seen == nil {
		s.trailers.seen = map[Digest]trailer{}
	}
	s.trailers.seen[d] = trailer{st.Ino, t.Base, t.Size}
	return s.trailers.seen[d], nil
}

func readTrailer(path string) (*layer.Trailer, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return layer.Read(f)
}

// useDifference is use of a difference, of which stat said st: its base is used, too.
func (s *Store) useDifference(o Object, st *unix.Stat_t) (size int64, ok bool, err error) {
	if ok, err := s.sound(context.Background(), o, st); !ok || err != nil {
		return 0, false, err
	}
	t, err := s.trailerOf(o.Digest, st)
	if errors.Is(err, layer.ErrDamaged) {
		_, err := s.inspect(context.Background(), o) // which removes it
		return 0, false, err
	}
	if err != nil {
		return 0, false, notThere(s.shard(differencesDir, o.Digest), err)
	}
	if _, ok, err = s.use(Object{Kind: File, Digest: t.base}); !ok || err != nil {
		return 0, false, err
	}
	_, ok, err = s.renewFrom(differencesDir, o.Digest, st)
	return t.size, ok, err
}

// adoptFork moves a difference to the object base from a [Scratch] into the store: only
// what was written is read and hashed. The caller has finished it.
func (s *Store) adoptFork(ctx context.Context, base Digest, path string, t *layer.Trailer) (Object, error) {
	if err := s.need(Object{Kind: File, Digest: base}); err != nil {
		return Object{}, fmt.Errorf("what it was made from, %s: %w any more: build again", base, err)
	}
	f, err := s.openSealed(path)
	if err != nil {
		return Object{}, err
	}
	c, err := s.openChain(base)
	if err != nil {
		return Object{}, errors.Join(err, f.Close())
	}
	c.files, c.trailers = append(c.files, f), append(c.trailers, t)
	image, err := c.image()
	if err != nil {
		return Object{}, errors.Join(err, c.Close())
	}
	defer image.Close()
	var flushing errgroup.Group
	flushing.Go(func() error { return s.syncFile(f) })
	known, _ := s.checks.get(base, true)
	table, near, err := s.leavesOf(ctx, base, t, image)
	if err = errors.Join(err, flushing.Wait()); err != nil {
		return Object{}, err
	}
	h := hashed{table.Digest(), t.Size, known.hashed}
	o := Object{File, h.digest, h.size}
	if c.depth() >= layer.MaxDepth || s.touch(c.names) != nil {
		return o, s.adoptImage(ctx, image, path, o)
	}
	moved, err := s.place(path, differencesDir, h.digest, h.size, true)
	if err != nil {
		return Object{}, err
	}
	if moved {
		s.checked(differencesDir, h.digest, h.at)
		s.flattenLater(h.digest)
	}
	if !s.hasLeaves(h.digest) {
		s.keepLeaves(h.digest, table, near...)
	}
	return o, nil
}

// touch gives objects a new time, so that a collector that has chosen one already sees that
// something new rests on it.
func (s *Store) touch(objects []Digest) error {
	for _, d := range objects {
		o, st := Object{Kind: File, Digest: d}, unix.Stat_t{}
		kind, err := s.find(o, &st)
		if err == nil {
			err = s.gate.pass(func() error { return setMTime(s.shard(kind, d), s.now()) })
		}
		if err != nil {
			return err
		}
		s.renewed(kind, d)
	}
	return nil
}

// adoptImage stores an image, which is the object o, as a whole, in place of the
// difference at path.
func (s *Store) adoptImage(ctx context.Context, image blob.Blob, path string, o Object) error {
	whole := path + ".whole"
	if err := copyImage(ctx, image, whole, s.plainly()); err != nil {
		return err
	}
	n, err := statNode(whole, ".")
	if err != nil {
		return err
	}
	got, err := s.adoptFile(ctx, n)
	if err == nil && got != o {
		err = fmt.Errorf("the image became %s and not %s: the disk or the memory has errors", got, o)
	}
	return errors.Join(err, removeIfThere(path))
}

// leavesOf makes the table of an image that is a difference to base. It reads what the
// difference has, and all only if base has no table; that one is made then, too.
func (s *Store) leavesOf(ctx context.Context, base Digest, t *layer.Trailer, image blob.Blob) (*digest.Table, []leaves, error) {
	runs := unchanged(t)
	l, err := s.loadLeaves(base)
	if err == nil {
		table, err := digest.Update(ctx, blob.Seeker(image), t.Size, s.opts.Workers, digest.Known{Table: l.Table, Runs: runs})
		return table, []leaves{l}, err
	}
	table, err := digest.Update(ctx, blob.Seeker(image), t.Size, s.opts.Workers)
	if err != nil {
		return nil, nil, err
	}
	below, err := s.Open(base)
	if err != nil {
		return nil, nil, err
	}
	defer below.Close()
	own, err := digest.Update(ctx, blob.Seeker(below), below.Size(), s.opts.Workers, digest.Known{Table: table, Runs: runs})
	if err != nil {
		return nil, nil, err
	}
	if own.Digest() != base {
		return table, nil, nil // it is damaged, which is found when it is used again
	}
	s.keepLeaves(base, own)
	return table, []leaves{{own, own, base}}, nil
}

// unchanged are the bytes of an image that are its base's.
func unchanged(t *layer.Trailer) (runs []sparse.Same) {
	at, end := int64(0), min(t.Kept, t.Size)
	for _, r := range append(slices.Clone(t.Runs), layer.Run{Start: digest.Blocks(t.Size)}) {
		if from := min(r.Start*layer.BlockSize, end); from > at {
			runs = append(runs, sparse.Same{From: at, To: from})
		}
		at = r.End() * layer.BlockSize
	}
	return runs
}

// copyOut makes dst, which must not exist, a copy of a file object of any form: whole objects
// as copyFile does. After an error there is no dst.
func (s *Store) copyOut(ctx context.Context, d Digest, dst string, c copying) error {
	if err := copyFile(ctx, s.shard(objectsDir, d), dst, c); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b, err := s.Open(d)
	if err != nil {
		return err
	}
	return errors.Join(copyImage(ctx, b, dst, c), b.Close())
}

// plainly is how the store copies for itself.
func (s *Store) plainly() copying { return copying{mode: 0o600, workers: s.opts.Workers} }

// copyImage writes a blob to a new file, without its holes. After an error there is no dst.
func copyImage(ctx context.Context, b blob.Blob, dst string, c copying) error {
	out, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL, c.mode)
	if err != nil {
		return err
	}
	if err = errors.Join(copyExtents(ctx, out, b, c), out.Close()); err != nil {
		os.Remove(dst)
		return fmt.Errorf("write %s: %w", dst, err)
	}
	return nil
}

// copyExtents copies the data of b, in chunks, by several goroutines.
func copyExtents(ctx context.Context, out *os.File, b blob.Blob, c copying) error {
	if err := out.Truncate(b.Size()); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.workers)
	err := dataOf(b, func(start, end int64) error {
		g.Go(func() error {
			err := copyPart(gctx, out, b, start, end)
			c.copied(out, start, end-start)
			return err
		})
		return gctx.Err()
	})
	if cerr := g.Wait(); cerr != nil {
		return cerr
	}
	return err
}

// dataOf calls fn for the data of b, in order, in pieces of at most copyChunk bytes.
func dataOf(b blob.Blob, fn func(start, end int64) error) error {
	for off := int64(0); off < b.Size(); {
		e, err := b.Extent(off)
		if err != nil {
			return err
		}
		for at := e.Start; e.State == blob.Data && at < e.End(); at += copyChunk {
			if err := fn(at, min(at+copyChunk, e.End())); err != nil {
				return err
			}
		}
		off = e.End()
	}
	return nil
}

// copyPart copies [start, end) of b to the same place in out: in the kernel where one
// file has it.
func copyPart(ctx context.Context, out *os.File, b blob.Blob, start, end int64) error {
	for fd, ok := layer.Direct(b, start, int(end-start)); ok && start < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		from, to := start, start
		n, err := unix.CopyFileRange(int(fd), &from, int(out.Fd()), &to, int(end-start), 0)
		if err != nil && err != unix.EINTR || err == nil && n == 0 {
			break
		}
		start += int64(max(n, 0))
	}
	if start == end {
		return nil
	}
	buf := make([]byte, min(end-start, 256<<10))
	_, err := io.CopyBuffer(io.NewOffsetWriter(out, start), io.NewSectionReader(b, start, end-start), buf)
	return errors.Join(err, ctx.Err())
}
