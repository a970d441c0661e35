// Package raw reads and writes raw images: files and block devices that are the
// bytes of the disk and nothing else.
//
// A raw file follows no specification, and nothing marks it: no bytes are "not
// raw". Its holes are those of the file. What reads its data and holes is package
// blob; what writes it is package pump.
package raw

import (
	"context"
	"os"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/pump"
)

// Format is the format of plain bytes.
type Format struct{}

// Name returns "raw".
func (Format) Name() string { return "raw" }

// Extensions implements image.Format.
func (Format) Extensions() []string { return []string{"raw", "img"} }

// Probe returns false: nothing marks a raw image.
func (Format) Probe([]byte) bool { return false }

// Open returns src. A size that is no multiple of the sector size is kept as it is.
func (Format) Open(src image.Image, _ string, _ image.OpenOptions) (image.Image, error) {
	return src, nil
}

// Write makes w a sparse file with the size and contents of src. Where src is a
// raw file, or put together from parts of raw files, and the file system can,
// they share their blocks.
func (Format) Write(ctx context.Context, w *os.File, src image.Image, o image.WriteOptions) error {
	if err := o.Refuse("raw"); err != nil {
		return err
	}
	if pump.Clone(w, src) {
		return nil
	}
	if err := w.Truncate(src.Size()); err != nil {
		return err
	}
	return pump.Copy(ctx, w, 0, src, o.Progress)
}
