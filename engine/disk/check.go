package disk

import (
	"context"
	"fmt"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/qcow2"
)

// Check looks at the structure of the image at path: every table entry is
// followed, packed units are unpacked, no two units may share their place in the
// file, and the reference counts of a qcow2.Format are compared with what is in use.
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
	if err := checkExtents(ctx, img, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := qcow2.CheckRefcounts(ctx, img, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// checkExtents goes through the whole image.
func checkExtents(ctx context.Context, img image.Image, r *image.Report) error {
	switch m := img.(type) {
	case *image.Mapped:
		return checkMapped(ctx, m, r)
	case *image.Joined:
		for _, p := range m.Parts {
			if err := checkExtents(ctx, p.Img, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkMapped follows every entry of the tables of m.
func checkMapped(ctx context.Context, m *image.Mapped, r *image.Report) error {
	taken := image.NewBitmap((m.End + m.Unit - 1) / m.Unit)
	buf := make([]byte, m.Unit)
	for off := int64(0); off < m.Length; {
		if err := ctx.Err(); err != nil {
			return err
		}
		s, err := m.Locate(off)
		if err != nil {
			r.Corrupt("at %d: %v", off, err)
			if r.Corruptions > 1000 {
				return nil
			}
			off += m.Unit
			continue
		}
		s.Length = min(s.Length, m.Length-off)
		checkSpot(m, off, s, taken, buf, r)
		off += s.Length
	}
	return nil
}

// checkSpot unpacks a packed unit into buf, and notes the places of plain ones.
func checkSpot(m *image.Mapped, off int64, s image.Spot, taken image.Bitmap, buf []byte, r *image.Report) {
	switch s.Kind {
	case image.SpotPacked:
		r.Clusters++
		if err := m.Unpack(buf, off, s); err != nil {
			r.Corrupt("at %d: %v", off, err)
		}
	case image.SpotPlain:
		r.Clusters += (s.Length + m.Unit - 1) / m.Unit
		for k := int64(0); k < s.Length && m.Aligned() && off%m.Unit == 0; k += m.Unit {
			if at := s.At + k; taken.Set(at / m.Unit) {
				r.Corrupt("at %d: the place in the file, offset %d, is taken twice", off+k, at)
			}
		}
	}
}
