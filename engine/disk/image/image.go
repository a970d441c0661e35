// Package image is what every format for disk images and everyone who uses one
// agree on: what an open image is, what a format must be able to do, and the
// options of both.
//
// It knows no format and opens no files. What formats are made of beneath this
// lies in disk/internal: mapped reads images through tables, pump writes them.
//
//   - [Image], [Extent], [State]: an open image, which is a blob (package blob)
//   - [Format]: what a format does; disk.Formats is the table of them
//   - [OpenOptions], [WriteOptions], [Backing]: what the caller decides
//   - [Structured], [Layout], [Report]: what else an image can tell, and a check
//   - [Joined], [Section], [Bytes], [Blank]: images made of others, or of nothing
//   - [Chunk], [ReadPadded], [RoundUp], [Encode]: bytes at an offset
package image

import (
	"context"
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
	// Name is the format's name in build files: "qcow2".
	Name() string
	// Extensions are the customary endings of file names, without the dot.
	Extensions() []string
	// Probe reports whether head, the first bytes of a file, look like the format.
	Probe(head []byte) bool
	// Open reads the image in src, the content of the file at path. The image owns
	// src from then on; after an error the caller still does. Files that the image
	// refers to are looked for beside path.
	Open(src Image, path string, o OpenOptions) (Image, error)
	// Write fills the empty file w with src. It does not close or sync w.
	Write(ctx context.Context, w *os.File, src Image, o WriteOptions) error
}

// DefaultMaxSize is 1 PiB, more than file systems for raw images hold.
const DefaultMaxSize = 1 << 50
