package press

import (
	"encoding/binary"
	"math/bits"
)

// zstdPad follows the unit in memory and the literals in theirs, so that reading
// and copying whole words needs no second thought near the end. A position is
// cut to 16 bits before it is used, which tells the compiler that it lies within.
const zstdPad = 16

// zstdTables find where bytes occurred before.
type zstdTables struct {
	unit  [zstdUnit + zstdPad]byte
	long  [1 << zstdLong]uint16  // last position of each hash of eight bytes
	short [1 << zstdShort]uint16 // and of five; 0 where there is none, too
}

const (
	zstdLong  = 16
	zstdShort = 15
)

func zstdHash8(v uint64) uint64 { return v * 0xcf1bbcdcb7a56463 >> (64 - zstdLong) }

func zstdHash5(v uint64) uint64 { return v << 24 * 0xcf1bbcdcbb >> (64 - zstdShort) }

func (t *zstdTables) reset(unit []byte) {
	copy(t.unit[:zstdUnit], unit)
	clear(t.long[:])
	clear(t.short[:])
}

func (t *zstdTables) load64(at int) uint64 {
	return binary.LittleEndian.Uint64(t.unit[at&(zstdUnit-1):][:8])
}

func (t *zstdTables) load32(at int) uint32 {
	return binary.LittleEndian.Uint32(t.unit[at&(zstdUnit-1):][:4])
}

// insert puts a position into the tables.
func (t *zstdTables) insert(at int) {
	v := t.load64(at)
	t.long[zstdHash8(v)], t.short[zstdHash5(v)] = uint16(at), uint16(at)
}

// extend returns where the bytes from i on stop to agree with those from j < i on.
func (t *zstdTables) extend(i, j int) int {
	for ; i < zstdUnit; i, j = i+8, j+8 {
		if x := t.load64(i) ^ t.load64(j); x != 0 {
			return min(i+bits.TrailingZeros64(x)>>3, zstdUnit)
		}
	}
	return zstdUnit
}

// find splits the unit into literals and matches: at each position the last
// distance is tried one byte ahead, then the last place with the same eight,
// then with the same five bytes. Where nothing is found for long, steps become
// larger. That a table has nothing need not be asked: what it says is compared
// in any case, and position 0 is as good as another.
func (p *Zstd) find(unit []byte) {
	p.reset(unit)
	p.sequences, p.lits, p.second = p.sequences[:0], 0, 4
	anchor, last := 0, 1 // where literals begin, and the last distance
	for at := 1; at < zstdFinal; {
		v := p.load64(at)
		h8, h5 := zstdHash8(v), zstdHash5(v)
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
			for from > anchor && to > 0 && p.unit[(from-1)&(zstdUnit-1)] == p.unit[(to-1)&(zstdUnit-1)] {
				from, to = from-1, to-1
			}
			p.second, last = last, from-to
			p.emit(anchor, from, end, uint32(last)+3)
		}
		at, last = p.follow(at, end, last)
		anchor = at
	}
	p.take(anchor, zstdUnit)
}

// zstdFinal is the position from which on no match begins.
const zstdFinal = zstdUnit - 16

// better returns the match of five bytes or more at near, or a longer one of at
// least eight that begins one byte later.
func (p *Zstd) better(at, near int) (from, to, end int) {
	end = p.extend(at+5, near+5)
	v := p.load64(at + 1)
	h := zstdHash8(v)
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
	if end >= zstdFinal {
		return end, last
	}
	p.insert(at + 1)
	p.insert(at + 2)
	p.insert(end - 2)
	p.insert(end - 1)
	for end < zstdFinal && p.load32(end-p.second) == p.load32(end) {
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
	p.take(anchor, from)
	p.sequences = append(p.sequences, zstdSequence{uint16(from - anchor), uint16(end - from - 3), offset})
}

// take adds what lies between two positions to the literals.
func (p *Zstd) take(from, to int) {
	n := p.lits
	for i := from; i < to; i += zstdPad {
		copy(p.literals[n&(zstdUnit-1):][:zstdPad], p.unit[i&(zstdUnit-1):][:zstdPad])
		n += zstdPad
	}
	p.lits += to - from
}
