package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zlib"
)

// vmdkIndex finds grains through the grain directory and tables of a sparse
// extent. Both are foreign: each entry is checked when it is used.
type vmdkIndex struct {
	*vmdkHeader
	file      io.ReaderAt
	end       int64 // size of file
	directory []uint32
	cache     *tables
	inflaters sync.Pool
	buffers   sync.Pool // of *[]byte
}

// openSparse opens a sparse extent of end bytes.
func openSparse(f source, end int64) (*mapped, error) {
	h, err := readVMDKHeader(f, end)
	if err != nil {
		return nil, err
	}
	raw := make([]byte, h.tables()*4)
	if _, err := f.ReadAt(raw, int64(h.directoryAt)*vmdkSector); err != nil {
		return nil, err
	}
	x := &vmdkIndex{vmdkHeader: h, file: f, end: end, directory: make([]uint32, len(raw)/4)}
	for i := range x.directory {
		x.directory[i] = binary.LittleEndian.Uint32(raw[i*4:])
	}
	if at, twice := repeated(x.directory, ^uint32(0)); twice {
		return nil, fmt.Errorf("corrupt vmdk: two directory entries share the grain table at sector %d", at)
	}
	x.cache = newTables(f, end, int(h.perTable)*4)
	return &mapped{index: x, file: f, end: end, size: int64(h.capacity) * vmdkSector, unit: x.unit()}, nil
}

// readVMDKHeader reads the header, or the footer if the header refers to it.
func readVMDKHeader(r io.ReaderAt, end int64) (*vmdkHeader, error) {
	b := make([]byte, vmdkSector)
	if end < vmdkSector {
		return nil, fmt.Errorf("corrupt vmdk: a file of %d bytes", end)
	}
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, err
	}
	var h vmdkHeader
	if err := h.decode(b); err != nil {
		return nil, err
	}
	if h.directoryAt == vmdkAtEnd {
		if end < 4*vmdkSector {
			return nil, errors.New("corrupt vmdk: the footer is missing: the file was cut off")
		}
		// the footer lies before the end-of-stream marker
		if _, err := r.ReadAt(b, end-2*vmdkSector); err != nil {
			return nil, err
		}
		if err := h.decode(b); err != nil {
			return nil, fmt.Errorf("corrupt vmdk: no footer before the end: the file was cut off (%w)", err)
		}
	}
	return &h, h.check(end)
}

func (x *vmdkIndex) unit() int64 { return int64(x.grain) * vmdkSector }

// locate joins neighbouring grains as long as their table is the same.
func (x *vmdkIndex) locate(off int64) (spot, error) {
	unit, per := x.unit(), int64(x.perTable)
	grain := off / unit
	i, j := grain/per, grain%per
	if x.directory[i] == 0 {
		n := int64(1)
		for i+n < int64(len(x.directory)) && x.directory[i+n] == 0 {
			n++
		}
		return spot{kind: spotHole, length: n*per*unit - off%(per*unit)}, nil
	}
	table, err := x.cache.at(int64(x.directory[i]) * vmdkSector)
	if err != nil {
		return spot{}, fmt.Errorf("vmdk grain table: %w", err)
	}
	if x.cache.blank(table) {
		return spot{kind: spotHole, length: per*unit - off%(per*unit)}, nil
	}
	s, err := x.entry(binary.LittleEndian.Uint32(table[j*4:]))
	if err != nil {
		return spot{}, err
	}
	s = skip(s, off%unit)
	if s.kind == spotPacked {
		return s, nil
	}
	for j++; j < per && (s.kind != spotPlain || s.length < maxSpot); j++ {
		t, err := x.entry(binary.LittleEndian.Uint32(table[j*4:]))
		if err != nil || t.kind != s.kind || s.kind == spotPlain && t.at != s.at+s.length {
			break
		}
		s.length += t.length
	}
	return s, nil
}

// entry decodes an entry of a grain table.
func (x *vmdkIndex) entry(e uint32) (spot, error) {
	s := spot{kind: spotPlain, at: int64(e) * vmdkSector, length: x.unit()}
	switch {
	case e == 0:
		s.kind = spotHole
	case e == 1 && x.flags&vmdkZeroGrains != 0:
		s.kind = spotZero
	case s.at >= x.end:
		return s, fmt.Errorf("corrupt vmdk: grain at sector %d of a file of %d bytes", e, x.end)
	case x.flags&vmdkCompressed != 0:
		s.kind = spotPacked
	}
	return s, nil
}

// vmdkGrainMarker is the bytes before a compressed grain: its first sector in
// the disk, and its compressed length.
const vmdkGrainMarker = 12

func (x *vmdkIndex) aligned() bool { return true }

func (x *vmdkIndex) describe() (subformat, compress string) {
	if x.flags&vmdkCompressed != 0 {
		return "streamOptimized", ""
	}
	return "monolithicSparse", ""
}

// unpack decompresses one grain. Only the last of a disk may be short.
func (x *vmdkIndex) unpack(dst []byte, off int64, s spot) error {
	buf, _ := x.buffers.Get().(*[]byte)
	if buf == nil {
		b := make([]byte, x.unit()+vmdkSector)
		buf = &b
	}
	defer x.buffers.Put(buf)
	if err := readSparse(x.file, *buf, s.at); err != nil {
		return err
	}
	lba, length := binary.LittleEndian.Uint64(*buf), int64(binary.LittleEndian.Uint32((*buf)[8:]))
	start := off / x.unit() * x.unit()
	if lba != uint64(start/vmdkSector) || length == 0 || length > 2*x.unit() || length > x.end-s.at-vmdkGrainMarker {
		return fmt.Errorf("corrupt vmdk: bad marker of the grain for offset %d (sector %d, %d bytes)", start, lba, length)
	}
	src := (*buf)[vmdkGrainMarker:]
	if length > int64(len(src)) {
		src = make([]byte, length)
		if err := readSparse(x.file, src, s.at+vmdkGrainMarker); err != nil {
			return err
		}
	}
	n, err := x.inflate(dst, src[:length])
	if err == nil && int64(n) < min(x.unit(), int64(x.capacity)*vmdkSector-start) {
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
func (x *vmdkIndex) inflate(dst, src []byte) (int, error) {
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
