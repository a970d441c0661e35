package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"b9.build/b9/engine/internal/layer"
)

type itemKind uint8

// Kinds of items, in the order in which those of one age are removed.
const (
	itemFailed itemKind = iota
	itemTree
	itemDifference
	itemFile
)

// item is something that can be collected for its size.
type item struct {
	kind   itemKind
	digest Digest // of an object
	path   string
	name   string   // of a failed step
	bases  []Digest // of a failed step: what the differences in it rest on
	size   int64    // bytes: apparent
	alloc  int64    // bytes on the disk, those of its table of leaves included
	mtime  int64    // Unix time, nanoseconds
	used   int64    // when it or something that needs it was last used
	chosen bool     // to be removed
	spared bool     // chosen, but used since: it stays
	gone   bool     // removed
}

// recordItem is what collection needs of a record.
type recordItem struct {
	key     Digest
	path    string
	label   string
	kind    string
	mtime   int64 // Unix time, nanoseconds
	used    int64 // when it or one of its outputs was last used
	started int64 // when its step began
	outputs []Output
	log     *Object
	damaged bool // it says nothing, and key stands for its path alone
	dropped bool
}

// inventory is everything a store holds.
type inventory struct {
	items     []*item // by last use, oldest first
	byDigest  map[Digest]*item
	files     map[Digest][]Digest // the files of each tree, what each difference rests on
	twice     []string            // differences of which there is the whole object
	records   []*recordItem
	recordsOf map[Digest][]*recordItem // by output
	loose     int64                    // bytes on the disk of tables of leaves whose object is gone
}

// needs lists the objects without which an item is of no use.
func (v *inventory) needs(it *item) []Digest {
	if it.kind == itemFailed {
		return it.bases
	}
	return v.files[it.digest]
}

// scan fills in the inventory. A damaged tree is in it with no files.
func (v *inventory) scan(ctx context.Context, s *Store) error {
	v.byDigest = map[Digest]*item{}
	v.files = map[Digest][]Digest{}
	v.recordsOf = map[Digest][]*recordItem{}
	for _, part := range []func(context.Context, *Store) error{v.scanFiles, v.scanDifferences, v.scanLeaves, v.scanTrees, v.scanRecords, v.scanFailed} {
		if err := part(ctx, s); err != nil {
			return err
		}
	}
	v.spreadUse()
	slices.SortStableFunc(v.items, func(a, b *item) int {
		// What rests on more goes first.
		return cmp.Or(cmp.Compare(a.used, b.used), cmp.Compare(a.kind, b.kind), cmp.Compare(len(v.needs(b)), len(v.needs(a))))
	})
	return nil
}

func (v *inventory) add(kind itemKind, path string, d Digest, info fs.FileInfo) *item {
	mtime := info.ModTime().UnixNano()
	it := &item{kind: kind, digest: d, path: path, size: info.Size(), alloc: allocated(info), mtime: mtime, used: mtime}
	v.items = append(v.items, it)
	return it
}

func allocated(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}

func (v *inventory) scanFiles(ctx context.Context, s *Store) error {
	return s.eachStored(objectsDir, func(path string, d Digest, info fs.FileInfo) error {
		v.byDigest[d] = v.add(itemFile, path, d, info)
		return ctx.Err()
	})
}

// scanDifferences notes with each difference all that it rests on, as far as that is there.
func (v *inventory) scanDifferences(ctx context.Context, s *Store) error {
	base := map[Digest]Digest{}
	err := s.eachStored(differencesDir, func(path string, d Digest, info fs.FileInfo) error {
		if v.byDigest[d] != nil {
			v.twice = append(v.twice, path)
			return ctx.Err()
		}
		v.byDigest[d] = v.add(itemDifference, path, d, info)
		if t, err := readTrailer(path); err == nil {
			base[d], v.byDigest[d].size = t.Base, t.Size
		}
		return ctx.Err()
	})
	for d := range base {
		for at, ok := base[d]; ok && len(v.files[d]) <= layer.MaxDepth; at, ok = base[at] {
			v.files[d] = append(v.files[d], at)
		}
	}
	return err
}

