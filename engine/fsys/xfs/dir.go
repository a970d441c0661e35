package xfs

import (
	"cmp"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/tree"
)

// Where in a directory its parts lie, in blocks: entries from 0 on, then the index of
// hashes, then the list of free bytes in the blocks of entries.
const (
	leafStart = 1 << 35 / blockSize
	freeStart = 1 << 36 / blockSize

	dataHeader = 64 // bytes, of every block of a directory
	inHashes   = (blockSize - dataHeader) / 8
	inFree     = (blockSize - dataHeader) / 2
)

// dirent is a name in a directory.
type dirent struct {
	name   string
	number uint64
	kind   byte
}

// size of an entry in a block: number, length, name, kind, its own place.
func (e *dirent) size() int { return (8 + 1 + len(e.name) + 1 + 2 + 7) &^ 7 }

// kindOf is a file type as entries hold it.
func kindOf(n *tree.Inode) byte {
	switch n.Kind() {
	case unix.S_IFREG:
		return 1
	case unix.S_IFDIR:
		return 2
	case unix.S_IFCHR:
		return 3
	case unix.S_IFBLK:
		return 4
	case unix.S_IFIFO:
		return 5
	case unix.S_IFSOCK:
		return 6
	}
	return 7
}

// hashEntry finds an entry: its place in units of 8 bytes.
type hashEntry struct{ hash, at uint32 }

// directory writes a directory into its inode, else into one block, else into blocks of
// entries and an index.
func (w *fill) directory(fork, b []byte, number uint64, n *tree.Inode) (uint64, error) {
	parent := w.number(w.parents[n.Number])
	var list []dirent
	for _, e := range n.Entries {
		list = append(list, dirent{e.Name, w.number(e.Inode), kindOf(e.Inode)})
	}
	if short := shortDirectory(list, parent); len(short) <= len(fork) {
		b[5] = formatLocal
		copy(fork, short)
		be.PutUint64(b[56:], uint64(len(short)))
		return 0, nil
	}
	d := dirWriter{w: w, number: number}
	list = append([]dirent{{".", number, 2}, {"..", parent, 2}}, list...)
	extents, blocks, err := d.write(list)
	if err != nil {
		return 0, err
	}
	be.PutUint64(b[56:], uint64(blocks)*blockSize)
	return w.mapBlocks(fork, b, number, extents)
}

// shortDirectory is a directory as an inode holds it. Numbers have four bytes where that
// is enough for all.
func shortDirectory(list []dirent, parent uint64) []byte {
	wide := 0 // numbers that need eight
	for _, e := range append([]dirent{{number: parent}}, list...) {
		if e.number > nullBlock {
			wide++
		}
	}
	put := func(b []byte, n uint64) []byte {
		if wide > 0 {
			return be.AppendUint64(b, n)
		}
		return be.AppendUint32(b, uint32(n))
	}
	b := put([]byte{byte(len(list)), byte(min(wide, 255))}, parent)
	offset := dataHeader + 2*16 // of the first entry, if they were in a block
	for i := range list {
		e := &list[i]
		if len(b) > literal {
			break
		}
		b = append(b, byte(len(e.name)))
		b = be.AppendUint16(b, uint16(offset))
		b = append(append(b, e.name...), e.kind)
		b = put(b, e.number)
		offset += e.size()
	}
	return b
}

// dirWriter writes the blocks of one directory.
type dirWriter struct {
	w      *fill
	number uint64
	hashes []hashEntry
	blocks [][]byte // of entries
	free   []int    // bytes in each
}

func (d *dirWriter) write(list []dirent) (extents []extent, blocks int, err error) {
	names := 0
	for i := range list {
		names += list[i].size()
	}
	one := dataHeader+names+8*len(list)+8 <= blockSize
	d.entries(list)
	slices.SortFunc(d.hashes, func(a, b hashEntry) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.at, b.at)) })
	if one {
		e, err := d.single()
		return []extent{e}, 1, err
	}
	data, err := d.w.together(0, len(d.blocks))
	if err != nil {
		return nil, 0, err
	}
	for i, b := range d.blocks {
		if err := d.put(b, magicData, data.block+uint64(i)); err != nil {
			return nil, 0, err
		}
	}
	index, err := d.index()
	return append([]extent{data}, index...), len(d.blocks), err
}

