package image

import (
	"fmt"
	"io"
)

// BlockIndex finds blocks through one flat table of entries of equal size, as
// vdi, vhd and vhdx have it. The table is foreign: its pages are read when they
// are needed, and each entry is checked when it is used.
type BlockIndex struct {
	Name   string // of the format, for errors
	pages  *Tables
	At     int64 // offset of the table in the file
	Entry  int64 // bytes an entry
	Unit   int64 // bytes a block
	Blocks int64
	end    int64    // size of the file
	Whole  bool     // blocks must end in the file, too
	Taken  []Extent // parts of the file in which no block can lie

	// decode returns where the block of an entry is; the length is set by locate.
	Decode func(entry []byte) (Spot, error)
	// place returns the position in the table of a block's entry.
	Place func(block int64) int64
}

// NewBlockIndex checks that the table lies in the file of end bytes and makes
// the cache for its pages.
func NewBlockIndex(f io.ReaderAt, end int64, x BlockIndex) (*BlockIndex, error) {
	if x.Place == nil {
		x.Place = func(block int64) int64 { return block }
	}
	length := int64(0)
	if x.Blocks > 0 {
		length = (x.Place(x.Blocks-1) + 1) * x.Entry
	}
	if x.At < 0 || x.At > end-length {
		return nil, fmt.Errorf("corrupt %s: block table at offset %d, %d bytes, does not lie in the file of %d bytes", x.Name, x.At, length, end)
	}
	page := int64(4096)
	for page > x.Entry && x.At+RoundUp(length, page) > end {
		page /= 2
	}
	x.pages, x.end = NewTables(f, end, int(page)), end
	return &x, nil
}

// Locate joins blocks that follow each other, within one page of the table.
func (x *BlockIndex) Locate(off int64) (Spot, error) {
	i := off / x.Unit
	at := x.Place(i) * x.Entry
	size := int64(x.pages.size)
	page, err := x.pages.At(x.At + at/size*size)
	if err != nil {
		return Spot{}, fmt.Errorf("%s block table: %w", x.Name, err)
	}
	s, err := x.spot(page[at%size:])
	if err != nil {
		return Spot{}, err
	}
	s = Skip(s, off%x.Unit)
	for i++; i < x.Blocks && (s.Kind != SpotPlain || s.Length < MaxSpot); i++ {
		next := x.Place(i) * x.Entry
		if next/size != at/size {
			break
		}
		t, err := x.spot(page[next%size:])
		if err != nil || t.Kind != s.Kind || s.Kind == SpotPlain && t.At != s.At+s.Length {
			break
		}
		s.Length += t.Length
	}
	return s, nil
}

// Spot decodes an entry. A block may be cut off by the end of the file, unless x.whole
// is set, but has to begin in it.
func (x *BlockIndex) spot(entry []byte) (Spot, error) {
	s, err := x.Decode(entry[:x.Entry])
	if err == nil && s.Kind == SpotPlain && (s.At <= 0 || s.At >= x.end) {
		err = fmt.Errorf("corrupt %s: block at offset %d of a file of %d bytes", x.Name, s.At, x.end)
	}
	s.Length = x.Unit
	if err != nil || s.Kind != SpotPlain {
		return s, err
	}
	if x.Whole && s.At > x.end-x.Unit {
		return s, fmt.Errorf("corrupt %s: block at offset %d, %d bytes, of a file of %d bytes: it was cut off", x.Name, s.At, x.Unit, x.end)
	}
	for _, t := range x.Taken {
		if s.At < t.End() && t.Start < s.At+x.Unit {
			return s, fmt.Errorf("corrupt %s: block at offset %d overlaps a table at offset %d", x.Name, s.At, t.Start)
		}
	}
	return s, nil
}

func (x *BlockIndex) Aligned() bool { return true }

func (x *BlockIndex) Describe() (subformat, compress string) { return "dynamic", "" }

// Unpack is never asked for: no block is packed.
func (x *BlockIndex) Unpack([]byte, int64, Spot) error {
	return fmt.Errorf("corrupt %s: a packed block", x.Name)
}
