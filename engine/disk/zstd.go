package disk

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/klauspost/compress/huff0"
	"github.com/klauspost/compress/zstd"
)

// zstdPress compresses units of 64 KiB, each to one zstd frame (RFC 8878). As
// with deflater, positions of 16 bits keep the tables in the processor's cache.
// It finds matches and codes them; the Huffman code of the literals is a
// library's, which also takes the units that have few matches.
type zstdPress struct {
	long  [1 << zstdLong]uint16  // last position of each hash of eight bytes, plus one
	short [1 << zstdShort]uint16 // and of five

	literals  []byte
	sequences []zstdSequence
	huffman   huff0.Scratch
	codes     [3]fseCoder // of literal lengths, offsets and match lengths
	other     *zstd.Encoder

	literalCode, matchCode [128]uint8 // of short lengths
}

const (
	zstdUnit  = 64 << 10
	zstdLong  = 16
	zstdShort = 15
	zstdFew   = 64 // sequences below which the library does better
)

// zstdSequence is a run of literals and the match after it. The offset is the
// value that is coded: 1 to 3 for one of the last distances, else the distance
// plus 3.
type zstdSequence struct {
	literals uint32
	match    uint32 // less 3
	offset   uint32
	code     [3]uint8 // of literals, offset and match
}

func newZstdPress() (*zstdPress, error) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdUnit), zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithAllLitEntropyCompression(true), zstd.WithEncoderCRC(false))
	p := &zstdPress{other: e, literalCode: lengthCodes(literalBits[:]), matchCode: lengthCodes(matchBits[:])}
	p.huffman.Reuse = huff0.ReusePolicyNone
	return p, err
}