// entries lays out all entries in blocks, each of which keeps what is left at its end.
func (d *dirWriter) entries(list []dirent) {
	at := blockSize
	var b []byte
	for i := range list {
		e := &list[i]
		if at+e.size() > blockSize {
			d.close(b, at)
			b, at = make([]byte, blockSize), dataHeader
			d.blocks = append(d.blocks, b)
		}
		be.PutUint64(b[at:], e.number)
		b[at+8] = byte(len(e.name))
		copy(b[at+9:], e.name)
		b[at+9+len(e.name)] = e.kind
		be.PutUint16(b[at+e.size()-2:], uint16(at))
		where := (len(d.blocks)-1)*blockSize + at
		d.hashes = append(d.hashes, hashEntry{hashName([]byte(e.name)), uint32(where / 8)})
		at += e.size()
	}
	d.close(b, at)
}

// close marks what is left of a block as free.
func (d *dirWriter) close(b []byte, at int) {
	if b == nil {
		return
	}
	d.free = append(d.free, blockSize-at)
	markFree(b, at, blockSize)
}

func markFree(b []byte, at, end int) {
	clear(b[48:60])
	if at == end {
		return
	}
	clear(b[at:end])
	be.PutUint16(b[at:], 0xffff)
	be.PutUint16(b[at+2:], uint16(end-at))
	be.PutUint16(b[end-2:], uint16(at))
	be.PutUint16(b[48:], uint16(at)) // the longest of three
	be.PutUint16(b[50:], uint16(end-at))
}

// put writes a block with the header that entries and free lists have.
func (d *dirWriter) put(b []byte, magic uint32, block uint64) error {
	be.PutUint32(b, magic)
	be.PutUint64(b[8:], uint64(d.w.geo.byteOf(block))/512)
	copy(b[24:], d.w.geo.uuid[:])
	be.PutUint64(b[40:], d.number)
	seal(b, 4)
	_, err := d.w.f.WriteAt(b, d.w.geo.byteOf(block))
	return err
}

// single writes entries and index into one block.
func (d *dirWriter) single() (extent, error) {
	e, err := d.w.together(0, 1)
	if err != nil {
		return e, err
	}
	b := d.blocks[0]
	end := blockSize - 8 - 8*len(d.hashes)
	markFree(b, blockSize-d.free[0], end)
	for i, h := range d.hashes {
		be.PutUint32(b[end+8*i:], h.hash)
		be.PutUint32(b[end+8*i+4:], h.at)
	}
	be.PutUint32(b[blockSize-8:], uint32(len(d.hashes)))
	be.PutUint32(b[blockSize-4:], 0) // stale ones
	return e, d.put(b, magicBlock, e.block)
}

// index writes the index of hashes, as one leaf with the free bytes of each block
// behind it, or as a tree of leaves with lists of free bytes of their own.
func (d *dirWriter) index() ([]extent, error) {
	if len(d.hashes)*8+dataHeader+2*len(d.blocks)+4 <= blockSize {
		e, err := d.w.together(leafStart, 1)
		if err != nil {
			return nil, err
		}
		b := d.leaf(d.hashes)
		be.PutUint32(b[blockSize-4:], uint32(len(d.blocks)))
		for i, free := range d.free {
			be.PutUint16(b[blockSize-4-2*len(d.blocks)+2*i:], uint16(free))
		}
		return []extent{e}, d.putIndex(b, magicLeaf1, e.block, 0, 0)
	}
	nodes, err := d.tree()
	if err != nil {
		return nil, err
	}
	free, err := d.lists()
	return []extent{nodes, free}, err
}

