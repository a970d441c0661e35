// Package sparse walks the data and the holes of files, and makes holes. All of
// b9 looks for holes here. The package imports nothing of b9.
//
//	Open       opens a regular file, whatever path names
//	Data, Run  where the next data is (lseek(2), SEEK_DATA and SEEK_HOLE)
//	IsZero     whether bytes could be a hole; Runs, which of them could not
//	Punch      makes a hole; Zero writes zeros where there can't be one
//	Shared     where two files are the same blocks of the disk
//	Clones     where a file is known to hold what another one holds
//
// A file system that keeps no account of holes, and a device, have data
// everywhere.
package sparse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"

	"golang.org/x/sys/unix"
)

// ErrChanged is returned when a file changed while it was read.
var ErrChanged = errors.New("changed while it was read")

// Open opens a file for reading and returns what Stat says of it. A symbolic
// link is followed. It does not wait for the other end of a pipe, and refuses
// what is not a regular file.
func Open(path string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file but %s", path, typeName(info.Mode()))
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// typeName names the type of a file with its article.
func typeName(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		return "a pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	}
	return "something else"
}

// Data returns the offset of the first byte of f at or after off that is no
// hole, and size where only a hole follows. It moves f's own offset. f is an
// [os.File], or something whose Seek hands SEEK_DATA to the kernel.
func Data(f io.Seeker, off, size int64) (int64, error) {
	at, err := f.Seek(off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return off, nil
	case err != nil:
		return 0, fmt.Errorf("look for data: %w", err)
	}
	return min(at, size), nil
}

// Run returns the first run of data of f that ends after off, cut to [off,
// size). Where only a hole follows, start and end are size; else end is after
// start. It moves f's own offset. A file that was truncated in between gives
// [ErrChanged].
func Run(f io.Seeker, off, size int64) (start, end int64, err error) {
	start, err = Data(f, off, size)
	if err != nil || start >= size {
		return start, start, err
	}
	end, err = f.Seek(start, unix.SEEK_HOLE)
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return start, size, nil
	case errors.Is(err, unix.ENXIO):
		return 0, 0, ErrChanged
	case err != nil:
		return 0, 0, fmt.Errorf("look for a hole: %w", err)
	}
	// A hole that was made at start in between must not stop a walk.
	return start, min(max(end, start+1), size), nil
}

// IsZero reports whether p holds only zeros.
func IsZero(p []byte) bool {
	// Comparing with itself, moved by one, uses the vector instructions of
	// bytes.Equal, and ends at the first difference.
	return len(p) == 0 || p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1])
}

// Runs yields the runs [from, to) of b that hold other than zeros, in steps of unit
// bytes from b's beginning on.
func Runs(b []byte, unit int) iter.Seq2[int, int] {
	return func(yield func(from, to int) bool) {
		for from := 0; from < len(b); {
			to := from
			for to < len(b) && !IsZero(b[to:min(to+unit, len(b))]) {
				to = min(to+unit, len(b))
			}
			if to > from && !yield(from, to) {
				return
			}
			from = min(to+unit, len(b)) // past the zeros
		}
	}
}

// Punch makes bytes [off, off+n) of f a hole and keeps f's size. The error is
// the kernel's: EOPNOTSUPP where the file system has no holes.
func Punch(f *os.File, off, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
		if err != unix.EINTR {
			return err
		}
	}
}

// zeroChunk is what Zero writes at a time, in bytes.
const zeroChunk = 1 << 20

// Zero makes bytes [off, off+n) of f zero: a hole where there can be one, else
// written. Writing past the end makes f longer; a hole does not.
func Zero(ctx context.Context, f *os.File, off, n int64) error {
	if n <= 0 || Punch(f, off, n) == nil {
		return nil
	}
	return writeZeros(ctx, f, off, n)
}

func writeZeros(ctx context.Context, f io.WriterAt, off, n int64) error {
	zeros := make([]byte, min(n, zeroChunk))
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		k, err := f.WriteAt(zeros[:min(n, zeroChunk)], off)
		if err != nil {
			return err
		}
		off, n = off+int64(k), n-int64(k)
	}
	return nil
}
