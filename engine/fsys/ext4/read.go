package ext4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/ident"
	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/internal/sparse"
)

// readable are the incompatible features whose structures are understood:
// filetype, recover, meta_bg, extents, 64bit, mmp, flex_bg, ea_inode, csum_seed,
// largedir, inline_data, encrypt (refused file by file) and casefold.
const readable = 0x2 | incompatRecover | incompatMetaBG | incompatExtents | incompat64Bit | 0x100 | 0x200 | 0x400 |
	incompatCsumSeed | 0x4000 | 0x8000 | 0x10000 | 0x20000

const (
	flagEncrypt = 0x800
	flagEAInode = 0x200000
)

// reader reads ext2, ext3 and ext4. A journal that waits to be replayed is
// replayed in memory; nothing is written.
type reader struct {
	r *volume.Pages
	l *layout
}

// inode is what of an inode the blocks and attributes follow from.
type inode struct {
	num    uint64
	flags  uint32
	iblock [60]byte
	acl    uint64
	inside []byte // the space behind the fixed fields
	size   int64
}

// Open reads the superblock of an image of ext2, ext3 or ext4.
func Open(r *volume.Pages) (volume.Volume, error) {
	l, err := readLayout(r)
	if err != nil {
		return nil, err
	}
	if odd := l.incompat &^ readable; odd != 0 {
		return nil, fmt.Errorf("the file system has features that cannot be read (incompatible feature bits %#x)", odd)
	}
	v := &reader{r: r, l: l}
	if l.incompat&incompatRecover != 0 {
		if err := v.replay(); err != nil {
			return nil, fmt.Errorf("the journal that waits to be replayed: %w", err)
		}
	}
	return v, nil
}

func (v *reader) Fold(name string) string { return name }

func (v *reader) Root() (*volume.Node, error) { return v.inode(rootInode) }

func (v *reader) Load(e *volume.Entry) (*volume.Node, error) { return v.inode(e.Number) }

func (v *reader) inode(num uint64) (*volume.Node, error) {
	if num < 1 || num > uint64(v.l.inodes) {
		return nil, volume.Damaged("there is no inode %d", num)
	}
	g, index := uint32(num-1)/v.l.inodesPerGroup, uint32(num-1)%v.l.inodesPerGroup
	if g >= v.l.groups {
		return nil, volume.Damaged("inode %d lies in no block group", num)
	}
	d, err := v.l.readGroup(v.r, g)
	if err != nil {
		return nil, err
	}
	at := int64(d.inodeTable())*int64(v.l.blockSize) + int64(index)*int64(v.l.inodeSize)
	raw, err := v.r.Bytes(at, v.l.inodeSize)
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", num, err)
	}
	n, err := v.decode(raw, num)
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", num, err)
	}
	return n, nil
}

// decode reads struct ext4_inode.
func (v *reader) decode(raw []byte, num uint64) (*volume.Node, error) {
	le := binary.LittleEndian
	x := &inode{num: num, flags: le.Uint32(raw[0x20:]), acl: uint64(le.Uint32(raw[0x68:])) | uint64(le.Uint16(raw[0x76:]))<<32}
	copy(x.iblock[:], raw[0x28:])
	x.size = int64(le.Uint32(raw[4:]))
	n := &volume.Node{Mode: uint32(le.Uint16(raw)), Sec: int64(int32(le.Uint32(raw[0x10:]))), Private: x}
	n.Flags = x.flags & settableFlags
	n.Inode, n.Links = num, uint32(le.Uint16(raw[0x1a:]))
	n.UID = uint32(le.Uint16(raw[2:])) | uint32(le.Uint16(raw[0x78:]))<<16
	n.GID = uint32(le.Uint16(raw[0x18:])) | uint32(le.Uint16(raw[0x7a:]))<<16
	switch n.Kind() {
	case unix.S_IFREG, unix.S_IFDIR:
		x.size |= int64(le.Uint32(raw[0x6c:])) << 32
	case unix.S_IFCHR, unix.S_IFBLK:
		n.Major, n.Minor = getDevice(x.iblock[:])
	case unix.S_IFLNK, unix.S_IFIFO, unix.S_IFSOCK:
	default:
		return nil, volume.Damaged("mode %#o is of no file type", n.Mode)
	}
	if x.size < 0 || x.size > maxFileBlocks*int64(v.l.blockSize) {
		return nil, volume.Damaged("size %d is out of range", x.size)
	}
	n.Size = x.size
	if len(raw) > 128+4 {
		extra := int(le.Uint16(raw[0x80:]))
		if extra > len(raw)-128 {
			return nil, volume.Damaged("extra size %d is out of range", extra)
		}
		if extra >= 12 {
			t := le.Uint32(raw[0x88:])
			n.Sec, n.Nsec = n.Sec+int64(t&3)<<32, t>>2
		}
		x.inside = raw[128+extra:]
	}
	return n, nil
}

// getDevice is the opposite of putDevice.
func getDevice(b []byte) (major, minor uint32) {
	le := binary.LittleEndian
	if old := le.Uint32(b); old != 0 {
		return old >> 8 & 0xff, old & 0xff
	}
	d := le.Uint32(b[4:])
	return d >> 8 & 0xfff, d&0xff | d>>12&0xfff00
}

