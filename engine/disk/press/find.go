package press

import (
	"encoding/binary"
	"math/bits"
)

// pad follows the unit in memory and the literals in theirs, so that reading
// and copying whole words needs no second thought near the end. A position is
// cut to 16 bits before it is used, which tells the compiler that it lies within.
const pad = 16

// finder find where bytes occurred before.
type finder struct {
	unit  [unitSize + pad]byte
	long  [1 << longBits]uint16  // last position of each hash of eight bytes
	short [1 << shortBits]uint16 // and of five; 0 where there is none, too
}

const (
	longBits  = 16
	shortBits = 15
)

func hash8(v uint64) uint64 { return v * 0xcf1bbcdcb7a56463 >> (64 - longBits) }

func hash5(v uint64) uint64 { return v << 24 * 0xcf1bbcdcbb >> (64 - shortBits) }

func (t *finder) reset(unit []byte) {
	copy(t.unit[:unitSize], unit)
	clear(t.long[:])
	clear(t.short[:])
}

func (t *finder) load64(at int) uint64 {
	return binary.LittleEndian.Uint64(t.unit[at&(unitSize-1):][:8])
}

func (t *finder) load32(at int) uint32 {
	return binary.LittleEndian.Uint32(t.unit[at&(unitSize-1):][:4])
}

// insert puts a position into the tables.
func (t *finder) insert(at int) {
	v := t.load64(at)
	t.long[hash8(v)], t.short[hash5(v)] = uint16(at), uint16(at)
}

// extend returns where the bytes from i on stop to agree with those from j < i on.
func (t *finder) extend(i, j int) int {
	for ; i < unitSize; i, j = i+8, j+8 {
		if x := t.load64(i) ^ t.load64(j); x != 0 {
			return min(i+bits.TrailingZeros64(x)>>3, unitSize)
		}
	}
	return unitSize
}

// find splits the unit into literals and matches, in one pass from its start.
//
// Two tables hold, for hashes of eight and of five bytes, the position where such
// bytes were last. At each position three candidates are tried: the last distance
// again, one byte ahead (it costs no bits for the distance); then the position
// with the same eight bytes; then the one with the same five. A match is made
// longer in both directions, and becomes a sequence together with the literals
// before it. A few positions inside a match are put into the tables, so that the
// next repetition is found. Where nothing is found for long, steps become larger:
// such bytes seldom repeat. That a table has nothing need not be asked: what it
// says is compared in any case, and position 0 is as good as another.
func (p *Zstd) find(unit []byte) {
	p.reset(unit)
	p.sequences, p.lits, p.second = p.sequences[:0], 0, 4
	anchor, last := 0, 1 // where literals begin, and the last distance
	for at := 1; at < final; {
		v := p.load64(at)
		h8, h5 := hash8(v), hash5(v)
		far, near := int(p.long[h8]), int(p.short[h5])
		p.long[h8], p.short[h5] = uint16(at), uint16(at)
		var from, to, end int // what lies between from and end is also at to
		if again := at + 1 - last; p.load32(again) == uint32(v>>8) {
			end = p.extend(at+5, again+4)
			p.emit(anchor, at+1, end, 1)
		} else {
			if p.load64(far) == v {
				from, to, end = at, far, p.extend(at+8, far+8)
			} else if (p.load64(near)^v)<<24 == 0 {
				from, to, end = p.better(at, near)
			} else {
				at += 1 + (at-anchor)>>8
				continue
			}
			for from > anchor && to > 0 && p.unit[(from-1)&(unitSize-1)] == p.unit[(to-1)&(unitSize-1)] {
				from, to = from-1, to-1
			}
			p.second, last = last, from-to
			p.emit(anchor, from, end, uint32(last)+3)
		}
		at, last = p.follow(at, end, last)
		anchor = at
	}
	p.copyLiterals(anchor, unitSize)
}

// final is the position from which on no match begins.
const final = unitSize - 16

// better returns the match of five bytes or more at near, or a longer one of at
// least eight that begins one byte later.
func (p *Zstd) better(at, near int) (from, to, end int) {
	end = p.extend(at+5, near+5)
	v := p.load64(at + 1)
	h := hash8(v)
	far := int(p.long[h])
	p.long[h] = uint16(at + 1)
	if p.load64(far) == v {
		if e := p.extend(at+9, far+8); e > end+1 {
			return at + 1, far, e
		}
	}
	return at, near, end
}

// follow is called after a match that was found at a position and ends at end. It
// puts some of its positions into the tables, takes matches with the second last
// distance that follow at once, and returns where to go on, and the last distance.
func (p *Zstd) follow(at, end, last int) (int, int) {
	if end >= final {
		return end, last
	}
	p.insert(at + 1)
	p.insert(at + 2)
	p.insert(end - 2)
	p.insert(end - 1)
	for end < final && p.load32(end-p.second) == p.load32(end) {
		start := end
		end = p.extend(start+4, start-p.second+4)
		p.insert(start)
		p.emit(start, start, end, 1) // without literals, 1 is the second last
		p.second, last = last, p.second
	}
	return end, last
}

// emit records a sequence: the literals from anchor on, and the match between
// from and end.
func (p *Zstd) emit(anchor, from, end int, offset uint32) {
	p.copyLiterals(anchor, from)
	p.sequences = append(p.sequences, sequence{uint16(from - anchor), uint16(end - from - 3), offset})
}

// copyLiterals adds what lies between two positions to the literals.
func (p *Zstd) copyLiterals(from, to int) {
	n := p.lits
	for i := from; i < to; i += pad {
		copy(p.literals[n&(unitSize-1):][:pad], p.unit[i&(unitSize-1):][:pad])
		n += pad
	}
	p.lits += to - from
}
