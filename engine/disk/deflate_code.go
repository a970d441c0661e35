package disk

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
)

// Symbols of deflate (RFC 1951, 3.2.5 to 3.2.7).
const (
	deflateEnd     = 256
	deflateLits    = 286
	deflateDists   = 30
	deflateMetas   = 19
	deflateLongest = 15 // bits of a code; of one for code lengths 7
)

// lengthSymbol returns the symbol of a match's length, less 3, and the number
// of extra bits and their value.
func lengthSymbol(n uint32) (symbol, extra, value uint32) {
	switch {
	case n < 8:
		return 257 + n, 0, 0
	case n == deflateMost-deflateLeast:
		return 285, 0, 0
	}
	extra = uint32(bits.Len32(n)) - 3
	return 257 + 4*extra + n>>extra, extra, n & (1<<extra - 1)
}

// distSymbol does so for a distance, less 1.
func distSymbol(n uint32) (symbol, extra, value uint32) {
	if n < 4 {
		return n, 0, 0
	}
	extra = uint32(bits.Len32(n)) - 2
	return 2*extra + n>>extra, extra, n & (1<<extra - 1)
}

// bitWriter collects bits, the least significant first.
type bitWriter struct {
	b    []byte
	bits uint64
	n    uint // of bits, less than 32 between calls
}

// put appends at most 32 bits.
func (w *bitWriter) put(v uint32, n uint) {
	w.bits |= uint64(v) << w.n
	if w.n += n; w.n >= 32 {
		w.b = binary.LittleEndian.AppendUint32(w.b, uint32(w.bits))
		w.bits >>= 32
		w.n -= 32
	}
}

// finish returns all bytes.
func (w *bitWriter) finish() []byte {
	for ; w.n > 0; w.n -= min(w.n, 8) {
		w.b = append(w.b, byte(w.bits))
		w.bits >>= 8
	}
	return w.b
}

// huffman is a canonical code for up to 286 symbols.
type huffman struct {
	freq   [deflateLits]uint32
	length [deflateLits]uint8
	code   [deflateLits]uint16 // with the bits in the order in which they are written
	leaves []uint32
	nodes  [deflateLits]uint32
}

func (h *huffman) put(w *bitWriter, symbol uint32) {
	w.put(uint32(h.code[symbol]), uint(h.length[symbol]))
}

// build makes the code for the frequencies of the first n symbols, with no code
// longer than longest. At least two symbols get one, because some readers want
// a complete code.
func (h *huffman) build(n, longest int) {
	clear(h.length[:n])
	h.leaves = h.leaves[:0]
	for i, f := range h.freq[:n] {
		if f > 0 {
			h.leaves = append(h.leaves, f<<9|uint32(i))
		}
	}
	for i := 0; len(h.leaves) < 2; i++ {
		if h.freq[i] == 0 {
			h.leaves = append(h.leaves, 1<<9|uint32(i))
		}
	}
	slices.Sort(h.leaves)
	h.lengths(longest)
	h.codes(n)
}

// lengths gives each leaf its length. The depths come from merging the two
// lightest trees again and again; those that are too deep are then pushed up,
// at the price of others, until the code fits (sum of 2^-length is one).
func (h *huffman) lengths(longest int) {
	var perLength [deflateLits + 1]int
	h.depths(&perLength)
	for l := longest + 1; l <= len(h.leaves); l++ {
		perLength[longest] += perLength[l]
		perLength[l] = 0
	}
	total := 0
	for l := 1; l <= longest; l++ {
		total += perLength[l] << (longest - l)
	}
	for ; total > 1<<longest; total-- {
		l := longest - 1
		for perLength[l] == 0 {
			l--
		}
		perLength[l]--
		perLength[l+1] += 2
		perLength[longest]--
	}
	i := 0
	for l := longest; l > 0; l-- { // the rarest symbols, which come first, get the longest
		for range perLength[l] {
			h.length[h.leaves[i]&511] = uint8(l)
			i++
		}
	}
}

// depths counts the leaves at each depth of the Huffman tree, from the leaves
// in ascending order: inner nodes come about in ascending order too.
func (h *huffman) depths(perLength *[deflateLits + 1]int) {
	n := len(h.leaves)
	var weight, parent [deflateLits]uint32
	leaf, inner := 0, 0
	take := func(node int) uint32 {
		if leaf < n && (inner == node || h.leaves[leaf]>>9 <= weight[inner]) {
			h.nodes[leaf] = uint32(node)
			leaf++
			return h.leaves[leaf-1] >> 9
		}
		parent[inner] = uint32(node)
		inner++
		return weight[inner-1]
	}
	for node := range n - 1 {
		a := take(node)
		weight[node] = a + take(node)
	}
	var depth [deflateLits]int
	for node := n - 3; node >= 0; node-- {
		depth[node] = depth[parent[node]] + 1
	}
	for i := range n {
		perLength[depth[h.nodes[i]]+1]++
	}
}

// codes assigns the canonical codes (RFC 1951, 3.2.2).
func (h *huffman) codes(n int) {
	var next [deflateLongest + 2]uint16
	for _, l := range h.length[:n] {
		if l > 0 {
			next[l+1]++
		}
	}
	code := uint16(0)
	for l := 1; l <= deflateLongest; l++ {
		code = (code + next[l]) << 1
		next[l] = code
	}
	for i, l := range h.length[:n] {
		if l > 0 {
			h.code[i] = bits.Reverse16(next[l]) >> (16 - l)
			next[l]++
		}
	}
}

