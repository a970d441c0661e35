package xfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/internal/sparse"
	"b9.build/b9/engine/size"
)

// fill writes a tree into an empty file system. Inodes lie together in the order of
// the tree, the first of them in the chunk that mkfs.xfs made; then follow the blocks of
// each, from the first group on. Nothing is ever given back, so that a group's free
// space stays a run or two, which its trees hold in one block.
type fill struct {
	ctx  context.Context
	o    Options
	tree *tree.Tree

	order   []*tree.Inode // whose Number is the place in this list
	parents []*tree.Inode // of directories, by their numbers
	f       *os.File
	geo     geometry
	super   []byte
	groups  []*group
	chunks  []place // of 64 inodes each
	attrs   bool    // some inode has one
	buf     []byte
}

// place is a block of a group.
type place struct {
	g     *group
	block uint32
}

// system is how many inodes mkfs.xfs makes: the root, and two of a real-time part.
const system = 3

// plan numbers the objects and refuses what XFS does not hold.
func (w *fill) plan() error {
	err := w.tree.Walk(func(p string, n *tree.Inode) error {
		n.Number = uint32(len(w.order))
		w.order = append(w.order, n)
		if p == "" {
			p = "/"
		}
		if err := checkInode(n); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		return nil
	})
	w.parents = make([]*tree.Inode, len(w.order))
	w.parents[0] = w.tree.Root
	for _, n := range w.order {
		for _, e := range n.Entries {
			w.parents[e.Inode.Number] = n
		}
	}
	if w.o.Size == 0 {
		w.o.Size = w.needed()
	}
	return err
}

// maxLink is the longest target of a symbolic link in bytes.
const maxLink = 1023

func checkInode(n *tree.Inode) error {
	switch {
	case n.Sec < -1<<31 || n.Sec > 16299260424:
		return errors.New("its time is before 1901 or after 2486, which xfs does not hold")
	case n.IsLink() && len(n.Target) > maxLink:
		return fmt.Errorf("it is a link of %d bytes, xfs holds %d", len(n.Target), maxLink)
	case n.IsLink() && n.Target == "":
		return errors.New("it is a link that has no target")
	case n.Major >= 1<<14 || n.Minor >= 1<<18:
		return fmt.Errorf("its device number %d:%d is larger than xfs holds", n.Major, n.Minor)
	}
	_, err := attributesOf(n)
	return err
}

// needed is a size that holds the content: its blocks, the log, what each group keeps
// to itself, and Free bytes.
func (w *fill) needed() int64 {
	blocks := int64(len(w.order))*inodeSize/blockSize + 4*chunkBlock
	for _, n := range w.order {
		blocks += blocksOf(n)
	}
	need := blocks*blockSize + w.o.Free
	need += need/48 + need/1024 + 72<<20
	return max(Least, (need+1<<20-1)&^(1<<20-1))
}

// blocksOf is how many blocks an object takes at most.
func blocksOf(n *tree.Inode) int64 {
	blocks := int64(0)
	switch {
	case n.IsRegular():
		data := (n.Size + blockSize - 1) / blockSize
		blocks = data + data/120
	case n.IsLink() && len(n.Target) > literal/2:
		blocks = 1
	case n.IsDir():
		names := int64(0)
		for _, e := range n.Entries {
			names += 24 + int64(len(e.Name)) + 8
		}
		if names > literal/2 {
			blocks = 1
		}
		if names > blockSize*3/4 {
			blocks = 4 + names*5/4/blockSize
		}
	}
	list, _ := attributesOf(n)
	if total := list.bytes(); total > literal/2 {
		blocks += 2 + total*5/4/blockSize + int64(len(list))
	}
	return blocks
}

// make writes everything. The file is a new one.
func (w *fill) make(f *os.File) error {
	w.f, w.buf = f, make([]byte, 1<<20)
	if err := w.o.empty(w.ctx, f); err != nil {
		return err
	}
	err := w.read()
	if err == nil {
		err = w.content()
	}
	if errors.Is(err, errNoRoom) {
		return w.tooSmall()
	}
	return err
}

