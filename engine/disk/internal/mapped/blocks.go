package mapped

import (
	"fmt"

	"b9.build/b9/engine/disk/image"
)

// Blocks finds blocks through one flat table of entries of equal size, as vdi,
// vhd and vhdx have it. Such a table can have hundreds of MiB, so it is not read
// at once: its pages are the tables of a Tree, read when a block of theirs is
// asked for, and kept in a Cache. The table is foreign: each entry is checked when
// it is used. A block has to begin in the file and not at its start, must not
// overlap what the format keeps there (Taken), and may only be cut off by the end
// where Whole is not set.
type Blocks struct {
	Name   string         // of the format, for errors
	At     int64          // offset of the table in the file; not 0
	Entry  int64          // bytes an entry; a power of two
	Unit   int64          // bytes a block
	Blocks int64          // how many
	Chunk  int64          // after so many entries, a power of two, comes one that is no block's; 0: never
	Whole  bool           // blocks must end in the file, too
	Taken  []image.Extent // parts of the file in which no block can lie

	// Decode returns where the block of an entry is; its length is that of a block.
	Decode func(entry []byte) (Spot, error)

	end int64 // size of the file
}

// pageSize in bytes is how much of the table is read at once.
const pageSize = 4096

// Open checks that the table lies in the file, and returns the image of length
// bytes whose blocks it describes. A page has no entry of no
// block, and none reaches past the end of the file.
func (x *Blocks) Open(file image.Image, length int64) (*Image, error) {
	size, end := x.bytes(x.Blocks), file.Size()
	if x.At <= 0 || x.At > end-size {
		return nil, fmt.Errorf("corrupt %s: block table at offset %d, %d bytes, does not lie in the file of %d bytes", x.Name, x.At, size, end)
	}
	per := pageSize / x.Entry
	if x.Chunk > 0 {
		per = min(per, x.Chunk)
	}
	for per > 1 && x.At+x.bytes(image.RoundUp(x.Blocks, per)) > end {
		per /= 2
	}
	x.end = end
	t := &Tree{
		Name: x.Name + " block table", Cache: NewCache(file, int(per*x.Entry)),
		Tables: image.RoundUp(x.Blocks, per) / per, Per: per, Unit: x.Unit,
		Table: func(i int64) (int64, error) { return x.At + x.offset(i*per), nil },
		Entry: func(page []byte, j int64) (Spot, error) { return x.spot(page[j*x.Entry:]) },
	}
	return &Image{Locate: t.Locate, File: file, Length: length, Unit: x.Unit, Subformat: "dynamic"}, nil
}

// offset returns where in the table the entry of a block begins.
func (x *Blocks) offset(block int64) int64 {
	if x.Chunk > 0 {
		block += block / x.Chunk
	}
	return block * x.Entry
}

// bytes returns the length of the table up to the last of so many blocks.
func (x *Blocks) bytes(blocks int64) int64 {
	if blocks == 0 {
		return 0
	}
	return x.offset(blocks-1) + x.Entry
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
