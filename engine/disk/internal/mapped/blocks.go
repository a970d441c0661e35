package mapped

import (
	"errors"
	"fmt"

	"b9.build/b9/engine/disk/image"
)

// Blocks finds blocks through one flat table of entries of equal size, as vdi,
// vhd and vhdx have it. Such a table can have hundreds of MiB, so it is not read
// at once: its pages are, when a block of theirs is asked for, and kept in a
// Cache. Blocks that follow each other in the file make one spot, as long as
// their entries are in one page, so that a large read is not cut at each block.
// The table is foreign: each entry is checked when it is used. A block has to
// begin in the file and not at its start, must not overlap what the format keeps
// there (Taken), and may only be cut off by the end where Whole is not set.
type Blocks struct {
	Name   string         // of the format, for errors
	At     int64          // offset of the table in the file
	Entry  int64          // bytes an entry
	Unit   int64          // bytes a block
	Blocks int64          // how many
	Whole  bool           // blocks must end in the file, too
	Taken  []image.Extent // parts of the file in which no block can lie

	// Decode returns where the block of an entry is; its length is that of a block.
	Decode func(entry []byte) (Spot, error)
	// Position returns the position in the table of a block's entry; nil: the
	// number of the block.
	Position func(block int64) int64

	pages *Cache
	end   int64 // size of the file
}

// Open checks that the table lies in the file f of end bytes, and returns the
// image of length bytes whose blocks it describes.
func (x *Blocks) Open(f Source, end, length int64) (*Image, error) {
	if x.Position == nil {
		x.Position = func(block int64) int64 { return block }
	}
	size := int64(0)
	if x.Blocks > 0 {
		size = (x.Position(x.Blocks-1) + 1) * x.Entry
	}
	if x.At < 0 || x.At > end-size {
		return nil, fmt.Errorf("corrupt %s: block table at offset %d, %d bytes, does not lie in the file of %d bytes", x.Name, x.At, size, end)
	}
	page := int64(4096)
	for page > x.Entry && x.At+image.RoundUp(size, page) > end {
		page /= 2
	}
	x.pages, x.end = NewCache(f, end, int(page)), end
	return &Image{Locate: x.locate, File: f, End: end, Length: length, Unit: x.Unit, Subformat: "dynamic"}, nil
}

// errOtherPage ends the joining of blocks at the end of a page.
var errOtherPage = errors.New("the entry is in another page")

// locate joins blocks that follow each other, within one page of the table.
func (x *Blocks) locate(off int64) (Spot, error) {
	size := int64(x.pages.size)
	first := x.Position(off/x.Unit) * x.Entry / size
	page, err := x.pages.At(x.At + first*size)
	if err != nil {
		return Spot{}, fmt.Errorf("%s block table: %w", x.Name, err)
	}
	return run(off/x.Unit, x.Blocks, off%x.Unit, func(i int64) (Spot, error) {
		at := x.Position(i) * x.Entry
		if at/size != first {
			return Spot{}, errOtherPage
		}
		return x.spot(page[at%size:])
	})
}

// spot decodes and checks an entry.
func (x *Blocks) spot(entry []byte) (Spot, error) {
	s, err := x.Decode(entry[:x.Entry])
	s.Length = x.Unit
	switch {
	case err != nil || s.Kind != Plain:
		return s, err
	case s.At <= 0 || s.At >= x.end:
		return s, fmt.Errorf("corrupt %s: block at offset %d of a file of %d bytes", x.Name, s.At, x.end)
	case x.Whole && s.At > x.end-x.Unit:
		return s, fmt.Errorf("corrupt %s: block at offset %d, %d bytes, of a file of %d bytes: it was cut off", x.Name, s.At, x.Unit, x.end)
	}
	for _, t := range x.Taken {
		if s.At < t.End() && t.Start < s.At+x.Unit {
			return s, fmt.Errorf("corrupt %s: block at offset %d overlaps a table at offset %d", x.Name, s.At, t.Start)
		}
	}
	return s, nil
}
