package disk

import (
	"encoding/binary"
	"hash/adler32"
	"math"
	"math/bits"
)

// deflater compresses units of at most 64 KiB, each by itself, to deflate
// (RFC 1951). Because a unit is no larger than what a position of 16 bits can
// name, all tables are small enough for the processor's second-level cache, which
// is what makes it fast. The output depends on the input and depth alone.
type deflater struct {
	head  [1 << deflateHash]uint16  // last position of each hash of four bytes, plus one
	head3 [1 << deflateHash3]uint16 // and of three bytes
	prev  [deflateMax]uint16        // the position before with the same hash of four bytes, plus one

	depth  int      // places that are tried for a match: more is slower and smaller
	least  int      // bytes of a match that is worth it
	tokens []uint32 // literals, or matches with the bit deflateMatch
	out    bitWriter
	lit    huffman
	dist   huffman
	meta   huffman
	runs   []codeRun
}

const (
	deflateMax   = 64 << 10
	deflateHash  = 15
	deflateHash3 = 13

	deflateWindow = 32 << 10 // distance of a match at most
	deflateLeast  = 3        // bytes of a match at least, and at most
	deflateMost   = 258
	deflateMatch  = 1 << 31 // of a token: (length-3)<<16 | (distance-1)

	// The search tries fewer places after a good match, none after a long one.
	deflateGood = 12
	deflateLong = 80
	deflateNear = 4096 // distance beyond which three bytes are not worth it
)

// zlib appends src in the zlib format (RFC 1950) to dst.
func (d *deflater) zlib(dst, src []byte) []byte {
	dst = d.deflate(append(dst, 0x78, 0x9c), src)
	return binary.BigEndian.AppendUint32(dst, adler32.Checksum(src))
}

// deflate appends src, at most 64 KiB, as raw deflate to dst.
func (d *deflater) deflate(dst, src []byte) []byte {
	if incompressible(src) {
		return appendStored(dst, src)
	}
	d.find(src)
	start := len(dst)
	d.out = bitWriter{b: dst}
	d.blocks()
	if dst = d.out.finish(); len(dst)-start > len(src)+2*storedHeader {
		return appendStored(dst[:start], src)
	}
	return dst
}

const storedHeader = 5

// appendStored appends src in stored blocks.
func appendStored(dst, src []byte) []byte {
	for {
		n := min(len(src), math.MaxUint16)
		final := byte(0)
		if n == len(src) {
			final = 1
		}
		dst = append(dst, final, byte(n), byte(n>>8), byte(^n), byte(^n>>8))
		dst = append(dst, src[:n]...)
		if src = src[n:]; len(src) == 0 {
			return dst
		}
	}
}

// incompressible reports whether samples spread over b have the even
// distribution of encrypted or compressed bytes, so that no coder could gain
// more than half a percent. It looks at a sixteenth of a large unit.
func incompressible(b []byte) bool {
	const windows, window = 32, 128
	const n = windows * window
	if len(b) < 4*n {
		return false
	}
	var count [256]uint32
	step := (len(b) - window) / (windows - 1)
	for i := range windows {
		for _, c := range b[i*step : i*step+window] {
			count[c]++
		}
	}
	sum := uint32(0)
	for _, c := range count {
		sum += c * c
	}
	// For even distribution the expected sum is n²/256 + n; the allowed excess is
	// seven standard deviations.
	return sum < n*n/256+n+2400
}

