package disk

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
)

// Report is what Check found.
type Report struct {
	Format      string
	Clusters    int64    // units of the image that hold data
	Leaks       int64    // clusters of the file that are counted but not in use: room is wasted, nothing is wrong
	Corruptions int64    // what makes data wrong or endangers it
	Problems    []string // the first of both, a sentence each
}

// maxProblems is how many sentences a report holds at most.
const maxProblems = 20

func (r *Report) corrupt(format string, args ...any) {
	r.Corruptions++
	r.note(format, args...)
}

func (r *Report) leak(n int64, format string, args ...any) {
	r.Leaks += n
	r.note(format, args...)
}

func (r *Report) note(format string, args ...any) {
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
}

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
	if m, ok := img.(*mapped); ok {
		if x, ok := m.index.(*qcow2Index); ok {
			err = checkRefcounts(ctx, x, r)
		}
	}
	if err != nil {
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
		m.checkSpot(off, s, taken, buf, r)
		off += s.length
	}
	return nil
}

// checkSpot unpacks a packed unit into buf, and notes the places of plain ones.
func (m *mapped) checkSpot(off int64, s spot, taken bitmap, buf []byte, r *Report) {
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

// aligned reports whether units start at whole multiples, or at least as far
// apart as they are long, so that a number of a unit's size names one.
func (m *mapped) aligned() bool {
	x, ok := m.index.(*qcow2Index)
	return !ok || x.features&qcow2ExtendedL2 == 0
}

// bitmap is a set of small numbers.
type bitmap []uint64

func newBitmap(n int64) bitmap { return make(bitmap, n/64+1) }

// set adds i and reports whether it was there before. Numbers out of range are not.
func (b bitmap) set(i int64) bool {
	if i < 0 || i/64 >= int64(len(b)) {
		return false
	}
	was := b[i/64]>>(i%64)&1 != 0
	b[i/64] |= 1 << (i % 64)
	return was
}

// maxCounted bounds the clusters whose reference counts are checked: those of a
// file of 4 TiB with clusters of 64 KiB, for 128 MiB of memory.
const maxCounted = 1 << 26

// refCheck counts the uses of each cluster of a qcow2 file.
type refCheck struct {
	*qcow2Index
	r    *Report
	uses []uint16
}

// checkRefcounts compares the counts in the file with its tables. A dirty image,
// whose counts are allowed to be too low, is only checked for leaks.
func checkRefcounts(ctx context.Context, x *qcow2Index, r *Report) error {
	n := (x.end + x.cluster() - 1) / x.cluster()
	if n > maxCounted {
		return fmt.Errorf("the file has %d clusters, more than the %d whose reference counts can be checked", n, maxCounted)
	}
	c := &refCheck{x, r, make([]uint16, n)}
	var fixed [112]byte
	if _, err := x.file.ReadAt(fixed[:], 0); err != nil && err != io.EOF {
		return err
	}
	be := binary.BigEndian
	if snapshots := be.Uint32(fixed[60:]); snapshots > 0 {
		return fmt.Errorf("the image has %d internal snapshots: their reference counts can't be checked", snapshots)
	}
	order := uint32(4)
	if x.version >= 3 {
		order = be.Uint32(fixed[96:])
	}
	c.use(0, x.cluster())
	c.use(x.l1Offset, int64(x.l1Size)*8)
	if err := c.useTables(ctx); err != nil {
		return err
	}
	table, size := int64(be.Uint64(fixed[48:])), int64(be.Uint32(fixed[56:]))*x.cluster()
	if table <= 0 || table%x.cluster() != 0 || size > 8<<20 && size > x.end || table > x.end-size {
		r.corrupt("the table of reference counts, offset %d, %d bytes, does not lie in the file", table, size)
		return nil
	}
	c.use(table, size)
	return c.compare(ctx, table, size, order)
}

// use counts a use of all clusters from off on for length bytes.
func (c *refCheck) use(off, length int64) {
	for i := off / c.cluster(); i <= (off+length-1)/c.cluster() && i < int64(len(c.uses)); i++ {
		if c.uses[i] < 1<<16-1 {
			c.uses[i]++
		}
	}
}

// useTables counts the L2 tables and the clusters they name.
func (c *refCheck) useTables(ctx context.Context) error {
	step := c.entrySize()
	for i, e := range c.l1 {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := int64(e & qcow2Offset)
		if at == 0 {
			continue
		}
		table, err := c.l2.at(at)
		if err != nil || at%c.cluster() != 0 {
			continue // reported by checkMapped
		}
		c.use(at, c.cluster())
		for j := int64(0); j < c.perTable(); j++ {
			entry := binary.BigEndian.Uint64(table[j*step:])
			if entry&qcow2Packed != 0 {
				if s, err := c.packedEntry(entry); err == nil {
					c.use(s.at, int64(s.size))
				}
			} else if at := int64(entry & qcow2Offset); at != 0 && at%c.cluster() == 0 && at < c.end {
				c.use(at, c.cluster())
			} else if at != 0 {
				c.r.corrupt("L1 entry %d, L2 entry %d: cluster at offset %d of a file of %d bytes", i, j, at, c.end)
			}
		}
	}
	return nil
}

// compare reads the blocks of counts that the table names.
func (c *refCheck) compare(ctx context.Context, table, size int64, order uint32) error {
	blocks := make([]byte, size)
	if _, err := c.file.ReadAt(blocks, table); err != nil && err != io.EOF {
		return err
	}
	per := c.cluster() * 8 >> order
	for i := int64(0); i < size/8; i++ {
		at := int64(binary.BigEndian.Uint64(blocks[i*8:]) &^ 511)
		if at != 0 && (at%c.cluster() != 0 || at < 0 || at > c.end-c.cluster()) {
			c.r.corrupt("block %d of reference counts at offset %d of a file of %d bytes", i, at, c.end)
		} else if at != 0 {
			c.use(at, c.cluster())
		}
	}
	buf := make([]byte, c.cluster())
	for first := int64(0); first < int64(len(c.uses)); first += per {
		if err := ctx.Err(); err != nil {
			return err
		}
		clear(buf)
		if i := first / per; i < size/8 {
			at := int64(binary.BigEndian.Uint64(blocks[i*8:]) &^ 511)
			if at > 0 && at <= c.end-c.cluster() {
				if _, err := c.file.ReadAt(buf, at); err != nil {
					return err
				}
			}
		}
		c.compareBlock(buf, first, per, order)
	}
	return nil
}

// compareBlock compares the counts of the clusters from first on.
func (c *refCheck) compareBlock(buf []byte, first, per int64, order uint32) {
	for i := int64(0); i < per && first+i < int64(len(c.uses)); i++ {
		got, want := refcount(buf, i, order), uint64(c.uses[first+i])
		switch {
		case got > want:
			c.r.leak(1, "cluster %d is counted %d times and used %d times: leaked", first+i, got, want)
		case got < want && c.features&qcow2Dirty == 0:
			c.r.corrupt("cluster %d is counted %d times and used %d times", first+i, got, want)
		}
	}
}

// refcount returns count i of a block of counts of 2^order bits.
func refcount(b []byte, i int64, order uint32) uint64 {
	switch order {
	case 3:
		return uint64(b[i])
	case 4:
		return uint64(binary.BigEndian.Uint16(b[i*2:]))
	case 5:
		return uint64(binary.BigEndian.Uint32(b[i*4:]))
	case 6:
		return binary.BigEndian.Uint64(b[i*8:])
	}
	width := int64(1) << order // the lowest bits come first
	return uint64(b[i*width/8]>>(i*width%8)) & (1<<width - 1)
}
