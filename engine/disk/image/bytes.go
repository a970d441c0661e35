package image

import (
	"fmt"
	"io"
)

// Clip bounds a read of n bytes at off by the size of an image. It returns how
// many bytes can be read, and io.EOF if that is fewer than n.
func Clip(n int, off, size int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at negative offset %d", off)
	}
	if off >= size {
		return 0, io.EOF
	}
	if int64(n) > size-off {
		return int(size - off), io.EOF
	}
	return n, nil
}

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
