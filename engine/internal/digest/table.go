package digest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"sort"

	"github.com/zeebo/blake3"
)

// Table is the leaves of one file, without those of zeros. Its text is what the file's
// digest is the hash of. So a table proves itself: one whose hash is the digest of a file
// is that file's, whoever wrote it and wherever it lay.
//
// A table that was made of another one, by [Table.With] or [Update], shares the text of that
// and has the leaves that differ beside it. So it costs what differs.
type Table struct {
	text    []byte // of the file that this one is like, or its own
	size    int64  // bytes of the file
	kept    int64  // blocks from here on have no leaves of the text
	changed []Leaf // in place of those of the text, in order; the zero hash for zeros
}

const (
	headSize  = len(fileTag) + 8
	entrySize = 8 + len(Digest{})
)

// appendHead appends what the text begins with.
func appendHead(b []byte, size int64) []byte {
	return binary.LittleEndian.AppendUint64(append(b, fileTag...), uint64(size))
}

// append appends the leaf as the text has it.
func (l Leaf) append(b []byte) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(l.Index)), l.Sum[:]...)
}

// isZero reports whether the leaf stands for a block of zeros.
func (l Leaf) isZero() bool { return l.Sum == [32]byte{} }

// NewTable begins the table of a file of size bytes.
func NewTable(size int64) *Table {
	return &Table{text: appendHead(nil, size), size: size, kept: Blocks(size)}
}

// ParseTable reads a text of which the hash is d. The table keeps the text.
func ParseTable(text []byte, d Digest) (*Table, error) {
	if Sum(text) != d {
		return nil, fmt.Errorf("it is not the table of the leaves of %s", d)
	}
	if len(text) < headSize || (len(text)-headSize)%entrySize != 0 || !bytes.HasPrefix(text, []byte(fileTag)) {
		return nil, fmt.Errorf("%s is not the digest of a file", d)
	}
	size := int64(binary.LittleEndian.Uint64(text[len(fileTag):]))
	if size < 0 {
		return nil, fmt.Errorf("%s is not the digest of a file", d)
	}
	t, last := &Table{text: text, size: size, kept: Blocks(size)}, int64(-1)
	for i := range t.entries().len() {
		at := t.entries().index(i)
		if at <= last || at >= t.kept {
			return nil, fmt.Errorf("the leaves of %s are in no order", d)
		}
		last = at
	}
	return t, nil
}

// Blocks is the number of blocks of a file of size bytes.
func Blocks(size int64) int64 { return size/BlockSize + min(size%BlockSize, 1) }

// entries are the leaves of a text.
type entries []byte

func (t *Table) entries() entries { return t.text[headSize:] }

func (e entries) len() int { return len(e) / entrySize }

func (e entries) index(i int) int64 { return int64(binary.LittleEndian.Uint64(e[i*entrySize:])) }

func (e entries) leaf(i int) Leaf { return Leaf{e.index(i), [32]byte(e[i*entrySize+8:])} }

// find is the number of leaves of blocks before the one at index.
func (e entries) find(index int64) int {
	return sort.Search(e.len(), func(i int) bool { return e.index(i) >= index })
}

// Add takes the next leaves, in the order of the file, into a table that was made by
// [NewTable].
func (t *Table) Add(leaves []Leaf) {
	for _, l := range leaves {
		t.text = l.append(t.text)
	}
}

// pieces yields the text, in parts, each of which is good until the next one.
func (t *Table) pieces(yield func([]byte) bool) {
	e := t.entries()
	at, end := 0, e.find(t.kept)
	buf := appendHead(nil, t.size)
	for _, l := range t.changed {
		next := min(e.find(l.Index), end)
		if next > at {
			if !yield(buf) || !yield(e[at*entrySize:next*entrySize]) {
				return
			}
			buf, at = buf[:0], next
		}
		if at < end && e.index(at) == l.Index {
			at++
		}
		if !l.isZero() {
			buf = l.append(buf)
		}
	}
	if yield(buf) && at < end {
		yield(e[at*entrySize : end*entrySize])
	}
}

// Text is what [ParseTable] reads. It must not be changed.
func (t *Table) Text() []byte {
	if len(t.changed) == 0 && t.kept == Blocks(t.size) && bytes.Equal(t.text[:headSize], appendHead(nil, t.size)) {
		return t.text
	}
	text := make([]byte, 0, headSize+t.Len()*entrySize)
	for piece := range t.pieces {
		text = append(text, piece...)
	}
	return text
}

// Digest is that of the file.
func (t *Table) Digest() (d Digest) {
	h := blake3.New()
	for piece := range t.pieces {
		h.Write(piece)
	}
	h.Sum(d[:0])
	return d
}

// Size is that of the file in bytes.
func (t *Table) Size() int64 { return t.size }

// Len is the number of leaves.
func (t *Table) Len() int {
	e := t.entries()
	n := e.find(t.kept)
	for _, l := range t.changed {
		if i := e.find(l.Index); i < e.len() && e.index(i) == l.Index && l.Index < t.kept {
			n--
		}
		if !l.isZero() {
			n++
		}
	}
	return n
}

