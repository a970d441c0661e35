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
	slot map[int64]int // page number to slot
	held [pageCount]int64
	data [pageCount][]byte
	next int // slot that is reused next
}

// NewPages returns a reader of an image without a page of it yet.
func NewPages(r *io.SectionReader) *Pages {
	return &Pages{r: r, size: r.Size(), slot: make(map[int64]int)}
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
	if i, ok := p.slot[num]; ok {
		return p.data[i], nil
	}
	i := p.next
	p.next = (i + 1) % pageCount
	if p.data[i] != nil {
		delete(p.slot, p.held[i])
	} else {
		p.data[i] = make([]byte, pageSize)
	}
	b := p.data[i][:min(pageSize, p.size-num*pageSize):pageSize]
	if n, err := p.r.ReadAt(b, num*pageSize); n < len(b) {
		p.data[i] = nil
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	p.data[i] = b
	p.slot[num], p.held[i] = i, num
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
	p.r = over(p.r)
	clear(p.slot)
	p.data = [pageCount][]byte{}
}
