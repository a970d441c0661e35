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
	"time"
)

// Held is something that takes room in a store: a file, a tree with the files that are in
// no other tree used since, or what a failed step left.
type Held struct {
	Object *Object   // nil for what a failed step left
	Failed string    // its name; "" for an object
	Steps  []Step    // that made it, the newest first; empty where nobody knows
	Used   time.Time // when it, or something that needs it, was used last
	Bytes  int64     // on the disk, that would be freed
	Names  []Name    // that keep it from being collected
	Bears  int       // how many objects, and failed steps, are kept as differences that rest on it
	InUse  bool      // a live Store other than this one may need it
}

// Step is what a record says of the step that made an object.
type Step struct {
	Label, Kind, Output string
}

// Name is what keeps an object: a label in a workspace, or a symbolic link in a
// directory of results, by its path.
type Name struct {
	Workspace, Label string
}

// IsLink reports whether the name is the path of a symbolic link.
func (n Name) IsLink() bool { return isLink(n.Label) }

// Holds lists everything that takes room, what takes most first.
func (s *Store) Holds(ctx context.Context) ([]Held, error) {
	c := &collector{s: s}
	if err := c.inventory.scan(ctx, s); err != nil {
		return nil, fmt.Errorf("list what %s holds: %w", s.dir, err)
	}
	var err error
	if s.readOnly == nil {
		c.lease, c.leased, err = oldestLease(filepath.Join(s.dir, leasesDir), s.lease)
	}
	names, nerr := s.names()
	if err := errors.Join(err, nerr); err != nil {
		return nil, fmt.Errorf("list what %s holds: %w", s.dir, err)
	}
	c.inherit(names)
	h := holdings{collector: c, names: names, of: map[*item]*Held{}}
	return h.list(), nil
}

// names are those that keep objects, by digest.
func (s *Store) names() (map[Digest][]Name, error) {
	names := map[Digest][]Name{}
	err := eachIn(filepath.Join(s.dir, resultsDir), func(path string, _ fs.FileInfo) error {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		workspace, lines, err := splitResults(data)
		if err != nil {
			return nil // a collection says so
		}
		if _, err := os.Lstat(workspace); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for quoted, line := range lines {
			label, objs, err := parseResult(quoted, line)
			if err != nil || isLink(label) && !s.linked(label, objs) {
				continue
			}
			for _, o := range objs {
				names[o.Digest] = append(names[o.Digest], Name{workspace, label})
			}
		}
		return nil
	})
	for _, list := range names {
		slices.SortFunc(list, func(a, b Name) int {
			return cmp.Or(cmp.Compare(a.Workspace, b.Workspace), cmp.Compare(a.Label, b.Label))
		})
	}
	return names, err
}

// inherit adds to the names of what differences rest on those that keep the differences.
func (v *inventory) inherit(names map[Digest][]Name) {
	for _, it := range v.items {
		if it.kind != itemDifference {
			continue
		}
		for _, d := range v.files[it.digest] {
			for _, n := range names[it.digest] {
				if !slices.Contains(names[d], n) {
					names[d] = append(names[d], n)
				}
			}
		}
	}
}

// holdings puts the items of a store together to what people know.
type holdings struct {
	*collector
	names map[Digest][]Name
	of    map[*item]*Held
}

func (h *holdings) list() []Held {
	var all []*Held
	for _, it := range h.items {
		held := h.held(it)
		h.of[it] = held
		all = append(all, held)
	}
	h.fold()
	for i, it := range h.items {
		if to := h.of[it]; to != all[i] {
			to.Bytes += it.alloc
		}
	}
	var list []Held
	for i, it := range h.items {
		if h.of[it] == all[i] {
			list = append(list, *all[i])
		}
	}
	slices.SortStableFunc(list, func(a, b Held) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return list
}

func (h *holdings) held(it *item) *Held {
	held := &Held{Used: time.Unix(0, it.used), Bytes: it.alloc, Names: h.names[it.digest], InUse: h.leased && it.used >= h.lease-int64(useGrain)}
	if it.kind == itemFailed {
		held.Failed = it.name
		return held
	}
	held.Object = &Object{Kind: File, Digest: it.digest, Size: it.size}
	if it.kind == itemTree {
		held.Object.Kind = Tree
	}
	records := slices.Clone(h.recordsOf[it.digest])
	slices.SortStableFunc(records, func(a, b *recordItem) int { return cmp.Compare(b.mtime, a.mtime) })
	for _, r := range records {
		for _, o := range r.outputs {
			if o.Object.Digest == it.digest {
				held.Steps = append(held.Steps, Step{r.label, r.kind, o.Name})
			}
		}
	}
	return held
}

// fold adds files that no step made and nobody named to what needs them: the tree that was
// used last, and of logs, which are small, the first output of their step.
func (h *holdings) fold() {
	for _, it := range h.items { // by last use: the last one that adds a file has it
		if it.kind != itemTree {
			for _, base := range h.needs(it) {
				if below := h.byDigest[base]; below != nil {
					h.of[below].Bears++
				}
			}
			continue
		}
		for _, f := range h.files[it.digest] {
			h.foldInto(f, h.of[it])
		}
	}
	for _, r := range h.records {
		if r.log != nil && len(r.outputs) > 0 {
			if to := h.byDigest[r.outputs[0].Object.Digest]; to != nil {
				h.foldInto(r.log.Digest, h.of[to])
			}
		}
	}
}

func (h *holdings) foldInto(d Digest, to *Held) {
	if it := h.byDigest[d]; it != nil && it.kind == itemFile && len(h.recordsOf[d]) == 0 && len(h.names[d]) == 0 {
		h.of[it] = to
	}
}
