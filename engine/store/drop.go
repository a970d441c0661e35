package store

import (
	"errors"
	"io/fs"
)

// dropDifference is the second pass: it removes a difference. Those that rest on others come
// before these. One that was used since keeps what it rests on.
func (c *collector) dropDifference(it *item) error {
	if it.kind != itemDifference {
		return nil
	}
	if c.kept[it.digest] || !c.stillFree(it) {
		it.spared = true
		c.keepNeeds(it)
		return nil
	}
	return c.remove(it)
}

// dropLeaves removes the tables of leaves whose object is gone, but for those on which the
// table of an object rests that is here.
func (c *collector) dropLeaves() error {
	roots := map[Digest]bool{}
	err := c.s.eachStored(leavesDir, func(_ string, d Digest, _ fs.FileInfo) error {
		if c.isHere(d) {
			if root, err := c.s.rootOfLeaves(d); err == nil {
				roots[root] = true
			}
		}
		return nil
	})
	return errors.Join(err, c.s.eachStored(leavesDir, func(path string, d Digest, info fs.FileInfo) error {
		it, alloc := c.byDigest[d], allocated(info)
		counted := it != nil && it.gone // as removed with its object
		switch {
		case c.isHere(d):
			return nil
		case roots[d]:
			if counted {
				c.report.Freed, c.report.Kept = c.report.Freed-alloc, c.report.Kept+alloc
			}
			return nil
		case !counted:
			c.report.Freed, c.report.Kept = c.report.Freed+alloc, c.report.Kept-alloc
		}
		return removeIfThere(path)
	}))
}
