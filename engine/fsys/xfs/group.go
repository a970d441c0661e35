package xfs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
)

// span is a run of blocks of a group.
type span struct{ start, count uint32 }

// chunk is 64 inodes of a group, of which the first used ones are.
type chunk struct {
	block uint32
	used  uint32
}

// group is an allocation group of an empty file system, while it is filled.
type group struct {
	no, blocks uint32
	base       int64  // byte of its first block
	agf, agi   []byte // its sectors 1 and 2
	free       []span // by start
	left       uint32 // blocks in free
	reserve    uint32 // of them those that stay, for the trees that the kernel grows
	chunks     []chunk
}

// readGroup reads a group as mkfs.xfs leaves it, whose trees have one block each.
func readGroup(f *os.File, geo *geometry, no uint32) (*group, error) {
	g := &group{no: no, blocks: geo.groupBlocks(no), base: geo.groupByte(no), agf: make([]byte, sector), agi: make([]byte, sector)}
	_, ferr := f.ReadAt(g.agf, g.base+sector)
	_, ierr := f.ReadAt(g.agi, g.base+2*sector)
	if err := errors.Join(ferr, ierr); err != nil {
		return nil, err
	}
	if be.Uint32(g.agf[28:]) != 1 || be.Uint32(g.agf[32:]) != 1 || be.Uint32(g.agi[24:]) != 1 || be.Uint32(g.agi[332:]) != 1 || be.Uint32(g.agf[12:]) != g.blocks {
		return nil, fmt.Errorf("group %d is not as mkfs.xfs leaves it", no)
	}
	root := make([]byte, blockSize)
	if _, err := f.ReadAt(root, g.byteOf(be.Uint32(g.agf[16:]))); err != nil {
		return nil, err
	}
	for i := range int(be.Uint16(root[6:])) {
		s := span{be.Uint32(root[shortHeader+8*i:]), be.Uint32(root[shortHeader+8*i+4:])}
		g.free, g.left = append(g.free, s), g.left+s.count
	}
	g.reserve = g.blocks/64 + 64
	return g, nil
}

func (g *group) byteOf(block uint32) int64 { return g.base + int64(block)*blockSize }

// room is how many blocks may still be handed out.
func (g *group) room() uint32 { return g.left - min(g.left, g.reserve) }

// take hands out at most want blocks that follow each other, at least least, from the
// first place that has them at a multiple of align. count is 0 where there is none.
func (g *group) take(want, least, align uint32) span {
	want = min(want, g.room())
	if want < least || want == 0 {
		return span{}
	}
	for i, s := range g.free {
		start := (s.start + align - 1) / align * align
		if start >= s.start+s.count || s.start+s.count-start < least {
			continue
		}
		got := span{start, min(want, s.start+s.count-start)}
		var rest []span
		if start > s.start {
			rest = append(rest, span{s.start, start - s.start})
		}
		if end := got.start + got.count; end < s.start+s.count {
			rest = append(rest, span{end, s.start + s.count - end})
		}
		g.free = slices.Replace(g.free, i, i+1, rest...)
		g.left -= got.count
		return got
	}
	return span{}
}

const (
	shortHeader  = 56 // bytes, of a block of a tree within a group
	inodesInLeaf = (blockSize - shortHeader) / 16
	keysInNode   = (blockSize - shortHeader) / 8
)

// shortBlock is a block of one of a group's trees.
func (g *group) shortBlock(geo *geometry, magic uint32, level uint16, block, left, right uint32, n int, content []byte) []byte {
	b := make([]byte, blockSize)
	be.PutUint32(b, magic)
	be.PutUint16(b[4:], level)
	be.PutUint16(b[6:], uint16(n))
	be.PutUint32(b[8:], left)
	be.PutUint32(b[12:], right)
	be.PutUint64(b[16:], uint64(g.byteOf(block))/512)
	copy(b[32:], geo.uuid[:])
	be.PutUint32(b[48:], g.no)
	copy(b[shortHeader:], content)
	seal(b, 52)
	return b
}

const nullBlock = 1<<32 - 1

