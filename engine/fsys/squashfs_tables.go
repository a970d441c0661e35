package fsys

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Types of inodes in squashfs; an extended one is squashExt higher.
const (
	squashDir = iota + 1
	squashReg
	squashLink
	squashBlk
	squashChr
	squashFifo
	squashSock
	squashExt = 7
)

// squashMetaWriter collects metadata in compressed blocks.
type squashMetaWriter struct {
	codec *squashCodec
	out   []byte
	buf   []byte
}

func newSquashMeta(kind string) *squashMetaWriter {
	return &squashMetaWriter{codec: newSquashCodec(kind)}
}

// at is the reference to the next byte: its block, and the place in it.
func (m *squashMetaWriter) at() (block, offset uint32) { return uint32(len(m.out)), uint32(len(m.buf)) }

func (m *squashMetaWriter) write(b []byte) {
	for len(b) > 0 {
		n := min(len(b), squashMeta-len(m.buf))
		m.buf = append(m.buf, b[:n]...)
		if b = b[n:]; len(m.buf) == squashMeta {
			m.flush()
		}
	}
}

func (m *squashMetaWriter) flush() {
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

func (m *squashMetaWriter) finish() []byte {
	m.flush()
	return m.out
}

// squashXattrs is a set of attributes that inodes refer to by its number.
type squashXattrs struct {
	ref   uint64
	count uint32
	size  uint32
}

// squashTables are the metadata of the tree.
type squashTables struct {
	w          *squashWriter
	inodes     *squashMetaWriter
	dirs       *squashMetaWriter
	xattrs     *squashMetaWriter
	ids        []uint32
	idIndex    map[uint32]uint16
	xattrList  []squashXattrs
	xattrIndex map[string]uint32
	refs       map[*inode]uint64
	count      uint32 // inodes
	root       uint64 // reference
}

// build describes the tree from the leaves up: a directory lists references.
func (t *squashTables) build(w *squashWriter, content *tree) error {
	t.w = w
	t.inodes, t.dirs, t.xattrs = newSquashMeta(w.o.Compress), newSquashMeta(w.o.Compress), newSquashMeta(w.o.Compress)
	t.idIndex, t.xattrIndex, t.refs = make(map[uint32]uint16), make(map[string]uint32), make(map[*inode]uint64)
	err := t.directory(content.root, t.count+1)
	t.root = t.refs[content.root]
	return err
}

func (t *squashTables) directory(dir *inode, parent uint32) error {
	if err := checkEvery(t.w.ctx); err != nil {
		return err
	}
	for _, e := range dir.entries {
		var err error
		if e.ino.isDir() {
			err = t.directory(e.ino, dir.num)
		} else if _, done := t.refs[e.ino]; !done {
			err = t.object(e.ino)
		}
		if err != nil {
			return err
		}
	}
	block, offset := t.dirs.at()
	size := t.list(dir) + 3 // as if "." and ".." took three bytes
	le := binary.LittleEndian
	x, err := t.xattr(dir)
	if err != nil {
		return err
	}
	if size <= 1<<16-1 && x == squashNone {
		b, err := t.head(dir, squashDir)
		if err != nil {
			return err
		}
		b = le.AppendUint32(b, block)
		b = le.AppendUint32(b, dir.links)
		b = le.AppendUint16(b, uint16(size))
		b = le.AppendUint16(b, uint16(offset))
		t.add(dir, le.AppendUint32(b, parent))
		return nil
	}
	b, err := t.head(dir, squashDir+squashExt)
	if err != nil {
		return err
	}
	for _, v := range []uint32{dir.links, uint32(size), block, parent, offset << 16, x} {
		b = le.AppendUint32(b, v) // no index: the count before offset is 0
	}
	t.add(dir, b)
	return nil
}

// add writes an inode and remembers where it is.
func (t *squashTables) add(n *inode, b []byte) {
	block, offset := t.inodes.at()
	t.refs[n] = uint64(block)<<16 | uint64(offset)
	t.inodes.write(b)
}

// head begins an inode of a type.
func (t *squashTables) head(n *inode, kind uint16) ([]byte, error) {
	le := binary.LittleEndian
	uid, err := t.id(n.uid)
	if err != nil {
		return nil, err
	}
	gid, err := t.id(n.gid)
	if err != nil {
		return nil, err
	}
	b := le.AppendUint16(nil, kind)
	b = le.AppendUint16(b, uint16(n.mode&0o7777))
	b = le.AppendUint16(b, uid)
	b = le.AppendUint16(b, gid)
	b = le.AppendUint32(b, squashTime(n.sec))
	return le.AppendUint32(b, n.num), nil
}

func (t *squashTables) id(id uint32) (uint16, error) {
	if i, ok := t.idIndex[id]; ok {
		return i, nil
	}
	if len(t.ids) == squashMaxID-1 {
		return 0, errSquashIDs
	}
	i := uint16(len(t.ids))
	t.ids, t.idIndex[id] = append(t.ids, id), i
	return i, nil
}

// object writes the inode of anything but a directory.
func (t *squashTables) object(n *inode) error {
	x, err := t.xattr(n)
	if err != nil {
		return err
	}
	if n.isRegular() {
		return t.file(n, x)
	}
	kind := squashKind(n.mode)
	if x != squashNone {
		kind += squashExt
	}
	b, err := t.head(n, kind)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	b = le.AppendUint32(b, n.links)
	switch n.kind() {
	case unix.S_IFLNK:
		if len(n.target) > maxPath {
			return fmt.Errorf("%s: the symbolic link's target is longer than %d bytes", n.origin, maxPath)
		}
		b = append(le.AppendUint32(b, uint32(len(n.target))), n.target...)
	case unix.S_IFBLK, unix.S_IFCHR:
		b = le.AppendUint32(b, n.minor&0xff|n.major<<8|n.minor&^0xff<<12)
	}
	if x != squashNone {
		b = le.AppendUint32(b, x)
	}
	t.add(n, b)
	return nil
}

func squashKind(mode uint32) uint16 {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return squashDir
	case unix.S_IFREG:
		return squashReg
	case unix.S_IFLNK:
		return squashLink
	case unix.S_IFBLK:
		return squashBlk
	case unix.S_IFCHR:
		return squashChr
	case unix.S_IFIFO:
		return squashFifo
	}
	return squashSock
}

