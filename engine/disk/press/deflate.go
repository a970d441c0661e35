package press

import (
	"bytes"
	"encoding/binary"
	"hash/adler32"

	"github.com/klauspost/compress/flate"
)

// Deflater compresses units, each by itself, to deflate (RFC 1951). The output
// depends on the unit and the level alone, not on the units before. One holds
// 1.5 MB.
type Deflater struct {
	packed *flate.Writer
	stored *flate.Writer // for units that no coder makes smaller
	out    bytes.Buffer
}

// NewDeflater returns a deflater of one of the library's levels, 1 (fast) to 9 (small).
func NewDeflater(level int) (*Deflater, error) {
	packed, err := flate.NewWriter(nil, level)
	if err != nil {
		return nil, err
	}
	stored, err := flate.NewWriter(nil, flate.NoCompression)
	return &Deflater{packed: packed, stored: stored}, err
}

// Zlib appends src in the zlib format (RFC 1950) to dst.
func (d *Deflater) Zlib(dst, src []byte) []byte {
	dst = d.Deflate(append(dst, 0x78, 0x9c), src)
	return binary.BigEndian.AppendUint32(dst, adler32.Checksum(src))
}

// Deflate appends src as raw deflate to dst.
func (d *Deflater) Deflate(dst, src []byte) []byte {
	w := d.packed
	if Incompressible(src) {
		w = d.stored
	}
	d.out = *bytes.NewBuffer(dst)
	w.Reset(&d.out)
	w.Write(src) // a buffer returns no error
	w.Close()
	return d.out.Bytes()
}

// Incompressible reports whether samples spread over b have the even
// distribution of encrypted or compressed bytes, so that no coder could gain
// more than half a percent. It looks at a sixteenth of a large unit.
func Incompressible(b []byte) bool {
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
