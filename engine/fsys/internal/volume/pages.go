package volume

import (
	"errors"
	"io"
)

const (
	pageSize  = 16 << 10 // bytes
	pageCount = 128
)

// Pages keeps what was read last of an image, so that the many small reads of
// metadata cost few accesses, which may each mean a cluster to decompress. It
// holds 2 MiB at most. Reads of more than a page pass it by.
type Pages struct {
	r    io.ReaderAt
	size int64
	data map[int64][]byte // by page number
	held []int64          // their numbers, the oldest first

	overlaid bool // what is read is not what the image holds
}

// NewPages returns a reader of an image without a page of it yet.
func NewPages(r *io.SectionReader) *Pages {
	return &Pages{r: r, size: r.Size(), data: make(map[int64][]byte)}
}

// ReadAt reads all of b; an image that ends before is damaged.
func (p *Pages) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || int64(len(b)) > p.size || off > p.size-int64(len(b)) {
		return 0, Damaged("byte %d lies behind the end of the image, %d", off+int64(len(b)), p.size)
	}
	if len(b) > pageSize {
		n, err := p.r.ReadAt(b, off)
		if n == len(b) {
			err = nil
		}
		return n, err
	}
	done := 0
	for done < len(b) {
		page, err := p.page((off + int64(done)) / pageSize)
		if err != nil {
			return done, err
		}
		done += copy(b[done:], page[(off+int64(done))%pageSize:])
	}
	return done, nil
}

func (p *Pages) page(num int64) ([]byte, error) {
	if b, ok := p.data[num]; ok {
		return b, nil
	}
	var b []byte
	if len(p.held) < pageCount {
		b = make([]byte, pageSize)
	} else {
		b = p.data[p.held[0]]
		delete(p.data, p.held[0])
		p.held = p.held[1:]
	}
	b = b[:min(pageSize, p.size-num*pageSize)]
	if n, err := p.r.ReadAt(b, num*pageSize); n < len(b) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	p.data[num], p.held = b, append(p.held, num)
	return b, nil
}

// Bytes reads the n bytes from off on.
func (p *Pages) Bytes(off int64, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := p.ReadAt(b, off)
	return b, err
}

// Overlay reads from now on what over makes of the image's reader, and forgets
// what was read before.
func (p *Pages) Overlay(over func(io.ReaderAt) io.ReaderAt) {
	p.r, p.held, p.overlaid = over(p.r), nil, true
	clear(p.data)
}
