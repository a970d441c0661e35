package ext4

import (
	"encoding/binary"

	"b9.build/b9/engine/fsys/internal/volume"
)

// data is the bytes of an inode, as its blocks hold them.
func (v *reader) data(x *inode) *volume.Extents {
	bs := int64(v.l.blockSize)
	return &volume.Extents{Pages: v.r, Size: x.size, Run: func(off, _ int64) (at, n int64, err error) {
		physical, count, err := v.run(x, uint64(off/bs))
		at, n = int64(physical)*bs+off%bs, int64(min(count, 1<<32))*bs-off%bs
		if physical == 0 {
			at = volume.Hole
		}
		return at, n, err
	}}
}

// run says where a file's blocks from logical on lie: count of them follow each
// other from physical on; physical 0 is a hole. count is at least 1.
func (v *reader) run(x *inode, logical uint64) (physical, count uint64, err error) {
	if x.flags&inodeFlagExtents != 0 {
		physical, count, err = v.extentRun(x, logical)
	} else {
		physical, count, err = v.indirectRun(x, logical)
	}
	if err == nil && physical != 0 && (physical >= v.l.blocks || count > v.l.blocks-physical) {
		err = volume.Damaged("inode %d has block %d of %d", x.num, physical+count-1, v.l.blocks)
	}
	return physical, count, err
}

// extentRun walks the extent tree from the inode down.
func (v *reader) extentRun(x *inode, logical uint64) (physical, count uint64, err error) {
	le := binary.LittleEndian
	b, end := x.iblock[:], uint64(maxFileBlocks)+1
	for want := -1; ; want-- {
		n, depth := int(le.Uint16(b[2:])), int(le.Uint16(b[6:]))
		if le.Uint16(b) != extentMagic || n > (len(b)-12)/12 || depth > 5 || want >= 0 && depth != want {
			return 0, 0, volume.Damaged("the extents of inode %d", x.num)
		}
		want = depth
		var e []byte // the last entry that begins at or before logical
		for i := range n {
			at := b[12+12*i:]
			if start := uint64(le.Uint32(at)); start > logical {
				end = min(end, start)
				break
			}
			e = at
		}
		if e == nil {
			return 0, max(end, logical+1) - logical, nil
		}
		if depth == 0 {
			physical, count = leafRun(e, logical, end)
			return physical, count, nil
		}
		block := uint64(le.Uint32(e[4:])) | uint64(le.Uint16(e[8:]))<<32
		if block == 0 || block >= v.l.blocks {
			return 0, 0, volume.Damaged("inode %d has extents in block %d of %d", x.num, block, v.l.blocks)
		}
		if b, err = v.r.Bytes(int64(block)*int64(v.l.blockSize), v.l.blockSize); err != nil {
			return 0, 0, err
		}
	}
}

// leafRun is what an extent says of logical, which it begins at or before; end
// is where the next one begins.
func leafRun(e []byte, logical, end uint64) (physical, count uint64) {
	le := binary.LittleEndian
	start, length := uint64(le.Uint32(e)), uint64(le.Uint16(e[4:]))
	written := true
	if length > maxExtent { // allocated, but reads as zeros
		length, written = length-maxExtent, false
	}
	if logical >= start+length {
		return 0, max(end, logical+1) - logical
	}
	physical = uint64(le.Uint32(e[8:])) | uint64(le.Uint16(e[6:]))<<32
	if !written {
		return 0, start + length - logical
	}
	return physical + logical - start, start + length - logical
}

// indirectRun walks the tables of ext2: twelve blocks in the inode, then one,
// two and three levels.
func (v *reader) indirectRun(x *inode, logical uint64) (physical, count uint64, err error) {
	le := binary.LittleEndian
	table, per := x.iblock[:48], uint64(v.l.blockSize/4)
	index := logical
	if logical >= 12 {
		index -= 12
		level, span := 1, per
		for ; index >= span; level, span = level+1, span*per {
			if level == 3 {
				return 0, 0, volume.Damaged("inode %d has no block %d", x.num, logical)
			}
			index -= span
		}
		block := uint64(le.Uint32(x.iblock[44+4*level:]))
		for ; level > 0; level-- {
			if block == 0 {
				return 0, span - index, nil
			}
			if block >= v.l.blocks {
				return 0, 0, volume.Damaged("inode %d has a table in block %d of %d", x.num, block, v.l.blocks)
			}
			if table, err = v.r.Bytes(int64(block)*int64(v.l.blockSize), v.l.blockSize); err != nil {
				return 0, 0, err
			}
			span /= per
			if level > 1 {
				block = uint64(le.Uint32(table[4*(index/span):]))
				index %= span
			}
		}
	}
	first := uint64(le.Uint32(table[4*index:]))
	for count = 1; 4*(index+count) < uint64(len(table)); count++ {
		next := uint64(le.Uint32(table[4*(index+count):]))
		if first == 0 && next != 0 || first != 0 && next != first+count {
			break
		}
	}
	return first, count, nil
}
