package disk

import (
	"context"
	"fmt"
	"io"
	"os"
)

// State says what a part of an image holds.
type State uint8

// The states. Zero and Hole both read as zero bytes; a Hole takes no room in the
// file, a Zero part is recorded as zero.
const (
	Data State = iota
	Zero
	Hole
)

// String returns "data", "zero" or "hole".
func (s State) String() string {
	switch s {
	case Data:
		return "data"
	case Zero:
		return "zero"
	}
	return "hole"
}

// Extent is a part of an image with one state. Start and Length are bytes.
type Extent struct {
	Start, Length int64
	State         State
}

// End is the offset after the last byte of e.
func (e Extent) End() int64 { return e.Start + e.Length }

// Image is an open disk image. Its methods may be called concurrently, except Close.
type Image interface {
	io.ReaderAt
	io.Closer
	// Size is the virtual size in bytes.
	Size() int64
	// Extent returns a run of one state that starts at off and is at least one
	// byte long; the next run may have the same state. At or after the end of the
	// image, and for negative offsets, the error is io.EOF.
	Extent(off int64) (Extent, error)
}

// Format is a container format for disk images.
type Format interface {
	// Name is the format's name in build files: "qcow2".
	Name() string
	// Extensions are the customary endings of file names, without the dot.
	Extensions() []string
	// Probe reports whether head, the first bytes of a file, look like the format.
	Probe(head []byte) bool
	// Open reads the image in f. The image owns f from then on; after an error
	// the caller still does. Files that f refers to are looked for beside f.Name().
	Open(f *os.File, o OpenOptions) (Image, error)
	// Write fills the empty file w with src. It does not close or sync w.
	Write(ctx context.Context, w *os.File, src Image, o WriteOptions) error
}

// clip bounds a read of n bytes at off by the size of an image. It returns how
// many bytes can be read, and io.EOF if that is fewer than n.
func clip(n int, off, size int64) (int, error) {
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

// defaultMaxSize is 1 PiB, more than file systems for raw images hold.
const defaultMaxSize = 1 << 50
