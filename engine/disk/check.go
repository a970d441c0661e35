package disk

import (
	"context"
	"fmt"

	"b9.build/b9/engine/disk/image"
)

// Check looks at the structure of the image at path: every table entry is
// followed, packed units are unpacked, no two units may share their place in the
// file, and the reference counts of a qcow2 are compared with what is in use.
// Backing files are not opened. The error tells that the image could not be
// looked at; what was found wrong is in the report.
func Check(ctx context.Context, path, format string, o image.OpenOptions) (*image.Report, error) {
	o.Backing = func(image.Backing) (image.Image, error) { return image.Blank(0), nil }
	img, err := Open(path, format, o)
	if err != nil {
		return nil, err
	}
	defer img.Close()
	r := &image.Report{Format: format}
	if s, ok := img.(image.Structured); ok {
		if err := s.Check(ctx, r); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return r, nil
}
