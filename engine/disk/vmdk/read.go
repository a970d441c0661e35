package vmdk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zlib"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/mapped"
)

// index decodes the entries of the grain tables of a sparse extent, and its
// compressed grains. Both are foreign: each is checked when it is used.
type index struct {
	*header
	end       int64 // size of the file
	inflaters sync.Pool
}

// openSparse opens a sparse extent.
func openSparse(src image.Image) (image.Image, *header, error) {
	end := src.Size()
	h, err := readHeader(src, end)
	if err != nil {
		return nil, nil, err
	}
	directory := make([]uint32, h.tables())
	if err := mapped.Read(src, int64(h.DirectoryAt)*sector, binary.LittleEndian, directory); err != nil {
		return nil, nil, err
	}
	if at, twice := mapped.Repeated(directory, ^uint32(0)); twice {
		return nil, nil, fmt.Errorf("corrupt vmdk: two directory entries share the grain table at sector %d", at)
	}
	x := &index{header: h, end: end}
	t := &mapped.Tree{
		Name: "vmdk grain table", Cache: mapped.NewCache(src, int(h.PerTable)*4),
		Tables: int64(len(directory)), Per: int64(h.PerTable), Unit: x.unit(),
		Table: func(i int64) (int64, error) { return int64(directory[i]) * sector, nil },
		Entry: func(table []byte, j int64) (mapped.Spot, error) {
			return x.entry(binary.LittleEndian.Uint32(table[j*4:]))
		},
	}
	return &mapped.Image{
		Locate: t.Locate, Unpack: x.unpack(src), File: src,
		Length: int64(h.Capacity) * sector, Unit: x.unit(), Subformat: h.subformat(),
	}, h, nil
}

func (h *header) subformat() string {
	if h.Flags&compressed != 0 {
		return "streamOptimized"
	}
	return "monolithicSparse"
}

// readHeader reads the header, or the footer if the header refers to it.
func readHeader(r io.ReaderAt, end int64) (*header, error) {
	if end < sector {
		return nil, fmt.Errorf("corrupt vmdk: a file of %d bytes", end)
	}
	var h header
	if err := h.read(r, 0); err != nil {
		return nil, err
	}
	if h.DirectoryAt == atEnd {
		if end < 4*sector {
			return nil, errors.New("corrupt vmdk: the footer is missing: the file was cut off")
		}
		// the footer lies before the end-of-stream marker
		if err := h.read(r, end-2*sector); err != nil {
			return nil, fmt.Errorf("corrupt vmdk: no footer before the end: the file was cut off (%w)", err)
		}
	}
	return &h, h.check(end)
}

func (x *index) unit() int64 { return int64(x.Grain) * sector }

// entry decodes an entry of a grain table.
func (x *index) entry(e uint32) (mapped.Spot, error) {
	s := mapped.Spot{Kind: mapped.Plain, At: int64(e) * sector, Length: x.unit()}
	switch {
	case e == 0:
		s.Kind = mapped.Hole
	case e == 1 && x.Flags&zeroGrains != 0:
		s.Kind = mapped.Zero
	case s.At >= x.end:
		return s, fmt.Errorf("corrupt vmdk: grain at sector %d of a file of %d bytes", e, x.end)
	case x.Flags&compressed != 0:
		s.Kind, s.Size = mapped.Packed, int(x.unit())+sector
	}
	return s, nil
}

// grainMarker is the bytes before a compressed grain: its first sector in
// the disk, and its compressed length.
const grainMarker = 12

// unpack decompresses one grain. Only the last of a disk may be short, and one
// whose compressed form is larger than a grain is not all in src.
func (x *index) unpack(f io.ReaderAt) func(dst, src []byte, off int64, s mapped.Spot) error {
	return func(dst, src []byte, off int64, s mapped.Spot) error {
		lba, length := binary.LittleEndian.Uint64(src), int64(binary.LittleEndian.Uint32(src[8:]))
		start := off / x.unit() * x.unit()
		if lba != uint64(start/sector) || length == 0 || length > 2*x.unit() || length > x.end-s.At-grainMarker {
			return fmt.Errorf("corrupt vmdk: bad marker of the grain for offset %d (sector %d, %d bytes)", start, lba, length)
		}
		if src = src[grainMarker:]; length > int64(len(src)) {
			src = make([]byte, length)
			if err := image.ReadPadded(f, src, s.At+grainMarker); err != nil {
				return err
			}
		}
		want := min(x.unit(), int64(x.Capacity)*sector-start)
		if err := x.inflate(dst, src[:length], want); err != nil {
			return fmt.Errorf("corrupt vmdk: grain for offset %d: %w", start, err)
		}
		return nil
	}
}

// inflate fills the first bytes of dst, of which there must be at least want, with
// what src unpacks to, and clears the others. It reads src to its end, so that its
// checksum is looked at. More than dst has room for is an error.
func (x *index) inflate(dst, src []byte, want int64) error {
	r, _ := x.inflaters.Get().(io.ReadCloser)
	var err error
	if r == nil {
		r, err = zlib.NewReader(bytes.NewReader(src))
	} else {
		err = r.(zlib.Resetter).Reset(bytes.NewReader(src), nil)
	}
	if err != nil {
		return err
	}
	defer x.inflaters.Put(r)
	clear(dst[want:])
	if _, err := io.ReadFull(r, dst[:want]); err == io.EOF {
		return io.ErrUnexpectedEOF
	} else if err != nil {
		return err
	}
	room := int64(len(dst)) - want
	more, err := io.Copy(io.Discard, io.LimitReader(r, room+1))
	if err == nil && more > room {
		err = fmt.Errorf("it unpacks to more than %d bytes", len(dst))
	}
	return err
}
