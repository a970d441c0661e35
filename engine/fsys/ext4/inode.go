package ext4

import (
	"context"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/tree"
)

// inodes writes the inode tables and bitmaps of the groups that get inodes.
func (x *fill) inodes() error {
	t := inodeTable{x: x, group: -1, block: -1}
	for i := range x.order {
		if err := context.Cause(x.ctx); err != nil {
			return err
		}
		if err := t.add(i); err != nil {
			return x.named(i, err)
		}
	}
	if err := t.leaveGroup(); err != nil {
		return err
	}
	left := x.l.freeInodes() - t.added
	binary.LittleEndian.PutUint32(x.l.sb[0x10:], left)
	return nil
}

// inodeTable writes inodes in ascending order, a block and a group at a time.
type inodeTable struct {
	x      *fill
	group  int64
	bitmap []byte
	top    uint32 // one above the highest inode of the group
	inodes uint32 // new in the group
	dirs   uint32
	added  uint32 // new altogether
	block  int64
	buf    []byte
}

func (t *inodeTable) add(i int) error {
	n, l := t.x.order[i], t.x.l
	g, index := (n.Number-1)/l.inodesPerGroup, (n.Number-1)%l.inodesPerGroup
	if int64(g) != t.group {
		if err := t.enterGroup(g); err != nil {
			return err
		}
	}
	if !testBit(t.bitmap, index) {
		setBit(t.bitmap, index)
		t.inodes++
		if n.IsDir() {
			t.dirs++
		}
	}
	t.top = max(t.top, index+1)
	at := t.x.inodeAt(n.Number)
	if err := t.enterBlock(at / int64(l.blockSize)); err != nil {
		return err
	}
	start := int(at % int64(l.blockSize))
	raw := t.buf[start : start+l.inodeSize]
	clear(raw)
	return t.x.encodeInode(raw, i)
}

func (t *inodeTable) enterGroup(g uint32) error {
	if err := t.leaveGroup(); err != nil {
		return err
	}
	l, d := t.x.l, t.x.groups[g]
	t.group, t.top, t.inodes, t.dirs = int64(g), 0, 0, 0
	t.bitmap = make([]byte, l.blockSize)
	if d.flags()&groupInodeUninit == 0 || l.ro&(roGdtCsum|roMetadataCsum) == 0 {
		if _, err := t.x.f.ReadAt(t.bitmap, int64(d.inodeBitmap())*int64(l.blockSize)); err != nil {
			return err
		}
	}
	for i := l.inodesPerGroup; i < uint32(l.blockSize)*8; i++ {
		setBit(t.bitmap, i)
	}
	for i := range l.inodesPerGroup {
		if testBit(t.bitmap, i) {
			t.top = i + 1
		}
	}
	return nil
}

func (t *inodeTable) leaveGroup() error {
	if t.group < 0 {
		return nil
	}
	if err := t.leaveBlock(); err != nil {
		return err
	}
	l, d := t.x.l, t.x.groups[t.group]
	d.clearFlag(groupInodeUninit)
	d.useInodes(t.inodes, t.dirs, l.inodesPerGroup-t.top)
	d.sumBitmap(t.bitmap, true)
	t.added += t.inodes
	return t.x.w.put(t.bitmap, d.inodeBitmap())
}

func (t *inodeTable) enterBlock(block int64) error {
	if block == t.block {
		return nil
	}
	if err := t.leaveBlock(); err != nil {
		return err
	}
	t.block = block
	if t.buf == nil {
		t.buf = make([]byte, t.x.l.blockSize)
	}
	// A block with inodes of mke2fs keeps them; all others are zeros.
	_, err := t.x.f.ReadAt(t.buf, block*int64(t.x.l.blockSize))
	return err
}

func (t *inodeTable) leaveBlock() error {
	if t.block < 0 {
		return nil
	}
	at := uint64(t.block)
	t.block = -1
	return t.x.w.put(t.buf, at)
}

// encodeInode writes the on-disk inode (struct ext4_inode) of order[i].
func (x *fill) encodeInode(raw []byte, i int) error {
	n, d, le := x.order[i], &x.disk[i], binary.LittleEndian
	links, err := x.l.linkCount(n)
	if err != nil {
		return err
	}
	if d.sectors > 1<<32-1 {
		return errors.New("has too many blocks")
	}
	le.PutUint16(raw[0x00:], uint16(n.Mode))
	le.PutUint16(raw[0x02:], uint16(n.UID))
	le.PutUint16(raw[0x18:], uint16(n.GID))
	le.PutUint16(raw[0x78:], uint16(n.UID>>16))
	le.PutUint16(raw[0x7a:], uint16(n.GID>>16))
	le.PutUint32(raw[0x04:], uint32(d.size))
	le.PutUint32(raw[0x6c:], uint32(d.size>>32))
	le.PutUint16(raw[0x1a:], links)
	le.PutUint32(raw[0x1c:], uint32(d.sectors))
	if d.mapped && x.l.incompat&incompatExtents != 0 {
		le.PutUint32(raw[0x20:], inodeFlagExtents)
	}
	copy(raw[0x28:], d.iblock[:])
	if n.Kind() == unix.S_IFCHR || n.Kind() == unix.S_IFBLK {
		putDevice(raw[0x28:], n.Major, n.Minor)
	}
	le.PutUint32(raw[0x68:], uint32(d.acl))
	le.PutUint16(raw[0x76:], uint16(d.acl>>32))
	x.putTimes(raw, n)
	if err := x.putInside(raw, n); err != nil {
		return err
	}
	x.sumInode(raw, n.Number)
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
	if len(n.Xattrs) == 0 {
		return nil
	}
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

func (x *fill) sumInode(raw []byte, num uint32) {
	if !x.l.csum() {
		return
	}
	sum := crc(x.l.inodeSeed(num), raw)
	binary.LittleEndian.PutUint16(raw[0x7c:], uint16(sum))
	if x.l.extraInodeBytes >= 4 {
		binary.LittleEndian.PutUint16(raw[0x82:], uint16(sum>>16))
	}
}
