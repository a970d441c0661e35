package layer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sort"

	"b9.build/b9/engine/internal/blob"
)

// MaxDepth is how many differences [Compose] lays over a base.
const MaxDepth = 64

// Layer is an open difference.
type Layer struct {
	*Trailer
	File *os.File
}

// Compose returns the image that differences make of base, the first being one to
// base, and each of the others one to the image below it; that this is so, the caller
// has made sure. Closing the image closes all of them. After an error they stay open.
func Compose(base blob.Blob, layers ...Layer) (blob.Blob, error) {
	if len(layers) > MaxDepth {
		return nil, fmt.Errorf("%d differences lie over one another, which are more than %d", len(layers), MaxDepth)
	}
	m := &image{sources: []blob.Blob{base}, parts: []part{{0, base.Size(), 0}}, size: base.Size()}
	for _, l := range layers {
		if l.Kept > m.size {
			return nil, fmt.Errorf("%s: %w", l.File.Name(), damaged("it keeps %d bytes of a base of %d", l.Kept, m.size))
		}
		f, err := blob.FromFile(l.File)
		if err != nil {
			return nil, err
		}
		m.sources = append(m.sources, f)
		m.lay(l.Trailer, len(m.sources)-1)
	}
	return m, nil
}

// nowhere is the source of what reads as zeros.
const nowhere = -1

// part is a part of an image, of at least one byte, that one source has, at the
// offset that it has in the image.
type part struct {
	start, end int64
	source     int
}

// image is several files as one blob: in parts, each after the other, from its
// beginning to its end.
type image struct {
	sources []blob.Blob
	parts   []part
	size    int64
}

// lay puts a difference, which has been added to the sources, over the image.
func (m *image) lay(t *Trailer, source int) {
	below := lower{parts: m.parts, kept: t.Kept}
	m.parts, m.size = nil, t.Size
	at := int64(0)
	for _, r := range t.Runs {
		from, to := r.Start*BlockSize, min(r.End()*BlockSize, t.Size)
		below.copy(m, at, from)
		if r.Kind == Zero {
			m.add(part{from, to, nowhere})
		} else {
			m.add(part{from, to, source})
		}
		at = to
	}
	below.copy(m, at, t.Size)
}

// add appends a part, to the last one where it has the same source.
func (m *image) add(p part) {
	if p.start >= p.end {
		return
	}
	if n := len(m.parts); n > 0 && m.parts[n-1].source == p.source {
		m.parts[n-1].end = p.end
		return
	}
	m.parts = append(m.parts, p)
}

// lower hands out the parts of an image that another one is laid over, from its
// beginning to its end.
type lower struct {
	parts []part
	kept  int64 // what lies behind is zero
}

// copy adds what lies in [from, to) to m.
func (l *lower) copy(m *image, from, to int64) {
	stop := min(to, l.kept)
	for from < stop {
		p := l.parts[0]
		if p.end <= from {
			l.parts = l.parts[1:]
			continue
		}
		end := min(p.end, stop)
		m.add(part{from, end, p.source})
		from = end
	}
	m.add(part{from, to, nowhere})
}

// part returns the part in which off lies.
func (m *image) part(off int64) part {
	return m.parts[sort.Search(len(m.parts), func(i int) bool { return m.parts[i].end > off })]
}

// Size implements blob.Blob.
func (m *image) Size() int64 { return m.size }

// ReadAt implements io.ReaderAt.
func (m *image) ReadAt(b []byte, off int64) (int, error) {
	n, end := blob.Clip(len(b), off, m.size)
	for done := 0; done < n; {
		p, at := m.part(off+int64(done)), off+int64(done)
		piece := b[done:min(n, done+int(p.end-at))]
		if p.source == nowhere {
			clear(piece)
		} else if k, err := m.sources[p.source].ReadAt(piece, at); k < len(piece) {
			return done + k, err
		}
		done += len(piece)
	}
	return n, end
}

// Extent implements blob.Blob.
func (m *image) Extent(off int64) (blob.Extent, error) {
	if off < 0 || off >= m.size {
		return blob.Extent{}, io.EOF
	}
	p := m.part(off)
	if p.source == nowhere {
		return blob.Extent{Start: off, Length: p.end - off, State: blob.Hole}, nil
	}
	return within(m.sources[p.source], off, p.end)
}

// within is an extent of b that ends at end or before.
func within(b blob.Blob, off, end int64) (blob.Extent, error) {
	e, err := b.Extent(off)
	e.Length = min(e.Length, end-off)
	return e, err
}

// Close implements blob.Blob.
func (m *image) Close() error {
	var errs []error
	for _, s := range m.sources {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// Direct returns the descriptor of the file that has the n bytes of b at off, all of
// them, at off. It is b's, and open as long as b is.
func Direct(b blob.Blob, off int64, n int) (fd uintptr, ok bool) {
	switch b := b.(type) {
	case interface{ Fd() uintptr }:
		return b.Fd(), true
	case interface {
		direct(off int64, n int) (uintptr, bool)
	}:
		return b.direct(off, n)
	}
	return 0, false
}

func (m *image) direct(off int64, n int) (uintptr, bool) {
	if off < 0 || n <= 0 || off+int64(n) > m.size {
		return 0, false
	}
	p := m.part(off)
	if p.source == nowhere || off+int64(n) > p.end {
		return 0, false
	}
	return Direct(m.sources[p.source], off, n)
}
