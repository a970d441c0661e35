package image

import (
	"encoding/binary"
	"io"
)

// ReadPadded fills p from r at off; what lies after its end is zero.
func ReadPadded(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n < len(p) && err == io.EOF {
		clear(p[n:])
		return nil
	}
	if n == len(p) {
		return nil
	}
	return err
}

// RoundUp returns the least multiple of unit that is not less than n.
func RoundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// Chunk is some bytes of a file or disk, and their offset in it.
type Chunk struct {
	At    int64
	Bytes []byte
}

// Encode returns the bytes of v, a structure of fixed size or a slice of such.
// Anything else is a mistake of the caller's, and panics.
func Encode(order binary.ByteOrder, v any) []byte {
	b, err := binary.Append(nil, order, v)
	if err != nil {
		panic(err)
	}
	return b
}
