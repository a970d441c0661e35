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
)

// index finds clusters through the L1 and L2 tables. Both are foreign:
// each entry is checked when it is used.
type index struct {
	*header
	file   io.ReaderAt
	end    int64 // size of file
	l1     []uint64
	l2     *image.Tables
	inflat sync.Pool // of flate readers
	buffer sync.Pool // of *[]byte for packed clusters
	unzstd *zstd.Decoder
}

func newQcow2Index(f io.ReaderAt, end int64, h *header) (*index, error) {
	span := h.cluster() * h.perTable()
	raw := make([]byte, (h.size+span-1)/span*8)
	if _, err := f.ReadAt(raw, h.l1Offset); err != nil {
		return nil, err
	}
	x := &index{header: h, file: f, end: end, l1: make([]uint64, len(raw)/8)}
	for i := range x.l1 {
		x.l1[i] = binary.BigEndian.Uint64(raw[i*8:])
	}
	if at, twice := image.Repeated(x.l1, offset); twice {
		return nil, fmt.Errorf("corrupt qcow2: two L1 entries share the L2 table at offset %d", at)
	}
	x.l2 = image.NewTables(f, end, int(h.cluster()))
	if h.zstd {
		var err error
		x.unzstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0),
			zstd.WithDecoderLowmem(true), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return nil, err
		}
	}
	return x, nil
}

// Locate joins neighbouring clusters as long as their L2 table is the same.
func (x *index) Locate(off int64) (image.Spot, error) {
	per := x.perTable()
	cluster := off >> x.clusterBits
	i, j := cluster/per, cluster%per
	span := per << x.clusterBits
	entry := x.l1[i] & offset
	if entry == 0 {
		return image.Spot{Kind: image.SpotHole, Length: x.emptyTables(i)*span - off%span}, nil
	}
	if entry&uint64(x.cluster()-1) != 0 {
		return image.Spot{}, fmt.Errorf("corrupt qcow2: L2 table at offset %d, which is no multiple of the cluster size", entry)
	}
	table, err := x.l2.At(int64(entry))
	if err != nil {
		return image.Spot{}, fmt.Errorf("qcow2 L2 table: %w", err)
	}
	if x.l2.Blank(table) {
		return image.Spot{Kind: image.SpotHole, Length: span - off%span}, nil
	}
	in := off & (x.cluster() - 1)
	if x.features&extendedL2 != 0 {
		return x.locateExtended(table[j*16:], in)
	}
	s, err := x.entry(binary.BigEndian.Uint64(table[j*8:]))
	if err != nil {
		return image.Spot{}, err
	}
	s = image.Skip(s, in)
	if s.Kind == image.SpotPacked {
		return s, nil
	}
	for j++; j < per && (s.Kind != image.SpotPlain || s.Length < image.MaxSpot); j++ {
		t, err := x.entry(binary.BigEndian.Uint64(table[j*8:]))
		if err != nil || t.Kind != s.Kind || s.Kind == image.SpotPlain && t.At != s.At+s.Length {
			break
		}
		s.Length += t.Length
	}
	return s, nil
}

// emptyTables counts the L1 entries from i on that have no L2 table.
func (x *index) emptyTables(i int64) int64 {
	n := int64(1)
	for i+n < int64(len(x.l1)) && x.l1[i+n]&offset == 0 {
		n++
	}
	return n
}

// entry decodes an L2 entry of the standard kind.
func (x *index) entry(e uint64) (image.Spot, error) {
	if e&packed != 0 {
		return x.packedEntry(e)
	}
	s, err := x.plainEntry(e)
	if err == nil && e&zero != 0 && x.version >= 3 {
		s = image.Spot{Kind: image.SpotZero, Length: x.cluster()}
	}
	return s, err
}

