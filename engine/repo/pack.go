package repo

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"
)

const (
	// frameBlocks is how many blocks are compressed together: 1 MiB. More
	// compresses better, less is less to fetch for a single block.
	frameBlocks = 256
	// packBlocks is how many blocks a pack has at most: 32 MiB. A pack is
	// what an interrupted push sends again, and costs a few round trips.
	packBlocks = 32 * frameBlocks
	packMagic  = "b9pack1\n"
)

// How blocks are stored:
//
// A pack is a file of frames and an index behind them. A frame is up to 256
// blocks of 4 KiB, compressed together with zstd; a pack has up to 32 frames.
// The index lists the length of each frame and the name of each block, so a
// block is found by the index and read by fetching its frame. A pack is named
// by the hash of its index and a random part, and is never changed. A manifest
// says of which blocks of which packs a content is made, as runs of blocks that
// follow each other in the file and in a pack; a step's manifest has several
// contents. docs/repositories.md describes the bytes.

// fileID names a pack or a manifest: 128 bits of the BLAKE3 hash of its index
// or of the whole, and 32 random bits, so that a deleted file never comes
// back under the same name.
type fileID struct {
	sum   [16]byte
	nonce [4]byte
}

// newFileID names what b describes.
func newFileID(b []byte) (id fileID) {
	sum := blake3.Sum256(b)
	copy(id.sum[:], sum[:])
	rand.Read(id.nonce[:])
	return id
}

// matches reports whether b is what the id names.
func (id fileID) matches(b []byte) bool {
	sum := blake3.Sum256(b)
	return bytes.Equal(id.sum[:], sum[:len(id.sum)])
}

// String returns 32 hexadecimal digits, "-" and 8 more.
func (id fileID) String() string {
	return hex.EncodeToString(id.sum[:]) + "-" + hex.EncodeToString(id.nonce[:])
}

// parseFileID is the inverse of String.
func parseFileID(s string) (id fileID, err error) {
	raw, err := hex.DecodeString(s[:min(len(s), 32)] + s[min(len(s), 33):])
	if err != nil || len(raw) != 20 {
		return id, fmt.Errorf("%q is not the name of a pack or manifest", s)
	}
	copy(id.sum[:], raw)
	copy(id.nonce[:], raw[16:])
	if id.String() != s {
		return id, fmt.Errorf("%q is not the name of a pack or manifest", s)
	}
	return id, nil
}

// MarshalText implements encoding.TextMarshaler.
func (id fileID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *fileID) UnmarshalText(b []byte) (err error) {
	*id, err = parseFileID(string(b))
	return err
}

// packRef is what a manifest knows of a pack. The file is the frames, one
// after the other, and then the index.
type packRef struct {
	id     fileID
	data   int64 // bytes of the frames
	index  int64 // bytes of the index
	blocks int
}

// path returns where the pack lies in the repository.
func (p packRef) path() string { return "packs/" + p.id.String() }

// frameRef is where a frame lies in its pack.
type frameRef struct {
	off    int64
	length int64
	first  int // block of the pack it begins with
	blocks int
}

// packIndex says what is in a pack.
type packIndex struct {
	frames []frameRef
	ids    []blockID
}

// encode returns the bytes of the index: the magic, the number of frames,
// each frame's length and number of blocks (all as varints), and the blocks'
// names.
func (x *packIndex) encode() []byte {
	b := binary.AppendUvarint([]byte(packMagic), uint64(len(x.frames)))
	for _, f := range x.frames {
		b = binary.AppendUvarint(b, uint64(f.length))
		b = binary.AppendUvarint(b, uint64(f.blocks))
	}
	for _, id := range x.ids {
		b = append(b, id[:]...)
	}
	return b
}

// maxFrame bounds the compressed length of a frame: zstd adds little to what
// it can't compress.
const maxFrame = frameBlocks*blockSize + 4<<10

// decodeIndex reads an index and checks that it is one for p.
func decodeIndex(b []byte, p packRef) (*packIndex, error) {
	rest, ok := bytes.CutPrefix(b, []byte(packMagic))
	if !ok {
		return nil, errors.New("its index does not begin as one does")
	}
	d := decoder{b: rest}
	x := &packIndex{}
	var off int64
	first := 0
	for n := d.count(packBlocks); n > 0 && d.err == nil; n-- {
		f := frameRef{off: off, length: int64(d.count(maxFrame)), first: first, blocks: d.count(frameBlocks)}
		off += f.length
		first += f.blocks
		x.frames = append(x.frames, f)
	}
	if d.err != nil {
		return nil, fmt.Errorf("its index: %w", d.err)
	}
	if off != p.data || first != p.blocks || len(d.b) != first*len(blockID{}) {
		return nil, fmt.Errorf("its index describes %d bytes with %d blocks and names %d, not %d with %d", off, first, len(d.b)/len(blockID{}), p.data, p.blocks)
	}
	x.ids = make([]blockID, first)
	for i := range x.ids {
		copy(x.ids[i][:], d.b[i*len(blockID{}):])
	}
	return x, nil
}

// decoder reads varints; after an error it only gives zeros.
type decoder struct {
	b   []byte
	err error
}

// count reads a number that is at most limit.
func (d *decoder) count(limit int) int {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > uint64(limit) {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return int(v)
}

// bytes returns the next n bytes.
func (d *decoder) bytes(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return make([]byte, min(n, 64))
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) fail() {
	if d.err == nil {
		d.err = errors.New("a number is cut off or out of range")
	}
	d.b = nil
}

// newEncoder returns a compressor for one goroutine at a time.
func newEncoder(level zstd.EncoderLevel) *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		panic(err) // only options that contradict each other
	}
	return e
}

// newDecoder returns a decompressor that gives no more than limit bytes. Several
// goroutines may call its DecodeAll.
func newDecoder(limit uint64) *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(limit))
	if err != nil {
		panic(err) // only options that contradict each other
	}
	return d
}
