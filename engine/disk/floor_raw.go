package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
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
	data, err := r.file.Seek(off, unix.SEEK_DATA)
	if errors.Is(err, syscall.ENXIO) {
		return Extent{off, r.size - off, Hole}, nil
	}
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EOPNOTSUPP) {
		return Extent{off, r.size - off, Data}, nil // no such call for this file
	}
	if err != nil {
		return Extent{}, err
	}
	if data > off {
		return Extent{off, min(data, r.size) - off, Hole}, nil
	}
	hole, err := r.file.Seek(off, unix.SEEK_HOLE)
	if err != nil {
		return Extent{}, err
	}
	if hole <= off { // changed in between
		hole = off + 1
	}
	return Extent{off, min(hole, r.size) - off, Data}, nil
}

// rawUnit is the granularity in bytes at which a raw file is kept sparse.
const rawUnit = 4096
