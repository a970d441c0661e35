package image

import (
	"context"
	"fmt"
	"io"
	"os"

	"b9.build/b9/engine/internal/blob"
)

// Image is an open disk image: a blob of the size that the machine sees.
type Image = blob.Blob

// Extent is a part of an image with one state.
type Extent = blob.Extent

// State says what a part of an image holds.
type State = blob.State

// The states of a part; see package blob.
const (
	Data = blob.Data
	Zero = blob.Zero
	Hole = blob.Hole
)

// Format is a container format for disk images.
type Format interface {
	// Name is the format's name in build files: "qcow2.Format".
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

// DefaultMaxSize is 1 PiB, more than file systems for raw images hold.
const DefaultMaxSize = 1 << 50
