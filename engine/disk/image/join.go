package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sort"

	"b9.build/b9/engine/internal/blob"
)

// Joined is an image put together from parts of others. What no part covers is
// a hole.
type Joined struct {
	Length    int64
	Parts     []Part      // in order of Start, without overlap
	Closers   []io.Closer // what Close closes
	Subformat string      // of the container that named the parts
}

// Part is Length bytes of Img from Off on, which appear at Start. Where Img is
// shorter there is a hole.
type Part struct {
	Start, Length int64
	Img           Image
	Off           int64
}

// Size implements Image.
func (j *Joined) Size() int64 { return j.Length }

// Close closes what the joined image owns.
func (j *Joined) Close() error {
	var errs []error
	for _, c := range j.Closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Layout implements Structured.
func (j *Joined) Layout() Layout { return Layout{Subformat: j.Subformat} }

// Check checks the parts that have a structure.
func (j *Joined) Check(ctx context.Context, r *Report) error {
	for _, p := range j.Parts {
		if s, ok := p.Img.(Structured); ok {
			if err := s.Check(ctx, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// at returns the part that holds off, if there is one, and how many bytes
// from off on are either in that part or in none.
func (j *Joined) at(off int64) (*Part, int64) {
	i := sort.Search(len(j.Parts), func(i int) bool { return j.Parts[i].Start+j.Parts[i].Length > off })
	if i == len(j.Parts) {
		return nil, j.Length - off
	}
	p := &j.Parts[i]
	if off < p.Start {
		return nil, p.Start - off
	}
	return p, p.Start + p.Length - off
}

// ReadAt implements Image.
func (j *Joined) ReadAt(b []byte, off int64) (int, error) {
	n, eof := blob.Clip(len(b), off, j.Length)
	for done := 0; done < n; {
		p, length := j.at(off + int64(done))
		piece := b[done:min(int64(n), int64(done)+length)]
		if p == nil {
			clear(piece)
		} else if err := ReadPadded(p.Img, piece, off+int64(done)-p.Start+p.Off); err != nil {
			return done, err
		}
		done += len(piece)
	}
	return n, eof
}

// Extent implements Image.
func (j *Joined) Extent(off int64) (Extent, error) {
	if off < 0 || off >= j.Length {
		return Extent{}, io.EOF
	}
	p, length := j.at(off)
	if p == nil {
		return Extent{Start: off, Length: length, State: Hole}, nil
	}
	e, err := p.Img.Extent(off - p.Start + p.Off)
	if err == io.EOF {
		return Extent{Start: off, Length: length, State: Hole}, nil
	}
	return Extent{Start: off, Length: min(e.Length, length), State: e.State}, err
}

// Section is length bytes of img from off on, as an image: a partition, for
// example. Closing it leaves img open. What lies after the end of img is a hole.
func Section(img Image, off, length int64) Image {
	return &Joined{Length: length, Parts: []Part{{Length: length, Img: img, Off: off}}}
}

// Bytes is an image that is all data, in memory.
type Bytes []byte

// Size implements Image.
func (b Bytes) Size() int64 { return int64(len(b)) }

// Close implements Image.
func (b Bytes) Close() error { return nil }

// ReadAt implements Image.
func (b Bytes) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(b).ReadAt(p, off)
}

// Extent implements Image.
func (b Bytes) Extent(off int64) (Extent, error) {
	if off < 0 || off >= b.Size() {
		return Extent{}, io.EOF
	}
	return Extent{Start: off, Length: b.Size() - off, State: Data}, nil
}

// Blank is an image of size bytes that is nothing but a hole.
func Blank(size int64) Image { return &Joined{Length: size} }