// compress appends a frame that holds src to dst.
func (p *zstdPress) compress(dst, src []byte) []byte {
	if len(src) != zstdUnit {
		return p.other.EncodeAll(src, dst)
	}
	p.find(src)
	if len(p.sequences) < zstdFew {
		return p.other.EncodeAll(src, dst)
	}
	start := len(dst)
	// One segment, two bytes for the size, of which 256 is taken away; then the
	// header of the only block, whose size comes later.
	dst = append(dst, 0x28, 0xb5, 0x2f, 0xfd, 1<<6|1<<5, byte((zstdUnit-256)&0xff), (zstdUnit-256)>>8, 0, 0, 0)
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

func zstdHash8(v uint64) uint64 { return v * 0xcf1bbcdcb7a56463 >> (64 - zstdLong) }
func zstdHash5(v uint64) uint64 { return v << 24 * 0xcf1bbcdcbb >> (64 - zstdShort) }

// find splits src into literals and matches: at each position the last distance
// is tried one byte ahead, then the last place with the same eight, then with
// the same five bytes. Where nothing is found for long, steps become larger.
func (p *zstdPress) find(src []byte) {
	clear(p.long[:])
	clear(p.short[:])
	p.literals, p.sequences = p.literals[:0], p.sequences[:0]
	for i := range p.codes {
		p.codes[i].reset()
	}
	rep := [3]int{1, 4, 8}
	anchor, limit := 0, len(src)-16
	for at := 1; at < limit; {
		v := binary.LittleEndian.Uint64(src[at:])
		h8, h5 := zstdHash8(v), zstdHash5(v)
		far, near := int(p.long[h8])-1, int(p.short[h5])-1
		p.long[h8], p.short[h5] = uint16(at+1), uint16(at+1)
		from, length := at, 0
		if r := at + 1 - rep[0]; r >= 0 && binary.LittleEndian.Uint32(src[r:]) == uint32(v>>8) {
			from, far = at+1, r
			length = 4 + matchLen(src[r+4:len(src)-from+r], src[from+4:])
		} else if far >= 0 && binary.LittleEndian.Uint64(src[far:]) == v {
			length = 8 + matchLen(src[far+8:len(src)-at+far], src[at+8:])
		} else if near >= 0 && binary.LittleEndian.Uint32(src[near:]) == uint32(v) {
			length = 4 + matchLen(src[near+4:len(src)-at+near], src[at+4:])
			far = near
			next := binary.LittleEndian.Uint64(src[at+1:])
			h := zstdHash8(next)
			if l := int(p.long[h]) - 1; l >= 0 && binary.LittleEndian.Uint64(src[l:]) == next {
				if n := 8 + matchLen(src[l+8:len(src)-at-1+l], src[at+9:]); n > length {
					from, far, length = at+1, l, n
				}
			}
			p.long[h] = uint16(at + 2)
		} else {
			at += 1 + (at-anchor)>>8
			continue
		}
		for from > anchor && far > 0 && src[from-1] == src[far-1] {
			from, far, length = from-1, far-1, length+1
		}
		p.emit(src[anchor:from], length, from-far, &rep)
		end := from + length
		if end < limit {
			p.insert(src, at+2)
			p.insert(src, end-2)
		}
		at, anchor = p.repeat(src, end, limit, &rep)
	}
	p.literals = append(p.literals, src[anchor:]...)
}

// insert puts a position into the tables.
func (p *zstdPress) insert(src []byte, at int) {
	v := binary.LittleEndian.Uint64(src[at:])
	p.long[zstdHash8(v)], p.short[zstdHash5(v)] = uint16(at+1), uint16(at+1)
}

// repeat takes matches with the second last distance that follow at once.
func (p *zstdPress) repeat(src []byte, at, limit int, rep *[3]int) (int, int) {
	for at < limit && at >= rep[1] && binary.LittleEndian.Uint32(src[at-rep[1]:]) == binary.LittleEndian.Uint32(src[at:]) {
		n := 4 + matchLen(src[at-rep[1]+4:len(src)-rep[1]], src[at+4:])
		p.insert(src, at)
		p.emit(nil, n, rep[1], rep)
		at += n
	}
	return at, at
}

// emit records a sequence; the last distances are kept as the decoder does
// (RFC 8878, 3.1.2.5).
func (p *zstdPress) emit(literals []byte, length, distance int, rep *[3]int) {
	p.literals = append(p.literals, literals...)
	value := uint32(distance) + 3
	which := 3
	for i, r := range rep {
		if r == distance {
			which = i
			break
		}
	}
	switch {
	case which < 3 && len(literals) > 0:
		value = uint32(which) + 1
	case which == 1 || which == 2:
		value = uint32(which)
	case which == 0: // without literals the last distance has no short name
		which = 3
	}
	if len(literals) == 0 && which == 3 && distance == rep[0]-1 {
		value = 3
	}
	switch which {
	case 1:
		rep[0], rep[1] = rep[1], rep[0]
	case 2, 3:
		rep[0], rep[1], rep[2] = distance, rep[0], rep[1]
	}
	s := zstdSequence{literals: uint32(len(literals)), match: uint32(length) - 3, offset: value}
	p.codeSequence(&s)
	p.sequences = append(p.sequences, s)
}

// appendLiterals appends the literals section (RFC 8878, 3.1.1.3.1).
func (p *zstdPress) appendLiterals(dst []byte) []byte {
	n := uint64(len(p.literals))
	if n < 64 {
		return p.rawLiterals(dst)
	}
	press, format, width := huff0.Compress4X, uint64(3), 18
	if n < 1<<10 {
		press, format, width = huff0.Compress1X, 0, 10
	} else if n < 1<<14 {
		format, width = 2, 14
	}
	out, _, err := press(p.literals, &p.huffman)
	if err != nil || len(out) >= len(p.literals) { // or all the same, which is as rare
		return p.rawLiterals(dst)
	}
	head := 2 | format<<2 | n<<4 | uint64(len(out))<<(4+width)
	for i := range (4 + 2*width + 7) / 8 {
		dst = append(dst, byte(head>>(8*i)))
	}
	return append(dst, out...)
}

func (p *zstdPress) rawLiterals(dst []byte) []byte {
	head := uint32(len(p.literals))<<4 | 3<<2
	return append(append(dst, byte(head), byte(head>>8), byte(head>>16)), p.literals...)
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

// codeSequence fills in the codes of a sequence and counts them. Beyond the
// tables each power of two has one code.
func (p *zstdPress) codeSequence(s *zstdSequence) {
	if s.literals < 64 {
		s.code[0] = p.literalCode[s.literals]
	} else {
		s.code[0] = uint8(bits.Len32(s.literals) + 18)
	}
	s.code[1] = uint8(bits.Len32(s.offset) - 1)
	if s.match < 128 {
		s.code[2] = p.matchCode[s.match]
	} else {
		s.code[2] = uint8(bits.Len32(s.match) + 35)
	}
	for i, c := range s.code {
		p.codes[i].count[c&63]++
	}
}

// appendSequences appends the sequences section (RFC 8878, 3.1.1.3.2): the
// tables of the three codes, then all sequences from the last to the first.
func (p *zstdPress) appendSequences(dst []byte) []byte {
	n := len(p.sequences)
	if n < 128 {
		dst = append(dst, byte(n))
	} else {
		dst = append(dst, byte(n>>8)+128, byte(n)) // a unit never has 0x7f00 of them
	}
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
func (p *zstdPress) encode(dst []byte) []byte {
	at := len(dst)
	dst = slices.Grow(dst, 10*len(p.sequences)+16)[:at+10*len(p.sequences)+16]
	lit, off, match := &p.codes[0], &p.codes[1], &p.codes[2]
	var acc uint64
	var n uint
	for i := len(p.sequences) - 1; i >= 0; i-- {
		s := &p.sequences[i]
		c0, c1, c2 := s.code[0]&63, s.code[1]&63, s.code[2]&63
		if i == len(p.sequences)-1 {
			match.start(c2)
			off.start(c1)
			lit.start(c0)
		} else {
			acc, n = off.put(acc, n, c1)
			acc, n = match.put(acc, n, c2)
			acc, n = lit.put(acc, n, c0)
		}
		width := uint(literalBits[c0])
		acc |= uint64(s.literals&(1<<width-1)) << n
		n += width
		width = uint(matchBits[c2])
		acc |= uint64(s.match&(1<<width-1)) << n
		n += width
		binary.LittleEndian.PutUint64(dst[at:], acc)
		at, acc, n = at+int(n>>3), acc>>(n&^7), n&7

		acc |= uint64(s.offset&(1<<c1-1)) << n
		n += uint(c1)
		binary.LittleEndian.PutUint64(dst[at:], acc)
		at, acc, n = at+int(n>>3), acc>>(n&^7), n&7
	}
	w := bitWriter{b: dst[:at], bits: acc, n: n}
	for _, f := range []*fseCoder{match, off, lit} {
		w.put(f.state&(1<<f.log-1), f.log)
	}
	w.put(1, 1)
	return w.finish()
}
