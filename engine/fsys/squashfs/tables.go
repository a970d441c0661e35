package squashfs

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/tree"
)

// metaWriter collects metadata in compressed blocks.
type metaWriter struct {
	encode encoder
	out    []byte
	buf    []byte
}

func newMetaWriter(kind string) *metaWriter {
	return &metaWriter{encode: newEncoder(kind)}
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
	out, err := m.encode.compress(m.buf)
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

// tables are the metadata of the tree.
type tables struct {
	w          *writer
	inodes     *metaWriter
	dirs       *metaWriter
	xattrs     *metaWriter
	ids        []uint32
	idIndex    map[uint32]uint16
	xattrList  []xattrSet
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
	x, err := t.xattr(d)
	if err != nil {
		return err
	}
	if size <= 1<<16-1 && x == none {
		return t.add(d, dir, shortDir{block, d.Links, uint16(size), uint16(offset), parent})
	}
	return t.add(d, dir+ext, longDir{Links: d.Links, Size: uint32(size), Block: block, Parent: parent, Offset: uint16(offset), Xattr: x})
}

// add writes an inode of a type in parts, and remembers where it is.
func (t *tables) add(n *tree.Inode, kind int, parts ...any) error {
	uid, err := t.id(n.UID)
	if err != nil {
		return err
	}
	gid, err := t.id(n.GID)
	if err != nil {
		return err
	}
	b := pack(nil, inodeHead{uint16(kind), uint16(n.Mode & 0o7777), uid, gid, unixTime(n.Sec), n.Number})
	for _, part := range parts {
		b = pack(b, part)
	}
	block, offset := t.inodes.at()
	t.refs[n] = uint64(block)<<16 | uint64(offset)
	t.inodes.write(b)
	return nil
}

func (t *tables) id(id uint32) (uint16, error) {
	if i, ok := t.idIndex[id]; ok {
		return i, nil
	}
	if len(t.ids) == maxID-1 {
		return 0, fmt.Errorf("more than %d different owners and groups", maxID)
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
	kind, parts := kind(n.Mode), []any{n.Links}
	switch n.Kind() {
	case unix.S_IFLNK:
		if len(n.Target) > tree.MaxPath {
			return fmt.Errorf("%s: the symbolic link's target is longer than %d bytes", n.Origin, tree.MaxPath)
		}
		parts = append(parts, uint32(len(n.Target)), []byte(n.Target))
	case unix.S_IFBLK, unix.S_IFCHR:
		parts = append(parts, n.Minor&0xff|n.Major<<8|n.Minor&^0xff<<12)
	}
	if x != none {
		kind, parts = kind+ext, append(parts, x)
	}
	return t.add(n, kind, parts...)
}

func kind(mode uint32) int { return slices.Index(kinds(), mode&unix.S_IFMT) }

func (t *tables) file(n *tree.Inode, x uint32) error {
	d := t.w.files[n]
	if x != none || n.Links > 1 || d.sparse > 0 || d.start > 1<<32-1 || n.Size > 1<<32-1 {
		return t.add(n, reg+ext, longFile{uint64(d.start), uint64(n.Size), uint64(d.sparse), n.Links, d.fragment, d.offset, x}, d.sizes)
	}
	return t.add(n, reg, shortFile{uint32(d.start), d.fragment, d.offset, uint32(n.Size)}, d.sizes)
}

// list writes a directory's entries, in runs that share a block of inodes and
// lie near each other by number, and returns their length in bytes.
func (t *tables) list(dir *tree.Inode) int {
	size := 0
	for rest := dir.Entries; len(rest) > 0; {
		first := rest[0].Inode
		block := t.refs[first] >> 16
		n := 0
		for ; n < len(rest) && n < 256; n++ {
			if diff := int64(rest[n].Inode.Number) - int64(first.Number); t.refs[rest[n].Inode]>>16 != block || diff != int64(int16(diff)) {
				break
			}
		}
		b := pack(nil, dirRun{uint32(n - 1), uint32(block), first.Number})
		for _, e := range rest[:n] {
			number := int16(e.Inode.Number - first.Number)
			b = pack(b, dirEntry{uint16(t.refs[e.Inode]), number, uint16(kind(e.Inode.Mode)), uint16(len(e.Name) - 1)})
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
		space, name, ok := splitXattr(x.Name)
		if !ok {
			return 0, fmt.Errorf("%s: extended attribute %s: squashfs stores only the name spaces user, trusted and security", n.Origin, x.Name)
		}
		b = le.AppendUint16(b, uint16(space))
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
	t.xattrList = append(t.xattrList, xattrSet{uint64(block)<<16 | uint64(offset), count, uint32(len(b))})
	t.xattrIndex[string(b)] = i
	t.xattrs.write(b)
	return i, nil
}
