package image

import (
	"fmt"
	"io"
	"os"

	"b9.build/b9/engine/internal/sparse"
)

type File struct {
	File   *os.File
	Length int64
}

func (r *File) Size() int64 { return r.Length }

func (r *File) Close() error { return r.File.Close() }

func (r *File) ReadAt(p []byte, off int64) (int, error) {
	n, eof := clip(len(p), off, r.Length)
	if n == 0 {
		return 0, eof
	}
	if got, err := r.File.ReadAt(p[:n], off); err != nil {
		if err == io.EOF {
			err = fmt.Errorf("%s was shortened while it was read: %w", r.File.Name(), io.ErrUnexpectedEOF)
		}
		return got, err
	}
	return n, eof
}

// Extent asks the file system where data and holes are (lseek(2), SEEK_DATA).
func (r *File) Extent(off int64) (Extent, error) {
	if off < 0 || off >= r.Length {
		return Extent{}, io.EOF
	}
	start, end, err := sparse.Run(r.File, off, r.Length)
	if err != nil {
		return Extent{}, err
	}
	if start > off {
		return Extent{Start: off, Length: start - off, State: Hole}, nil
	}
	return Extent{Start: off, Length: end - off, State: Data}, nil
}

// RawUnit is the granularity in bytes at which a raw file is kept sparse.
const RawUnit = 4096