// At returns the hash of the block at index; the zero hash for one of zeros, and past
// the end.
func (t *Table) At(index int64) (sum [32]byte) {
	for l := range t.Between(index, index+1) {
		sum = l.Sum
	}
	return sum
}

// All yields the leaves, in order.
func (t *Table) All() iter.Seq[Leaf] { return t.Between(0, Blocks(t.size)) }

// Between yields the leaves of the blocks [from, to), in order.
func (t *Table) Between(from, to int64) iter.Seq[Leaf] {
	return func(yield func(Leaf) bool) {
		c := t.cursor(from, to)
		for l, ok := c.next(); ok; l, ok = c.next() {
			if !yield(l) {
				return
			}
		}
	}
}

// cursor goes through the leaves of a part of a table.
type cursor struct {
	entries entries // that are left of the text
	changed []Leaf  // that are left
}

func (t *Table) cursor(from, to int64) cursor {
	e := t.entries()
	first := e.find(from)
	last := max(first, e.find(min(to, t.kept)))
	c := cursor{entries: e[first*entrySize : last*entrySize]}
	i, j := findLeaf(t.changed, from), findLeaf(t.changed, to)
	c.changed = t.changed[i:max(i, j)]
	return c
}

// findLeaf is the number of leaves of blocks before the one at index.
func findLeaf(leaves []Leaf, index int64) int {
	return sort.Search(len(leaves), func(i int) bool { return leaves[i].Index >= index })
}

func (c *cursor) next() (l Leaf, ok bool) {
	for {
		switch {
		case len(c.changed) > 0 && (len(c.entries) == 0 || c.changed[0].Index <= c.entries.index(0)):
			l = c.changed[0]
			if len(c.entries) > 0 && c.entries.index(0) == l.Index {
				c.entries = c.entries[entrySize:]
			}
			if c.changed = c.changed[1:]; !l.isZero() {
				return l, true
			}
		case len(c.entries) > 0:
			l = c.entries.leaf(0)
			c.entries = c.entries[entrySize:]
			return l, true
		default:
			return l, false
		}
	}
}

// Since lists what the file of t has other than that of base: the leaves of the blocks in
// question, in order, with the zero hash for a block that is zeros now. What base has past
// the end of t is not in the list.
func (t *Table) Since(base *Table) (changed []Leaf) {
	end := Blocks(t.size)
	parts := [][2]int64{{0, end}}
	if len(t.text) == len(base.text) && &t.text[0] == &base.text[0] {
		parts = t.questions(base) // elsewhere both have the leaves of the same text
	}
	for _, p := range parts {
		changed = t.appendSince(changed, base, p[0], min(p[1], end))
	}
	return changed
}

// questions are the blocks, in order, in which tables with the same text may differ.
func (t *Table) questions(base *Table) (parts [][2]int64) {
	for _, l := range withLeaves(t.changed, base.changed) {
		parts = append(parts, [2]int64{l.Index, l.Index + 1})
	}
	kept := min(t.kept, base.kept)
	for len(parts) > 0 && parts[len(parts)-1][1] > kept {
		parts = parts[:len(parts)-1]
	}
	return append(parts, [2]int64{kept, Blocks(t.size)})
}

// appendSince appends what Since lists of the blocks [from, to).
func (t *Table) appendSince(changed []Leaf, base *Table, from, to int64) []Leaf {
	mine, theirs := t.cursor(from, to), base.cursor(from, to)
	a, more := mine.next()
	b, other := theirs.next()
	for more || other {
		switch {
		case !other || more && a.Index < b.Index:
			changed = append(changed, a)
			a, more = mine.next()
		case !more || b.Index < a.Index:
			changed = append(changed, Leaf{Index: b.Index})
			b, other = theirs.next()
		default:
			if a != b {
				changed = append(changed, a)
			}
			a, more = mine.next()
			b, other = theirs.next()
		}
	}
	return changed
}

// With is the inverse of [Table.Since]: the table of a file of size bytes in which the
// blocks of changed, in order, are other than in the file of t.
func (t *Table) With(size int64, changed []Leaf) *Table {
	all := withLeaves(t.changed, changed)
	all = all[:findLeaf(all, Blocks(size))]
	n := &Table{text: t.text, size: size, kept: min(t.kept, Blocks(size)), changed: all}
	if len(all)*ownShare > t.entries().len() {
		return &Table{text: n.Text(), size: size, kept: Blocks(size)}
	}
	return n
}

// ownShare says that a table has a text of its own if more than one in so many of the leaves
// are others: each use looks for these.
const ownShare = 4

// withLeaves puts leaves, in order, in place of those of the same blocks in old.
func withLeaves(old, leaves []Leaf) []Leaf {
	all := make([]Leaf, 0, len(old)+len(leaves))
	for _, l := range leaves {
		for len(old) > 0 && old[0].Index < l.Index {
			all, old = append(all, old[0]), old[1:]
		}
		if len(old) > 0 && old[0].Index == l.Index {
			old = old[1:]
		}
		all = append(all, l)
	}
	return append(all, old...)
}

// Scan reads and hashes the first size bytes of f as [Content] does, and returns the table.
func Scan(ctx context.Context, f Source, size int64, workers int) (*Table, error) {
	return Update(ctx, f, size, workers)
}