// inodeTree writes records of 16 bytes as the tree whose root is block root, and
// returns how many blocks it has, of which those below the root come from take.
func (g *group) inodeTree(f *os.File, geo *geometry, magic, root uint32, records []byte) (blocks, level uint32, err error) {
	n := len(records) / 16
	if n <= inodesInLeaf {
		_, err := f.WriteAt(g.shortBlock(geo, magic, 0, root, nullBlock, nullBlock, n, records), g.byteOf(root))
		return 1, 1, err
	}
	leaves := (n + inodesInLeaf - 1) / inodesInLeaf
	if leaves > keysInNode {
		return 0, 0, fmt.Errorf("its first group would have %d inodes, and b9 writes trees of %d at most: spread the content over several file systems", n*chunkCount, inodesInLeaf*keysInNode*chunkCount)
	}
	at := g.take(uint32(leaves), uint32(leaves), 1)
	if at.count == 0 {
		return 0, 0, errNoRoom
	}
	node := make([]byte, 2*4*keysInNode)
	for i := range leaves {
		part := records[16*i*inodesInLeaf : min(len(records), 16*(i+1)*inodesInLeaf)]
		left, right := at.start+uint32(i)-1, at.start+uint32(i)+1
		if i == 0 {
			left = nullBlock
		}
		if i == leaves-1 {
			right = nullBlock
		}
		copy(node[4*i:], part[:4])
		be.PutUint32(node[4*(keysInNode+i):], at.start+uint32(i))
		b := g.shortBlock(geo, magic, 0, at.start+uint32(i), left, right, len(part)/16, part)
		if _, err := f.WriteAt(b, g.byteOf(at.start+uint32(i))); err != nil {
			return 0, 0, err
		}
	}
	_, err = f.WriteAt(g.shortBlock(geo, magic, 1, root, nullBlock, nullBlock, leaves, node), g.byteOf(root))
	return uint32(leaves) + 1, 2, err
}

// errNoRoom says that the content does not fit; it is told with a size that holds it.
var errNoRoom = errors.New("no room is left")

// finish writes the group's trees and headers. It returns how many inodes and how many
// of them are free.
func (g *group) finish(f *os.File, geo *geometry) (inodes, free uint32, err error) {
	var all, some bytes.Buffer
	g.reserve = 0 // the trees are what it is for
	for _, c := range g.chunks {
		left := chunkCount - c.used
		r := make([]byte, 16)
		be.PutUint32(r, c.block<<geo.inodePerLg)
		r[6], r[7] = chunkCount, byte(left)
		if left > 0 {
			be.PutUint64(r[8:], ^uint64(0)<<c.used)
			some.Write(r)
		}
		all.Write(r)
		inodes, free = inodes+chunkCount, free+left
		be.PutUint32(g.agi[32:], c.block<<geo.inodePerLg)
	}
	blocks, level, err := g.inodeTree(f, geo, magicIno, be.Uint32(g.agi[20:]), all.Bytes())
	fblocks, flevel, ferr := g.inodeTree(f, geo, magicFino, be.Uint32(g.agi[328:]), some.Bytes())
	if err := errors.Join(err, ferr); err != nil {
		return 0, 0, err
	}
	for at, n := range map[int]uint32{16: inodes, 24: level, 28: free, 332: flevel, 336: blocks, 340: fblocks} {
		be.PutUint32(g.agi[at:], n)
	}
	seal(g.agi, 312)
	_, err = f.WriteAt(g.agi, g.base+2*sector)
	return inodes, free, errors.Join(err, g.writeFree(f, geo))
}

// writeFree writes the two trees of free space and the header that counts it.
func (g *group) writeFree(f *os.File, geo *geometry) error {
	if len(g.free) > keysInNode {
		return errNoRoom
	}
	longest := uint32(0)
	for _, s := range g.free {
		longest = max(longest, s.count)
	}
	bySize := slices.SortedFunc(slices.Values(g.free), func(a, b span) int { return cmp.Or(cmp.Compare(a.count, b.count), cmp.Compare(a.start, b.start)) })
	put := func(magic, root uint32, list []span) error {
		var b []byte
		for _, s := range list {
			b = be.AppendUint32(be.AppendUint32(b, s.start), s.count)
		}
		_, err := f.WriteAt(g.shortBlock(geo, magic, 0, root, nullBlock, nullBlock, len(list), b), g.byteOf(root))
		return err
	}
	err := errors.Join(put(magicBno, be.Uint32(g.agf[16:]), g.free), put(magicCnt, be.Uint32(g.agf[20:]), bySize))
	be.PutUint32(g.agf[52:], g.left)
	be.PutUint32(g.agf[56:], longest)
	seal(g.agf, 216)
	_, werr := f.WriteAt(g.agf, g.base+sector)
	return errors.Join(err, werr)
}
