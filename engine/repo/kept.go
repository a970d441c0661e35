package repo

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"

	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/sparse"
	"b9.build/b9/engine/repo/internal/backend"
)

// How an object is published of which little is new:
//
// Whoever keeps objects knows the hashes of their blocks of 64 KiB. If a version that the
// push looks into anyway (findKnown) is an object of whom that is known, too, then where the
// two have the same hashes the blocks lie where that version's manifest says. They are
// neither read nor hashed. A manifest is believed there as it is by every pull, which holds
// the image against its digest at the end.

// Objects keeps contents by their digests, each in whatever form.
type Objects interface {
	// Open opens a content.
	Open(Digest) (blob.Blob, error)
	// Leaves returns the hashes of a content's blocks, if they are known, whether or not
	// the content is there.
	Leaves(Digest) (*digest.Table, bool)
}

// published is what a push has to read.
type published struct {
	digest.Source
	io.Closer
	name  string
	size  int64
	check func() error // whether it is as it was
}

func (p published) Name() string { return p.name }

// open opens the file, or the content where that is kept.
func (f StepFile) open() (published, error) {
	if f.Objects == nil {
		in, info, err := sparse.Open(f.Path)
		if err != nil {
			return published{}, err
		}
		return published{in, in, in.Name(), info.Size(), func() error { return unchanged(in, info) }}, nil
	}
	b, err := f.Objects.Open(f.Digest)
	if err != nil {
		return published{}, err
	}
	return published{blob.Seeker(b), b, f.Digest.String(), b.Size(), func() error { return nil }}, nil
}

// length is the size of the file in bytes.
func (f StepFile) length() (int64, error) {
	if f.Objects == nil {
		info, err := os.Stat(f.Path)
		if err != nil {
			return 0, err
		}
		return info.Size(), nil
	}
	p, err := f.open()
	if err != nil {
		return 0, err
	}
	return p.size, p.Close()
}

// listed is a content of a manifest whose packs are known.
type listed struct {
	content *content
	packs   []int32 // in known, for each of the manifest's; -1 for one that is not there
}

// remember notes the contents of a manifest whose packs were added.
func (k *known) remember(m *manifest) {
	slots := make([]int32, len(m.packs))
	for i, p := range m.packs {
		slots[i] = -1
		if k.have[p.id] {
			slots[i] = int32(slices.IndexFunc(k.packs, func(have packRef) bool { return have.id == p.id }))
		}
	}
	for i := range m.objects {
		if c := &m.objects[i]; c.size >= knownFrom {
			k.contents = append(k.contents, listed{c, slots})
		}
	}
}

const (
	// knownFrom is the size in bytes from which on it is asked what a content shares with others.
	knownFrom = 8 << 20
	// knownMost is how many contents are compared.
	knownMost = 8
)

// alike says which blocks of an object are known, and where they lie.
type alike struct {
	own   *digest.Table
	other listed
	same  []bool // for each leaf
}

// alikeTo looks for the content of the repository that shares most leaves with the object; nil
// if none shares any.
func (k *known) alikeTo(f StepFile, size int64) *alike {
	if f.Objects == nil || size < knownFrom {
		return nil
	}
	own, ok := f.Objects.Leaves(f.Digest)
	if !ok || own.Size() != size {
		return nil
	}
	var best *alike
	most, tried := 0, 0
	for _, l := range k.contents {
		table, ok := f.Objects.Leaves(l.content.digest)
		if !ok {
			continue
		}
		if tried++; tried > knownMost {
			break
		}
		a := &alike{own, l, make([]bool, digest.Blocks(size))}
		if n := a.compare(table); n > most {
			best, most = a, n
		}
	}
	return best
}

// compare fills in same, and returns how many leaves are.
func (a *alike) compare(other *digest.Table) (n int) {
	for i := range a.same {
		a.same[i] = true
	}
	for _, l := range a.own.Since(other) {
		a.same[l.Index] = false
	}
	if tail := min(a.own.Size(), other.Size()) / leafSize; a.own.Size() != other.Size() && tail < int64(len(a.same)) {
		a.same[tail] = false // it may be as long in one of them only
	}
	for _, r := range a.other.content.runs {
		if a.other.packs[r.pack] < 0 {
			for at := r.at; at < r.at+int64(r.count); at++ {
				if i := at * blockSize / leafSize; i < int64(len(a.same)) {
					a.same[i] = false
				}
			}
		}
	}
	for l := range a.own.All() {
		if a.same[l.Index] {
			n++
		}
	}
	return n
}

// skip reports whether all of [from, to), which begins at a leaf, is known.
func (a *alike) skip(from, to int64) bool {
	return a != nil && !slices.Contains(a.same[from/leafSize:digest.Blocks(to)], false)
}

// known adds what is between from, where a leaf begins, and to: zeros, and leaves that are known.
func (u *upload) known(ctx context.Context, c *content, sum digest.Hash, a *alike, from, to int64, send func(*building)) error {
	if from >= to {
		return nil // of the end of the file nothing is left
	}
	var reused, waiting int64
	for l := range a.own.Between(from/leafSize, digest.Blocks(to)) {
		if !a.same[l.Index] {
			return fmt.Errorf("%s: block %d has data and was not found: %w", c.name, l.Index, sparse.ErrChanged)
		}
		sum.Add([]digest.Leaf{l})
		for at, where := range a.blocks(l.Index) {
			n := min(blockSize, c.size-at*blockSize)
			if len(u.queue) == 0 {
				reused += n
				c.addBlock(at, where)
				continue
			}
			waiting += n
			if u.queue = append(u.queue, queued{c: c, at: at, size: n, where: &where}); len(u.queue) == maxQueue {
				if err := u.flush(ctx, send); err != nil {
					return err
				}
			}
		}
	}
	u.p.meter.count(0, reused, to-from-reused-waiting)
	return ctx.Err()
}

// blocks yields the blocks of a known leaf that are not zeros, in order, and where they lie.
func (a *alike) blocks(leaf int64) iter.Seq2[int64, blockRef] {
	return func(yield func(int64, blockRef) bool) {
		runs, at, end := a.other.content.runs, leaf*leafSize/blockSize, (leaf+1)*leafSize/blockSize
		first, _ := slices.BinarySearchFunc(runs, at, func(r run, at int64) int { return cmp.Compare(r.at+int64(r.count), at+1) })
		for _, r := range runs[first:] {
			for b := max(r.at, at); b < min(r.at+int64(r.count), end); b++ {
				if !yield(b, blockRef{a.other.packs[r.pack], int32(r.block + int(b-r.at))}) {
					return
				}
			}
			if r.at >= end {
				return
			}
		}
	}
}

// checkKept checks what is published of an object.
func (f StepFile) checkKept() error {
	if f.Objects != nil && f.Digest.IsZero() {
		return backend.Mark(fmt.Errorf("%s: an object is named by its digest", f.Name), ErrSource)
	}
	return nil
}
