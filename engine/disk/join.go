package disk

import (
	"errors"
	"io"
	"sort"
)

// joined is an image put together from parts of others. What no part covers is
// a hole.
type joined struct {
	size    int64
	parts   []part // in order of start, without overlap
	closers []io.Closer
	kind    string // subformat of the container that named the parts
}

// part is length bytes of img from off on, which appear at start. Where img is
// shorter there is a hole.
type part struct {
	start, length int64
	img           Image
	off           int64
}

func (j *joined) Size() int64 { return j.size }

// Close closes what the joined image owns.
func (j *joined) Close() error {
	var errs []error
	for _, c := range j.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func closing(c ...io.Closer) []io.Closer { return c }

// at returns the part that holds off, if there is one, and how many bytes
// from off on are either in that part or in none.
func (j *joined) at(off int64) (*part, int64) {
	i := sort.Search(len(j.parts), func(i int) bool { return j.parts[i].start+j.parts[i].length > off })
	if i == len(j.parts) {
		return nil, j.size - off
	}
	p := &j.parts[i]
	if off < p.start {
		return nil, p.start - off
	}
	return p, p.start + p.length - off
}

func (j *joined) ReadAt(b []byte, off int64) (int, error) {
	n, eof := clip(len(b), off, j.size)
	for done := 0; done < n; {
		p, length := j.at(off + int64(done))
		piece := b[done:min(int64(n), int64(done)+length)]
		if p == nil {
			clear(piece)
		} else if err := readSparse(p.img, piece, off+int64(done)-p.start+p.off); err != nil {
			return done, err
		}
		done += len(piece)
	}
	return n, eof
}

func (j *joined) Extent(off int64) (Extent, error) {
	if off < 0 || off >= j.size {
		return Extent{}, io.EOF
	}
	p, length := j.at(off)
	if p == nil {
		return Extent{Start: off, Length: length, State: Hole}, nil
	}
	e, err := p.img.Extent(off - p.start + p.off)
	if err == io.EOF {
		return Extent{Start: off, Length: length, State: Hole}, nil
	}
	return Extent{Start: off, Length: min(e.Length, length), State: e.State}, err
}

// Section is length bytes of img from off on, as an image: a partition, for
// example. Closing it leaves img open. What lies after the end of img is a hole.
func Section(img Image, off, length int64) Image {
	return &joined{size: length, parts: []part{{length: length, img: img, off: off}}}
}

// memory is an image of a few bytes.
type memory []byte

func (m memory) Size() int64  { return int64(len(m)) }
func (m memory) Close() error { return nil }

func (m memory) ReadAt(p []byte, off int64) (int, error) {
	n, eof := clip(len(p), off, m.Size())
	if n > 0 {
		copy(p[:n], m[off:])
	}
	return n, eof
}

func (m memory) Extent(off int64) (Extent, error) {
	if off < 0 || off >= m.Size() {
		return Extent{}, io.EOF
	}
	return Extent{Start: off, Length: m.Size() - off, State: Data}, nil
}

// Blank is an image of size bytes that is nothing but a hole.
func Blank(size int64) Image { return &joined{size: size} }
