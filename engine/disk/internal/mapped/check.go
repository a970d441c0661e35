package mapped

import (
	"context"

	"b9.build/b9/engine/disk/image"
)

// Layout implements image.Structured.
func (m *Image) Layout() image.Layout {
	return image.Layout{Subformat: m.Subformat, Unit: m.Unit, Compress: m.Compress}
}

// maxCorruptions is how many entries that lead nowhere a check goes through.
const maxCorruptions = 1000

// Check follows every entry of the tables, unpacks every packed unit, and
// reports units that share their part of the file.
func (m *Image) Check(ctx context.Context, r *image.Report) error {
	c := check{Image: m, report: r, used: make(bitmap, (m.File.Size()+m.Unit-1)/m.Unit/64+1), buf: make([]byte, m.Unit)}
	for off := int64(0); off < m.Length && r.Corruptions <= maxCorruptions; {
		if err := ctx.Err(); err != nil {
			return err
		}
		s, err := m.Locate(off)
		if err != nil {
			r.Corrupt("at %d: %v", off, err)
			off += m.Unit
			continue
		}
		s.Length = min(s.Length, m.Length-off)
		c.spot(off, s)
		off += s.Length
	}
	if m.Verify == nil {
		return nil
	}
	return m.Verify(ctx, r)
}

// check is the state of one call of Check.
type check struct {
	*Image
	report *image.Report
	used   bitmap // units of the file in which a unit of the image lies
	buf    []byte
}

// spot checks one spot. Units start at whole multiples of a unit in the file, or
// at least as far apart as they are long, so that a number of a unit's size names
// one; where units are split, several spots of one unit would look like doubles.
func (c *check) spot(off int64, s Spot) {
	switch s.Kind {
	case Packed:
		c.report.Clusters++
		if err := c.unpack(c.buf, off, s); err != nil {
			c.report.Corrupt("at %d: %v", off, err)
		}
	case Plain:
		c.report.Clusters += (s.Length + c.Unit - 1) / c.Unit
		for k := int64(0); k < s.Length && !c.Split && off%c.Unit == 0; k += c.Unit {
			if at := s.At + k; c.used.set(at / c.Unit) {
				c.report.Corrupt("at %d: the place in the file, offset %d, is taken twice", off+k, at)
			}
		}
	}
}

// bitmap is a set of small numbers.
type bitmap []uint64

// set adds i and reports whether it was there before. Numbers out of range are not.
func (b bitmap) set(i int64) bool {
	if i < 0 || i/64 >= int64(len(b)) {
		return false
	}
	was := b[i/64]>>(i%64)&1 != 0
	b[i/64] |= 1 << (i % 64)
	return was
}
