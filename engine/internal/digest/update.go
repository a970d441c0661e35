package digest

import (
	"cmp"
	"context"
	"slices"

	"b9.build/b9/engine/internal/sparse"
)

// How the digest of a changed file is made
//
// A file of which it is known where its bytes are those of other files, whose tables are at
// hand, is read only elsewhere. A block counts as known if all of it lies in such a run, is
// a whole block of the other file (so that the distance is a multiple of BlockSize, and
// the block as long there as here), and then has the leaf that it has there. Every other
// block is read and hashed, so the result is the digest of all the bytes if what is said
// to be known is so.

// Known are runs of a file that hold what another file holds, whose table is given.
type Known struct {
	Table *Table
	Runs  []sparse.Same
}

// span are blocks [from, to) that have the leaves of the table's file, which it has later
// blocks before.
type span struct {
	from, to, later int64
	table           *Table
}

// Update returns the table of the first size bytes of f. It reads the blocks that don't
// follow from what is known, by so many goroutines (0: two). Where that is one file, in which
// nothing has moved, the table is that one's with what was read.
func Update(ctx context.Context, f Source, size int64, workers int, known ...Known) (*Table, error) {
	spans := spansOf(size, known)
	if gaps := between(spans, size); len(known) == 1 && !moved(spans) {
		read := &leafList{}
		if err := hashRuns(ctx, f, size, gaps, max(workers, 2), read); err != nil {
			return nil, err
		}
		return known[0].Table.with(size, gaps, read.leaves), nil
	}
	m := &merger{NewTable(size), spans}
	if err := hashRuns(ctx, f, size, between(spans, size), max(workers, 2), m); err != nil {
		return nil, err
	}
	m.upTo(Blocks(size))
	return m.table, nil
}

func moved(spans []span) bool {
	return slices.ContainsFunc(spans, func(s span) bool { return s.later != 0 })
}

// leafList takes leaves.
type leafList struct{ leaves []Leaf }

// Add takes the next leaves that were read.
func (l *leafList) Add(leaves []Leaf) { l.leaves = append(l.leaves, leaves...) }

// with is the table of a file of size bytes that has the leaves that were read in the gaps, in
// bytes, and elsewhere those of t.
func (t *Table) with(size int64, gaps [][2]int64, read []Leaf) *Table {
	var old []Leaf // of what was read and is zeros now
	for _, g := range gaps {
		for l := range t.Between(g[0]/BlockSize, Blocks(g[1])) {
			old = append(old, Leaf{Index: l.Index})
		}
	}
	return t.With(size, withLeaves(old, read))
}

// merger puts the leaves that were read between those that are known.
type merger struct {
	table *Table
	spans []span // that are to be added, in order
}

// Add takes the next leaves that were read.
func (m *merger) Add(leaves []Leaf) {
	for i, l := range leaves {
		m.upTo(l.Index)
		m.table.Add(leaves[i : i+1])
	}
}

// upTo adds the spans that begin before a block.
func (m *merger) upTo(index int64) {
	for len(m.spans) > 0 && m.spans[0].from < index {
		s := m.spans[0]
		for l := range s.table.Between(s.from-s.later, s.to-s.later) {
			l.Index += s.later
			m.table.text = l.append(m.table.text)
		}
		m.spans = m.spans[1:]
	}
}

// spansOf returns the known blocks, each once and in order.
func spansOf(size int64, known []Known) []span {
	var all []span
	for _, k := range known {
		for _, r := range k.Runs {
			s := span{(max(r.From, 0) + BlockSize - 1) / BlockSize, min(r.To, size) / BlockSize, r.Shift / BlockSize, k.Table}
			if r.To >= size && size-r.Shift == k.Table.Size() {
				s.to = Blocks(size) // both end here: their last blocks are equally long
			}
			s.to = min(s.to, Blocks(k.Table.Size())+s.later)
			if r.Shift%BlockSize == 0 && s.from < s.to {
				all = append(all, s)
			}
		}
	}
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	kept, at := all[:0], int64(0)
	for _, s := range all {
		if s.from = max(s.from, at); s.from < s.to {
			kept, at = append(kept, s), s.to
		}
	}
	return kept
}

// between are the runs, in bytes, of the blocks that are in no span.
func between(spans []span, size int64) (runs [][2]int64) {
	at := int64(0)
	for _, s := range append(slices.Clone(spans), span{from: Blocks(size), to: Blocks(size)}) {
		if s.from > at {
			runs = append(runs, [2]int64{at * BlockSize, min(s.from*BlockSize, size)})
		}
		at = s.to
	}
	return runs
}
