package press

import "encoding/binary"

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
