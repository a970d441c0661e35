package squashfs

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/tree"
)

// Types of inodes in squashfs; an extended one is ext higher.
const (
	dir = 1
	reg = 2
	ext = 7
)

// metaWriter collects metadata in compressed blocks.
type metaWriter struct {
	codec *codec
	out   []byte
	buf   []byte
}

func newMetaWriter(kind string) *metaWriter {
	return &metaWriter{codec: newCodec(kind)}
}

// at is the reference to the next byte: its block, and the place in it.
func (m *metaWriter) at() (block, offset uint32) { return uint32(len(m.out)), uint32(len(m.buf)) }

func (m *metaWriter) write(b []byte) {
	for len(b) > 0 {
		n := min(len(b), meta-len(m.buf))
		m.buf = append(m.buf, b[:n]...)
		if b = b[n:]; len(m.buf) == meta {
			m.flush()
		}
	}
}

func (m *metaWriter) flush() {
	if len(m.buf) == 0 {
		return
	}
	out, err := m.codec.compress(m.buf)
	if err != nil {
		out = m.buf // into memory: cannot fail
	}
	size := uint16(len(out))
	if len(out) == len(m.buf) {
		size |= 0x8000
	}
	m.out = append(binary.LittleEndian.AppendUint16(m.out, size), out...)
	m.buf = m.buf[:0]
}

func (m *metaWriter) finish() []byte {
	m.flush()
	return m.out
}

// xattrs is a set of attributes that inodes refer to by its number.
type xattrs struct {
	ref   uint64
	count uint32
	size  uint32
}

// tables are the metadata of the tree.
type tables struct {
	w          *writer
	inodes     *metaWriter
	dirs       *metaWriter
	xattrs     *metaWriter
	ids        []uint32
	idIndex    map[uint32]uint16
	xattrList  []xattrs
	xattrIndex map[string]uint32
	refs       map[*tree.Inode]uint64
	count      uint32 // inodes
	root       uint64 // reference
}

// build describes the tree from the leaves up: a directory lists references.
func (t *tables) build(w *writer, content *tree.Tree) error {
	t.w = w
	t.inodes, t.dirs, t.xattrs = newMetaWriter(w.o.Compress), newMetaWriter(w.o.Compress), newMetaWriter(w.o.Compress)
	t.idIndex, t.xattrIndex, t.refs = make(map[uint32]uint16), make(map[string]uint32), make(map[*tree.Inode]uint64)
	err := t.directory(content.Root, t.count+1)
	t.root = t.refs[content.Root]
	return err
}

func (t *tables) directory(d *tree.Inode, parent uint32) error {
	if err := context.Cause(t.w.ctx); err != nil {
		return err
	}
	for _, e := range d.Entries {
		var err error
		if e.Inode.IsDir() {
			err = t.directory(e.Inode, d.Number)
		} else if _, done := t.refs[e.Inode]; !done {
			err = t.object(e.Inode)
		}
		if err != nil {
			return err
		}
	}
	block, offset := t.dirs.at()
	size := t.list(d) + 3 // as if "." and ".." took three bytes
	le := binary.LittleEndian
	x, err := t.xattr(d)
	if err != nil {
		return err
	}
	if size <= 1<<16-1 && x == none {
		b, err := t.head(d, dir)
		if err != nil {
			return err
		}
		b = le.AppendUint32(b, block)
		b = le.AppendUint32(b, d.Links)
		b = le.AppendUint16(b, uint16(size))
		b = le.AppendUint16(b, uint16(offset))
		t.add(d, le.AppendUint32(b, parent))
		return nil
	}
	b, err := t.head(d, dir+ext)
	if err != nil {
		return err
	}
	for _, v := range []uint32{d.Links, uint32(size), block, parent, offset << 16, x} {
		b = le.AppendUint32(b, v) // no index: the count before offset is 0
	}
	t.add(d, b)
	return nil
}

// add writes an inode and remembers where it is.
func (t *tables) add(n *tree.Inode, b []byte) {
	block, offset := t.inodes.at()
	t.refs[n] = uint64(block)<<16 | uint64(offset)
	t.inodes.write(b)
}

// head begins an inode of a type.
func (t *tables) head(n *tree.Inode, kind uint16) ([]byte, error) {
	le := binary.LittleEndian
	uid, err := t.id(n.UID)
	if err != nil {
		return nil, err
	}
	gid, err := t.id(n.GID)
	if err != nil {
		return nil, err
	}
	b := le.AppendUint16(nil, kind)
	b = le.AppendUint16(b, uint16(n.Mode&0o7777))
	b = le.AppendUint16(b, uid)
	b = le.AppendUint16(b, gid)
	b = le.AppendUint32(b, unixTime(n.Sec))
	return le.AppendUint32(b, n.Number), nil
}

func (t *tables) id(id uint32) (uint16, error) {
	if i, ok := t.idIndex[id]; ok {
		return i, nil
	}
	if len(t.ids) == maxID-1 {
		return 0, errSquashIDs
	}
	i := uint16(len(t.ids))
	t.ids, t.idIndex[id] = append(t.ids, id), i
	return i, nil
}