// tooSmall tells a size that holds the content exactly, since a rounded one may not.
func (w *fill) tooSmall() error {
	return fmt.Errorf("the content does not fit into %s: %s are enough", size.About(w.o.Size), size.Bytes(w.needed()))
}

// read finds out what mkfs.xfs has made.
func (w *fill) read() (err error) {
	w.super = make([]byte, sector)
	if _, err := w.f.ReadAt(w.super, 0); err != nil {
		return err
	}
	if w.geo, err = parseSuper(w.super); err != nil {
		return err
	}
	if w.geo.ro != roFinobt|roReflink|roInobtCnt || w.geo.incompat != incompatFtype|incompatSpinode|incompatBigtime || w.geo.dirLog != 0 || w.geo.inodeSize != inodeSize {
		return fmt.Errorf("mkfs.xfs makes features that b9 does not write: %#x, %#x", w.geo.ro, w.geo.incompat)
	}
	for no := range w.geo.agCount {
		g, err := readGroup(w.f, &w.geo, no)
		if err != nil {
			return err
		}
		w.groups = append(w.groups, g)
	}
	return nil
}

func (w *fill) content() error {
	if err := w.makeChunks(); err != nil {
		return err
	}
	for _, n := range w.order {
		if err := context.Cause(w.ctx); err != nil {
			return err
		}
		if err := w.object(n); err != nil {
			if errors.Is(err, errNoRoom) || n.Origin == "" {
				return err
			}
			return fmt.Errorf("%s: %w", n.Origin, err)
		}
	}
	return w.finish()
}

// makeChunks finds places for all inodes and writes them, free.
func (w *fill) makeChunks() error {
	first := place{w.groups[0], uint32(w.geo.root >> w.geo.inodePerLg)}
	first.g.chunks = []chunk{{first.block, 0}}
	w.chunks = []place{first}
	for len(w.chunks)*chunkCount < len(w.order)+system-1 {
		g, at := w.run(chunkBlock, chunkBlock, chunkBlock)
		if g == nil {
			return errNoRoom
		}
		g.chunks = append(g.chunks, chunk{at.start, 0})
		w.chunks = append(w.chunks, place{g, at.start})
	}
	for i, c := range w.chunks {
		used := min(chunkCount, len(w.order)+system-1-i*chunkCount)
		for j := range c.g.chunks {
			if c.g.chunks[j].block == c.block {
				c.g.chunks[j].used = uint32(used)
			}
		}
		b := w.buf[:chunkBlock*blockSize]
		clear(b)
		for k := range uint32(chunkCount) {
			inode := b[k*inodeSize:][:inodeSize]
			w.core(inode, w.geo.number(c.g.no, c.block, k))
			seal(inode, 100)
		}
		if _, err := w.f.WriteAt(b, c.g.byteOf(c.block)); err != nil {
			return err
		}
	}
	return w.realtime()
}

// realtime writes the two inodes of the real-time part, which has nothing.
func (w *fill) realtime() error {
	at := &tree.Inode{Mode: unix.S_IFREG, Links: 1, Sec: tree.FixedTime(w.o.Time)}
	for i := range uint64(system - 1) {
		number := w.geo.root + 1 + i
		inode := w.inode(number, at)
		inode[5] = formatExtents
		if i == 0 {
			be.PutUint16(inode[90:], 4) // XFS_DIFLAG_NEWRTBM
		}
		if err := w.put(number, inode); err != nil {
			return err
		}
	}
	return nil
}

// number is the inode's number of a file system.
func (w *fill) number(n *tree.Inode) uint64 {
	i := n.Number
	if i > 0 {
		i += system - 1
	}
	c := w.chunks[i/chunkCount]
	return w.geo.number(c.g.no, c.block, i%chunkCount)
}

// run hands out blocks of the first group that has them.
func (w *fill) run(want, least, align uint32) (*group, span) {
	for _, g := range w.groups {
		if s := g.take(want, least, align); s.count > 0 {
			return g, s
		}
	}
	return nil, span{}
}

// extent is a run of a file's blocks.
type extent struct {
	logical uint64
	block   uint64 // of the file system
	count   uint64
}

