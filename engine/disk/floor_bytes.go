package disk

import (
	"fmt"
	"io"
	"os"
)

// readHead fills b from the start of f.
func readHead(f io.ReaderAt, b []byte) error {
	_, err := f.ReadAt(b, 0)
	if err == io.EOF {
		return fmt.Errorf("the file ends in the header of %d bytes", len(b))
	}
	return err
}

// regularSize returns the size of f, which must be a regular file.
func regularSize(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("not a regular file (%s)", info.Mode().Type())
	}
	return info.Size(), nil
}

// readSparse fills p from r at off; what lies after its end is zero.
func readSparse(r io.ReaderAt, p []byte, off int64) error {
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

// roundUp returns the least multiple of unit that is not less than n.
func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// chunk is a part of a disk that the table fills.
type chunk struct {
	at    int64
	bytes []byte
}