// object writes the inode of anything but a directory.
func (t *tables) object(n *tree.Inode) error {
	x, err := t.xattr(n)
	if err != nil {
		return err
	}
	if n.IsRegular() {
		return t.file(n, x)
	}
	kind := kind(n.Mode)
	if x != none {
		kind += ext
	}
	b, err := t.head(n, kind)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	b = le.AppendUint32(b, n.Links)
	switch n.Kind() {
	case unix.S_IFLNK:
		if len(n.Target) > tree.MaxPath {
			return fmt.Errorf("%s: the symbolic link's target is longer than %d bytes", n.Origin, tree.MaxPath)
		}
		b = append(le.AppendUint32(b, uint32(len(n.Target))), n.Target...)
	case unix.S_IFBLK, unix.S_IFCHR:
		b = le.AppendUint32(b, n.Minor&0xff|n.Major<<8|n.Minor&^0xff<<12)
	}
	if x != none {
		b = le.AppendUint32(b, x)
	}
	t.add(n, b)
	return nil
}

// kinds are the file types of struct stat by their number in squashfs.
func kinds() []uint32 {
	return []uint32{0, unix.S_IFDIR, unix.S_IFREG, unix.S_IFLNK, unix.S_IFBLK, unix.S_IFCHR, unix.S_IFIFO, unix.S_IFSOCK}
}

func kind(mode uint32) uint16 {
	return uint16(slices.Index(kinds(), mode&unix.S_IFMT))
}

func (t *tables) file(n *tree.Inode, x uint32) error {
	d, le := t.w.files[n], binary.LittleEndian
	kind := uint16(reg)
	if x != none || n.Links > 1 || d.sparse > 0 || d.start > 1<<32-1 || n.Size > 1<<32-1 {
		kind += ext
	}
	b, err := t.head(n, kind)
	if err != nil {
		return err
	}
	if kind == reg {
		for _, v := range []uint32{uint32(d.start), d.fragment, d.offset, uint32(n.Size)} {
			b = le.AppendUint32(b, v)
		}
	} else {
		for _, v := range []uint64{uint64(d.start), uint64(n.Size), uint64(d.sparse)} {
			b = le.AppendUint64(b, v)
		}
		for _, v := range []uint32{n.Links, d.fragment, d.offset, x} {
			b = le.AppendUint32(b, v)
		}
	}
	for _, size := range d.sizes {
		b = le.AppendUint32(b, size)
	}
	t.add(n, b)
	return nil
}

// list writes a directory's entries, in runs that share a block of inodes and
// lie near each other by number, and returns their length in bytes.
func (t *tables) list(dir *tree.Inode) int {
	le, size := binary.LittleEndian, 0
	for rest := dir.Entries; len(rest) > 0; {
		first := rest[0].Inode
		block := t.refs[first] >> 16
		n := 0
		for ; n < len(rest) && n < 256; n++ {
			if diff := int64(rest[n].Inode.Number) - int64(first.Number); t.refs[rest[n].Inode]>>16 != block || diff != int64(int16(diff)) {
				break
			}
		}
		b := le.AppendUint32(nil, uint32(n-1))
		b = le.AppendUint32(b, uint32(block))
		b = le.AppendUint32(b, first.Number)
		for _, e := range rest[:n] {
			b = le.AppendUint16(b, uint16(t.refs[e.Inode]))
			b = le.AppendUint16(b, uint16(e.Inode.Number-first.Number))
			b = le.AppendUint16(b, kind(e.Inode.Mode))
			b = le.AppendUint16(b, uint16(len(e.Name)-1))
			b = append(b, e.Name...)
		}
		t.dirs.write(b)
		size, rest = size+len(b), rest[n:]
	}
	return size
}

// xattr returns the number of an inode's set of attributes, none for none.
func (t *tables) xattr(n *tree.Inode) (uint32, error) {
	le := binary.LittleEndian
	var b []byte
	count := uint32(0)
	for _, x := range n.Xattrs {
		if x.Name == tree.ACLAccess || x.Name == tree.ACLDefault {
			continue
		}
		kind, name, ok := xattrName(x.Name)
		if !ok {
			return 0, fmt.Errorf("%s: extended attribute %s: squashfs stores only the name spaces user, trusted and security", n.Origin, x.Name)
		}
		b = le.AppendUint16(b, kind)
		b = append(le.AppendUint16(b, uint16(len(name))), name...)
		b = append(le.AppendUint32(b, uint32(len(x.Value))), x.Value...)
		count++
	}
	if count == 0 {
		return none, nil
	}
	if i, ok := t.xattrIndex[string(b)]; ok {
		return i, nil
	}
	block, offset := t.xattrs.at()
	i := uint32(len(t.xattrList))
	t.xattrList = append(t.xattrList, xattrs{uint64(block)<<16 | uint64(offset), count, uint32(len(b))})
	t.xattrIndex[string(b)] = i
	t.xattrs.write(b)
	return i, nil
}

func xattrName(full string) (kind uint16, name string, ok bool) {
	for i, prefix := range []string{"user.", "trusted.", "security."} {
		if name, ok := strings.CutPrefix(full, prefix); ok && name != "" && len(name) <= tree.MaxName {
			return uint16(i), name, true
		}
	}
	return 0, "", false
}
