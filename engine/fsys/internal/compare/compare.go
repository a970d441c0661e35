// Package compare tells two images of a file system from each other by the
// bytes in which they differ, and what of that a mount leaves behind.
//
//	Differences  the runs of bytes in which two images differ; Shared, where they can't
//	Run, Runs    such runs, and what they cover
//	XFS          what the mounts of an xfs leave, which this package knows
//	Btrfs        whether two btrfs hold the same files
//
// It reads superblocks of xfs (XFS Algorithms & Data Structures, 3rd edition) and the
// trees of roots and chunks of btrfs (On-disk Format, in its developers'
// documentation), and no file of either. It writes nothing.
package compare

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"slices"

	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/internal/sparse"
)

// Run is the bytes [From, To) of an image.
type Run struct{ From, To int64 }

// Runs are in order, and do not touch each other.
type Runs []Run

// Add appends a run that begins at or after the end of the last one.
func (r *Runs) Add(x Run) {
	if n := len(*r); n > 0 && (*r)[n-1].To >= x.From {
		(*r)[n-1].To = max((*r)[n-1].To, x.To)
		return
	}
	*r = append(*r, x)
}

// Sorted brings runs in any order into one.
func Sorted(all ...Run) Runs {
	slices.SortFunc(all, func(a, b Run) int { return int(min(max(a.From-b.From, -1), 1)) })
	var r Runs
	for _, x := range all {
		r.Add(x)
	}
	return r
}

// Between are the runs below end that lie in none of r.
func (r Runs) Between(end int64) (rest Runs) {
	at := int64(0)
	for _, x := range append(slices.Clone(r), Run{end, end}) {
		if to := min(x.From, end); at < to {
			rest.Add(Run{at, to})
		}
		at = max(at, x.To)
	}
	return rest
}

// Within are the parts of r that lie in x.
func (r Runs) Within(x Run) (parts Runs) {
	for i := r.after(x.From); i < len(r) && r[i].From < x.To; i++ {
		parts.Add(Run{max(r[i].From, x.From), min(r[i].To, x.To)})
	}
	return parts
}

// after is the index of the first run that ends after off.
func (r Runs) after(off int64) int {
	i, _ := slices.BinarySearchFunc(r, off, func(x Run, off int64) int {
		if x.To <= off {
			return -1
		}
		return 1
	})
	return i
}

// Cover reports whether all of x lies in one of the runs.
func (r Runs) Cover(x Run) bool {
	i := r.after(x.From)
	return x.From >= x.To || i < len(r) && r[i].From <= x.From && x.To <= r[i].To
}

// Touch reports whether a byte of x lies in one of the runs.
func (r Runs) Touch(x Run) bool {
	i := r.after(x.From)
	return i < len(r) && r[i].From < x.To
}

const (
	unit  = 512     // bytes: what is compared at last
	piece = 1 << 20 // bytes: what is compared at first
)

// Differences yields the runs from the offset from on, in whole sectors of 512 bytes, in
// which a and b, which are of one size, differ. What is a hole in both, and what lies in
// equal, is not read. After an error it ends.
func Differences(ctx context.Context, a, b blob.Blob, equal Runs, from int64) iter.Seq2[Run, error] {
	return func(yield func(Run, error) bool) {
		w := walk{a: a, b: b, x: make([]byte, piece), y: make([]byte, piece), equal: equal}
		for off := from; off < a.Size(); {
			err := context.Cause(ctx)
			to := off
			if err == nil {
				to, err = w.next(off, yield)
			}
			if err == errStopped {
				return
			}
			if err != nil {
				yield(Run{}, err)
				return
			}
			off = to
		}
	}
}

// hostFile is a blob of all bytes of a file of the host.
type hostFile interface {
	Fd() uintptr
	Stat() (fs.FileInfo, error)
}

// Shared are the runs that both images share on the disk, so that they need no look. That
// there are none is never wrong.
func Shared(a, b blob.Blob) (r Runs) {
	var files [2]hostFile
	for i, x := range []blob.Blob{a, b} {
		f, ok := x.(hostFile)
		if !ok {
			return nil
		}
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() != x.Size() {
			return nil
		}
		files[i] = f
	}
	list, err := sparse.Shared(files[0], files[1])
	if err != nil {
		return nil
	}
	for _, s := range list {
		r.Add(Run{s[0], s[1]})
	}
	return r
}

type walk struct {
	a, b  blob.Blob
	x, y  []byte
	p, q  blob.Extent // asked for last: to ask is not cheap everywhere
	equal Runs
}

// errStopped is what ends a walk of which nobody wants more.
var errStopped = errors.New("stopped")

// next compares one stretch from off on, and returns where it ends.
func (w *walk) next(off int64, yield func(Run, error) bool) (int64, error) {
	if i := w.equal.after(off); i < len(w.equal) && w.equal[i].From <= off {
		return w.equal[i].To, nil
	}
	if err := errors.Join(ask(w.a, &w.p, off), ask(w.b, &w.q, off)); err != nil {
		return 0, err
	}
	to := min(w.p.End(), w.q.End())
	if w.p.State != blob.Data && w.q.State != blob.Data {
		return to, nil
	}
	if i := w.equal.after(off); i < len(w.equal) {
		to = min(to, w.equal[i].From)
	}
	to = min(to, off/piece*piece+piece)
	x, y := w.x[:to-off], w.y[:to-off]
	for _, r := range []struct {
		from blob.Blob
		b    []byte
	}{{w.a, x}, {w.b, y}} {
		if n, err := r.from.ReadAt(r.b, off); n < len(r.b) {
			return 0, whole(err)
		}
	}
	return to, w.tell(off, x, y, yield)
}

// ask makes e the extent of b in which off lies.
func ask(b blob.Blob, e *blob.Extent, off int64) (err error) {
	if e.Start <= off && off < e.End() {
		return nil
	}
	if *e, err = b.Extent(off); err != nil {
		return whole(err)
	}
	return nil
}

// tell yields the runs in which x and y, which lie at off, differ.
func (w *walk) tell(off int64, x, y []byte, yield func(Run, error) bool) error {
	if bytes.Equal(x, y) {
		return nil
	}
	var r Run
	for at := 0; at < len(x); {
		end := min((int(off%unit)+at)/unit*unit+unit-int(off%unit), len(x))
		if !bytes.Equal(x[at:end], y[at:end]) {
			if r.To != off+int64(at) {
				if r.From < r.To && !yield(r, nil) {
					return errStopped
				}
				r.From = off + int64(at)
			}
			r.To = off + int64(end)
		}
		at = end
	}
	if r.From < r.To && !yield(r, nil) {
		return errStopped
	}
	return nil
}

// whole makes of an early end of an image an error of its own.
func whole(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
