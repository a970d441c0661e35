package digest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"sort"
)

// Table is the leaves of one file, without those of zeros. Its text is what the file's
// digest is the hash of. So a table proves itself: one whose hash is the digest of a file
// is that file's, whoever wrote it and wherever it lay.
type Table struct{ text []byte }

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

// NewTable begins the table of a file of size bytes.
func NewTable(size int64) *Table { return &Table{appendHead(nil, size)} }

// ParseTable reads a text of which the hash is d.
func ParseTable(text []byte, d Digest) (*Table, error) {
	if Sum(text) != d {
		return nil, fmt.Errorf("it is not the table of the leaves of %s", d)
	}
	t := &Table{text}
	if len(text) < headSize || (len(text)-headSize)%entrySize != 0 || !bytes.HasPrefix(text, []byte(fileTag)) || t.Size() < 0 {
		return nil, fmt.Errorf("%s is not the digest of a file", d)
	}
	last := int64(-1)
	for i := range t.Len() {
		at := t.index(i)
		if at <= last || at >= Blocks(t.Size()) {
			return nil, fmt.Errorf("the leaves of %s are in no order", d)
		}
		last = at
	}
	return t, nil
}

// Blocks is the number of blocks of a file of size bytes.
func Blocks(size int64) int64 { return size/BlockSize + min(size%BlockSize, 1) }

// Add takes the next leaves, in the order of the file.
func (t *Table) Add(leaves []Leaf) {
	for _, l := range leaves {
		t.text = l.append(t.text)
	}
}

// Text is what [ParseTable] reads. It must not be changed.
func (t *Table) Text() []byte { return t.text }

// Digest is that of the file.
func (t *Table) Digest() Digest { return Sum(t.text) }

// Size is that of the file in bytes.
func (t *Table) Size() int64 { return int64(binary.LittleEndian.Uint64(t.text[len(fileTag):])) }

// Len is the number of leaves.
func (t *Table) Len() int { return (len(t.text) - headSize) / entrySize }

// entry is the text of the leaf that is the i-th.
func (t *Table) entry(i int) []byte { return t.text[headSize+i*entrySize:][:entrySize] }

func (t *Table) index(i int) int64 { return int64(binary.LittleEndian.Uint64(t.entry(i))) }

func (t *Table) leaf(i int) Leaf { return Leaf{t.index(i), [32]byte(t.entry(i)[8:])} }

// find is the number of leaves of blocks before the one at index.
func (t *Table) find(index int64) int {
	return sort.Search(t.Len(), func(i int) bool { return t.index(i) >= index })
}

// At returns the hash of the block at index; the zero hash for one of zeros, and past
// the end.
func (t *Table) At(index int64) (sum [32]byte) {
	if i := t.find(index); i < t.Len() && t.index(i) == index {
		sum = t.leaf(i).Sum
	}
	return sum
}

// All yields the leaves, in order.
func (t *Table) All() iter.Seq[Leaf] {
	return func(yield func(Leaf) bool) {
		for i := range t.Len() {
			if !yield(t.leaf(i)) {
				return
			}
		}
	}
}

// Between yields the leaves of the blocks [from, to), in order.
func (t *Table) Between(from, to int64) iter.Seq[Leaf] {
	return func(yield func(Leaf) bool) {
		for i := t.find(from); i < t.Len() && t.index(i) < to; i++ {
			if !yield(t.leaf(i)) {
				return
			}
		}
	}
}

// Since lists what the file of t has other than that of base: the leaves of the blocks in
// question, in order, with the zero hash for a block that is zeros now. What base has past
// the end of t is not in the list.
func (t *Table) Since(base *Table) (changed []Leaf) {
	i, j := 0, 0
	for i < t.Len() || j < base.Len() {
		switch {
		case j == base.Len() || i < t.Len() && t.index(i) < base.index(j):
			changed = append(changed, t.leaf(i))
			i++
		case i == t.Len() || base.index(j) < t.index(i):
			if at := base.index(j); at < Blocks(t.Size()) {
				changed = append(changed, Leaf{Index: at})
			}
			j++
		default:
			if !bytes.Equal(t.entry(i), base.entry(j)) {
				changed = append(changed, t.leaf(i))
			}
			i, j = i+1, j+1
		}
	}
	return changed
}

// With is the inverse of [Table.Since]: the table of a file of size bytes in which the
// blocks of changed, in order, are other than in the file of t.
func (t *Table) With(size int64, changed []Leaf) *Table {
	n := &Table{slices.Grow(appendHead(nil, size), (t.Len()+len(changed))*entrySize)}
	at := 0
	for _, l := range changed {
		end := max(at, t.find(l.Index))
		n.copy(t, at, end, 0)
		if at = end; at < t.Len() && t.index(at) == l.Index {
			at++
		}
		if l.Sum != (Digest{}) {
			n.text = l.append(n.text)
		}
	}
	n.copy(t, at, max(at, t.find(Blocks(size))), 0)
	return n
}

// copy appends the leaves [from, to) of another table, so many blocks later in the file.
func (t *Table) copy(other *Table, from, to int, later int64) {
	start := len(t.text)
	t.text = append(t.text, other.text[headSize+from*entrySize:headSize+to*entrySize]...)
	for b := t.text[start:]; later != 0 && len(b) > 0; b = b[entrySize:] {
		binary.LittleEndian.PutUint64(b, uint64(int64(binary.LittleEndian.Uint64(b))+later))
	}
}

// Scan reads and hashes the first size bytes of f as [Content] does, and returns the table.
func Scan(ctx context.Context, f Source, size int64, workers int) (*Table, error) {
	return Update(ctx, f, size, workers)
}
