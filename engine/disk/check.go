package disk

import (
	"context"
	"fmt"
)

// Check looks at the structure of the image at path: every table entry is
// followed, packed units are unpacked, no two units may share their place in the
// file, and the reference counts of a qcow2 are compared with what is in use.
// Backing files are not opened. The error tells that the image could not be
// looked at; what was found wrong is in the report.
func Check(ctx context.Context, path, format string, o OpenOptions) (*Report, error) {
	o.Backing = func(Backing) (Image, error) { return Blank(0), nil }
	img, err := Open(path, format, o)
	if err != nil {
		return nil, err
	}
	defer img.Close()
	r := &Report{Format: format}
	if err := checkExtents(ctx, img, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := checkRefcounts(ctx, img, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// checkExtents goes through the whole image.
func checkExtents(ctx context.Context, img Image, r *Report) error {
	switch m := img.(type) {
	case *mapped:
		return checkMapped(ctx, m, r)
	case *joined:
		for _, p := range m.parts {
			if err := checkExtents(ctx, p.img, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkMapped follows every entry of the tables of m.
func checkMapped(ctx context.Context, m *mapped, r *Report) error {
	taken := newBitmap((m.end + m.unit - 1) / m.unit)
	buf := make([]byte, m.unit)
	for off := int64(0); off < m.size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		s, err := m.locate(off)
		if err != nil {
			r.corrupt("at %d: %v", off, err)
			if r.Corruptions > 1000 {
				return nil
			}
			off += m.unit
			continue
		}
		s.length = min(s.length, m.size-off)
		checkSpot(m, off, s, taken, buf, r)
		off += s.length
	}
	return nil
}

// checkSpot unpacks a packed unit into buf, and notes the places of plain ones.
func checkSpot(m *mapped, off int64, s spot, taken bitmap, buf []byte, r *Report) {
	switch s.kind {
	case spotPacked:
		r.Clusters++
		if err := m.unpack(buf, off, s); err != nil {
			r.corrupt("at %d: %v", off, err)
		}
	case spotPlain:
		r.Clusters += (s.length + m.unit - 1) / m.unit
		for k := int64(0); k < s.length && m.aligned() && off%m.unit == 0; k += m.unit {
			if at := s.at + k; taken.set(at / m.unit) {
				r.corrupt("at %d: the place in the file, offset %d, is taken twice", off+k, at)
			}
		}
	}
}
