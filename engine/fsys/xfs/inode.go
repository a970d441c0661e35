package xfs

import (
	"fmt"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/tree"
)

// core writes what every inode has, free ones too.
func (w *fill) core(b []byte, number uint64) {
	copy(b, "IN")
	b[4], b[5], b[83] = 3, formatExtents, formatExtents
	be.PutUint32(b[96:], nullBlock)
	be.PutUint64(b[152:], number)
	copy(b[160:], w.geo.uuid[:])
}

// inode is n's without its forks.
func (w *fill) inode(number uint64, n *tree.Inode) []byte {
	b := make([]byte, inodeSize)
	w.core(b, number)
	be.PutUint16(b[2:], uint16(n.Mode))
	be.PutUint32(b[8:], n.UID)
	be.PutUint32(b[12:], n.GID)
	be.PutUint32(b[16:], n.Links)
	at := uint64(n.Sec+1<<31)*1e9 + uint64(n.Nsec) // since 1901, as the feature bigtime has it
	for _, field := range []int{32, 40, 48, 144} {
		be.PutUint64(b[field:], at)
	}
	be.PutUint64(b[104:], 1)
	be.PutUint64(b[120:], 8) // XFS_DIFLAG2_BIGTIME
	return b
}

// put writes an inode at its place.
func (w *fill) put(number uint64, b []byte) error {
	seal(b, 100)
	at := w.geo.byteOf(number>>w.geo.inodePerLg) + int64(number&(1<<w.geo.inodePerLg-1))*inodeSize
	_, err := w.f.WriteAt(b, at)
	return err
}

// object writes one inode and everything that it holds.
func (w *fill) object(n *tree.Inode) error {
	number := w.number(n)
	b := w.inode(number, n)
	list, err := attributesOf(n)
	if err != nil {
		return err
	}
	room, blocks, err := w.attributes(b, number, n, list)
	if err != nil {
		return err
	}
	more, err := w.fork(b[coreSize:][:room], b, number, n)
	if err != nil {
		return err
	}
	be.PutUint64(b[64:], blocks+more)
	return w.put(number, b)
}

// fork writes the data of an object into its fork, and returns the blocks that lie
// elsewhere.
func (w *fill) fork(fork, b []byte, number uint64, n *tree.Inode) (blocks uint64, err error) {
	be.PutUint64(b[56:], uint64(n.Size))
	switch n.Kind() {
	case unix.S_IFREG:
		list, err := w.data(n)
		if err != nil {
			return 0, err
		}
		return w.mapBlocks(fork, b, number, list)
	case unix.S_IFLNK:
		return w.link(fork, b, number, n.Target)
	case unix.S_IFDIR:
		return w.directory(fork, b, number, n)
	}
	b[5] = formatDev
	be.PutUint32(fork, n.Major<<18|n.Minor)
	be.PutUint64(b[56:], 0)
	return 0, nil
}

// link writes a symbolic link into the inode, or into a block.
func (w *fill) link(fork, b []byte, number uint64, target string) (uint64, error) {
	if len(target) <= len(fork) {
		b[5] = formatLocal
		copy(fork, target)
		return 0, nil
	}
	e, err := w.together(0, 1)
	if err != nil {
		return 0, err
	}
	block := make([]byte, blockSize)
	be.PutUint32(block, magicLink)
	be.PutUint32(block[8:], uint32(len(target)))
	copy(block[16:], w.geo.uuid[:])
	be.PutUint64(block[32:], number)
	be.PutUint64(block[40:], uint64(w.geo.byteOf(e.block))/512)
	copy(block[56:], target)
	seal(block, 12)
	if _, err := w.f.WriteAt(block, w.geo.byteOf(e.block)); err != nil {
		return 0, err
	}
	return w.mapBlocks(fork, b, number, []extent{e})
}

// record is an extent as forks and trees hold it.
func (e extent) record() []byte {
	b := be.AppendUint64(nil, e.logical<<9|e.block>>43)
	return be.AppendUint64(b, e.block<<21|e.count)
}

const (
	longHeader = 72 // bytes, of a block of a file's own tree
	inLong     = (blockSize - longHeader) / 16
)

// mapBlocks writes the extents of a data fork, as a tree where they are too many for
// the inode. It returns all blocks of the file.
func (w *fill) mapBlocks(fork, b []byte, number uint64, list []extent) (blocks uint64, err error) {
	be.PutUint32(b[76:], uint32(len(list)))
	var records []byte
	for _, e := range list {
		records, blocks = append(records, e.record()...), blocks+e.count
	}
	b[5] = formatExtents
	if len(records) <= len(fork) {
		copy(fork, records)
		return blocks, nil
	}
	b[5] = formatBtree
	keys := make([]uint64, len(list))
	for i, e := range list {
		keys[i] = e.logical
	}
	content := records // of the level that is written: records, later keys and pointers
	most := (len(fork) - 4) / 16
	for level := uint16(0); ; level++ {
		if level > 0 && len(keys) <= most {
			be.PutUint16(fork, level)
			be.PutUint16(fork[2:], uint16(len(keys)))
			for i, key := range keys {
				be.PutUint64(fork[4+8*i:], key)
				be.PutUint64(fork[4+8*(most+i):], be.Uint64(content[16*i+8:]))
			}
			return blocks, nil
		}
		if level > 5 {
			return 0, fmt.Errorf("it lies in %d pieces, which are too many", len(list))
		}
		var made int
		if keys, content, made, err = w.mapLevel(number, level, keys, content); err != nil {
			return 0, err
		}
		blocks += uint64(made)
	}
}

// mapLevel writes one level of a file's tree, and returns the next one: keys, and pairs
// of a key and the block below it.
func (w *fill) mapLevel(number uint64, level uint16, keys []uint64, content []byte) (up []uint64, pairs []byte, made int, err error) {
	made = (len(keys) + inLong - 1) / inLong
	e, err := w.together(0, made)
	if err != nil {
		return nil, nil, 0, err
	}
	for i := range made {
		from, to := i*len(keys)/made, (i+1)*len(keys)/made
		at := e.block + uint64(i)
		left, right := at-1, at+1
		if i == 0 {
			left = 1<<64 - 1
		}
		if i == made-1 {
			right = 1<<64 - 1
		}
		b := make([]byte, blockSize)
		be.PutUint32(b, magicBmap)
		be.PutUint16(b[4:], level)
		be.PutUint16(b[6:], uint16(to-from))
		be.PutUint64(b[8:], left)
		be.PutUint64(b[16:], right)
		be.PutUint64(b[24:], uint64(w.geo.byteOf(at))/512)
		copy(b[40:], w.geo.uuid[:])
		be.PutUint64(b[56:], number)
		part := content[16*from : 16*to]
		if level == 0 {
			copy(b[longHeader:], part)
		}
		for k := 0; level > 0 && k < to-from; k++ {
			copy(b[longHeader+8*k:], part[16*k:16*k+8])
			copy(b[longHeader+8*(inLong+k):], part[16*k+8:16*k+16])
		}
		seal(b, 64)
		if _, err := w.f.WriteAt(b, w.geo.byteOf(at)); err != nil {
			return nil, nil, 0, err
		}
		up = append(up, keys[from])
		pairs = be.AppendUint64(be.AppendUint64(pairs, keys[from]), at)
	}
	return up, pairs, made, nil
}
