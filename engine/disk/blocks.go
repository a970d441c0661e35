package disk

import (
	"fmt"
	"io"
)

// blockIndex finds blocks through one flat table of entries of equal size, as
// vdi, vhd and vhdx have it. The table is foreign: its pages are read when they
// are needed, and each entry is checked when it is used.
type blockIndex struct {
	name   string // of the format, for errors
	pages  *tables
	at     int64 // offset of the table in the file
	entry  int64 // bytes an entry
	unit   int64 // bytes a block
	blocks int64
	end    int64    // size of the file
	whole  bool     // blocks must end in the file, too
	taken  []Extent // parts of the file in which no block can lie

	// decode returns where the block of an entry is; the length is set by locate.
	decode func(entry []byte) (spot, error)
	// place returns the position in the table of a block's entry.
	place func(block int64) int64
}

// newBlockIndex checks that the table lies in the file of end bytes and makes
// the cache for its pages.
func newBlockIndex(f io.ReaderAt, end int64, x blockIndex) (*blockIndex, error) {
	if x.place == nil {
		x.place = func(block int64) int64 { return block }
	}
	length := int64(0)
	if x.blocks > 0 {
		length = (x.place(x.blocks-1) + 1) * x.entry
	}
	if x.at < 0 || x.at > end-length {
		return nil, fmt.Errorf("corrupt %s: block table at offset %d, %d bytes, does not lie in the file of %d bytes", x.name, x.at, length, end)
	}
	page := int64(4096)
	for page > x.entry && x.at+roundUp(length, page) > end {
		page /= 2
	}
	x.pages, x.end = newTables(f, end, int(page)), end
	return &x, nil
}

// locate joins blocks that follow each other, within one page of the table.
func (x *blockIndex) locate(off int64) (spot, error) {
	i := off / x.unit
	at := x.place(i) * x.entry
	size := int64(x.pages.size)
	page, err := x.pages.at(x.at + at/size*size)
	if err != nil {
		return spot{}, fmt.Errorf("%s block table: %w", x.name, err)
	}
	s, err := x.spot(page[at%size:])
	if err != nil {
		return spot{}, err
	}
	s = skip(s, off%x.unit)
	for i++; i < x.blocks && (s.kind != spotPlain || s.length < maxSpot); i++ {
		next := x.place(i) * x.entry
		if next/size != at/size {
			break
		}
		t, err := x.spot(page[next%size:])
		if err != nil || t.kind != s.kind || s.kind == spotPlain && t.at != s.at+s.length {
			break
		}
		s.length += t.length
	}
	return s, nil
}

// spot decodes an entry. A block may be cut off by the end of the file, unless x.whole
// is set, but has to begin in it.
func (x *blockIndex) spot(entry []byte) (spot, error) {
	s, err := x.decode(entry[:x.entry])
	if err == nil && s.kind == spotPlain && (s.at <= 0 || s.at >= x.end) {
		err = fmt.Errorf("corrupt %s: block at offset %d of a file of %d bytes", x.name, s.at, x.end)
	}
	s.length = x.unit
	if err != nil || s.kind != spotPlain {
		return s, err
	}
	if x.whole && s.at > x.end-x.unit {
		return s, fmt.Errorf("corrupt %s: block at offset %d, %d bytes, of a file of %d bytes: it was cut off", x.name, s.at, x.unit, x.end)
	}
	for _, t := range x.taken {
		if s.at < t.End() && t.Start < s.at+x.unit {
			return s, fmt.Errorf("corrupt %s: block at offset %d overlaps a table at offset %d", x.name, s.at, t.Start)
		}
	}
	return s, nil
}

func (x *blockIndex) aligned() bool { return true }

func (x *blockIndex) describe() (subformat, compress string) { return "dynamic", "" }

// unpack is never asked for: no block is packed.
func (x *blockIndex) unpack([]byte, int64, spot) error {
	return fmt.Errorf("corrupt %s: a packed block", x.name)
}
