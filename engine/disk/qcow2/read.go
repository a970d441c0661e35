package qcow2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/mapped"
)

// index finds clusters through the L1 and L2 tables. Both are foreign:
// each entry is checked when it is used.
type index struct {
	*header
	file   image.Image
	end    int64 // size of file
	l1     []uint64
	l2     *mapped.Cache
	inflat sync.Pool // of flate readers
	unzstd *zstd.Decoder
}

func newIndex(src image.Image, h *header) (*index, error) {
	x := &index{header: h, file: src, end: src.Size(), l1: make([]uint64, h.tables())}
	x.inflat.New = func() any { return flate.NewReader(bytes.NewReader(nil)) }
	if err := mapped.Read(src, int64(h.L1At), binary.BigEndian, x.l1); err != nil {
		return nil, err
	}
	if at, twice := mapped.Repeated(x.l1, offset); twice {
		return nil, fmt.Errorf("corrupt qcow2: two L1 entries share the L2 table at offset %d", at)
	}
	x.l2 = mapped.NewCache(src, int(h.cluster()))
	if h.Compression == zstdType {
		var err error
		x.unzstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0),
			zstd.WithDecoderLowmem(true), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return nil, err
		}
	}
	return x, nil
}

// image returns the image whose clusters x finds.
func (x *index) image() *mapped.Image {
	t := &mapped.Tree{Name: "qcow2 L2 table", Cache: x.l2, Tables: int64(len(x.l1)), Per: x.perTable(), Unit: x.cluster()}
	t.Table = func(i int64) (int64, error) {
		at := x.l1[i] & offset
		if at&uint64(x.cluster()-1) != 0 {
			return 0, fmt.Errorf("corrupt qcow2: L2 table at offset %d, which is no multiple of the cluster size", at)
		}
		return int64(at), nil
	}
	t.Entry = func(table []byte, j int64) (mapped.Spot, error) { return x.entry(binary.BigEndian.Uint64(table[j*8:])) }
	m := &mapped.Image{
		Locate: t.Locate, Unpack: x.unpack, Verify: x.checkRefcounts,
		File: x.file, Length: x.size(), Unit: x.cluster(), Compress: "zlib",
	}
	if x.Compression == zstdType {
		m.Compress = "zstd"
	}
	if x.Incompatible&extendedL2 != 0 { // several runs of subclusters may be in one cluster
		m.Split = true
		t.Within = func(table []byte, j, in int64) (mapped.Spot, error) { return x.locateExtended(table[j*16:], in) }
	}
	return m
}

// entry decodes an L2 entry of the standard kind.
func (x *index) entry(e uint64) (mapped.Spot, error) {
	if e&packed != 0 {
		return x.packedEntry(e)
	}
	s, err := x.plainEntry(e)
	if err == nil && e&zero != 0 && x.Version >= 3 {
		s = mapped.Spot{Kind: mapped.Zero, Length: x.cluster()}
	}
	return s, err
}

func (x *index) plainEntry(e uint64) (mapped.Spot, error) {
	at := int64(e & offset)
	if at == 0 {
		return mapped.Spot{Kind: mapped.Hole, Length: x.cluster()}, nil
	}
	if at&(x.cluster()-1) != 0 || at >= x.end {
		return mapped.Spot{}, fmt.Errorf("corrupt qcow2: cluster at offset %d of a file of %d bytes", at, x.end)
	}
	return mapped.Spot{Kind: mapped.Plain, At: at, Length: x.cluster()}, nil
}

// packedEntry decodes the descriptor of a compressed cluster, whose length is
// known only in sectors, and may be said to reach past the end of the file.
func (x *index) packedEntry(e uint64) (mapped.Spot, error) {
	shift := 62 - (x.ClusterBits - 8)
	at := int64(e & (1<<shift - 1))
	sectors := int64(e>>shift&(1<<(x.ClusterBits-8)-1)) + 1
	size := min(sectors*512-at%512, x.end-at)
	if at >= x.end || size <= 0 {
		return mapped.Spot{}, fmt.Errorf("corrupt qcow2: compressed cluster at offset %d of a file of %d bytes", at, x.end)
	}
	return mapped.Spot{Kind: mapped.Packed, At: at, Size: int(size), Length: x.cluster()}, nil
}

