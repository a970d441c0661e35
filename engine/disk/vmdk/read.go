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
)

// index finds grains through the grain directory and tables of a sparse
// extent. Both are foreign: each entry is checked when it is used.
type index struct {
	*header
	file      io.ReaderAt
	end       int64 // size of file
	directory []uint32
	cache     *image.Tables
	inflaters sync.Pool
	buffers   sync.Pool // of *[]byte
}

// openSparse opens a sparse extent of end bytes.
func openSparse(f image.Source, end int64) (*image.Mapped, error) {
	h, err := readVMDKHeader(f, end)
	if err != nil {
		return nil, err
	}
	raw := make([]byte, h.tables()*4)
	if _, err := f.ReadAt(raw, int64(h.directoryAt)*sector); err != nil {
		return nil, err
	}
	x := &index{header: h, file: f, end: end, directory: make([]uint32, len(raw)/4)}
	for i := range x.directory {
		x.directory[i] = binary.LittleEndian.Uint32(raw[i*4:])
	}
	if at, twice := image.Repeated(x.directory, ^uint32(0)); twice {
		return nil, fmt.Errorf("corrupt vmdk: two directory entries share the grain table at sector %d", at)
	}
	x.cache = image.NewTables(f, end, int(h.perTable)*4)
	return &image.Mapped{Index: x, File: f, End: end, Length: int64(h.capacity) * sector, Unit: x.unit()}, nil
}

// readVMDKHeader reads the header, or the footer if the header refers to it.
func readVMDKHeader(r io.ReaderAt, end int64) (*header, error) {
	b := make([]byte, sector)
	if end < sector {
		return nil, fmt.Errorf("corrupt vmdk: a file of %d bytes", end)
	}
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, err
	}
	var h header
	if err := h.decode(b); err != nil {
		return nil, err
	}
	if h.directoryAt == atEnd {
		if end < 4*sector {
			return nil, errors.New("corrupt vmdk: the footer is missing: the file was cut off")
		}
		// the footer lies before the end-of-stream marker
		if _, err := r.ReadAt(b, end-2*sector); err != nil {
			return nil, err
		}
		if err := h.decode(b); err != nil {
			return nil, fmt.Errorf("corrupt vmdk: no footer before the end: the file was cut off (%w)", err)
		}
	}
	return &h, h.check(end)
}

func (x *index) unit() int64 { return int64(x.grain) * sector }

// Locate joins neighbouring grains as long as their table is the same.
func (x *index) Locate(off int64) (image.Spot, error) {
	unit, per := x.unit(), int64(x.perTable)
	grain := off / unit
	i, j := grain/per, grain%per
	if x.directory[i] == 0 {
		n := int64(1)
		for i+n < int64(len(x.directory)) && x.directory[i+n] == 0 {
			n++
		}
		return image.Spot{Kind: image.SpotHole, Length: n*per*unit - off%(per*unit)}, nil
	}
	table, err := x.cache.At(int64(x.directory[i]) * sector)
	if err != nil {
		return image.Spot{}, fmt.Errorf("vmdk grain table: %w", err)
	}
	if x.cache.Blank(table) {
		return image.Spot{Kind: image.SpotHole, Length: per*unit - off%(per*unit)}, nil
	}
	s, err := x.entry(binary.LittleEndian.Uint32(table[j*4:]))
	if err != nil {
		return image.Spot{}, err
	}
	s = image.Skip(s, off%unit)
	if s.Kind == image.SpotPacked {
		return s, nil
	}
	for j++; j < per && (s.Kind != image.SpotPlain || s.Length < image.MaxSpot); j++ {
		t, err := x.entry(binary.LittleEndian.Uint32(table[j*4:]))
		if err != nil || t.Kind != s.Kind || s.Kind == image.SpotPlain && t.At != s.At+s.Length {
			break
		}
		s.Length += t.Length
	}
	return s, nil
}

// entry decodes an entry of a grain table.
func (x *index) entry(e uint32) (image.Spot, error) {
	s := image.Spot{Kind: image.SpotPlain, At: int64(e) * sector, Length: x.unit()}
	switch {
	case e == 0:
		s.Kind = image.SpotHole
	case e == 1 && x.flags&zeroGrains != 0:
		s.Kind = image.SpotZero
	case s.At >= x.end:
		return s, fmt.Errorf("corrupt vmdk: grain at sector %d of a file of %d bytes", e, x.end)
	case x.flags&compressed != 0:
		s.Kind = image.SpotPacked
	}
	return s, nil
}

// grainMarker is the bytes before a compressed grain: its first sector in
// the disk, and its compressed length.
const grainMarker = 12

func (x *index) Aligned() bool { return true }

func (x *index) Describe() (subformat, compress string) {
	if x.flags&compressed != 0 {
		return "streamOptimized", ""
	}
	return "monolithicSparse", ""
}

// Unpack decompresses one grain. Only the last of a disk may be short.
func (x *index) Unpack(dst []byte, off int64, s image.Spot) error {
	buf, _ := x.buffers.Get().(*[]byte)
	if buf == nil {
		b := make([]byte, x.unit()+sector)
		buf = &b
	}
	defer x.buffers.Put(buf)
	if err := image.ReadSparse(x.file, *buf, s.At); err != nil {
		return err
	}
	lba, length := binary.LittleEndian.Uint64(*buf), int64(binary.LittleEndian.Uint32((*buf)[8:]))
	start := off / x.unit() * x.unit()
	if lba != uint64(start/sector) || length == 0 || length > 2*x.unit() || length > x.end-s.At-grainMarker {
		return fmt.Errorf("corrupt vmdk: bad marker of the grain for offset %d (sector %d, %d bytes)", start, lba, length)
	}
	src := (*buf)[grainMarker:]
	if length > int64(len(src)) {
		src = make([]byte, length)
		if err := image.ReadSparse(x.file, src, s.At+grainMarker); err != nil {
			return err
		}
	}
	n, err := x.inflate(dst, src[:length])
	if err == nil && int64(n) < min(x.unit(), int64(x.capacity)*sector-start) {
		err = io.ErrUnexpectedEOF
	}
	clear(dst[n:])
	if err != nil {
		return fmt.Errorf("corrupt vmdk: grain for offset %d: %w", start, err)
	}
	return nil
}

// inflate unpacks src to its end, so that its checksum is looked at, and returns
// how many bytes that gave. More than dst has room for is an error.
func (x *index) inflate(dst, src []byte) (int, error) {
	r, _ := x.inflaters.Get().(io.ReadCloser)
	var err error
	if r == nil {
		r, err = zlib.NewReader(bytes.NewReader(src))
	} else {
		err = r.(zlib.Resetter).Reset(bytes.NewReader(src), nil)
	}
	if err != nil {
		return 0, err
	}
	defer x.inflaters.Put(r)
	n := 0
	for n < len(dst) && err == nil {
		var m int
		m, err = r.Read(dst[n:])
		n += m
	}
	if err == nil {
		var more [1]byte
		if m, rest := io.ReadFull(r, more[:]); m == 0 {
			err = rest
		}
	}
	switch err {
	case io.EOF:
		err = nil
	case nil:
		err = fmt.Errorf("it unpacks to more than %d bytes", len(dst))
	}
	return n, err
}