// deflateStep is how many tokens are looked at together when the next block's
// end is sought, and blockCost about how many bits the codes of a block take.
const (
	deflateStep = 2048
	blockCost   = 75 * 8
)

// blocks writes the tokens in blocks: a run of tokens gets codes of its own where
// that saves more than these codes take.
func (d *deflater) blocks() {
	var open, step histogram
	start, cost := 0, 0.0
	for at := 0; at < len(d.tokens); at += deflateStep {
		run := d.tokens[at:min(at+deflateStep, len(d.tokens))]
		step.count(run)
		alone := step.bits()
		both := step
		both.add(&open)
		together := both.bits()
		if at > start && cost+alone+blockCost < together {
			d.block(d.tokens[start:at], &open, false)
			start, open, cost = at, step, alone
			continue
		}
		open, cost = both, together
	}
	d.block(d.tokens[start:], &open, true)
}

// histogram counts the symbols of tokens.
type histogram struct {
	lit  [deflateLits]uint32
	dist [deflateDists]uint32
}

func (h *histogram) count(tokens []uint32) {
	*h = histogram{}
	for _, t := range tokens {
		if t < deflateMatch {
			h.lit[t]++
			continue
		}
		l, _, _ := lengthSymbol(t >> 16 & 0xff)
		s, _, _ := distSymbol(t & 0x7fff)
		h.lit[l]++
		h.dist[s]++
	}
}

func (h *histogram) add(o *histogram) {
	for i, n := range o.lit {
		h.lit[i] += n
	}
	for i, n := range o.dist {
		h.dist[i] += n
	}
}

// bits returns the least number of bits that the symbols can take.
func (h *histogram) bits() float64 { return entropy(h.lit[:]) + entropy(h.dist[:]) }

func entropy(count []uint32) float64 {
	total, sum := uint32(0), 0.0
	for _, n := range count {
		if n > 0 {
			total += n
			sum += float64(n) * math.Log2(float64(n))
		}
	}
	if total == 0 {
		return 0
	}
	return float64(total)*math.Log2(float64(total)) - sum
}

// block writes one block with codes of its own.
func (d *deflater) block(tokens []uint32, h *histogram, final bool) {
	h.lit[deflateEnd] = 1
	copy(d.lit.freq[:], h.lit[:])
	copy(d.dist.freq[:], h.dist[:])
	d.lit.build(deflateLits, deflateLongest)
	d.dist.build(deflateDists, deflateLongest)
	w := &d.out
	last := uint32(0)
	if final {
		last = 1
	}
	w.put(last|2<<1, 3)
	d.header()
	for _, t := range tokens {
		if t < deflateMatch {
			d.lit.put(w, t)
			continue
		}
		symbol, extra, value := lengthSymbol(t >> 16 & 0xff)
		n := uint(d.lit.length[symbol])
		w.put(uint32(d.lit.code[symbol])|value<<n, n+uint(extra))
		symbol, extra, value = distSymbol(t & 0x7fff)
		n = uint(d.dist.length[symbol])
		w.put(uint32(d.dist.code[symbol])|value<<n, n+uint(extra))
	}
	d.lit.put(w, deflateEnd)
}

// codeRun is a symbol of the code for code lengths, with its extra bits.
type codeRun struct{ symbol, value, extra uint8 }

// metaOrder is the order in which the lengths of that code are written.
var metaOrder = [deflateMetas]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// header writes the lengths of both codes, themselves coded (RFC 1951, 3.2.7).
func (d *deflater) header() {
	lits, dists := deflateLits, deflateDists
	for d.lit.length[lits-1] == 0 {
		lits--
	}
	for dists > 1 && d.dist.length[dists-1] == 0 {
		dists--
	}
	var all [deflateLits + deflateDists]uint8
	copy(all[:], d.lit.length[:lits])
	copy(all[lits:], d.dist.length[:dists])
	d.runLengths(all[:lits+dists])

	clear(d.meta.freq[:deflateMetas])
	for _, r := range d.runs {
		d.meta.freq[r.symbol]++
	}
	d.meta.build(deflateMetas, 7)
	metas := deflateMetas
	for metas > 4 && d.meta.length[metaOrder[metas-1]] == 0 {
		metas--
	}
	w := &d.out
	w.put(uint32(lits-257)|uint32(dists-1)<<5|uint32(metas-4)<<10, 14)
	for _, s := range metaOrder[:metas] {
		w.put(uint32(d.meta.length[s]), 3)
	}
	for _, r := range d.runs {
		d.meta.put(w, uint32(r.symbol))
		w.put(uint32(r.value), uint(r.extra))
	}
}

// runLengths turns code lengths into symbols: 16 repeats the length before 3 to
// 6 times, 17 and 18 are 3 to 10 and 11 to 138 zeros.
func (d *deflater) runLengths(all []uint8) {
	d.runs = d.runs[:0]
	for i := 0; i < len(all); {
		l, n := all[i], 1
		for i+n < len(all) && all[i+n] == l {
			n++
		}
		i += n
		if l != 0 {
			d.runs = append(d.runs, codeRun{symbol: l})
			n--
		}
		for n >= 3 {
			var r codeRun
			k := 0
			switch {
			case l != 0:
				k = min(n, 6)
				r = codeRun{16, uint8(k - 3), 2}
			case n <= 10:
				k = n
				r = codeRun{17, uint8(k - 3), 3}
			default:
				k = min(n, 138)
				r = codeRun{18, uint8(k - 11), 7}
			}
			d.runs = append(d.runs, r)
			n -= k
		}
		for range n {
			d.runs = append(d.runs, codeRun{symbol: l})
		}
	}
}
