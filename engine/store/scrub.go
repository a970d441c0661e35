package store

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// scrubShare is how many bytes on the disk a collection hashes at most, if not a single
// object has more: some seconds of a slow disk's time. Builds collect once an hour.
const scrubShare = 512 << 20

// scrub hashes some of the objects that are left. What the disk did not keep shows in
// nothing else.
func (c *collector) scrub(ctx context.Context) error {
	type aged struct {
		*item
		hashed int64
	}
	var left []aged
	for _, it := range c.items {
		if it.kind == itemFailed {
			continue
		}
		e, _ := c.s.checks.get(it.digest, false)
		left = append(left, aged{it, e.hashed})
	}
	slices.SortStableFunc(left, func(a, b aged) int { return cmp.Compare(a.hashed, b.hashed) })
	for i, it := range left {
		if i > 0 && c.report.Checked+it.alloc > scrubShare {
			break
		}
		if err := c.scrubOne(ctx, it.item); err != nil {
			return err
		}
	}
	return nil
}

func (c *collector) scrubOne(ctx context.Context, it *item) error {
	o := Object{Kind: File, Digest: it.digest}
	if it.kind == itemTree {
		o.Kind = Tree
	}
	err := fromTheDisk(it.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // collected just now
	}
	if err != nil {
		return err
	}
	c.report.Checked += it.alloc
	ok, err := c.s.inspect(ctx, o)
	if err != nil || ok {
		return err
	}
	if _, err := os.Lstat(it.path); errors.Is(err, fs.ErrNotExist) {
		c.report.Damaged++
		c.report.Kept -= it.alloc
	}
	return nil
}

// fromTheDisk has the file read from the disk again, and not from memory.
func fromTheDisk(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // only a wish
	return nil
}
