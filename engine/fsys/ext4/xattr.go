package ext4

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
)

const xattrMagic = 0xea020000

// xattr is an attribute as ext4 stores it: the name space is a number, and
// an access control list is in its on-disk form.
type xattr struct {
	index byte
	name  string
	value []byte
}

func (x *xattr) entrySize() int { return 16 + (len(x.name)+3)&^3 }

func (x *xattr) valueSize() int { return (len(x.value) + 3) &^ 3 }

// xattrs translates and sorts as a block of attributes must be.
func xattrs(list []tree.Xattr) ([]xattr, error) {
	out := make([]xattr, 0, len(list))
	for _, x := range list {
		e, err := toDisk(x)
		if err != nil {
			return nil, fmt.Errorf("extended attribute %s: %w", x.Name, err)
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b xattr) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(len(a.name), len(b.name)), strings.Compare(a.name, b.name))
	})
	return out, nil
}

// namespaces are the numbers of what attributes' names begin with, or are.
func namespaces() map[byte]string {
	return map[byte]string{1: "user.", 2: tree.ACLAccess, 3: tree.ACLDefault, 4: "trusted.", 6: "security."}
}

func toDisk(x tree.Xattr) (xattr, error) {
	for index, prefix := range namespaces() {
		rest, ok := strings.CutPrefix(x.Name, prefix)
		switch {
		case !ok:
		case index == 2 || index == 3:
			if rest == "" {
				value, err := diskACL(x.Value)
				return xattr{index: index, value: value}, err
			}
		case rest != "" && len(rest) <= tree.MaxName:
			return xattr{index, rest, x.Value}, nil
		}
	}
	return xattr{}, errors.New("ext4 stores only names that begin with user., trusted. or security., and POSIX access control lists")
}

// diskACL turns the list that getxattr gives (version 2, every entry with an
// id) into the one on disk (version 1, an id only where it means something).
func diskACL(v []byte) ([]byte, error) {
	le := binary.LittleEndian
	if len(v) < 4 || le.Uint32(v) != 2 || (len(v)-4)%8 != 0 {
		return nil, errors.New("is not an access control list")
	}
	out := le.AppendUint32(nil, 1)
	for e := v[4:]; len(e) > 0; e = e[8:] {
		out = append(out, e[:4]...)
		if tag := le.Uint16(e); tag == 2 || tag == 8 { // a named user or group
			out = append(out, e[4:8]...)
		}
	}
	return out, nil
}

// entryHash is e_hash: over the name's bytes and the value's words.
func (x *xattr) entryHash() uint32 {
	h := uint32(0)
	for i := range len(x.name) {
		h = h<<5 ^ h>>27 ^ uint32(x.name[i])
	}
	value := append(append([]byte(nil), x.value...), 0, 0, 0)
	for i := 0; i < len(x.value); i += 4 {
		h = h<<16 ^ h>>16 ^ binary.LittleEndian.Uint32(value[i:])
	}
	return h
}

// splitXattrs puts as many inside as fit into room bytes, in order.
func splitXattrs(list []xattr, room int) (inside, outside []xattr) {
	room -= 4 // the end mark
	for _, x := range list {
		if need := x.entrySize() + x.valueSize(); need <= room {
			inside, room = append(inside, x), room-need
		} else {
			outside = append(outside, x)
		}
	}
	return inside, outside
}

// putXattrs writes entries from area[start:] on and values from its end down;
// offsets of values count from area[base:].
func putXattrs(area []byte, start, base int, list []xattr) {
	le := binary.LittleEndian
	at, end := start, len(area)
	for i := range list {
		x := &list[i]
		e := area[at:]
		e[0], e[1] = byte(len(x.name)), x.index
		if len(x.value) > 0 {
			end -= x.valueSize()
			copy(area[end:], x.value)
			le.PutUint16(e[2:], uint16(end-base))
		}
		le.PutUint32(e[8:], uint32(len(x.value)))
		le.PutUint32(e[12:], x.entryHash())
		copy(e[16:], x.name)
		at += x.entrySize()
	}
}

// xattrBlock builds the block for attributes that do not fit into an inode.
func (l *layout) xattrBlock(list []xattr, block uint64) ([]byte, error) {
	need := 32 + 4
	h := uint32(0)
	for i := range list {
		need += list[i].entrySize() + list[i].valueSize()
		h = h<<16 ^ h>>16 ^ list[i].entryHash()
	}
	if need > l.blockSize {
		return nil, fmt.Errorf("the extended attributes take %d bytes, a block holds %d", need, l.blockSize)
	}
	le := binary.LittleEndian
	b := make([]byte, l.blockSize)
	le.PutUint32(b, xattrMagic)
	le.PutUint32(b[4:], 1) // one inode refers to it
	le.PutUint32(b[8:], 1) // one block
	le.PutUint32(b[12:], h)
	putXattrs(b, 32, 0, list)
	if l.csum() {
		var num [8]byte
		le.PutUint64(num[:], block)
		le.PutUint32(b[16:], crc(crc(l.seed, num[:]), b))
	}
	return b, nil
}

