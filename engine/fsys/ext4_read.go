package fsys

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"b9/engine/internal/sparse"
)

// extReadable are the incompatible features whose structures are understood:
// filetype, recover, meta_bg, extents, 64bit, mmp, flex_bg, ea_inode, csum_seed,
// largedir, inline_data, encrypt (refused file by file) and casefold.
const extReadable = 0x2 | incompatRecover | incompatMetaBG | incompatExtents | incompat64Bit | 0x100 | 0x200 | 0x400 |
	incompatCsumSeed | 0x4000 | 0x8000 | 0x10000 | 0x20000

const (
	extFlagEncrypt = 0x800
	extFlagEAInode = 0x200000
)

// extVolume reads ext2, ext3 and ext4. A journal that waits to be replayed is
// taken into account, without writing anything.
type extVolume struct {
	r      *pages
	l      *extLayout
	name   string
	tables map[uint32]int64 // group to byte offset of its inode table
}

// extInode is what of an inode the blocks and attributes follow from.
type extInode struct {
	num    uint64
	flags  uint32
	iblock [60]byte
	acl    uint64
	inside []byte // the space behind the fixed fields
	size   int64
}

func openExt(r *pages, name string) (*extVolume, error) {
	l, err := readExtLayout(r)
	if err != nil {
		return nil, err
	}
	if odd := l.incompat &^ extReadable; odd != 0 {
		return nil, fmt.Errorf("the file system has features that cannot be read (incompatible feature bits %#x)", odd)
	}
	v := &extVolume{r: r, l: l, name: name, tables: make(map[uint32]int64)}
	if l.incompat&incompatRecover != 0 {
		if err := v.replay(); err != nil {
			return nil, fmt.Errorf("the journal that waits to be replayed: %w", err)
		}
	}
	return v, nil
}

func (v *extVolume) kind() string            { return v.name }
func (v *extVolume) fold(name string) string { return name }
func (v *extVolume) root() (*node, error)    { return v.inode(extRootInode) }

func (v *extVolume) load(d *dirent) (*node, error) { return v.inode(d.ino) }

// table is the byte offset of a group's inode table.
func (v *extVolume) table(g uint32) (int64, error) {
	if at, ok := v.tables[g]; ok {
		return at, nil
	}
	d, err := v.l.readGroup(v.r, g)
	if err != nil {
		return 0, err
	}
	if len(v.tables) > 1<<16 {
		clear(v.tables)
	}
	at := int64(d.inodeTable()) * int64(v.l.blockSize)
	v.tables[g] = at
	return at, nil
}