func (d *dirWriter) leaf(list []hashEntry) []byte {
	b := make([]byte, blockSize)
	be.PutUint16(b[56:], uint16(len(list)))
	for i, h := range list {
		be.PutUint32(b[dataHeader+8*i:], h.hash)
		be.PutUint32(b[dataHeader+8*i+4:], h.at)
	}
	return b
}

// putIndex writes a block with the header that indexes and attributes have.
func (d *dirWriter) putIndex(b []byte, magic uint16, block uint64, forward, back uint32) error {
	be.PutUint32(b, forward)
	be.PutUint32(b[4:], back)
	be.PutUint16(b[8:], magic)
	be.PutUint64(b[16:], uint64(d.w.geo.byteOf(block))/512)
	copy(b[32:], d.w.geo.uuid[:])
	be.PutUint64(b[48:], d.number)
	seal(b, 12)
	_, err := d.w.f.WriteAt(b, d.w.geo.byteOf(block))
	return err
}

// tree writes the index as a tree. Its root is the first block; below it come the levels,
// the leaves last. Each block has the place of its neighbours in its level.
func (d *dirWriter) tree() (extent, error) {
	parts := [][][]hashEntry{split(d.hashes)} // by level, the leaves first
	for len(parts[len(parts)-1]) > 1 {
		var up []hashEntry
		for _, p := range parts[len(parts)-1] {
			up = append(up, hashEntry{hash: p[len(p)-1].hash})
		}
		next := [][]hashEntry{up}
		if len(up) > inHashes {
			next = split(up)
		}
		parts = append(parts, next)
	}
	total := 0
	for _, level := range parts {
		total += len(level)
	}
	e, err := d.w.together(leafStart, total)
	if err != nil {
		return e, err
	}
	for at, level := 0, len(parts)-1; level >= 0; level-- {
		below := at + len(parts[level])
		for i, p := range parts[level] {
			if err := d.treeBlock(p, e.block, at, i, len(parts[level]), level, &below); err != nil {
				return e, err
			}
		}
		at += len(parts[level])
	}
	return e, nil
}

// treeBlock writes block i of the n blocks of a level, which begin at block at of the
// index. below is the next block of the level beneath.
func (d *dirWriter) treeBlock(p []hashEntry, first uint64, at, i, n, level int, below *int) error {
	forward, back := uint32(leafStart+at+i+1), uint32(leafStart+at+i-1)
	if i == 0 {
		back = 0
	}
	if i == n-1 {
		forward = 0
	}
	magic := uint16(magicLeafN)
	if level > 0 {
		magic = magicNode
		for k := range p {
			p[k].at = uint32(leafStart + *below)
			*below++
		}
	}
	b := d.leaf(p)
	if level > 0 {
		be.PutUint16(b[58:], uint16(level))
	}
	return d.putIndex(b, magic, first+uint64(at+i), forward, back)
}

// split makes parts of about one size, at least two, that fit into blocks.
func split(list []hashEntry) [][]hashEntry {
	n := max(2, (len(list)+inHashes-1)/inHashes)
	parts := make([][]hashEntry, n)
	for i := range n {
		parts[i] = list[i*len(list)/n : (i+1)*len(list)/n]
	}
	return parts
}

// lists writes how many bytes are free in each block of entries.
func (d *dirWriter) lists() (extent, error) {
	n := (len(d.free) + inFree - 1) / inFree
	e, err := d.w.together(freeStart, n)
	for i := 0; i < n && err == nil; i++ {
		part := d.free[i*inFree : min(len(d.free), (i+1)*inFree)]
		b := make([]byte, blockSize)
		be.PutUint32(b[48:], uint32(i*inFree))
		be.PutUint32(b[52:], uint32(len(part)))
		be.PutUint32(b[56:], uint32(len(part)))
		for k, free := range part {
			be.PutUint16(b[dataHeader+2*k:], uint16(free))
		}
		err = d.put(b, magicFree, e.block+uint64(i))
	}
	if e.count > maxExtent {
		err = errors.Join(err, errors.New("the directory is too large"))
	}
	return e, err
}