// Xattrs lists the attributes in and beside an inode.
func (v *reader) Xattrs(n *volume.Node) ([]tree.Xattr, error) {
	x := n.Private.(*inode)
	list, err := v.insideXattrs(x)
	if err != nil {
		return nil, err
	}
	if x.acl != 0 {
		if x.acl >= v.l.blocks {
			return nil, volume.Damaged("inode %d has attributes in block %d of %d", x.num, x.acl, v.l.blocks)
		}
		b, err := v.r.Bytes(int64(x.acl)*int64(v.l.blockSize), v.l.blockSize)
		if err != nil {
			return nil, err
		}
		if binary.LittleEndian.Uint32(b) != xattrMagic {
			return nil, volume.Damaged("block %d holds no attributes", x.acl)
		}
		beside, err := v.parseXattrs(b[32:], b)
		if err != nil {
			return nil, err
		}
		list = append(list, beside...)
	}
	var out []tree.Xattr
	for i := range list {
		if a, ok := list[i].portable(); ok {
			out = append(out, a)
		}
	}
	return out, nil
}

// insideXattrs are those in the inode itself.
func (v *reader) insideXattrs(x *inode) ([]xattr, error) {
	if len(x.inside) < 8 || binary.LittleEndian.Uint32(x.inside) != xattrMagic {
		return nil, nil
	}
	return v.parseXattrs(x.inside[4:], x.inside[4:])
}

// parseXattrs reads entries; offsets of values count from base.
func (v *reader) parseXattrs(entries, base []byte) ([]xattr, error) {
	le := binary.LittleEndian
	var out []xattr
	for len(entries) >= 4 && le.Uint32(entries) != 0 {
		if len(entries) < 16 || len(entries) < 16+int(entries[0]) {
			return nil, volume.Damaged("an extended attribute is cut off")
		}
		a := xattr{index: entries[1], name: string(entries[16 : 16+int(entries[0])])}
		at, size := int(le.Uint16(entries[2:])), le.Uint32(entries[8:])
		var err error
		switch inum := le.Uint32(entries[4:]); {
		case inum != 0 && size > 0: // an empty value is nowhere, whatever the inode
			a.value, err = v.farValue(uint64(inum), size)
		case size > uint32(len(base)) || at > len(base)-int(size):
			err = volume.Damaged("the value of an extended attribute is cut off")
		default:
			a.value = base[at : at+int(size)]
		}
		if err != nil {
			return nil, err
		}
		out = append(out, a)
		entries = entries[min(a.entrySize(), len(entries)):]
	}
	return out, nil
}

// farValue reads a value that has an inode of its own.
func (v *reader) farValue(num uint64, size uint32) ([]byte, error) {
	if size > 64<<10 {
		return nil, volume.Damaged("an extended attribute of %d bytes", size)
	}
	n, err := v.inode(num)
	if err != nil {
		return nil, err
	}
	x := n.Private.(*inode)
	if x.flags&flagEAInode == 0 || x.flags&inodeFlagInline != 0 || x.size != int64(size) {
		return nil, volume.Damaged("inode %d is no extended attribute of %d bytes", num, size)
	}
	b := make([]byte, size)
	if _, err := v.data(x).ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// portable translates to what getxattr would give; false for what is the file
// system's own.
func (x *xattr) portable() (tree.Xattr, bool) {
	prefix, ok := namespaces()[x.index]
	switch {
	case !ok, strings.HasPrefix(prefix+x.name, "trusted.overlay."):
		return tree.Xattr{}, false
	case x.index == 2 || x.index == 3:
		value, ok := hostACL(x.value)
		return tree.Xattr{Name: prefix, Value: value}, ok
	}
	return tree.Xattr{Name: prefix + x.name, Value: x.value}, true
}

// hostACL is the opposite of diskACL.
func hostACL(v []byte) ([]byte, bool) {
	le := binary.LittleEndian
	if len(v) < 4 || le.Uint32(v) != 1 {
		return nil, false
	}
	out := le.AppendUint32(nil, 2)
	for e := v[4:]; len(e) > 0; {
		if len(e) < 4 {
			return nil, false
		}
		out = append(out, e[:4]...)
		if tag := le.Uint16(e); tag != 2 && tag != 8 {
			out, e = le.AppendUint32(out, 1<<32-1), e[4:]
			continue
		}
		if len(e) < 8 {
			return nil, false
		}
		out, e = append(out, e[4:8]...), e[8:]
	}
	return out, true
}
