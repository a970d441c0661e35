// Package layer keeps an image as its differences to another one. A difference is
// one sparse file: blocks of 64 KiB that differ lie at the offset that they have in
// the image, what is unchanged is a hole, and a trailer follows, which says what the
// base is and which blocks to read where. So the file that a fork is written into is
// the stored difference, and to keep it means to append the trailer.
//
//	Trailer, Run, Kind  what a difference says of itself; Read reads it
//	Fork                an image that is written: a base, and the file of its differences
//	Compose             a base and differences above it as one blob
//	Direct              the file that holds a part of such a blob, for splice(2)
//
// The package gives files no names, flushes nothing unasked, and looks for no base:
// what a digest names, its callers know.
//
// # Format
//
// All numbers are little-endian. In a difference to an image of size bytes, in n runs,
//
//	0                     the blocks, each at its offset in the image
//	size, rounded up      n runs, 16 bytes each, in order and disjoint:
//	to 64 KiB                 0  first block (64 bits)
//	                          8  number of blocks, at least 1 (32 bits)
//	                         12  kind (32 bits): 1 here, 2 zero
//	after the runs        80 bytes:
//	                          0  "b9 difference 1\n"
//	                         16  digest of the base
//	                         48  size of the image in bytes (64 bits)
//	                         56  kept (64 bits): at and after this offset, size at
//	                             most, nothing is read from the base
//	                         64  n (64 bits)
//	                         72  0 (32 bits)
//	                         76  CRC-32C of everything after the blocks, before here
//
// A block that no run names is the base's, as far as that is kept, and reads as zeros
// from there on. The file ends with the trailer. Blocks of kind zero, and bytes after
// size in the last block, are zero in the file, as a rule holes; what the file holds of
// a block that is the base's does not count.
package layer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"b9.build/b9/engine/internal/digest"
)

// BlockSize is the unit of differences in bytes: that of a file's digest.
const BlockSize = digest.BlockSize

const (
	magic     = "b9 difference 1\n"
	runSize   = 16 // bytes
	endSize   = 80
	maxSize   = 1 << 62   // bytes, of an image
	maxLength = 1<<32 - 1 // blocks, of a run as it is written
)

// Kind says where a block of an image is found.
type Kind uint8

// The kinds. A run is never Base: what no run names is.
const (
	Base Kind = iota // in the base
	Here             // in the difference
	Zero             // nowhere: it reads as zeros
)

// Run is a run of blocks of one kind: Count of them, from block Start on.
type Run struct {
	Start, Count int64
	Kind         Kind
}

// End is the block after the last one of r.
func (r Run) End() int64 { return r.Start + r.Count }

// Trailer is what a difference says of itself.
type Trailer struct {
	Base digest.Digest // of the image that it is a difference to
	Size int64         // of the image that it makes of that, in bytes
	Kept int64         // at and after this offset nothing is read from the base
	Runs []Run         // in order, disjoint
}

// blocksOf is the number of blocks of an image, the last of which may be shorter.
func blocksOf(size int64) int64 { return (size + BlockSize - 1) / BlockSize }

// split yields runs in the form in which they are written: none is too long.
func split(runs []Run) (out []Run) {
	for _, r := range runs {
		for r.Count > maxLength {
			out = append(out, Run{r.Start, maxLength, r.Kind})
			r.Start, r.Count = r.Start+maxLength, r.Count-maxLength
		}
		out = append(out, r)
	}
	return out
}

func crcTable() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// encode returns the bytes of t.
func (t *Trailer) encode() []byte {
	runs, le := split(t.Runs), binary.LittleEndian
	b := make([]byte, 0, len(runs)*runSize+endSize)
	for _, r := range runs {
		b = le.AppendUint64(b, uint64(r.Start))
		b = le.AppendUint32(b, uint32(r.Count))
		b = le.AppendUint32(b, uint32(r.Kind))
	}
	b = append(b, magic...)
	b = append(b, t.Base[:]...)
	for _, n := range []int64{t.Size, t.Kept, int64(len(runs))} {
		b = le.AppendUint64(b, uint64(n))
	}
	b = le.AppendUint32(b, 0)
	return le.AppendUint32(b, crc32.Checksum(b, crcTable()))
}

