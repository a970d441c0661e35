// Package blob is the content of one file as its readers see it: a size, bytes
// at offsets, and runs of which it is known that they are data, zeros or holes.
// Where the bytes come from, a [Blob] hides: from a file of the host ([Open],
// [FromFile]), from the differences to another file, or over a network.
//
//	Blob, Extent, State  an open content, a run of it, and what the run holds
//	Open, FromFile       a file or a block device of the host as a blob
//	Reader, ReadAll      all of a blob, in a stream or in memory
//	Seeker               a blob as the package sparse looks for holes in it
//	Clip                 what of a read lies in a blob, for whoever makes one
//
// It knows no format and writes nothing. Of b9 it imports only sparse, for the
// holes.
package blob

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/sparse"
)

// State says what a part of a blob holds.
type State uint8

// The states. Zero and Hole both read as zero bytes; a Hole takes no room where
// the blob is kept, a Zero part is recorded as zero.
const (
	Data State = iota
	Zero
	Hole
)

// String returns "data", "zero" or "hole".
func (s State) String() string { return [...]string{Data: "data", Zero: "zero", Hole: "hole"}[s] }

// Extent is a part of a blob with one state. Start and Length are bytes.
type Extent struct {
	Start, Length int64
	State         State
}

// End is the offset after the last byte of e.
func (e Extent) End() int64 { return e.Start + e.Length }

// Blob is an open content. Its methods may be called concurrently, except Close.
type Blob interface {
	io.ReaderAt
	io.Closer
	// Size is in bytes; holes count.
	Size() int64
	// Extent returns a run of one state that starts at off and is at least one
	// byte long; the next run may have the same state. At or after the end,
	// and for negative offsets, the error is io.EOF.
	Extent(off int64) (Extent, error)
}

// Clip bounds a read of n bytes at off by the size of a blob. It returns how
// many bytes can be read, and io.EOF if that is fewer than n.
func Clip(n int, off, size int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at the negative offset %d", off)
	}
	if off >= size {
		return 0, io.EOF
	}
	if int64(n) > size-off {
		return int(size - off), io.EOF
	}
	return n, nil
}

// Reader returns a reader of all of b from its beginning. It does not close b.
func Reader(b Blob) io.Reader { return io.NewSectionReader(b, 0, b.Size()) }

// ReadAll reads all of b into memory, if that is at most limit bytes.
func ReadAll(b Blob, limit int64) ([]byte, error) {
	if b.Size() > limit {
		return nil, fmt.Errorf("%d bytes are more than the %d that have room in memory", b.Size(), limit)
	}
	data := make([]byte, b.Size())
	_, err := io.ReadFull(Reader(b), data)
	return data, err
}

// Seeker is a blob whose Seek answers SEEK_DATA and SEEK_HOLE as the kernel does for a
// file with the same holes. It keeps no position, and may be used concurrently.
func Seeker(b Blob) interface {
	io.ReaderAt
	io.Seeker
} {
	if f, ok := b.(*file); ok {
		return f.File
	}
	return seeker{b}
}

type seeker struct{ Blob }

// Seek implements io.Seeker for SEEK_DATA and SEEK_HOLE.
func (s seeker) Seek(off int64, whence int) (int64, error) {
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE || off >= s.Size() {
		return 0, &os.PathError{Op: "seek", Path: "a blob", Err: unix.ENXIO}
	}
	for off < s.Size() {
		e, err := s.Extent(off)
		if err != nil {
			return 0, err
		}
		if (e.State == Data) == (whence == unix.SEEK_DATA) {
			return off, nil
		}
		off = e.End()
	}
	if whence == unix.SEEK_HOLE {
		return s.Size(), nil
	}
	return 0, &os.PathError{Op: "seek", Path: "a blob", Err: unix.ENXIO}
}

// Open opens a regular file or a block device of the host as a blob.
func Open(path string) (Blob, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := FromFile(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return b, nil
}

// FromFile makes a blob of an open file, which the blob's Close closes. Its
// size is that of the file now, and nothing else may move the file's position.
func FromFile(f *os.File) (Blob, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if m := info.Mode(); !m.IsRegular() && m.Type() != os.ModeDevice {
		return nil, fmt.Errorf("not a regular file or block device (%s)", m.Type())
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	return &file{File: f, size: size}, nil
}

// file is a blob whose holes are those of a file.
type file struct {
	*os.File
	size int64
}

func (f *file) Size() int64 { return f.size }

// ReadAt implements io.ReaderAt. A file that became shorter is an error other
// than io.EOF.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	n, end := Clip(len(p), off, f.size)
	got, err := f.File.ReadAt(p[:n], off)
	switch {
	case got == n:
		return got, end
	case err == io.EOF:
		err = fmt.Errorf("%s was shortened while it was read: %w", f.Name(), io.ErrUnexpectedEOF)
	}
	return got, err
}

// Extent asks the file system where data and holes are.
func (f *file) Extent(off int64) (Extent, error) {
	if off < 0 || off >= f.size {
		return Extent{}, io.EOF
	}
	start, end, err := sparse.Run(f, off, f.size)
	switch {
	case err != nil:
		return Extent{}, err
	case start > off:
		return Extent{off, start - off, Hole}, nil
	}
	return Extent{off, end - off, Data}, nil
}
