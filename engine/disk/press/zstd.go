// Package press compresses units of disk images, each by itself: 64 KiB of a
// qcow2 or vmdk at a time.
//
// It hides which coder is the fastest for so little data. It decompresses
// nothing, keeps no state from unit to unit (the same unit gives the same bytes,
// whatever came before), and knows no image format.
//
//   - [Deflater] makes deflate and zlib (RFC 1951, RFC 1950): the library's coder
//   - [Zstd] makes zstd frames (RFC 8878): zstd.go writes the frame and its
//     sections, find.go finds what repeats, fse.go codes the sequences, bits.go
//     collects bits
//   - [Incompressible] tells encrypted or compressed bytes from others
//
// docs/decisions/0003 and 0004 say why, with figures.
package press

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/klauspost/compress/huff0"
	"github.com/klauspost/compress/zstd"
)

// Zstd compresses units of 64 KiB, each to one zstd frame (RFC 8878).
// Because a unit is no larger than what a position of 16 bits can name, all
// tables are small enough for the processor's second-level cache, which is what
// makes it fast. It finds matches and codes them; the Huffman code of the
// literals is a library's, which also takes the units that have few matches.
type Zstd struct {
	finder
	literals  [unitSize + pad]byte
	lits      int // how many
	second    int // last distance but one
	sequences []sequence
	code      [3][]uint8    // of literal lengths, offsets and match lengths
	codes     [3]stateCoder // of these codes
	huffman   huff0.Scratch
	other     *zstd.Encoder

	literalCode, matchCode [128]uint8 // of short lengths
}

const (
	unitSize = 64 << 10
	few      = 64 // sequences below which the library does better
)

// sequence is a run of literals and the match after it. The offset is the
// value that is coded: 1 for the last distance, or, without literals, for the
// one before; else the distance plus 3 (RFC 8878, 3.1.2.5).
type sequence struct {
	literals uint16
	match    uint16 // less 3
	offset   uint32
}

// NewZstd returns a coder. One holds up to 4 MiB with what the library keeps, and
// is not for concurrent use.
func NewZstd() (*Zstd, error) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(unitSize), zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithAllLitEntropyCompression(true), zstd.WithEncoderCRC(false))
	p := &Zstd{other: e, literalCode: lengthCodes(literalBits[:]), matchCode: lengthCodes(matchBits[:])}
	p.huffman.Reuse = huff0.ReusePolicyNone
	return p, err
}

// Compress appends a frame that holds src to dst.
func (p *Zstd) Compress(dst, src []byte) []byte {
	if len(src) != unitSize {
		return p.other.EncodeAll(src, dst)
	}
	p.find(src)
	if len(p.sequences) < few {
		return p.other.EncodeAll(src, dst)
	}
	start := len(dst)
	// One segment, two bytes for the size, of which 256 is taken away; then the
	// header of the only block, whose size comes later.
	dst = append(dst, 0x28, 0xb5, 0x2f, 0xfd, 1<<6|1<<5, byte((unitSize-256)&0xff), (unitSize-256)>>8, 0, 0, 0)
	body := len(dst)
	dst = p.appendLiterals(dst)
	dst = p.appendSequences(dst)
	size := len(dst) - body
	if size >= len(src) {
		return p.other.EncodeAll(src, dst[:start])
	}
	head := uint32(size)<<3 | 2<<1 | 1 // compressed, and the last
	dst[body-3], dst[body-2], dst[body-1] = byte(head), byte(head>>8), byte(head>>16)
	return dst
}

// appendLiterals appends the literals section (RFC 8878, 3.1.1.3.1).
func (p *Zstd) appendLiterals(dst []byte) []byte {
	lits := p.literals[:p.lits]
	n := uint64(len(lits))
	if n < 64 {
		return p.rawLiterals(dst, lits)
	}
	press, format, width := huff0.Compress4X, uint64(3), 18
	if n < 1<<10 {
		press, format, width = huff0.Compress1X, 0, 10
	} else if n < 1<<14 {
		format, width = 2, 14
	}
	out, _, err := press(lits, &p.huffman)
	if err != nil || len(out) >= len(lits) { // or all the same, which is as rare
		return p.rawLiterals(dst, lits)
	}
	head := 2 | format<<2 | n<<4 | uint64(len(out))<<(4+width)
	for i := range (4 + 2*width + 7) / 8 {
		dst = append(dst, byte(head>>(8*i)))
	}
	return append(dst, out...)
}