// scanLeaves counts the tables of leaves with their objects, which they go with.
func (v *inventory) scanLeaves(ctx context.Context, s *Store) error {
	return s.eachStored(leavesDir, func(_ string, d Digest, info fs.FileInfo) error {
		if it := v.byDigest[d]; it != nil {
			it.alloc += allocated(info)
		} else {
			v.loose += allocated(info)
		}
		return ctx.Err()
	})
}

func (v *inventory) scanTrees(ctx context.Context, s *Store) error {
	return s.eachStored(treesDir, func(path string, d Digest, info fs.FileInfo) error {
		v.byDigest[d] = v.add(itemTree, path, d, info)
		m, err := readManifest(path, d)
		if err == nil {
			v.files[d] = v.withBases(fileDigests(m))
		}
		return ctx.Err()
	})
}

// withBases adds what the differences among the files rest on.
func (v *inventory) withBases(files []Digest) []Digest {
	for _, d := range slices.Clone(files) {
		files = append(files, v.files[d]...)
	}
	return files
}

// fileDigests returns each file of the tree once.
func fileDigests(m *manifest) []Digest {
	var ds []Digest
	for i := range m.Entries {
		if e := &m.Entries[i]; e.Type == typeFile {
			ds = append(ds, e.Digest)
		}
	}
	slices.SortFunc(ds, func(a, b Digest) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(ds)
}

func (v *inventory) scanRecords(ctx context.Context, s *Store) error {
	return s.eachRecord(func(path string, info fs.FileInfo, r *Record, err error) error {
		if unread := new(fs.PathError); errors.As(err, &unread) {
			return ctx.Err()
		}
		it := &recordItem{path: path, mtime: info.ModTime().UnixNano(), damaged: err != nil}
		v.records = append(v.records, it)
		if err == nil {
			it.key, it.label, it.kind, it.outputs, it.log = r.Key, r.Label, r.Kind, r.Outputs, r.Log
			it.started = r.Started.UnixNano()
		}
		for _, o := range it.outputs {
			v.recordsOf[o.Object.Digest] = append(v.recordsOf[o.Object.Digest], it)
		}
		return ctx.Err()
	})
}

func (v *inventory) scanFailed(ctx context.Context, s *Store) error {
	steps, err := s.Failed()
	if err != nil {
		return err
	}
	for _, f := range steps {
		size, alloc, err := treeUsage(ctx, f.Dir)
		if err != nil {
			return err
		}
		at := f.Time.UnixNano()
		bases := v.withBases(basesIn(f.Dir))
		v.items = append(v.items, &item{kind: itemFailed, path: f.Dir, name: f.Name, bases: bases, size: size, alloc: alloc, mtime: at, used: at})
	}
	return nil
}

// basesIn lists the objects that the differences in a directory are made from. One that
// can't be read can't be shown again, and needs nothing.
func basesIn(dir string) (bases []Digest) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), differencePrefix) {
			continue
		}
		if t, err := readTrailer(filepath.Join(dir, e.Name())); err == nil && !slices.Contains(bases, t.Base) {
			bases = append(bases, t.Base)
		}
	}
	return bases
}

// spreadUse makes everything as recently used as what needs it: files as
// their trees, bases as their differences and the failed steps that have some, records as
// their outputs, logs as their records.
func (v *inventory) spreadUse() {
	for _, it := range v.items {
		for _, d := range v.needs(it) {
			if below := v.byDigest[d]; below != nil {
				below.used = max(below.used, it.used)
			}
		}
	}
	for _, r := range v.records {
		r.used = r.mtime
		for _, o := range r.outputs {
			if it := v.byDigest[o.Object.Digest]; it != nil {
				r.used = max(r.used, it.used)
			}
		}
		if r.log == nil {
			continue
		}
		if log := v.byDigest[r.log.Digest]; log != nil {
			log.used = max(log.used, r.used)
		}
	}
}

