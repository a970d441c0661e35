package press

import "math/bits"

// stateCoder is a code of finite state entropy (RFC 8878, 4.1) for up to 53
// symbols, with tables of at most 512 states.
type stateCoder struct {
	count [64]uint32
	norm  [64]uint32 // states that each symbol has; their sum is 1<<log
	log   uint       // 0: there is only one symbol, which takes no bits
	state uint32

	next   [512]uint16 // states by symbol, in ascending order
	spread [512]uint8
	symbol [64]symbolCode
}

// symbolCode says how many bits leave the state before a symbol, (state+bits)>>16,
// and where its states begin in next.
type symbolCode struct {
	bits uint32
	find int32
}

func (f *stateCoder) reset() { clear(f.count[:]) }

// build makes the code for the n symbols that were counted, with at most 1<<most
// states, and appends its description. The mode is that of the sequences section:
// 1 for a single symbol, 2 for a table.
func (f *stateCoder) build(dst []byte, n, most int) ([]byte, byte) {
	used, last := 0, 0
	for s, c := range f.count {
		if c > 0 {
			used++
			last = s
		}
	}
	if used == 1 {
		f.log, f.symbol[last], f.next[0] = 0, symbolCode{}, 0
		return append(dst, byte(last)), 1
	}
	f.log = uint(max(min(most, bits.Len(uint(n))-2), bits.Len(uint(used)), 5))
	f.normalize(n)
	f.table(last + 1)
	return f.describe(dst, last+1), 2
}

// normalize gives each symbol states in proportion to its count, at least one.
func (f *stateCoder) normalize(n int) {
	size := uint32(1) << f.log
	left := int32(size)
	for s, c := range f.count {
		f.norm[s] = 0
		if c > 0 {
			f.norm[s] = max(1, (c*size+uint32(n)/2)/uint32(n))
			left -= int32(f.norm[s])
		}
	}
	for left != 0 { // what rounding left over goes where it matters least
		best := 0
		for s := range f.norm {
			if f.norm[s] > f.norm[best] {
				best = s
			}
		}
		step := left
		if step < 0 {
			step = max(step, -int32(f.norm[best]/4+1), 1-int32(f.norm[best]))
		}
		f.norm[best] = uint32(int32(f.norm[best]) + step)
		left -= step
	}
}

// table spreads the symbols over the states (RFC 8878, 4.1.1).
func (f *stateCoder) table(symbols int) {
	size := uint32(1) << f.log
	step, at := size>>1+size>>3+3, uint32(0)
	var first [64]uint32
	total := uint32(0)
	for s := range symbols {
		n := f.norm[s]
		first[s] = total
		for range n {
			f.spread[at] = uint8(s)
			at = (at + step) & (size - 1)
		}
		switch {
		case n == 1:
			f.symbol[s] = symbolCode{uint32(f.log)<<16 - size, int32(total) - 1}
		case n > 1:
			width := uint32(f.log) - uint32(bits.Len32(n-1)-1)
			f.symbol[s] = symbolCode{width<<16 - n<<width, int32(total) - int32(n)}
		}
		total += n
	}
	for state := range size {
		s := f.spread[state]
		f.next[first[s]] = uint16(size + state)
		first[s]++
	}
}

// describe appends how many states each symbol has (RFC 8878, 4.1.1).
func (f *stateCoder) describe(dst []byte, symbols int) []byte {
	w := bitWriter{b: dst}
	w.put(uint32(f.log)-5, 4)
	left, threshold, width := uint32(1)<<f.log+1, uint32(1)<<f.log, f.log+1
	for s := 0; s < symbols; {
		n := f.norm[s]
		s++
		short := 2*threshold - 1 - left
		left -= n
		value := n + 1
		if value >= threshold {
			value += short
		}
		if value < short {
			w.put(value, width-1)
		} else {
			w.put(value, width)
		}
		if n == 0 { // how many more symbols have none
			zeros := 0
			for s < symbols && f.norm[s] == 0 {
				s++
				zeros++
			}
			for ; zeros >= 3; zeros -= 3 {
				w.put(3, 2)
			}
			w.put(uint32(zeros), 2)
		}
		for left < threshold {
			width--
			threshold >>= 1
		}
	}
	return w.finish()
}

// start takes the last symbol, without writing anything.
func (f *stateCoder) start(s uint8) {
	t := f.symbol[s]
	width := (t.bits + 1<<15) >> 16
	f.state = uint32(f.next[int32((width<<16-t.bits)>>width)+t.find])
}

// put adds to the n bits in acc those that the step to a symbol needs.
func (f *stateCoder) put(acc uint64, n uint, s uint8) (uint64, uint) {
	t := f.symbol[s&63]
	width := (f.state + t.bits) >> 16 & 31
	acc |= uint64(f.state&(1<<width-1)) << (n & 63)
	f.state = uint32(f.next[(int32(f.state>>width)+t.find)&511])
	return acc, n + uint(width)
}
