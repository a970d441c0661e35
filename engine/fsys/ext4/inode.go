package ext4

import (
	"context"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/tree"
)

// inodes writes the inode tables and bitmaps of the groups that get inodes. order
// is sorted by number, so each group's inodes follow each other in it.
func (x *fill) inodes() error {
	free := x.l.freeInodes()
	for i := 0; i < len(x.order); {
		g := x.groupOf(i)
		end := i + 1
		for end < len(x.order) && x.groupOf(end) == g {
			end++
		}
		if err := context.Cause(x.ctx); err != nil {
			return err
		}
		used, err := x.groupInodes(g, i, end)
		if err != nil {
			return err
		}
		i, free = end, free-used
	}
	binary.LittleEndian.PutUint32(x.l.sb[0x10:], free)
	return nil
}

// groupOf is the group of order[i].
func (x *fill) groupOf(i int) uint32 { return (x.order[i].Number - 1) / x.l.inodesPerGroup }

// groupInodes writes order[from:to], the inodes of group g, and returns how many
// of them were free.
func (x *fill) groupInodes(g uint32, from, to int) (used uint32, err error) {
	l, d := x.l, x.groups[g]
	bitmap := make([]byte, l.blockSize)
	if d.flags()&groupInodeUninit == 0 || !l.sums() {
		if _, err := x.f.ReadAt(bitmap, int64(d.inodeBitmap())*int64(l.blockSize)); err != nil {
			return 0, err
		}
	}
	for i := l.inodesPerGroup; i < uint32(l.blockSize)*8; i++ {
		setBit(bitmap, i)
	}
	bs := int64(l.blockSize)
	start, end := x.inodeAt(x.order[from].Number)/bs*bs, x.inodeAt(x.order[to-1].Number)/bs*bs+bs
	table := make([]byte, end-start)
	if _, err := x.f.ReadAt(table, start); err != nil { // some of its inodes may be those of mke2fs
		return 0, err
	}
	dirs := uint32(0)
	for _, o := range x.order[from:to] {
		if index := (o.Number - 1) % l.inodesPerGroup; !testBit(bitmap, index) {
			setBit(bitmap, index)
			used++
			if o.IsDir() {
				dirs++
			}
		}
		raw := table[x.inodeAt(o.Number)-start:][:l.inodeSize]
		clear(raw)
		if err := x.encodeInode(raw, o); err != nil {
			return 0, x.named(o, err)
		}
	}
	if _, err := x.f.WriteAt(table, start); err != nil {
		return 0, err
	}
	d.clearFlag(groupInodeUninit)
	d.useInodes(used, dirs, l.inodesPerGroup-topBit(bitmap, l.inodesPerGroup))
	d.sumBitmap(bitmap, true)
	return used, x.w.put(bitmap, d.inodeBitmap())
}

// encodeInode writes the on-disk inode (struct ext4_inode).
func (x *fill) encodeInode(raw []byte, o *object) error {
	le := binary.LittleEndian
	links, err := x.l.linkCount(o.Inode)
	if err != nil {
		return err
	}
	if o.sectors > 1<<32-1 {
		return errors.New("has too many blocks")
	}
	le.PutUint16(raw[0x00:], uint16(o.Mode))
	le.PutUint16(raw[0x02:], uint16(o.UID))
	le.PutUint16(raw[0x18:], uint16(o.GID))
	le.PutUint16(raw[0x78:], uint16(o.UID>>16))
	le.PutUint16(raw[0x7a:], uint16(o.GID>>16))
	le.PutUint32(raw[0x04:], uint32(o.Size))
	le.PutUint32(raw[0x6c:], uint32(o.Size>>32))
	le.PutUint16(raw[0x1a:], links)
	le.PutUint32(raw[0x1c:], uint32(o.sectors))
	if o.mapped && x.l.incompat&incompatExtents != 0 {
		le.PutUint32(raw[0x20:], inodeFlagExtents)
	}
	le.PutUint32(raw[0x20:], le.Uint32(raw[0x20:])|o.Flags&settableFlags)
	copy(raw[0x28:], o.iblock[:])
	if o.Kind() == unix.S_IFCHR || o.Kind() == unix.S_IFBLK {
		putDevice(raw[0x28:], o.Major, o.Minor)
	}
	le.PutUint32(raw[0x68:], uint32(o.acl))
	le.PutUint16(raw[0x76:], uint16(o.acl>>32))
	x.putTimes(raw, o.Inode)
	if err := x.putInside(raw, o.Inode); err != nil {
		return err
	}
	x.l.sumInode(raw, o.Number)
	return nil
}

// putDevice writes a device number in the old form where it fits, else in the new.
func putDevice(b []byte, major, minor uint32) {
	if major < 256 && minor < 256 {
		binary.LittleEndian.PutUint32(b, major<<8|minor)
		return
	}
	binary.LittleEndian.PutUint32(b[4:], minor&0xff|major<<8|minor&^0xff<<12)
}

// putTimes sets change, access, modification and creation time.
func (x *fill) putTimes(raw []byte, n *tree.Inode) {
	le := binary.LittleEndian
	wide := x.l.extraInodeBytes >= 24
	last := int64(1<<31 - 1)
	if wide {
		last += 3 << 32
	}
	sec := min(max(n.Sec, -1<<31), last)
	extra := n.Nsec<<2 | uint32((sec-int64(int32(sec)))>>32)&3
	for _, at := range []int{0x08, 0x0c, 0x10} {
		le.PutUint32(raw[at:], uint32(sec))
	}
	if !wide {
		return
	}
	le.PutUint32(raw[0x90:], uint32(sec))
	for _, at := range []int{0x84, 0x88, 0x8c, 0x94} {
		le.PutUint32(raw[at:], extra)
	}
}

// putInside writes the length of the extra fields and the attributes that fit
// behind them.
func (x *fill) putInside(raw []byte, n *tree.Inode) error {
	if x.l.extraInodeBytes == 0 {
		return nil
	}
	binary.LittleEndian.PutUint16(raw[0x80:], uint16(x.l.extraInodeBytes))
	list, err := xattrs(n.Xattrs)
	if err != nil {
		return err
	}
	inside, _ := splitXattrs(list, x.l.xattrRoom())
	if len(inside) > 0 {
		area := raw[128+x.l.extraInodeBytes:]
		binary.LittleEndian.PutUint32(area, xattrMagic)
		putXattrs(area[4:], 0, 0, inside)
	}
	return nil
}

// sumInode writes the checksum of the inode with that number into it.
func (l *layout) sumInode(raw []byte, num uint32) {
	if !l.csum() {
		return
	}
	le := binary.LittleEndian
	high := len(raw) >= 128+4 && le.Uint16(raw[0x80:]) >= 4
	le.PutUint16(raw[0x7c:], 0)
	if high {
		le.PutUint16(raw[0x82:], 0)
	}
	seed := crc(crc(l.seed, le.AppendUint32(nil, num)), raw[0x64:0x68]) // its generation
	sum := crc(seed, raw)
	le.PutUint16(raw[0x7c:], uint16(sum))
	if high {
		le.PutUint16(raw[0x82:], uint16(sum>>16))
	}
}
