package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/flock"
)

// Collection
//
// A collection first reads what is there (inventory.go): objects, trees with
// their files, records, kept failed steps, each with the time of its last use,
// which it spreads from what needs a thing to the thing. It then chooses, oldest
// use first, until the policy is satisfied. Builds go on meanwhile. Three
// things make sure that nothing goes that they need:
//
//   - Named results, and what this Store has used, are never chosen.
//   - Every open Store holds a lease with the time of its opening, and a use
//     gives an object a time no older than that. What has a time after the oldest
//     lease, less the grain at which uses are written, is never chosen.
//   - An object may be used after it was chosen, so removal asks again. It goes
//     in batches, and for each batch the gate is shut: leases and results are
//     read again, and a thing whose time has changed stays. Users pass the gate
//     to renew an old object, so a renewal is either seen or comes after the
//     removal, and the user then sees that the object is gone.
//
// Trees go in a first pass and files in a second one, after a flush, so that
// after a crash no tree lacks a file. A tree that stays keeps its files. Before an
// object goes, the time of its use is written on the records that lead to it, for
// those may stay and have an age of their own. They go last. A collection that is
// killed has removed less, and nothing is wrong.

// Policy says what Collect is to reach.
type Policy struct {
	// MaxSize is how many bytes the objects and kept failed steps may occupy
	// on the disk; what was used longest ago goes first. Zero is no limit;
	// below zero, all that may go goes, records included.
	MaxSize int64
	// MaxShare is MaxSize in percent of what the store occupies and its file system has
	// free, together. So the store gives way to what else is put there. Zero is no limit.
	MaxShare int
	// MinFree is how many bytes shall be free on the file system afterwards. What can be
	// made again goes first, then what [Policy.Dear] names, last what [Policy.Ours] does,
	// of each what was used longest ago.
	MinFree int64
	// Dear reports whether what a step of the kind makes comes from elsewhere, such as a
	// download, which may be slow to have again, or gone. Nil is never.
	Dear func(kind string) bool
	// Ours reports whether a label, as records have it, is part of the build that
	// collects: what its newest record names goes last. Nil is never.
	Ours func(label string) bool
	// MaxAge is how long ago a thing may have been used last. Zero is no limit.
	MaxAge time.Duration
	// Urgent leaves out what is no matter of space, since somebody waits.
	Urgent bool
	// DryRun reports what would be done, and does nothing.
	DryRun bool
}

// CollectReport says what Collect did.
type CollectReport struct {
	Objects int   `json:"objects"` // files and trees removed
	Records int   `json:"records"` // records removed
	Failed  int   `json:"failed"`  // kept directories of failed steps removed
	Freed   int64 `json:"freed"`   // bytes on the disk, those of records not counted
	Kept    int64 `json:"kept"`    // bytes on the disk that are left, those of records not counted
	InUse   int64 `json:"in_use"`  // bytes of these that named results or running builds need
	Checked int64 `json:"checked"` // bytes on the disk of the objects that were hashed
	Damaged int   `json:"damaged"` // of these objects, removed
}

// Collect removes what was used longest ago, until the store satisfies the
// policy or all that is left is needed. Needed are the objects of named
// results, what this Store has used or adopted, and what any other
// live Store may have: whatever was used since it was opened, or up to a
// quarter of an hour before.
//
// A record is small and outlives its objects, for the keys of what depends
// on them need no more. It goes when none of its outputs is left and it was
// not used for MaxAge, or at once when MaxSize is below zero. One that is
// damaged always goes.
//
// Of what is left a share is hashed, those objects first for which that was done longest
// ago, so that all are in time; a damaged one is removed, and [Options].Damaged is told.
//
// Collect needs no new space, and may be killed at any time: trees go before
// their files, and the time of an object's last use is put down on its
// records before it goes.
func (s *Store) Collect(ctx context.Context, p Policy) (CollectReport, error) {
	if err := s.ReadOnly(); err != nil {
		return CollectReport{}, err
	}
	lock, err := s.lockCollect(ctx, flock.Exclusive)
	if err != nil {
		return CollectReport{}, err
	}
	defer lock.Close()
	return s.collect(ctx, p)
}

// collect collects for the holder of the lock.
func (s *Store) collect(ctx context.Context, p Policy) (CollectReport, error) {
	if !p.DryRun && !p.Urgent {
		if err := s.stampCollect(); err != nil {
			return CollectReport{}, err
		}
	}
	c := &collector{s: s, policy: p}
	if err := c.run(ctx); err != nil {
		return c.report, fmt.Errorf("collect in %s: %w", s.dir, err)
	}
	return c.report, nil
}

// lockCollect waits until no other collection, or verification, is under way.
func (s *Store) lockCollect(ctx context.Context, how flock.Mode) (*os.File, error) {
	f, err := os.Open(s.lockPath("collect"))
	if err != nil {
		return nil, err
	}
	if err := s.patience("it collects or verifies the store").Wait(ctx, f, how); err != nil {
		f.Close()
		return nil, fmt.Errorf("wait for another collection in %s: %w", s.dir, err)
	}
	return f, nil
}

