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
	order  []*object // by inode number
	lost   object    // lost+found
	first  uint32    // first inode number that was free
	old    map[uint32][]uint64
}

// object is an inode, and what is known of it only after its blocks are allocated.
type object struct {
	*tree.Inode
	path    string
	iblock  [60]byte
	sectors uint64 // 512 bytes each
	acl     uint64
	mapped  bool // iblock maps blocks
	solid   bool // without holes
}

func fillImage(ctx context.Context, f *os.File, t *tree.Tree, opt *Options) error {
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
	if opt.settings != nil {
		l.copySettings(opt.settings)
	}
	x.alloc = &allocator{l: l, f: f, groups: x.groups, put: x.w.put}
	x.maps = &mapper{l: l, put: x.w.put, block: func() (uint64, error) {
		b, _, err := x.alloc.next(1)
		return b, err
	}}
	for _, step := range []func() error{
		func() error { return x.number(t, opt.Time) },
		x.directories, x.small, x.data, x.inodes, x.alloc.leave, x.finish,
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
	return t.Walk(func(p string, n *tree.Inode) error {
		switch n {
		case t.Root:
			n.Number = rootInode
		case x.lost.Inode: // lies behind the root already
			return nil
		default:
			n.Number = next
			next++
		}
		if n.Number > x.l.inodes {
			return fmt.Errorf("the content has more files than the file system has inodes (%d): raise Inodes or lower InodeRatio", x.l.inodes)
		}
		x.order = append(x.order, &object{Inode: n, path: p, solid: n.IsRegular() && isSwap(n)})
		if n == t.Root {
			x.order = append(x.order, &x.lost)
		}
		return nil
	})
}

const lostFound = "lost+found"

// findLost merges the lost+found directory that mke2fs made into the tree.
func (x *fill) findLost(t *tree.Tree, when time.Time) error {
	g := x.groups[0]
	bitmap := make([]byte, x.l.blockSize)
	if _, err := x.f.ReadAt(bitmap, int64(g.inodeBitmap())*int64(x.l.blockSize)); err != nil {
		return err
	}
	x.first = topBit(bitmap, x.l.inodesPerGroup) + 1
	for _, num := range []uint32{rootInode, x.l.firstInode} {
		blocks, err := x.oldBlocks(num)
		if err != nil {
			return err
		}
		x.old[num] = blocks
	}
	i, found := slices.BinarySearchFunc(t.Root.Entries, lostFound, func(e tree.Entry, name string) int { return strings.Compare(e.Name, name) })
	if !found {
		dir := tree.NewDir(when)
		dir.Mode, dir.Links = unix.S_IFDIR|0o700, 2
		t.Root.Links++
		t.Root.Entries = slices.Insert(t.Root.Entries, i, tree.Entry{Name: lostFound, Inode: dir})
	}
	x.lost = object{Inode: t.Root.Entries[i].Inode, path: "/" + lostFound}
	if !x.lost.IsDir() {
		return errors.New("/lost+found in the content is not a directory")
	}
	x.lost.Number = x.l.firstInode
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
	return &reader{r: volume.NewPages(in), l: x.l}
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
	for _, o := range x.order {
		if err := context.Cause(x.ctx); err != nil {
			return err
		}
		err := x.link(o)
		if err == nil {
			err = x.attributes(o)
		}
		if err != nil {
			return x.named(o, err)
		}
	}
	return nil
}

// named adds the path to an error, unless it is about the whole file system.
func (x *fill) named(o *object, err error) error {
	if errors.Is(err, errFull) || x.ctx.Err() != nil || strings.Contains(err.Error(), o.path) && o.path != "" {
		return err
	}
	return fmt.Errorf("/%s: %w", strings.TrimPrefix(o.path, "/"), err)
}

func (x *fill) link(o *object) error {
	switch {
	case !o.IsLink():
		return nil
	case o.Target == "":
		return errors.New("the symbolic link has no target")
	case len(o.Target) < len(o.iblock):
		copy(o.iblock[:], o.Target)
		return nil
	case len(o.Target) >= x.l.blockSize || len(o.Target) > tree.MaxPath:
		return fmt.Errorf("the symbolic link's target is %d bytes long, a block holds %d", len(o.Target), x.l.blockSize-1)
	}
	b, _, err := x.alloc.next(1)
	if err != nil {
		return err
	}
	block := make([]byte, x.l.blockSize)
	copy(block, o.Target)
	if err := x.w.put(block, b); err != nil {
		return err
	}
	return x.setMap(o, extentList{{0, b, 1}})
}

// setMap finishes an inode's block map and its count of sectors.
func (x *fill) setMap(o *object, list extentList) (err error) {
	o.iblock, err = x.maps.iblock(list, x.l.inodeSeed(o.Number))
	o.sectors += (list.blocks() + x.maps.meta) * uint64(x.l.blockSize/512)
	o.mapped = true
	return err
}

func (x *fill) attributes(o *object) error {
	list, err := xattrs(o.Xattrs)
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
	o.acl = at
	o.sectors += uint64(x.l.blockSize / 512)
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