// maxExtent is the most blocks of an extent.
const maxExtent = 1<<21 - 1

// together hands out n blocks that follow each other, as blocks of a file from logical on.
func (w *fill) together(logical uint64, n int) (extent, error) {
	g, s := w.run(uint32(n), uint32(n), 1)
	if g == nil {
		return extent{}, errNoRoom
	}
	return extent{logical, uint64(g.no)<<w.geo.agLog | uint64(s.start), uint64(n)}, nil
}

// data writes a regular file's bytes; blocks of zeros stay out.
func (w *fill) data(n *tree.Inode) ([]extent, error) {
	if n.Size == 0 {
		return nil, nil
	}
	in, err := n.Open()
	if err != nil {
		return nil, err
	}
	list, err := w.copy(n, in)
	return list, errors.Join(err, in.Close())
}

func (w *fill) copy(n *tree.Inode, in io.Reader) (list []extent, err error) {
	for off := int64(0); off < n.Size; {
		if err := context.Cause(w.ctx); err != nil {
			return nil, err
		}
		if off, err = skipHole(in, off); err != nil {
			return nil, err
		}
		b := w.buf[:min(int64(len(w.buf)), n.Size-off)]
		if _, err := io.ReadFull(in, b); err != nil && len(b) > 0 {
			return nil, n.Short(err)
		}
		padded := w.buf[:(len(b)+blockSize-1)/blockSize*blockSize]
		clear(padded[len(b):])
		for from, to := range sparse.Runs(padded, blockSize) {
			if list, err = w.blocks(list, uint64(off)/blockSize+uint64(from/blockSize), padded[from:to]); err != nil {
				return nil, err
			}
		}
		off += int64(len(b))
	}
	return list, n.CheckEnd(in)
}

// skipHole moves a reader to the block in which its next data is.
func skipHole(in io.Reader, off int64) (int64, error) {
	h, ok := in.(tree.HoleSkipper)
	s, seeks := in.(io.Seeker)
	if !ok || !seeks {
		return off, nil
	}
	next, err := h.NextData(off)
	if err != nil {
		return 0, err
	}
	return s.Seek(next/blockSize*blockSize, io.SeekStart)
}

// blocks writes whole blocks of a file from logical on.
func (w *fill) blocks(list []extent, logical uint64, b []byte) ([]extent, error) {
	for len(b) > 0 {
		g, s := w.run(uint32(len(b)/blockSize), 1, 1)
		if g == nil {
			return nil, errNoRoom
		}
		size := int(s.count) * blockSize
		if _, err := w.f.WriteAt(b[:size], g.byteOf(s.start)); err != nil {
			return nil, err
		}
		list = join(list, extent{logical, uint64(g.no)<<w.geo.agLog | uint64(s.start), uint64(s.count)})
		logical, b = logical+uint64(s.count), b[size:]
	}
	return list, nil
}

// join adds an extent, to the last one where it continues that.
func join(list []extent, e extent) []extent {
	if len(list) > 0 {
		last := &list[len(list)-1]
		if last.logical+last.count == e.logical && last.block+last.count == e.block && last.count+e.count <= maxExtent {
			last.count += e.count
			return list
		}
	}
	return append(list, e)
}

// finish writes the groups' headers and the superblock.
func (w *fill) finish() error {
	var inodes, free, space uint64
	for _, g := range w.groups {
		n, unused, err := g.finish(w.f, &w.geo)
		if err != nil {
			return err
		}
		inodes, free = inodes+uint64(n), free+uint64(unused)
	}
	for _, g := range w.groups {
		space += uint64(g.left) + uint64(be.Uint32(g.agf[48:])) // and its list of spare blocks
	}
	be.PutUint64(w.super[128:], inodes)
	be.PutUint64(w.super[136:], free)
	be.PutUint64(w.super[144:], space)
	if w.attrs {
		be.PutUint16(w.super[100:], w.geo.version|0x10)
	}
	seal(w.super, 224)
	_, err := w.f.WriteAt(w.super, 0)
	return err
}