// treeUsage adds up the apparent and allocated bytes below dir. What vanishes
// meanwhile does not count, nor what can't be looked at: a script may have made
// paths longer than the kernel takes.
func treeUsage(ctx context.Context, dir string) (size, alloc int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = e.Info()
		}
		if err != nil {
			return ctx.Err()
		}
		if info.Mode().IsRegular() {
			size += info.Size()
		}
		alloc += allocated(info)
		return ctx.Err()
	})
	return size, alloc, err
}

// Usage is what a store holds and occupies.
type Usage struct {
	Files        int   `json:"files"`
	Trees        int   `json:"trees"`
	Records      int   `json:"records"`
	Failed       int   `json:"failed"`        // kept directories of failed steps
	Scratch      int   `json:"scratch"`       // scratch directories
	Apparent     int64 `json:"apparent"`      // bytes in files and manifests, holes included
	Allocated    int64 `json:"allocated"`     // bytes that files, manifests and tables of leaves occupy on the disk
	FailedBytes  int64 `json:"failed_bytes"`  // bytes on the disk
	ScratchBytes int64 `json:"scratch_bytes"` // bytes on the disk
}

// Usage counts what is in the store. It reads no contents.
func (s *Store) Usage(ctx context.Context) (Usage, error) {
	var u Usage
	count := func(n *int) func(string, Digest, fs.FileInfo) error {
		return func(_ string, _ Digest, info fs.FileInfo) error {
			*n++
			u.Apparent += info.Size()
			u.Allocated += allocated(info)
			return ctx.Err()
		}
	}
	err := errors.Join(
		s.eachStored(objectsDir, count(&u.Files)),
		s.eachStored(differencesDir, func(path string, _ Digest, info fs.FileInfo) error {
			u.Files++
			u.Allocated += allocated(info)
			if t, err := readTrailer(path); err == nil {
				u.Apparent += t.Size
			}
			return ctx.Err()
		}),
		s.eachStored(treesDir, count(&u.Trees)),
		s.eachStored(leavesDir, func(_ string, _ Digest, info fs.FileInfo) error { u.Allocated += allocated(info); return ctx.Err() }),
		s.eachStored(recordsDir, func(string, Digest, fs.FileInfo) error { u.Records++; return ctx.Err() }),
		s.usageOf(ctx, failedDir, &u.Failed, &u.FailedBytes),
		s.usageOf(ctx, scratchDir, &u.Scratch, &u.ScratchBytes))
	if err != nil {
		return Usage{}, fmt.Errorf("usage of %s: %w", s.dir, err)
	}
	return u, nil
}

func (s *Store) usageOf(ctx context.Context, name string, n *int, bytes *int64) error {
	return eachIn(filepath.Join(s.dir, name), func(path string, _ fs.FileInfo) error {
		_, alloc, err := treeUsage(ctx, path)
		*n++
		*bytes += alloc
		return err
	})
}

// Recent lists the file objects that occupy at least so many bytes on the
// disk, with what was used last first. It does not count as using them.
func (s *Store) Recent(ctx context.Context, least int64) ([]Object, error) {
	type aged struct {
		o    Object
		used int64 // Unix time, nanoseconds
	}
	var found []aged
	err := s.eachStored(objectsDir, func(_ string, d Digest, info fs.FileInfo) error {
		if info.Mode().IsRegular() && allocated(info) >= least {
			found = append(found, aged{Object{File, d, info.Size()}, info.ModTime().UnixNano()})
		}
		return ctx.Err()
	})
	err = errors.Join(err, s.eachStored(differencesDir, func(path string, d Digest, info fs.FileInfo) error {
		if t, err := readTrailer(path); err == nil && allocated(info) >= least && !s.isWhole(d) {
			found = append(found, aged{Object{File, d, t.Size}, info.ModTime().UnixNano()})
		}
		return ctx.Err()
	}))
	if err != nil {
		return nil, fmt.Errorf("list objects in %s: %w", s.dir, err)
	}
	slices.SortFunc(found, func(a, b aged) int {
		return cmp.Or(cmp.Compare(b.used, a.used), slices.Compare(a.o.Digest[:], b.o.Digest[:]))
	})
	objects := make([]Object, len(found))
	for i, f := range found {
		objects[i] = f.o
	}
	return objects, nil
}