func (v *extVolume) inode(num uint64) (*node, error) {
	if num < 1 || num > uint64(v.l.inodes) {
		return nil, damaged("there is no inode %d", num)
	}
	g, index := uint32(num-1)/v.l.inodesPerGroup, uint32(num-1)%v.l.inodesPerGroup
	if g >= v.l.groups {
		return nil, damaged("inode %d lies in no block group", num)
	}
	at, err := v.table(g)
	if err != nil {
		return nil, err
	}
	raw, err := v.r.bytes(at+int64(index)*int64(v.l.inodeSize), v.l.inodeSize)
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
func (v *extVolume) decode(raw []byte, num uint64) (*node, error) {
	le := binary.LittleEndian
	x := &extInode{num: num, flags: le.Uint32(raw[0x20:]), acl: uint64(le.Uint32(raw[0x68:])) | uint64(le.Uint16(raw[0x76:]))<<32}
	copy(x.iblock[:], raw[0x28:])
	x.size = int64(le.Uint32(raw[4:]))
	n := &node{mode: uint32(le.Uint16(raw)), sec: int64(int32(le.Uint32(raw[0x10:]))), priv: x}
	n.Inode, n.Links = num, uint32(le.Uint16(raw[0x1a:]))
	n.UID = uint32(le.Uint16(raw[2:])) | uint32(le.Uint16(raw[0x78:]))<<16
	n.GID = uint32(le.Uint16(raw[0x18:])) | uint32(le.Uint16(raw[0x7a:]))<<16
	switch n.mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
		x.size |= int64(le.Uint32(raw[0x6c:])) << 32
	case unix.S_IFCHR, unix.S_IFBLK:
		n.Major, n.Minor = getDevice(x.iblock[:])
	case unix.S_IFLNK, unix.S_IFIFO, unix.S_IFSOCK:
	default:
		return nil, damaged("mode %#o is of no file type", n.mode)
	}
	if x.size < 0 || x.size > maxFileBlocks*int64(v.l.blockSize) {
		return nil, damaged("size %d is out of range", x.size)
	}
	n.size = x.size
	if len(raw) > 128+4 {
		extra := int(le.Uint16(raw[0x80:]))
		if extra > len(raw)-128 {
			return nil, damaged("extra size %d is out of range", extra)
		}
		if extra >= 12 {
			t := le.Uint32(raw[0x88:])
			n.sec, n.nsec = n.sec+int64(t&3)<<32, t>>2
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

// data gives the bytes of a file, directory or long link.
func (v *extVolume) data(n *node) (io.ReaderAt, error) {
	x := n.priv.(*extInode)
	if x.flags&extFlagEncrypt != 0 {
		return nil, errors.New("is encrypted")
	}
	if x.flags&extInodeFlagInline == 0 {
		return &extFile{v: v, x: x}, nil
	}
	b, err := v.inline(x)
	if err != nil {
		return nil, err
	}
	if int64(len(b)) < x.size {
		return nil, damaged("inline data of inode %d is %d bytes of %d", x.num, len(b), x.size)
	}
	return bytes.NewReader(b[:x.size]), nil
}

// inline is data kept in the inode: its first 60 bytes, then the attribute
// system.data.
func (v *extVolume) inline(x *extInode) ([]byte, error) {
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

func (v *extVolume) readLink(n *node) (string, error) {
	x := n.priv.(*extInode)
	if x.size >= maxLinkTarget {
		return "", damaged("a link of %d bytes", x.size)
	}
	if x.size < 60 && x.flags&(extInodeFlagExtents|extInodeFlagInline|extFlagEncrypt) == 0 {
		return string(x.iblock[:x.size]), nil
	}
	data, err := v.data(n)
	if err != nil {
		return "", err
	}
	b := make([]byte, x.size)
	if _, err := data.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return string(b), nil
}

// list reads a directory block by block; the tree of hashes in it lies in what
// looks like empty entries.
func (v *extVolume) list(n *node) ([]dirent, error) {
	x := n.priv.(*extInode)
	switch {
	case x.flags&extFlagEncrypt != 0:
		return nil, errors.New("is encrypted")
	case x.flags&extInodeFlagInline != 0:
		return v.listInline(x)
	case x.size > maxDirBytes:
		return nil, damaged("a directory of %d bytes", x.size)
	}
	f, bs := &extFile{v: v, x: x}, int64(v.l.blockSize)
	b := make([]byte, bs)
	var out []dirent
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
func (v *extVolume) listInline(x *extInode) ([]dirent, error) {
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
func (v *extVolume) dirents(b []byte, out []dirent) ([]dirent, error) {
	le := binary.LittleEndian
	for len(b) >= 8 {
		size := int(le.Uint16(b[4:]))
		if v.l.blockSize > 1<<15 && (size == 1<<16-1 || size == 0) {
			size = 1 << 16
		}
		name := int(b[6])
		if size < 8 || size%4 != 0 || size > len(b) || 8+name > size {
			return nil, damaged("a directory entry of %d bytes with a name of %d", size, name)
		}
		if ino := le.Uint32(b); ino != 0 && name > 0 {
			d := dirent{name: string(b[8 : 8+name]), ino: uint64(ino)}
			if v.l.incompat&0x2 != 0 {
				d.kind = direntKind(b[7])
			}
			switch {
			case d.name == "." || d.name == "..":
			case strings.ContainsAny(d.name, "/\x00"):
				return nil, damaged("%q is no name", d.name)
			case len(out) == maxDirEntries:
				return nil, fmt.Errorf("a directory with more than %d entries", maxDirEntries)
			default:
				out = append(out, d)
			}
		}
		b = b[size:]
	}
	return out, nil
}

// direntKind is the opposite of direntType; 0 is unknown.
func direntKind(t byte) uint32 {
	kinds := [...]uint32{0, unix.S_IFREG, unix.S_IFDIR, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFLNK}
	if int(t) < len(kinds) {
		return kinds[t]
	}
	return 0
}
