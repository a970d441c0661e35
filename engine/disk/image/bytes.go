package image

import (
	"fmt"
	"io"
	"os"
)

// ReadHead fills b from the start of f.
func ReadHead(f io.ReaderAt, b []byte) error {
	_, err := f.ReadAt(b, 0)
	if err == io.EOF {
		return fmt.Errorf("the file ends in the header of %d bytes", len(b))
	}
	return err
}

// RegularSize returns the size of f, which must be a regular file.
func RegularSize(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("not a regular file (%s)", info.Mode().Type())
	}
	return info.Size(), nil
}

// ReadSparse fills p from r at off; what lies after its end is zero.
func ReadSparse(r io.ReaderAt, p []byte, off int64) error {
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

// Chunk is a part of a disk that the table fills.
type Chunk struct {
	At    int64
	Bytes []byte
}