// collector is one collection under way.
type collector struct {
	s      *Store
	policy Policy
	report CollectReport
	inventory
	roots     map[Digest]bool // objects of named results, with the files of trees and what differences rest on
	rootsSign string          // what the lists of results looked like
	gone      []string        // lists of workspaces that do not exist
	lease     int64           // when the oldest other live Store was opened
	leased    bool
	kept      map[Digest]bool // what items need that stay though they were chosen
	stuck     []error         // failed steps that could not be removed
}

func (c *collector) run(ctx context.Context) error {
	if err := c.inventory.scan(ctx, c.s); err != nil {
		return err
	}
	if err := c.refresh(); err != nil {
		return err
	}
	now := time.Now().UnixNano()
	chosen, err := c.choose(now)
	if err != nil {
		return err
	}
	records := c.chooseRecords(now)
	if c.policy.DryRun {
		return nil
	}
	c.report = CollectReport{Kept: c.report.Kept + c.report.Freed, InUse: c.report.InUse}
	for len(chosen) > 0 {
		if err := c.drop(ctx, chosen); err != nil {
			return err
		}
		var err error
		if chosen, err = c.chooseForRoom(false); err != nil {
			return err
		}
	}
	for _, pass := range []func() error{
		func() error { return inBatches(ctx, c, records, c.dropRecord) },
		c.tidy,
		func() error {
			if c.policy.Urgent {
				return nil
			}
			return c.scrub(ctx)
		},
	} {
		if err := pass(); err != nil {
			return err
		}
	}
	return errors.Join(c.stuck...)
}

// drop removes what was chosen.
func (c *collector) drop(ctx context.Context, chosen []*item) error {
	for _, pass := range []func() error{
		func() error { return inBatches(ctx, c, chosen, c.dropTree) },
		c.s.syncAll, // no tree may come back after a power loss without its files
		func() error { return inBatches(ctx, c, chosen, c.dropDifference) },
		c.s.syncAll, // nor a difference without what it rests on
		func() error { return inBatches(ctx, c, chosen, c.dropFile) },
	} {
		if err := pass(); err != nil {
			return err
		}
	}
	if c.policy.MinFree == 0 {
		return nil
	}
	return errors.Join(c.s.syncAll(), c.awaitFree(ctx)) // btrfs frees space when it is flushed
}

// choose returns what has to go, in the order of last use, and fills in the
// report as if all went well.
func (c *collector) choose(now int64) ([]*item, error) {
	c.report.Kept = c.loose
	for _, it := range c.items {
		c.report.Kept += it.alloc
	}
	c.kept = map[Digest]bool{}
	limit, err := c.limit()
	if err != nil {
		return nil, err
	}
	var chosen []*item
	for _, it := range c.items {
		if c.held(it.digest, it.used) {
			c.report.InUse += it.alloc
			continue
		}
		old := c.policy.MaxAge > 0 && now-it.used > int64(c.policy.MaxAge)
		if old || limit < 0 || limit > 0 && c.report.Kept > limit {
			it.chosen = true
			chosen = append(chosen, it)
			c.count(it)
		}
	}
	more, err := c.chooseForRoom(true)
	return append(chosen, more...), err
}

// count counts the item as removed.
func (c *collector) count(it *item) {
	c.report.Freed += it.alloc
	c.report.Kept -= it.alloc
	switch it.kind {
	case itemTree, itemDifference, itemFile:
		c.report.Objects++
	case itemFailed:
		c.report.Failed++
	}
}

// held reports whether the object, last used at the given time, is needed.
func (c *collector) held(d Digest, used int64) bool {
	if c.roots[d] || c.leased && used >= c.lease-int64(useGrain) {
		return true
	}
	return c.s.used.has(d)
}

// refresh looks again at who is there and what is named. Leases come first:
// who gives up its lease has named its results before.
func (c *collector) refresh() (err error) {
	s := c.s
	if c.lease, c.leased, err = oldestLease(filepath.Join(s.dir, leasesDir), s.lease); err != nil {
		return err
	}
	sign, err := directorySign(filepath.Join(s.dir, resultsDir))
	if err != nil || sign == c.rootsSign && c.roots != nil {
		return err
	}
	objs, gone, err := s.roots()
	if err != nil {
		return err
	}
	c.roots, c.rootsSign, c.gone = map[Digest]bool{}, sign, gone
	for _, o := range objs {
		c.addRoot(o)
	}
	// The files of the trees that this Store has used, and what its differences rest on, are needed, too.
	for d, needed := range c.files {
		if !s.used.has(d) {
			continue
		}
		for _, f := range needed {
			c.roots[f] = true
		}
	}
	return nil
}

