package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/layer"
	"b9.build/b9/engine/internal/sparse"
)

// Flattening
//
// An object is read through all the differences that it rests on, and keeps all of them. So
// one that rests on too many is written anew as a single difference to the whole object
// below, which costs what the differences have; and one that has, itself or then, more than
// half of its image, as a whole. The digest stays, and so does what else rests on the
// old files. That is done beside a build, by one process at a time for each object, and what
// was begun and not ended is begun again by the next build.
//
// The new form has its name, flushed, before the old one goes. Who has that open keeps it.

const (
	// maxDepth is how many differences an object rests on, itself included, before it is
	// flattened. Package layer reads more, for those that wait for it.
	maxDepth = 16
	// maxShare says that an object with more than one in so many of its image's blocks is
	// better kept whole.
	maxShare = 2
	// manyDue bounds the differences that wait to be looked at. What has no room is found
	// when the next build begins.
	manyDue = 64
)

// flattenLater has the difference looked at by Flatten.
func (s *Store) flattenLater(d Digest) {
	select {
	case s.due <- d:
	default:
	}
}

// Flatten looks through all differences, and then at those that this Store adopts, until ctx is
// done, and gives another form to those that rest on too many others or are nearly as large
// as their image. It is for one goroutine, beside a build. What can't be flattened stays as it is.
func (s *Store) Flatten(ctx context.Context) {
	if s.readOnly != nil {
		return
	}
	_ = s.eachStored(differencesDir, func(_ string, d Digest, _ os.FileInfo) error {
		_ = s.flatten(ctx, d)
		return ctx.Err()
	})
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case d := <-s.due:
			_ = s.flatten(ctx, d)
		}
	}
}

// flatten gives the object another form if that is due.
func (s *Store) flatten(ctx context.Context, d Digest) error {
	return s.rewrite(ctx, d, s.isDue, s.tooLarge)
}

// makeWhole makes the object, which is there, a whole one.
func (s *Store) makeWhole(ctx context.Context, d Digest) error {
	due := func(d Digest) (bool, error) { return !s.isWhole(d), nil }
	return s.rewrite(ctx, d, due, func(Digest, [][2]int64, int64) bool { return true })
}

// rewrite gives the object another form while that is due: a whole one if that is asked for
// of what changed in an image of that size.
func (s *Store) rewrite(ctx context.Context, d Digest, isDue func(Digest) (bool, error), whole func(d Digest, changed [][2]int64, size int64) bool) error {
	if due, err := isDue(d); !due || err != nil {
		return err
	}
	unlock, err := s.LockKey(ctx, Sum([]byte("flatten "+d.Hex())))
	if err != nil {
		return err
	}
	defer unlock()
	// Whoever had the lock may have done it.
	if due, err := isDue(d); !due || err != nil {
		return err
	}
	if err := s.need(Object{Kind: File, Digest: d}); err != nil {
		return err
	}
	c, err := s.openChain(d)
	if err != nil {
		return err
	}
	image, err := c.image()
	if err != nil {
		return errors.Join(err, c.Close())
	}
	defer image.Close()
	work, err := s.Scratch("flatten")
	if err != nil {
		return err
	}
	path := filepath.Join(work.Dir(), "image")
	if own := c.changed(); whole(d, own, image.Size()) {
		err = s.storeWhole(ctx, image, d, path)
	} else {
		err = s.mergeChain(ctx, c, image, own, path)
	}
	return errors.Join(err, work.Close())
}

// isDue reports whether the object rests on too many differences, or is one that
// is nearly as large as its image.
func (s *Store) isDue(d Digest) (bool, error) {
	c, err := s.openChain(d)
	if err != nil || c.depth() == 0 {
		return false, err
	}
	defer c.Close()
	top := c.trailers[c.depth()-1]
	var own [][2]int64
	for _, r := range top.Runs {
		if r.Kind == layer.Here {
			own = append(own, [2]int64{r.Start, r.End()})
		}
	}
	return c.depth() > maxDepth || s.tooLarge(d, own, top.Size), nil
}

// tooLarge reports whether so many blocks are most of what the object d, an image of size
// bytes, consists of.
func (s *Store) tooLarge(d Digest, blocks [][2]int64, size int64) bool {
	var own int64
	for _, b := range blocks {
		own += b[1] - b[0]
	}
	all := digest.Blocks(size)
	if n := s.leafCount(d); n > 0 {
		all = n
	}
	return own*maxShare > all
}

