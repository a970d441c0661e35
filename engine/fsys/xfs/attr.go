package xfs

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/tree"
)

// Name spaces of attributes.
const (
	attrLocal  = 1 // in a leaf: the value is there, too
	attrRoot   = 2
	attrSecure = 4
)

// The names under which access control lists are kept.
const (
	aclAccess  = "SGI_ACL_FILE"
	aclDefault = "SGI_ACL_DEFAULT"
)

// attr is an attribute as XFS holds it.
type attr struct {
	space byte
	name  string
	value []byte
	far   bool // its value lies in blocks of its own
}

type attrList []attr

// bytes that the list takes, however it is kept.
func (l attrList) bytes() (n int64) {
	for _, a := range l {
		n += int64(len(a.name)+len(a.value)) + 24
	}
	return n
}

// maxValue is the longest value that Linux has, in bytes.
const maxValue = 64 << 10

// attributesOf translates the attributes of n, and refuses what no XFS holds.
func attributesOf(n *tree.Inode) (attrList, error) {
	var list attrList
	for _, x := range n.Xattrs {
		a := attr{value: x.Value}
		space, name, _ := strings.Cut(x.Name, ".")
		switch {
		case x.Name == tree.ACLAccess || x.Name == tree.ACLDefault:
			a.space, a.name = attrRoot, aclAccess
			if x.Name == tree.ACLDefault {
				a.name = aclDefault
			}
			value, err := aclToDisk(x.Value)
			if err != nil {
				return nil, fmt.Errorf("attribute %s: %w", x.Name, err)
			}
			a.value = value
		case space == "user":
			a.name = name
		case space == "trusted":
			a.space, a.name = attrRoot, name
		case space == "security":
			a.space, a.name = attrSecure, name
		}
		if a.name == "" {
			return nil, fmt.Errorf("xfs stores only attributes of user, trusted and security, and access control lists, not %s", x.Name)
		}
		if len(a.name) > tree.MaxName || len(a.value) > maxValue {
			return nil, fmt.Errorf("attribute %.40s has %d bytes, xfs holds %d", x.Name, len(x.Value), maxValue)
		}
		list = append(list, a)
	}
	if list.short() == nil {
		if _, err := list.leaf(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// aclToDisk translates a list from the kernel's interface (posix_acl_xattr.h).
func aclToDisk(b []byte) ([]byte, error) {
	le := binary.LittleEndian
	if len(b) < 4 || len(b)%8 != 4 || le.Uint32(b) != 2 {
		return nil, fmt.Errorf("%d bytes are no access control list", len(b))
	}
	out := be.AppendUint32(nil, uint32(len(b)/8))
	for e := b[4:]; len(e) > 0; e = e[8:] {
		id := le.Uint32(e[4:])
		if tag := le.Uint16(e); tag != 2 && tag != 8 { // of nobody in particular
			id = 0
		}
		out = be.AppendUint32(be.AppendUint32(out, uint32(le.Uint16(e))), id)
		out = be.AppendUint16(be.AppendUint16(out, le.Uint16(e[2:])), 0)
	}
	return out, nil
}

// aclFromDisk is the inverse.
func aclFromDisk(b []byte) ([]byte, bool) {
	le := binary.LittleEndian
	if len(b) < 4 || len(b) != 4+12*int(be.Uint32(b)) {
		return nil, false
	}
	out := le.AppendUint32(nil, 2)
	for e := b[4:]; len(e) > 0; e = e[12:] {
		tag, id := be.Uint32(e), be.Uint32(e[4:])
		if tag != 2 && tag != 8 {
			id = nullBlock
		}
		out = le.AppendUint16(le.AppendUint16(out, uint16(tag)), be.Uint16(e[8:]))
		out = le.AppendUint32(out, id)
	}
	return out, true
}

// short is the list as an inode holds it, nil where one can't.
func (l attrList) short() []byte {
	b := make([]byte, 4)
	for _, a := range l {
		if len(a.value) > 255 {
			return nil
		}
		b = append(b, byte(len(a.name)), byte(len(a.value)), a.space)
		b = append(append(b, a.name...), a.value...)
	}
	if len(l) > 255 || len(b) > literal-8 {
		return nil
	}
	be.PutUint16(b, uint16(len(b)))
	b[2] = byte(len(l))
	return b
}

const (
	attrHeader = 80   // bytes, of a leaf of attributes
	mostLocal  = 3072 // bytes of an attribute whose value is kept in the leaf
	valueBytes = blockSize - 56
)

// leafSize is what an attribute takes of a leaf beside its entry.
func (a *attr) leafSize() int {
	if a.far {
		return (9 + len(a.name) + 3) &^ 3
	}
	return (3 + len(a.name) + len(a.value) + 3) &^ 3
}

// leaf decides which values lie elsewhere, the longest first, until the rest fits into
// one leaf. It is in the order of the hashes.
func (l attrList) leaf() (attrList, error) {
	list := slices.SortedStableFunc(slices.Values(l), func(a, b attr) int { return cmp.Compare(hashName([]byte(a.name)), hashName([]byte(b.name))) })
	for {
		used, longest := attrHeader+8*len(list), -1
		for i := range list {
			a := &list[i]
			a.far = a.far || a.leafSize() > mostLocal
			used += a.leafSize()
			if !a.far && (longest < 0 || len(a.value) > len(list[longest].value)) {
				longest = i
			}
		}
		if used <= blockSize {
			return list, nil
		}
		if longest < 0 || len(list[longest].value) < 8 {
			return nil, fmt.Errorf("its %d attributes are more than the one block that b9 writes for them", len(list))
		}
		list[longest].far = true
	}
}

// attributes writes those of n, and returns how many bytes of the inode's forks are left
// for the data.
func (w *fill) attributes(b []byte, number uint64, n *tree.Inode, list attrList) (room int, blocks uint64, err error) {
	if len(list) == 0 {
		return literal, 0, nil
	}
	w.attrs = true
	device := !n.IsRegular() && !n.IsDir() && !n.IsLink()
	short := list.short()
	need := 32 // for extents
	if short != nil {
		need = (len(short) + 7) &^ 7
	}
	least := map[uint32]int{unix.S_IFREG: 64, unix.S_IFDIR: 64, unix.S_IFLNK: 16}[n.Kind()]
	if device {
		least = 8
	}
	if need > literal-least {
		short, need = nil, 32
	}
	if room = literal - need; device {
		room = 8
	}
	b[82] = byte(room / 8)
	fork := b[coreSize+room:]
	if short != nil {
		b[83] = formatLocal
		copy(fork, short)
		return room, 0, nil
	}
	if list, err = list.leaf(); err != nil {
		return 0, 0, err
	}
	e, err := w.attrLeaf(number, list)
	if err != nil {
		return 0, 0, err
	}
	b[83] = formatExtents
	be.PutUint16(b[80:], 1)
	copy(fork, e.record())
	return room, e.count, nil
}

// attrLeaf writes a leaf, and behind it the values that do not lie in it.
func (w *fill) attrLeaf(number uint64, list attrList) (extent, error) {
	total := 1
	for _, a := range list {
		if a.far {
			total += (len(a.value) + valueBytes - 1) / valueBytes
		}
	}
	e, err := w.together(0, total)
	if err != nil {
		return e, err
	}
	b := make([]byte, blockSize)
	at, next := blockSize, 1
	for i := range list {
		a := &list[i]
		at -= a.leafSize()
		entry := b[attrHeader+8*i:]
		be.PutUint32(entry, hashName([]byte(a.name)))
		be.PutUint16(entry[4:], uint16(at))
		entry[6] = a.space
		if !a.far {
			entry[6] |= attrLocal
			be.PutUint16(b[at:], uint16(len(a.value)))
			b[at+2] = byte(len(a.name))
			copy(b[at+3:], a.name)
			copy(b[at+3+len(a.name):], a.value)
			continue
		}
		be.PutUint32(b[at:], uint32(next))
		be.PutUint32(b[at+4:], uint32(len(a.value)))
		b[at+8] = byte(len(a.name))
		copy(b[at+9:], a.name)
		n, err := w.value(number, a.value, e.block+uint64(next))
		if err != nil {
			return e, err
		}
		next += n
	}
	end := attrHeader + 8*len(list)
	be.PutUint16(b[56:], uint16(len(list)))
	be.PutUint16(b[58:], uint16(blockSize-at))
	be.PutUint16(b[60:], uint16(at))
	be.PutUint16(b[64:], uint16(end)) // the one free run
	be.PutUint16(b[66:], uint16(at-end))
	d := dirWriter{w: w, number: number}
	return e, d.putIndex(b, magicAttr, e.block, 0, 0)
}

// value writes a value into blocks of its own, from block on, and returns how many.
func (w *fill) value(number uint64, value []byte, block uint64) (n int, err error) {
	for at := 0; at < len(value); n++ {
		b := make([]byte, blockSize)
		part := value[at:min(len(value), at+valueBytes)]
		be.PutUint32(b, magicValue)
		be.PutUint32(b[4:], uint32(at))
		be.PutUint32(b[8:], uint32(len(part)))
		copy(b[16:], w.geo.uuid[:])
		be.PutUint64(b[32:], number)
		be.PutUint64(b[40:], uint64(w.geo.byteOf(block+uint64(n)))/512)
		copy(b[56:], part)
		seal(b, 12)
		if _, err := w.f.WriteAt(b, w.geo.byteOf(block+uint64(n))); err != nil {
			return n, err
		}
		at += len(part)
	}
	return n, nil
}
