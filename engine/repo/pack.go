package repo

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

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
type fileID [20]byte

// sumSize is how many bytes of a fileID are a hash.
const sumSize = 16

// newFileID names what b describes.
func newFileID(b []byte) (id fileID) {
	sum := blake3.Sum256(b)
	rand.Read(id[copy(id[:sumSize], sum[:]):])
	return id
}

// matches reports whether b is what the id names.
func (id fileID) matches(b []byte) bool {
	sum := blake3.Sum256(b)
	return bytes.Equal(id[:sumSize], sum[:sumSize])
}

// String returns 32 hexadecimal digits, "-" and 8 more.
func (id fileID) String() string { return fmt.Sprintf("%x-%x", id[:sumSize], id[sumSize:]) }

// parseFileID is the inverse of String.
func parseFileID(s string) (id fileID, err error) {
	sum, nonce, _ := strings.Cut(s, "-")
	raw, err := hex.DecodeString(sum + nonce)
	if copy(id[:], raw); err != nil || id.String() != s {
		return fileID{}, fmt.Errorf("%q is not the name of a pack or manifest", s)
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

// encode returns the bytes of the index.
func (x *packIndex) encode() []byte {
	c := &coder{b: []byte(packMagic)}
	x.code(c)
	return c.b
}

// code describes an index behind its magic: the number of frames, each frame's
// length and number of blocks (all as varints), and the blocks' names. It
// returns how many bytes and blocks the frames have.
func (x *packIndex) code(c *coder) (size int64, blocks int) {
	list(c, &x.frames, packBlocks, func(f *frameRef) {
		f.off, f.first = size, blocks
		number(c, &f.length, maxFrame)
		number(c, &f.blocks, frameBlocks)
		size, blocks = size+f.length, blocks+f.blocks
	})
	if c.reading {
		x.ids = make([]blockID, len(c.b)/len(blockID{}))
	}
	for i := range x.ids {
		c.bytes(x.ids[i][:])
	}
	return size, blocks
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
	c := &coder{b: rest, reading: true}
	x := &packIndex{}
	size, blocks := x.code(c)
	if c.err != nil {
		return nil, fmt.Errorf("its index: %w", c.err)
	}
	if size != p.data || blocks != p.blocks || len(x.ids) != blocks || len(c.b) > 0 {
		return nil, fmt.Errorf("its index describes %d bytes with %d blocks and names %d, not %d with %d", size, blocks, len(x.ids), p.data, p.blocks)
	}
	return x, nil
}

// coder writes an index or a manifest, or reads one into the same variables, so
// that both follow one description. After an error it only reads zeros.
type coder struct {
	b       []byte // what was written, or what is left to be read
	reading bool
	err     error // in reading: nothing that is written is refused
}

// number codes a number that is at most limit.
func number[T int | int64](c *coder, v *T, limit T) {
	if !c.reading {
		c.b = binary.AppendUvarint(c.b, uint64(*v))
		return
	}
	u, n := binary.Uvarint(c.b)
	if c.check(n > 0 && u <= uint64(limit)) {
		*v, c.b = T(u), c.b[n:]
	}
}

// signed codes a number that is at most limit, or as much below zero.
func (c *coder) signed(v *int, limit int64) {
	if !c.reading {
		c.b = binary.AppendVarint(c.b, int64(*v))
		return
	}
	i, n := binary.Varint(c.b)
	if c.check(n > 0 && -limit <= i && i <= limit) {
		*v, c.b = int(i), c.b[n:]
	}
}

// bytes codes as many bytes as p has.
func (c *coder) bytes(p []byte) {
	if !c.reading {
		c.b = append(c.b, p...)
	} else if c.check(len(p) <= len(c.b)) {
		c.b = c.b[copy(p, c.b):]
	}
}

// text codes the length of p, at most limit, and p, which it returns.
func (c *coder) text(p []byte, limit int) []byte {
	n := len(p)
	if number(c, &n, limit); c.reading && c.check(n <= len(c.b)) {
		p = make([]byte, n)
	}
	c.bytes(p)
	return p
}

// list codes the length of a list, at most limit, and its elements. Each takes a
// byte at least.
func list[T any](c *coder, all *[]T, limit int, element func(*T)) {
	n := len(*all)
	if number(c, &n, limit); c.reading && c.check(n <= len(c.b)) && n > 0 {
		*all = make([]T, n)
	}
	for i := range *all {
		if c.err == nil {
			element(&(*all)[i])
		}
	}
}

// check is an error in reading unless ok, which it returns.
func (c *coder) check(ok bool) bool {
	if c.reading && !ok && c.err == nil {
		c.b, c.err = nil, errors.New("a number is cut off or out of range")
	}
	return ok
}

// newEncoder returns a compressor for EncodeAll, by one goroutine at a time unless
// an option says otherwise.
func newEncoder(level zstd.EncoderLevel, more ...zstd.EOption) *zstd.Encoder {
	options := []zstd.EOption{zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false)}
	e, err := zstd.NewWriter(nil, append(options, more...)...)
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