// find fills tokens with a lazy parse of src: a match gives way to a better one
// that begins one byte later.
func (d *deflater) find(src []byte) {
	clear(d.head[:])
	clear(d.head3[:])
	d.tokens = d.tokens[:0]
	d.least = leastMatch(src)
	at, known := 0, 0 // what is before known is in the tables
	length, distance := 0, 0
	for at < len(src) {
		if length == 0 {
			length, distance = d.search(src, at, 0, d.depth)
			known = at + 1
		}
		if length == 0 {
			d.tokens = append(d.tokens, uint32(src[at]))
			at++
			continue
		}
		if length < deflateLong && at+1 < len(src) {
			depth := d.depth / 2
			if length >= deflateGood {
				depth /= 4
			}
			l, dd := d.search(src, at+1, length, depth)
			known = at + 2
			if l > 0 && better(l, dd, length, distance) {
				d.tokens = append(d.tokens, uint32(src[at]))
				at, length, distance = at+1, l, dd
				continue
			}
		}
		d.tokens = append(d.tokens, deflateMatch|uint32(length-deflateLeast)<<16|uint32(distance-1))
		at += length
		d.insert(src, known, at)
		length = 0
	}
}

// leastMatch returns the length from which on a match is worth it: where few
// different bytes occur each takes few bits by itself.
func leastMatch(src []byte) int {
	var seen [256]bool
	n := 0
	for i := 0; i < len(src); i += 16 {
		if !seen[src[i]] {
			seen[src[i]] = true
			n++
		}
	}
	switch {
	case n < 12:
		return 6
	case n < 32:
		return 5
	case n < 64:
		return 4
	}
	return deflateLeast
}

// better reports whether a match that begins one byte later saves bits: a byte
// of length is worth about four bits of distance.
func better(l, dist, length, distance int) bool {
	return 4*(l-length)+bits.Len(uint(distance))-bits.Len(uint(dist)) > 2
}

func hash4(v uint32) uint32 { return v * 0x9e3779b1 >> (32 - deflateHash) }
func hash3(v uint32) uint32 { return v << 8 * 0x9e3779b1 >> (32 - deflateHash3) }

// insert puts the positions from start to end into the tables.
func (d *deflater) insert(src []byte, start, end int) {
	end = min(end, len(src)-4)
	for i := start; i < end; i++ {
		v := binary.LittleEndian.Uint32(src[i:])
		h := hash4(v)
		d.prev[i] = d.head[h]
		d.head[h] = uint16(i + 1)
		d.head3[hash3(v)] = uint16(i + 1)
	}
}

// search puts the position at into the tables and returns the longest match that
// begins there and is longer than least, or 0.
func (d *deflater) search(src []byte, at, least, depth int) (length, distance int) {
	if at+4 >= len(src) {
		return 0, 0
	}
	v := binary.LittleEndian.Uint32(src[at:])
	h, h3 := hash4(v), hash3(v)
	next, near := int(d.head[h])-1, int(d.head3[h3])-1
	d.prev[at] = uint16(next + 1)
	d.head[h], d.head3[h3] = uint16(at+1), uint16(at+1)

	most := min(len(src)-at, deflateMost)
	best := max(least, d.least-1)
	if best >= most {
		return 0, 0
	}
	if best < deflateLeast && near >= 0 && at-near <= deflateNear &&
		(binary.LittleEndian.Uint32(src[near:])^v)<<8 == 0 {
		best, distance = deflateLeast, at-near
	}
	low := at - deflateWindow
	here := src[at : at+most]
	for ; next >= 0 && next >= low && depth > 0; depth-- {
		if there := src[next : next+most]; there[best] == here[best] && binary.LittleEndian.Uint32(there) == v {
			if n := 4 + matchLen(there[4:], here[4:]); n > best {
				best, distance = n, at-next
				if n >= deflateLong || n == most {
					break
				}
			}
		}
		next = int(d.prev[next]) - 1
	}
	if distance == 0 {
		return 0, 0
	}
	return best, distance
}

// matchLen returns how many first bytes of a and b, which are equally long, agree.
func matchLen(a, b []byte) int {
	b = b[:len(a)]
	n := 0
	for ; len(a)-n >= 8; n += 8 {
		if x := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); x != 0 {
			return n + bits.TrailingZeros64(x)>>3
		}
	}
	for n < len(a) && a[n] == b[n] {
		n++
	}
	return n
}