func (c *collector) addRoot(o Object) {
	c.roots[o.Digest] = true
	files, known := c.files[o.Digest]
	if !known && o.Kind == Tree {
		// Taken in after the scan. One that can't be read protects nothing.
		if m, err := readManifest(c.s.treePath(o.Digest), o.Digest); err == nil {
			files = fileDigests(m)
		}
	}
	if !known && o.Kind == File && c.byDigest[o.Digest] == nil {
		files = c.s.restsOn(o.Digest)
	}
	for _, f := range files {
		c.roots[f] = true
	}
}

// directorySign changes whenever a file in dir does.
func directorySign(dir string) (string, error) {
	sign := ""
	err := eachIn(dir, func(path string, info fs.FileInfo) error {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			sign += fmt.Sprintln(path, st.Ino, st.Size, st.Mtim, st.Ctim)
		}
		return nil
	})
	return sign, err
}

// gateBatch is how many removals happen while users of old objects wait.
const gateBatch = 64

// inBatches calls fn for each item, with the gate shut and the view of leases
// and names fresh.
func inBatches[T any](ctx context.Context, c *collector, items []T, fn func(T) error) error {
	for batch := range slices.Chunk(items, gateBatch) {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := c.s.gate.shut(func() error {
			if err := c.refresh(); err != nil {
				return err
			}
			for _, it := range batch {
				if err := fn(it); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// dropTree is the first pass: it removes a tree or a failed step. What someone
// has begun to use is spared.
func (c *collector) dropTree(it *item) error {
	switch {
	case it.kind == itemFailed:
		c.dropFailed(it)
	case !c.stillFree(it):
		it.spared = true
		c.keepNeeds(it)
	case it.kind == itemTree:
		return c.remove(it)
	}
	return nil
}

// keepNeeds keeps what an item needs that stays though it was chosen.
func (c *collector) keepNeeds(it *item) {
	for _, d := range c.needs(it) {
		c.kept[d] = true
	}
}

// dropFile is the third pass: it removes a file, but not of a tree that stays.
func (c *collector) dropFile(it *item) error {
	if it.kind != itemFile || it.spared || c.kept[it.digest] || !c.stillFree(it) {
		return nil
	}
	return c.remove(it)
}

// stillFree reports whether the item is there as it was when it was chosen,
// and nobody needs it.
func (c *collector) stillFree(it *item) bool {
	return hasMTime(it.path, it.mtime) && !c.held(it.digest, it.used)
}

// hasMTime reports whether the file is there with that time.
func hasMTime(path string, mtime int64) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && st.Mtim.Nano() == mtime
}

// remove unlinks the item unless this Store's own builds have just used it.
func (c *collector) remove(it *item) error {
	if err := c.stampRecords(it); err != nil {
		return err
	}
	return c.s.used.unlessIn(it.digest, func() error {
		if err := removeIfThere(it.path); err != nil {
			return err
		}
		it.gone = true
		c.count(it)
		return nil
	})
}

// dropFailed removes a failed step. One that is open in a shell stays, and so does one that
// can't be removed, which keeps nothing from going but what it rests on.
func (c *collector) dropFailed(it *item) {
	lock, err := lockThere(it.path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			c.keepNeeds(it)
		}
		return
	}
	defer lock.Close()
	if err := RemoveTree(it.path); err != nil {
		c.keepNeeds(it)
		c.stuck = append(c.stuck, err)
		return
	}
	c.count(it)
}

// tidy brings the disposable files in line with what is left.
func (c *collector) tidy() error {
	for _, path := range slices.Concat(c.gone, c.twice) {
		if err := removeIfThere(path); err != nil {
			return err
		}
	}
	if err := c.s.dropLabels(); err != nil {
		return err
	}
	c.s.checks.tidy(c.isHere)
	if err := c.dropLeaves(); err != nil {
		return err
	}
	if c.report.Records == 0 {
		return nil
	}
	return c.tidyIndex()
}

// isHere reports whether there is an object with the digest.
func (c *collector) isHere(d Digest) bool {
	if it := c.byDigest[d]; it != nil && !it.chosen {
		return true
	}
	var st unix.Stat_t
	_, err := c.s.find(Object{Kind: File, Digest: d}, &st)
	return err == nil || c.s.lstat(treesDir, d, &st) == nil
}

// dropLabels removes the pointers to records that are gone, and directories without any.
func (s *Store) dropLabels() error {
	err := eachIn(filepath.Join(s.dir, labelsDir), func(shard string, _ fs.FileInfo) error {
		err := eachIn(shard, func(path string, _ fs.FileInfo) error {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil
			}
			var st unix.Stat_t
			key, err := ParseDigest(string(text))
			if err == nil && !errors.Is(s.lstat(recordsDir, key, &st), fs.ErrNotExist) {
				return nil
			}
			return removeIfThere(path)
		})
		_ = os.Remove(shard) // which fails while there is something in it
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