func (x *index) plainEntry(e uint64) (image.Spot, error) {
	at := int64(e & offset)
	if at == 0 {
		return image.Spot{Kind: image.SpotHole, Length: x.cluster()}, nil
	}
	if at&(x.cluster()-1) != 0 || at >= x.end {
		return image.Spot{}, fmt.Errorf("corrupt qcow2: cluster at offset %d of a file of %d bytes", at, x.end)
	}
	return image.Spot{Kind: image.SpotPlain, At: at, Length: x.cluster()}, nil
}

// packedEntry decodes the descriptor of a compressed cluster, whose length is
// known only in sectors, and may be said to reach past the end of the file.
func (x *index) packedEntry(e uint64) (image.Spot, error) {
	shift := 62 - (x.clusterBits - 8)
	at := int64(e & (1<<shift - 1))
	sectors := int64(e>>shift&(1<<(x.clusterBits-8)-1)) + 1
	size := min(sectors*512-at%512, x.end-at)
	if at >= x.end || size <= 0 {
		return image.Spot{}, fmt.Errorf("corrupt qcow2: compressed cluster at offset %d of a file of %d bytes", at, x.end)
	}
	return image.Spot{Kind: image.SpotPacked, At: at, Size: int(size), Length: x.cluster()}, nil
}

// locateExtended decodes an extended L2 entry: 32 subclusters, each of which is
// allocated (low half of the bitmap), zero (high half), or neither.
func (x *index) locateExtended(b []byte, in int64) (image.Spot, error) {
	e, bitmap := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	if e&packed != 0 {
		s, err := x.packedEntry(e)
		return image.Skip(s, in), err
	}
	alloc, zero := uint32(bitmap), uint32(bitmap>>32)
	if alloc&zero != 0 {
		return image.Spot{}, fmt.Errorf("corrupt qcow2: subclusters both allocated and zero (bitmap %#x)", bitmap)
	}
	sub := x.cluster() / 32
	i := in / sub
	kind, same := image.SpotHole, ^(alloc | zero)
	switch {
	case alloc>>i&1 != 0:
		kind, same = image.SpotPlain, alloc
	case zero>>i&1 != 0:
		kind, same = image.SpotZero, zero
	}
	length := (i+int64(bits.TrailingZeros32(^(same>>i))))*sub - in
	length = min(length, x.cluster()-in)
	if kind != image.SpotPlain {
		return image.Spot{Kind: kind, Length: length}, nil
	}
	s, err := x.plainEntry(e)
	if err == nil && s.Kind != image.SpotPlain {
		err = fmt.Errorf("corrupt qcow2: allocated subclusters without a cluster (bitmap %#x)", bitmap)
	}
	return image.Spot{Kind: image.SpotPlain, At: s.At + in, Length: length}, err
}

// Aligned is false with subclusters: several runs of one cluster may be asked for.
func (x *index) Aligned() bool { return x.features&extendedL2 == 0 }

func (x *index) Describe() (subformat, compress string) {
	if x.zstd {
		return "", "zstd"
	}
	return "", "zlib"
}

// Unpack decompresses one cluster. What follows the stream in the last sector
// is ignored; a stream that holds less than a cluster is an error.
func (x *index) Unpack(dst []byte, off int64, s image.Spot) error {
	buf, _ := x.buffer.Get().(*[]byte)
	if buf == nil || cap(*buf) < s.Size {
		b := make([]byte, s.Size, max(int64(s.Size), x.cluster()+512))
		buf = &b
	}
	defer x.buffer.Put(buf)
	src := (*buf)[:s.Size]
	if err := image.ReadSparse(x.file, src, s.At); err != nil {
		return err
	}
	var err error
	if x.zstd {
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
	r, _ := x.inflat.Get().(io.ReadCloser)
	if r == nil {
		r = flate.NewReader(bytes.NewReader(src))
	} else if err := r.(flate.Resetter).Reset(bytes.NewReader(src), nil); err != nil {
		return err
	}
	defer x.inflat.Put(r)
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
