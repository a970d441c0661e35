package ext4

import (
	"encoding/binary"
	"sort"
)

// extent maps count blocks of a file, from logical on, to physical on.
type extent struct {
	logical  uint64
	physical uint64
	count    uint32
}

// Limits of the on-disk extent (ext4_extent): length, and 32-bit file blocks.
const (
	maxExtent     = 32768
	extentMagic   = 0xf30a
	maxFileBlocks = 1<<32 - 1
)

// extentList collects a file's mapping in order and joins what is adjacent.
type extentList []extent

func (e *extentList) add(logical, physical uint64, count uint32) {
	for count > 0 {
		n := len(*e)
		if n == 0 || !(*e)[n-1].joins(logical, physical) {
			*e = append(*e, extent{logical, physical, 0})
			continue
		}
		last := &(*e)[n-1]
		k := min(maxExtent-last.count, count)
		last.count += k
		logical, physical, count = logical+uint64(k), physical+uint64(k), count-k
	}
}

// joins reports whether a block can be x's next.
func (x *extent) joins(logical, physical uint64) bool {
	return x.count < maxExtent && x.logical+uint64(x.count) == logical && x.physical+uint64(x.count) == physical
}

// blocks is the number of data blocks mapped.
func (e extentList) blocks() uint64 {
	var n uint64
	for _, x := range e {
		n += uint64(x.count)
	}
	return n
}

// mapper writes the tree that leads from an inode to its blocks.
type mapper struct {
	l     *layout
	block func() (uint64, error)             // allocates one block
	put   func(b []byte, block uint64) error // writes it
	meta  uint64                             // blocks of the tree, so far
}

// iblock returns the 60 bytes for the inode. inodeSeed is the checksum seed of
// the inode that the blocks belong to.
func (m *mapper) iblock(list extentList, inodeSeed uint32) ([60]byte, error) {
	m.meta = 0
	if m.l.incompat&incompatExtents == 0 {
		return m.indirectRoot(list)
	}
	return m.extentRoot(list, inodeSeed)
}

// extentEntry is an entry of one level of an extent tree.
type extentEntry [12]byte

func (m *mapper) extentRoot(list extentList, inodeSeed uint32) ([60]byte, error) {
	le := binary.LittleEndian
	level := make([]extentEntry, len(list))
	for i, x := range list {
		n := &level[i]
		le.PutUint32(n[0:], uint32(x.logical))
		le.PutUint16(n[4:], uint16(x.count))
		le.PutUint16(n[6:], uint16(x.physical>>32))
		le.PutUint32(n[8:], uint32(x.physical))
	}
	depth := 0
	for len(level) > 4 {
		var err error
		if level, err = m.extentLevel(level, depth, inodeSeed); err != nil {
			return [60]byte{}, err
		}
		depth++
	}
	var out [60]byte
	putExtentHeader(out[:], len(level), 4, depth)
	for i := range level {
		copy(out[12+12*i:], level[i][:])
	}
	return out, nil
}

func putExtentHeader(b []byte, entries, room, depth int) {
	le := binary.LittleEndian
	le.PutUint16(b, extentMagic)
	le.PutUint16(b[2:], uint16(entries))
	le.PutUint16(b[4:], uint16(room))
	le.PutUint16(b[6:], uint16(depth))
}

// extentLevel packs a level into blocks and returns the entries that point at
// them.
func (m *mapper) extentLevel(level []extentEntry, depth int, inodeSeed uint32) ([]extentEntry, error) {
	le := binary.LittleEndian
	room := (m.l.blockSize - 12) / 12
	var up []extentEntry
	for len(level) > 0 {
		k := min(room, len(level))
		b := make([]byte, m.l.blockSize)
		putExtentHeader(b, k, room, depth)
		for i := range k {
			copy(b[12+12*i:], level[i][:])
		}
		if m.l.csum() {
			tail := 12 + 12*room
			le.PutUint32(b[tail:], crc(inodeSeed, b[:tail]))
		}
		at, err := m.write(b)
		if err != nil {
			return nil, err
		}
		var n extentEntry
		copy(n[:4], level[0][:4])
		le.PutUint32(n[4:], uint32(at))
		le.PutUint16(n[8:], uint16(at>>32))
		up, level = append(up, n), level[k:]
	}
	return up, nil
}

func (m *mapper) write(b []byte) (uint64, error) {
	at, err := m.block()
	if err != nil {
		return 0, err
	}
	m.meta++
	return at, m.put(b, at)
}

// indirectRoot maps without extents: 12 direct blocks, then one tree each of
// one, two and three levels.
func (m *mapper) indirectRoot(list extentList) ([60]byte, error) {
	var out [60]byte
	at := uint64(0)
	for i := range 15 {
		depth := max(0, i-11)
		b, err := m.indirect(list, at, depth)
		if err != nil {
			return out, err
		}
		binary.LittleEndian.PutUint32(out[4*i:], uint32(b))
		at += m.span(depth)
	}
	return out, nil
}

// span is the number of file blocks below a pointer of the given depth.
func (m *mapper) span(depth int) uint64 {
	n := uint64(1)
	for range depth {
		n *= uint64(m.l.blockSize / 4)
	}
	return n
}

// indirect returns the pointer to the file blocks from first on, 0 for a hole.
func (m *mapper) indirect(list extentList, first uint64, depth int) (uint64, error) {
	part := list.from(first)
	if len(part) == 0 || part[0].logical >= first+m.span(depth) {
		return 0, nil
	}
	if depth == 0 {
		return part[0].physical + first - part[0].logical, nil
	}
	b := make([]byte, m.l.blockSize)
	for i := range m.l.blockSize / 4 {
		p, err := m.indirect(part, first+uint64(i)*m.span(depth-1), depth-1)
		if err != nil {
			return 0, err
		}
		binary.LittleEndian.PutUint32(b[4*i:], uint32(p))
	}
	return m.write(b)
}

// from cuts off the extents that end at or before a file block.
func (e extentList) from(logical uint64) extentList {
	i := sort.Search(len(e), func(i int) bool { return e[i].logical+uint64(e[i].count) > logical })
	return e[i:]
}