// Data gives the bytes of a file, directory or long link.
func (v *reader) Data(n *volume.Node) (io.ReaderAt, error) {
	x := n.Private.(*inode)
	if x.flags&flagEncrypt != 0 {
		return nil, errors.New("is encrypted")
	}
	if x.flags&inodeFlagInline == 0 {
		return v.data(x), nil
	}
	b, err := v.inline(x)
	if err != nil {
		return nil, err
	}
	if int64(len(b)) < x.size {
		return nil, volume.Damaged("inline data of inode %d is %d bytes of %d", x.num, len(b), x.size)
	}
	return bytes.NewReader(b[:x.size]), nil
}

// inline is data kept in the inode: its first 60 bytes, then the attribute
// system.data.
func (v *reader) inline(x *inode) ([]byte, error) {
	list, err := v.insideXattrs(x)
	if err != nil {
		return nil, err
	}
	b := slices.Clone(x.iblock[:])
	for _, a := range list {
		if a.index == 7 && a.name == "data" {
			b = append(b, a.value...)
		}
	}
	return b, nil
}

func (v *reader) ReadLink(n *volume.Node) (string, error) {
	x := n.Private.(*inode)
	if x.size >= volume.MaxLinkTarget {
		return "", volume.Damaged("a link of %d bytes", x.size)
	}
	if x.size < 60 && x.flags&(inodeFlagExtents|inodeFlagInline|flagEncrypt) == 0 {
		return string(x.iblock[:x.size]), nil
	}
	data, err := v.Data(n)
	if err != nil {
		return "", err
	}
	b := make([]byte, x.size)
	if _, err := data.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return string(b), nil
}

// List reads a directory block by block; the tree of hashes in it lies in what
// looks like empty entries.
func (v *reader) List(n *volume.Node) ([]volume.Entry, error) {
	x := n.Private.(*inode)
	switch {
	case x.flags&flagEncrypt != 0:
		return nil, errors.New("is encrypted")
	case x.flags&inodeFlagInline != 0:
		return v.listInline(x)
	case x.size > volume.MaxDirBytes:
		return nil, volume.Damaged("a directory of %d bytes", x.size)
	}
	f, bs := v.data(x), int64(v.l.blockSize)
	b := make([]byte, bs)
	var out []volume.Entry
	for off := int64(0); off+bs <= x.size; off += bs {
		if _, err := f.ReadAt(b, off); err != nil {
			return nil, err
		}
		if sparse.IsZero(b) {
			continue // a hole
		}
		var err error
		if out, err = v.dirents(b, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// listInline reads the entries in an inode: behind the parent's number, and in
// the attribute.
func (v *reader) listInline(x *inode) ([]volume.Entry, error) {
	b, err := v.inline(x)
	if err != nil {
		return nil, err
	}
	out, err := v.dirents(b[4:60], nil)
	if err != nil || len(b) == 60 {
		return out, err
	}
	return v.dirents(b[60:], out)
}

// dirents appends the entries of one block.
func (v *reader) dirents(b []byte, out []volume.Entry) ([]volume.Entry, error) {
	le := binary.LittleEndian
	for len(b) >= 8 {
		size := int(le.Uint16(b[4:]))
		if v.l.blockSize > 1<<15 && (size == 1<<16-1 || size == 0) {
			size = 1 << 16
		}
		name := int(b[6])
		if size < 8 || size%4 != 0 || size > len(b) || 8+name > size {
			return nil, volume.Damaged("a directory entry of %d bytes with a name of %d", size, name)
		}
		if ino := le.Uint32(b); ino != 0 && name > 0 {
			d := volume.Entry{Name: string(b[8 : 8+name]), Number: uint64(ino)}
			if kinds := direntKinds(); v.l.incompat&0x2 != 0 && int(b[7]) < len(kinds) {
				d.Kind = kinds[b[7]]
			}
			var err error
			if out, err = volume.Append(out, d); err != nil {
				return nil, err
			}
		}
		b = b[size:]
	}
	return out, nil
}

// Probe reads the first superblock. A journal on a device of its own is no file system.
func Probe(r *io.SectionReader) (tree.Info, error) {
	sb, err := volume.Peek(r, superAt, superSize)
	if err != nil {
		return tree.Info{}, err
	}
	l, err := parseSuper(sb)
	if err != nil || l.incompat&incompatJournalDev != 0 {
		return tree.Info{}, nil
	}
	kind := "ext2"
	switch {
	case l.incompat&^uint32(0x6|incompatMetaBG) != 0 || l.ro&^uint32(0x7) != 0:
		kind = "ext4" // features that ext3 does not have
	case l.compat&compatJournal != 0:
		kind = "ext3"
	}
	return tree.Info{Type: kind, Label: l.label(), UUID: ident.Text(l.uuid), Size: l.size(),
		BlockSize: int64(l.blockSize), Free: volume.Bytes(min(l.freeBlocks(), l.blocks), uint64(l.blockSize))}, nil
}

// Least is the smallest file, in bytes, of which mke2fs makes an ext4 with
// blocks of 4 KiB, without a journal and with the fewest inodes.
const Least = 220 << 10
