package store

import (
	"errors"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// chooseRecords returns the records that have to go once the chosen objects
// are gone, and adds them to the report as if all went well.
func (c *collector) chooseRecords(now int64) []*recordItem {
	var chosen []*recordItem
	for _, r := range c.records {
		if r.damaged || c.outlived(r, now) && !slices.ContainsFunc(r.outputs, c.stays) {
			chosen = append(chosen, r)
		}
	}
	c.report.Records = len(chosen)
	return chosen
}

// outlived reports whether nobody needs the record for its own sake.
func (c *collector) outlived(r *recordItem, now int64) bool {
	old := c.policy.MaxAge > 0 && now-r.used > int64(c.policy.MaxAge)
	return (old || c.policy.MaxSize < 0) && !c.held(r.key, r.used)
}

// stays reports whether the plan leaves the output in the store.
func (c *collector) stays(o Output) bool {
	it := c.byDigest[o.Object.Digest]
	return it != nil && !it.chosen
}

// stampRecords puts down on the records of an object that is about to go
// when it was last used: its own time, which told so, goes with it.
func (c *collector) stampRecords(it *item) error {
	for _, r := range c.recordsOf[it.digest] {
		if r.mtime >= it.used {
			continue
		}
		var st unix.Stat_t
		err := unix.Lstat(r.path, &st)
		if err == nil && st.Mtim.Nano() == r.mtime {
			err = setMTime(r.path, it.used)
			r.mtime = it.used
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &fs.PathError{Op: "stamp", Path: r.path, Err: err}
		}
	}
	return nil
}

// dropRecord unlinks the record unless someone has renewed it, written it
// anew, or begun to use one of its outputs.
func (c *collector) dropRecord(r *recordItem) error {
	if !hasMTime(r.path, r.mtime) {
		return nil
	}
	if !r.damaged && (c.held(r.key, r.used) || slices.ContainsFunc(r.outputs, c.isThere)) {
		return nil
	}
	return c.s.used.unlessIn(r.key, func() error {
		if err := removeIfThere(r.path); err != nil {
			return err
		}
		r.dropped = true
		c.report.Records++
		return nil
	})
}

func (c *collector) isThere(o Output) bool {
	var st unix.Stat_t
	_, err := c.s.find(o.Object, &st)
	return !errors.Is(err, fs.ErrNotExist)
}

// tidyIndex takes the records that are gone out of the index. What others have appended
// since the inventory stays.
func (c *collector) tidyIndex() error {
	gone := map[Digest]bool{}
	for _, r := range c.records {
		var st unix.Stat_t
		if r.dropped && errors.Is(c.s.lstat(recordsDir, r.key, &st), fs.ErrNotExist) {
			gone[r.key] = true
		}
	}
	path := c.s.index.path
	if data, err := os.ReadFile(path); err == nil && len(data) <= maxIndex {
		if kept, ok := filterIndex(data, gone); ok && c.s.writeQuickly(path, kept) == nil {
			return nil
		}
	}
	return removeIfThere(path)
}