// locateExtended decodes an extended L2 entry: 32 subclusters, each of which is
// allocated (low half of the bitmap), zero (high half), or neither.
func (x *index) locateExtended(b []byte, in int64) (mapped.Spot, error) {
	e, bitmap := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	if e&packed != 0 {
		s, err := x.packedEntry(e)
		s.Length -= in
		return s, err
	}
	alloc, zero := uint32(bitmap), uint32(bitmap>>32)
	if alloc&zero != 0 {
		return mapped.Spot{}, fmt.Errorf("corrupt qcow2: subclusters both allocated and zero (bitmap %#x)", bitmap)
	}
	sub := x.cluster() / 32
	i := in / sub
	kind, same := mapped.Hole, ^(alloc | zero)
	switch {
	case alloc>>i&1 != 0:
		kind, same = mapped.Plain, alloc
	case zero>>i&1 != 0:
		kind, same = mapped.Zero, zero
	}
	length := (i+int64(bits.TrailingZeros32(^(same>>i))))*sub - in
	length = min(length, x.cluster()-in)
	if kind != mapped.Plain {
		return mapped.Spot{Kind: kind, Length: length}, nil
	}
	s, err := x.plainEntry(e)
	if err == nil && s.Kind != mapped.Plain {
		err = fmt.Errorf("corrupt qcow2: allocated subclusters without a cluster (bitmap %#x)", bitmap)
	}
	return mapped.Spot{Kind: mapped.Plain, At: s.At + in, Length: length}, err
}

// unpack decompresses one cluster. What follows the stream in the last sector
// is ignored; a stream that holds less than a cluster is an error.
func (x *index) unpack(dst, src []byte, off int64, _ mapped.Spot) (err error) {
	if x.Compression == zstdType {
		err = unpackZstd(x.unzstd, dst, src)
	} else {
		err = x.inflate(dst, src)
	}
	if err != nil {
		return fmt.Errorf("corrupt qcow2: compressed cluster for offset %d: %w", off, err)
	}
	return nil
}

func (x *index) inflate(dst, src []byte) error {
	r := x.inflat.Get().(io.ReadCloser)
	defer x.inflat.Put(r)
	if err := r.(flate.Resetter).Reset(bytes.NewReader(src), nil); err != nil {
		return err
	}
	_, err := io.ReadFull(r, dst)
	return err
}

// unpackZstd decodes the frames at the start of src until dst is full. Where a
// frame ends must be found first: the decoder refuses what may follow it.
func unpackZstd(d *zstd.Decoder, dst, src []byte) error {
	for done := 0; done < len(dst); {
		n, err := zstdFrame(src)
		if err != nil {
			return err
		}
		out, err := d.DecodeAll(src[:n], dst[done:done:len(dst)])
		if err != nil {
			return err
		}
		if len(out) == 0 {
			return io.ErrUnexpectedEOF
		}
		done, src = done+len(out), src[n:]
	}
	return nil
}

// zstdFrame returns the length of the frame at the start of b (RFC 8878, 3.1.1).
func zstdFrame(b []byte) (int, error) {
	var h zstd.Header
	if err := h.Decode(b); err != nil {
		return 0, err
	}
	if h.Skippable {
		return 0, fmt.Errorf("skippable frame")
	}
	for at := h.HeaderSize; at+3 <= len(b); {
		block := uint32(b[at]) | uint32(b[at+1])<<8 | uint32(b[at+2])<<16
		size := int(block >> 3)
		if block>>1&3 == 1 { // one byte, repeated
			size = 1
		}
		at += 3 + size
		if block&1 == 0 {
			continue
		}
		if h.HasCheckSum {
			at += 4
		}
		if at > len(b) {
			break
		}
		return at, nil
	}
	return 0, io.ErrUnexpectedEOF
}
