package ext4

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
)

// Fixed inode numbers.
const rootInode = 2

// readLayout reads the first superblock of a file.
func readLayout(r io.ReaderAt) (*layout, error) {
	sb := make([]byte, superSize)
	if _, err := r.ReadAt(sb, superAt); err != nil {
		return nil, fmt.Errorf("superblock: %w", err)
	}
	return parseSuper(sb)
}

// fill writes a tree into a file system that mke2fs has just made. It
// allocates upwards from the first free block and inode: directories first,
// then what links and attributes need, then the files in order of their names.
type fill struct {
	ctx    context.Context
	f      *os.File
	l      *layout
	groups []*group
	alloc  *allocator
	maps   *mapper
	w      *blockWriter
	order  []*tree.Inode // by inode number
	paths  []string
	disk   []diskInode // beside order
	lost   uint32      // inode number of lost+found
	first  uint32      // first inode number that was free
	old    map[uint32][]uint64
}

// diskInode is what of an inode is known only after its blocks are allocated.
type diskInode struct {
	iblock  [60]byte
	sectors uint64 // 512 bytes each
	acl     uint64
	size    int64
	mapped  bool // iblock maps blocks
}

func fillImage(ctx context.Context, f *os.File, t *tree.Tree, when time.Time) error {
	l, err := readLayout(f)
	if err != nil {
		return err
	}
	if err := l.fillable(); err != nil {
		return err
	}
	x := &fill{ctx: ctx, f: f, l: l, w: newBlockWriter(f, l.blockSize)}
	if x.groups, err = l.readGroups(f); err != nil {
		return err
	}
	x.alloc = &allocator{l: l, f: f, groups: x.groups, put: x.w.put}
	x.maps = &mapper{l: l, put: x.w.put, block: func() (uint64, error) {
		b, _, err := x.alloc.next(1)
		return b, err
	}}
	for _, step := range []func() error{
		func() error { return x.number(t, when) },
		x.directories, x.small, x.data, x.inodes, x.alloc.finish, x.finish,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// fillable refuses the features whose bookkeeping this package does not do.
func (l *layout) fillable() error {
	for _, c := range []struct {
		on   bool
		name string
	}{
		{l.ro&roBigalloc != 0, "bigalloc"}, {l.ro&roQuota != 0, "quota"},
		{l.incompat&incompatMetaBG != 0, "meta_bg"}, {l.incompat&incompatJournalDev != 0, "journal_dev"},
		{l.incompat&incompatRecover != 0, "needs_recovery"},
	} {
		if c.on {
			return fmt.Errorf("a file system with the feature %s cannot be filled: leave the feature away, or make it empty and fill it in a container", c.name)
		}
	}
	return nil
}

func (l *layout) readGroups(r io.ReaderAt) ([]*group, error) {
	groups := make([]*group, 0, min(l.groups, 1<<16))
	for g := range l.groups {
		d, err := l.readGroup(r, g)
		if err != nil {
			return nil, err
		}
		groups = append(groups, d)
	}
	return groups, nil
}

// number gives every inode its number and finds what mke2fs made.
func (x *fill) number(t *tree.Tree, when time.Time) error {
	x.old = make(map[uint32][]uint64)
	if err := x.findLost(t, when); err != nil {
		return err
	}
	next := x.first
	err := t.Walk(func(p string, n *tree.Inode) error {
		switch {
		case n == t.Root:
			n.Number = rootInode
		case n.Number == x.lost: // set by findLost
			return nil
		default:
			n.Number = next
			next++
		}
		if n.Number > x.l.inodes {
			return fmt.Errorf("the content has more files than the file system has inodes (%d): raise Inodes or lower InodeRatio", x.l.inodes)
		}
		x.order, x.paths = append(x.order, n), append(x.paths, p)
		if n == t.Root {
			x.appendLost(t)
		}
		return nil
	})
	x.disk = make([]diskInode, len(x.order))
	return err
}

// appendLost keeps order sorted by number: lost+found comes after the root.
func (x *fill) appendLost(t *tree.Tree) {
	for _, e := range t.Root.Entries {
		if e.Inode.Number == x.lost {
			x.order, x.paths = append(x.order, e.Inode), append(x.paths, "/"+e.Name)
		}
	}
}

const lostFound = "lost+found"

// findLost merges the lost+found directory that mke2fs made into the tree.
func (x *fill) findLost(t *tree.Tree, when time.Time) error {
	g := x.groups[0]
	bitmap := make([]byte, x.l.blockSize)
	if _, err := x.f.ReadAt(bitmap, int64(g.inodeBitmap())*int64(x.l.blockSize)); err != nil {
		return err
	}
	x.first = nextBit(bitmap, 0, x.l.inodesPerGroup, false) + 1
	for i := x.first; i < x.l.inodesPerGroup; i++ {
		if testBit(bitmap, i) {
			x.first = i + 2
		}
	}
	x.lost = x.l.firstInode
	for _, num := range []uint32{rootInode, x.lost} {
		blocks, err := x.oldBlocks(num)
		if err != nil {
			return err
		}
		x.old[num] = blocks
	}
	for _, e := range t.Root.Entries {
		if e.Name != lostFound {
			continue
		}
		if !e.Inode.IsDir() {
			return errors.New("/lost+found in the content is not a directory")
		}
		e.Inode.Number = x.lost
		return nil
	}
	dir := tree.NewDir(when)
	dir.Mode, dir.Links, dir.Number = unix.S_IFDIR|0o700, 2, x.lost
	t.Root.Links++
	i, _ := slices.BinarySearchFunc(t.Root.Entries, lostFound, func(e tree.Entry, name string) int { return strings.Compare(e.Name, name) })
	t.Root.Entries = slices.Insert(t.Root.Entries, i, tree.Entry{Name: lostFound, Inode: dir})
	return nil
}

// oldBlocks lists the blocks of a directory that mke2fs made.
func (x *fill) oldBlocks(num uint32) ([]uint64, error) {
	v := x.reader()
	n, err := v.inode(uint64(num))
	if err != nil {
		return nil, err
	}
	d := n.Private.(*inode)
	if d.flags&inodeFlagInline != 0 {
		return nil, nil
	}
	var out []uint64
	for b := range n.Size / int64(x.l.blockSize) {
		at, _, err := v.run(d, uint64(b))
		if err == nil && at == 0 {
			err = fmt.Errorf("inode %d of the new file system has a hole", num)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, at)
	}
	return out, nil
}

// reader reads what mke2fs made.
func (x *fill) reader() *reader {
	in := io.NewSectionReader(x.f, 0, x.l.size())
	return &reader{r: volume.NewPages(in), l: x.l, tables: make(map[uint32]int64)}
}

func (x *fill) inodeAt(num uint32) int64 {
	g, i := (num-1)/x.l.inodesPerGroup, (num-1)%x.l.inodesPerGroup
	return int64(x.groups[g].inodeTable())*int64(x.l.blockSize) + int64(i)*int64(x.l.inodeSize)
}

// inodeSeed is where checksums of what belongs to an inode begin. Generations
// are 0 throughout.
func (l *layout) inodeSeed(num uint32) uint32 {
	var b [8]byte
	binary.LittleEndian.PutUint32(b[:], num)
	return crc(l.seed, b[:])
}

// small writes long symbolic links and attributes that fill a block.
func (x *fill) small() error {
	for i, n := range x.order {
		if err := context.Cause(x.ctx); err != nil {
			return err
		}
		err := x.link(i, n)
		if err == nil {
			err = x.attributes(i, n)
		}
		if err != nil {
			return x.named(i, err)
		}
	}
	return nil
}

// named adds the path to an error, unless it is about the whole file system.
func (x *fill) named(i int, err error) error {
	var full *errFull
	if errors.As(err, &full) || x.ctx.Err() != nil || strings.Contains(err.Error(), x.paths[i]) && x.paths[i] != "" {
		return err
	}
	return fmt.Errorf("/%s: %w", strings.TrimPrefix(x.paths[i], "/"), err)
}

func (x *fill) link(i int, n *tree.Inode) error {
	if !n.IsLink() {
		return nil
	}
	d := &x.disk[i]
	d.size = int64(len(n.Target))
	switch {
	case n.Target == "":
		return errors.New("the symbolic link has no target")
	case len(n.Target) < len(d.iblock):
		copy(d.iblock[:], n.Target)
		return nil
	case len(n.Target) >= x.l.blockSize || len(n.Target) > tree.MaxPath:
		return fmt.Errorf("the symbolic link's target is %d bytes long, a block holds %d", len(n.Target), x.l.blockSize-1)
	}
	b, _, err := x.alloc.next(1)
	if err != nil {
		return err
	}
	block := make([]byte, x.l.blockSize)
	copy(block, n.Target)
	if err := x.w.put(block, b); err != nil {
		return err
	}
	return x.setMap(i, extentList{{0, b, 1}})
}

// setMap finishes an inode's block map and its count of sectors.
func (x *fill) setMap(i int, list extentList) error {
	d := &x.disk[i]
	var err error
	d.iblock, err = x.maps.iblock(list, x.l.inodeSeed(x.order[i].Number))
	d.sectors += (list.blocks() + x.maps.meta) * uint64(x.l.blockSize/512)
	d.mapped = true
	return err
}

func (x *fill) attributes(i int, n *tree.Inode) error {
	if len(n.Xattrs) == 0 {
		return nil
	}
	list, err := xattrs(n.Xattrs)
	if err != nil {
		return err
	}
	_, outside := splitXattrs(list, x.l.xattrRoom())
	if len(outside) == 0 {
		return nil
	}
	at, _, err := x.alloc.next(1)
	if err != nil {
		return err
	}
	b, err := x.l.xattrBlock(outside, at)
	if err != nil {
		return err
	}
	x.disk[i].acl = at
	x.disk[i].sectors += uint64(x.l.blockSize / 512)
	return x.w.put(b, at)
}

// xattrRoom is the space for attributes inside an inode, after their magic.
func (l *layout) xattrRoom() int {
	return max(0, l.inodeSize-128-l.extraInodeBytes-4)
}

// finish writes descriptors and the superblock.
func (x *fill) finish() error {
	table := make([]byte, 0, len(x.groups)*x.l.descSize)
	for _, d := range x.groups {
		d.seal()
		table = append(table, d.raw...)
	}
	if err := x.w.flush(); err != nil {
		return err
	}
	if _, err := x.f.WriteAt(table, x.l.descAt(0)); err != nil {
		return err
	}
	x.l.setFreeBlocks(x.l.freeBlocks() - x.alloc.total)
	x.l.sealSuper()
	_, err := x.f.WriteAt(x.l.sb, superAt)
	return err
}