func (p *Zstd) rawLiterals(dst, lits []byte) []byte {
	head := uint32(len(lits))<<4 | 3<<2
	return append(append(dst, byte(head), byte(head>>8), byte(head>>16)), lits...)
}

// literalBits and matchBits tell how many bits follow each code of a length of
// literals or of a match (RFC 8878, 3.1.1.3.2.1.1).
var (
	literalBits = [36]uint8{
		16: 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
	}
	matchBits = [53]uint8{
		32: 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
	}
)

// lengthCodes returns the codes of the first lengths: each code stands for as
// many lengths as its bits can tell apart.
func lengthCodes(extra []uint8) (codes [128]uint8) {
	n := 0
	for code, b := range extra {
		for range min(1<<b, len(codes)-n) {
			codes[n] = uint8(code)
			n++
		}
	}
	return codes
}

// codeSequences sets the codes of the sequences and counts them. Beyond the
// tables each power of two has one code.
func (p *Zstd) codeSequences() {
	n := len(p.sequences)
	for i := range p.codes {
		p.codes[i].reset()
		p.code[i] = slices.Grow(p.code[i][:0], n)[:n]
	}
	literals, offsets, matches := p.code[0][:n], p.code[1][:n], p.code[2][:n]
	for i, s := range p.sequences {
		l, o, m := uint8(bits.Len16(s.literals)+18), uint8(bits.Len32(s.offset)-1), uint8(bits.Len16(s.match)+35)
		if s.literals < 64 {
			l = p.literalCode[s.literals]
		}
		if s.match < 128 {
			m = p.matchCode[s.match]
		}
		literals[i], offsets[i], matches[i] = l, o, m
		p.codes[0].count[l&63]++
		p.codes[1].count[o&63]++
		p.codes[2].count[m&63]++
	}
}

// appendSequences appends the sequences section (RFC 8878, 3.1.1.3.2): the
// tables of the three codes, then all sequences from the last to the first.
func (p *Zstd) appendSequences(dst []byte) []byte {
	n := len(p.sequences)
	if n < 128 {
		dst = append(dst, byte(n))
	} else {
		dst = append(dst, byte(n>>8)+128, byte(n)) // a unit never has 0x7f00 of them
	}
	p.codeSequences()
	at := len(dst)
	dst = append(dst, 0)
	for i, most := range []int{9, 8, 9} {
		var mode byte
		dst, mode = p.codes[i].build(dst, n, most)
		dst[at] |= mode << (6 - 2*i)
	}
	return p.encode(dst)
}

// encode appends all sequences. Each adds at most 26 bits for the states, then
// those of its lengths, which are at most 30 because both lie in one unit, then
// at most 16 of its offset.
func (p *Zstd) encode(dst []byte) []byte {
	at := len(dst)
	dst = slices.Grow(dst, 10*len(p.sequences)+16)[:at+10*len(p.sequences)+16]
	lit, off, match := &p.codes[0], &p.codes[1], &p.codes[2]
	last := len(p.sequences) - 1
	literals, offsets, matches := p.code[0][:last+1], p.code[1][:last+1], p.code[2][:last+1]
	match.start(matches[last])
	off.start(offsets[last])
	lit.start(literals[last])
	var acc uint64
	var n uint
	for i := last; i >= 0; i-- {
		s := &p.sequences[i]
		c0, c1, c2 := literals[i]&63, offsets[i]&63, matches[i]&63
		if i < last {
			acc, n = off.put(acc, n, c1)
			acc, n = match.put(acc, n, c2)
			acc, n = lit.put(acc, n, c0)
		}
		width := uint(literalBits[c0])
		acc |= uint64(s.literals) & (1<<width - 1) << n
		n += width
		width = uint(matchBits[c2])
		acc |= uint64(s.match) & (1<<width - 1) << n
		n += width
		binary.LittleEndian.PutUint64(dst[at:], acc)
		at, acc, n = at+int(n>>3), acc>>(n&^7), n&7

		acc |= uint64(s.offset) & (1<<c1 - 1) << n
		n += uint(c1)
		binary.LittleEndian.PutUint64(dst[at:], acc)
		at, acc, n = at+int(n>>3), acc>>(n&^7), n&7
	}
	w := bitWriter{b: dst[:at], bits: acc, n: n}
	for _, f := range []*stateCoder{match, off, lit} {
		w.put(f.state&(1<<f.log-1), f.log)
	}
	w.put(1, 1)
	return w.finish()
}