func (t *squashTables) file(n *inode, x uint32) error {
	d, le := t.w.files[n], binary.LittleEndian
	kind := uint16(squashReg)
	if x != squashNone || n.links > 1 || d.sparse > 0 || d.start > 1<<32-1 || n.size > 1<<32-1 {
		kind += squashExt
	}
	b, err := t.head(n, kind)
	if err != nil {
		return err
	}
	if kind == squashReg {
		for _, v := range []uint32{uint32(d.start), d.fragment, d.offset, uint32(n.size)} {
			b = le.AppendUint32(b, v)
		}
	} else {
		for _, v := range []uint64{uint64(d.start), uint64(n.size), uint64(d.sparse)} {
			b = le.AppendUint64(b, v)
		}
		for _, v := range []uint32{n.links, d.fragment, d.offset, x} {
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
func (t *squashTables) list(dir *inode) int {
	le, size := binary.LittleEndian, 0
	for rest := dir.entries; len(rest) > 0; {
		first := rest[0].ino
		block := t.refs[first] >> 16
		n := 0
		for ; n < len(rest) && n < 256; n++ {
			if diff := int64(rest[n].ino.num) - int64(first.num); t.refs[rest[n].ino]>>16 != block || diff != int64(int16(diff)) {
				break
			}
		}
		b := le.AppendUint32(nil, uint32(n-1))
		b = le.AppendUint32(b, uint32(block))
		b = le.AppendUint32(b, first.num)
		for _, e := range rest[:n] {
			b = le.AppendUint16(b, uint16(t.refs[e.ino]))
			b = le.AppendUint16(b, uint16(e.ino.num-first.num))
			b = le.AppendUint16(b, squashKind(e.ino.mode))
			b = le.AppendUint16(b, uint16(len(e.name)-1))
			b = append(b, e.name...)
		}
		t.dirs.write(b)
		size, rest = size+len(b), rest[n:]
	}
	return size
}

// xattr returns the number of an inode's set of attributes, squashNone for none.
func (t *squashTables) xattr(n *inode) (uint32, error) {
	le := binary.LittleEndian
	var b []byte
	count := uint32(0)
	for _, x := range n.xattrs {
		if x.name == aclAccess || x.name == aclDefault {
			continue
		}
		kind, name, ok := squashXattrName(x.name)
		if !ok {
			return 0, fmt.Errorf("%s: extended attribute %s: squashfs stores only the name spaces user, trusted and security", n.origin, x.name)
		}
		b = le.AppendUint16(b, kind)
		b = append(le.AppendUint16(b, uint16(len(name))), name...)
		b = append(le.AppendUint32(b, uint32(len(x.value))), x.value...)
		count++
	}
	if count == 0 {
		return squashNone, nil
	}
	if i, ok := t.xattrIndex[string(b)]; ok {
		return i, nil
	}
	block, offset := t.xattrs.at()
	i := uint32(len(t.xattrList))
	t.xattrList = append(t.xattrList, squashXattrs{uint64(block)<<16 | uint64(offset), count, uint32(len(b))})
	t.xattrIndex[string(b)] = i
	t.xattrs.write(b)
	return i, nil
}

func squashXattrName(full string) (kind uint16, name string, ok bool) {
	for i, prefix := range []string{"user.", "trusted.", "security."} {
		if name, ok := strings.CutPrefix(full, prefix); ok && name != "" && len(name) <= maxName {
			return uint16(i), name, true
		}
	}
	return 0, "", false
}