// ErrDamaged is in the error about a file that is no whole difference.
var ErrDamaged = errors.New("no whole difference")

// Read reads the trailer of the difference in f. A file that does not end with one,
// or with a damaged one, gives [ErrDamaged].
func Read(f *os.File) (*Trailer, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	t, err := read(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return t, nil
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// read reads the trailer at the end of r, which has length bytes.
func read(r io.ReaderAt, length int64) (*Trailer, error) {
	var end [endSize]byte
	if length < endSize {
		return nil, damaged("%d bytes are shorter than a trailer", length)
	}
	if _, err := r.ReadAt(end[:], length-endSize); err != nil && err != io.EOF {
		return nil, err
	}
	t, n, err := decodeEnd(&end, length)
	if err != nil {
		return nil, err
	}
	// Runs are checked as they are read: a count that is wrong costs no memory.
	sum := crc32.New(crcTable())
	start := length - endSize - n*runSize
	in := bufio.NewReaderSize(io.TeeReader(io.NewSectionReader(r, start, n*runSize), sum), 64<<10)
	if err := t.readRuns(in, n); err != nil {
		return nil, err
	}
	sum.Write(end[:endSize-4])
	if binary.LittleEndian.Uint32(end[endSize-4:]) != sum.Sum32() {
		return nil, damaged("the checksum of its trailer is wrong")
	}
	return t, nil
}

// decodeEnd reads the last bytes of a difference of so many bytes, and returns the
// number of runs.
func decodeEnd(b *[endSize]byte, length int64) (*Trailer, int64, error) {
	le := binary.LittleEndian
	if !bytes.HasPrefix(b[:], []byte(magic)) {
		return nil, 0, damaged("it does not end with a trailer of version 1")
	}
	t := &Trailer{Base: digest.Digest(b[16:48])}
	size, kept, n := le.Uint64(b[48:]), le.Uint64(b[56:]), le.Uint64(b[64:])
	switch {
	case size > maxSize || kept > size || le.Uint32(b[72:]) != 0:
		return nil, 0, damaged("an image of %d bytes, %d of them kept", size, kept)
	case n > uint64(blocksOf(int64(size))):
		return nil, 0, damaged("%d runs of an image of %d bytes", n, size)
	case blocksOf(int64(size))*BlockSize+int64(n)*runSize+endSize != length:
		return nil, 0, damaged("%d bytes long, which an image of %d bytes in %d runs is not", length, size, n)
	}
	t.Size, t.Kept = int64(size), int64(kept)
	return t, int64(n), nil
}

// readRuns reads n runs.
func (t *Trailer) readRuns(in io.Reader, n int64) error {
	var b [runSize]byte
	at, blocks, le := int64(0), blocksOf(t.Size), binary.LittleEndian
	for range n {
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return err
		}
		start, count, kind := le.Uint64(b[:]), int64(le.Uint32(b[8:])), le.Uint32(b[12:])
		if start < uint64(at) || start > uint64(blocks) || count == 0 || count > blocks-int64(start) || kind != uint32(Here) && kind != uint32(Zero) {
			return damaged("a run of %d blocks from %d on, of kind %d, after block %d of %d", count, start, kind, at, blocks)
		}
		t.add(Run{int64(start), count, Kind(kind)})
		at = int64(start) + count
	}
	return nil
}

// add appends a run, to the last one where it continues that.
func (t *Trailer) add(r Run) {
	if n := len(t.Runs); n > 0 && t.Runs[n-1].End() == r.Start && t.Runs[n-1].Kind == r.Kind {
		t.Runs[n-1].Count += r.Count
		return
	}
	t.Runs = append(t.Runs, r)
}