// changed are the blocks that are not, in their place, those of the whole object below.
func (c *chain) changed() (runs [][2]int64) {
	kept := c.trailers[0].Kept
	for _, t := range c.trailers {
		kept = min(kept, t.Kept, t.Size)
		for _, r := range t.Runs {
			runs = append(runs, [2]int64{r.Start, r.End()})
		}
	}
	end := digest.Blocks(c.trailers[c.depth()-1].Size)
	runs = append(runs, [2]int64{kept / layer.BlockSize, end})
	slices.SortFunc(runs, func(a, b [2]int64) int { return slices.Compare(a[:], b[:]) })
	joined, at := runs[:0], int64(0)
	for _, r := range runs {
		if r[0], r[1] = max(r[0], at), min(r[1], end); r[0] < r[1] {
			joined, at = append(joined, r), r[1]
		}
	}
	return joined
}

// storeWhole makes the object d, which image is, a whole one.
func (s *Store) storeWhole(ctx context.Context, image blob.Blob, d Digest, path string) error {
	if err := s.hasRoom(image); err != nil {
		return err
	}
	if err := copyImage(ctx, image, path, s.plainly()); err != nil {
		return err
	}
	h, err := s.seal(ctx, path, s.opts.Workers, true)
	if err != nil {
		return err
	}
	if h.digest != d {
		return fmt.Errorf("written as a whole, %s became %s", d, h.digest)
	}
	to := s.shard(objectsDir, d)
	if err := s.moveInto(path, to, true); err != nil {
		return err
	}
	s.checked(objectsDir, d, 0)
	if err := s.syncParents([]string{to}); err != nil {
		return err
	}
	return s.gate.shut(func() error { return removeIfThere(s.shard(differencesDir, d)) })
}

// hasRoom is an error unless there is room for the image twice: a build goes on meanwhile.
func (s *Store) hasRoom(image blob.Blob) error {
	var data int64
	err := dataOf(image, func(start, end int64) error { data += end - start; return nil })
	if err != nil {
		return err
	}
	var space unix.Statfs_t
	if err := unix.Fstatfs(int(s.root.Fd()), &space); err != nil {
		return err
	}
	if uint64(2*data) > space.Bavail*uint64(space.Bsize) {
		return unix.ENOSPC
	}
	return nil
}

// mergeChain makes the object a single difference to the whole object below.
func (s *Store) mergeChain(ctx context.Context, c *chain, image blob.Blob, changed [][2]int64, path string) error {
	d, root := c.names[len(c.names)-1], c.names[0]
	t, err := s.writeMerged(ctx, c, image, changed, path)
	if err != nil {
		return err
	}
	f, err := s.openSealed(path)
	if err != nil {
		return err
	}
	below, err := s.openChain(root)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	merged := &chain{[]Digest{root, d}, append(below.files, f), []*layer.Trailer{t}}
	again, err := merged.image()
	if err != nil || below.depth() > 0 {
		return errors.Join(err, merged.Close())
	}
	defer again.Close()
	known, _ := s.checks.get(root, true)
	table, _, err := s.leavesOf(ctx, root, t, again)
	if err != nil {
		return err
	}
	if table.Digest() != d {
		return fmt.Errorf("written as one difference, %s became %s", d, table.Digest())
	}
	if err := errors.Join(s.syncFile(f), s.touch([]Digest{root})); err != nil {
		return err
	}
	if err := s.moveInto(path, s.shard(differencesDir, d), true); err != nil {
		return err
	}
	s.checked(differencesDir, d, known.hashed)
	return nil
}

// writeMerged writes the blocks that changed into a new difference to the whole object.
func (s *Store) writeMerged(ctx context.Context, c *chain, image blob.Blob, changed [][2]int64, path string) (*layer.Trailer, error) {
	base, err := s.Open(c.names[0])
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, errors.Join(err, base.Close())
	}
	f, err := layer.New(base, c.names[0], file)
	if err != nil {
		return nil, errors.Join(err, file.Close(), base.Close())
	}
	if err := f.Truncate(image.Size()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	for _, r := range changed {
		if err := copyBlocks(ctx, f, image, r); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	t, err := f.Finish()
	return t, errors.Join(err, f.Close())
}

// copyBlocks copies a run of blocks of image to f.
func copyBlocks(ctx context.Context, f *layer.Fork, image blob.Blob, blocks [2]int64) error {
	buf := make([]byte, layer.BlockSize)
	for b := blocks[0]; b < blocks[1]; b++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := b * layer.BlockSize
		block := buf[:min(layer.BlockSize, image.Size()-at)]
		if _, err := image.ReadAt(block, at); err != nil && err != io.EOF {
			return err
		}
		var err error
		if sparse.IsZero(block) {
			err = f.Zero(at, int64(len(block)))
		} else {
			_, err = f.WriteAt(block, at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
