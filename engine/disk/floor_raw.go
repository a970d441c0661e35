package disk

import (
	"fmt"
	"io"
	"os"

	"b9/engine/internal/sparse"
)

type rawImage struct {
	file *os.File
	size int64
}

func (r *rawImage) Size() int64 { return r.size }

func (r *rawImage) Close() error { return r.file.Close() }

func (r *rawImage) ReadAt(p []byte, off int64) (int, error) {
	n, eof := clip(len(p), off, r.size)
	if n == 0 {
		return 0, eof
	}
	if got, err := r.file.ReadAt(p[:n], off); err != nil {
		if err == io.EOF {
			err = fmt.Errorf("%s was shortened while it was read: %w", r.file.Name(), io.ErrUnexpectedEOF)
		}
		return got, err
	}
	return n, eof
}

// Extent asks the file system where data and holes are (lseek(2), SEEK_DATA).
func (r *rawImage) Extent(off int64) (Extent, error) {
	if off < 0 || off >= r.size {
		return Extent{}, io.EOF
	}
	start, end, err := sparse.Run(r.file, off, r.size)
	if err != nil {
		return Extent{}, err
	}
	if start > off {
		return Extent{Start: off, Length: start - off, State: Hole}, nil
	}
	return Extent{Start: off, Length: end - off, State: Data}, nil
}

// rawUnit is the granularity in bytes at which a raw file is kept sparse.
const rawUnit = 4096
