package ext4

import (
	"encoding/binary"
	"errors"
	"io"
	"sort"
	"strings"

	"b9.build/b9/engine/fsys/tree"
)

// Xattrs lists the attributes in and beside an inode.
func (v *volume) Xattrs(n *tree.Node) ([]tree.Xattr, error) {
	x := n.Priv.(*inode)
	list, err := v.insideXattrs(x)
	if err != nil {
		return nil, err
	}
	if x.acl != 0 {
		if x.acl >= v.l.blocks {
			return nil, tree.Damaged("inode %d has attributes in block %d of %d", x.num, x.acl, v.l.blocks)
		}
		b, err := v.r.Bytes(int64(x.acl)*int64(v.l.blockSize), v.l.blockSize)
		if err != nil {
			return nil, err
		}
		if binary.LittleEndian.Uint32(b) != xattrMagic {
			return nil, tree.Damaged("block %d holds no attributes", x.acl)
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
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// insideXattrs are those in the inode itself.
func (v *volume) insideXattrs(x *inode) ([]xattr, error) {
	if len(x.inside) < 8 || binary.LittleEndian.Uint32(x.inside) != xattrMagic {
		return nil, nil
	}
	return v.parseXattrs(x.inside[4:], x.inside[4:])
}

// parseXattrs reads entries; offsets of values count from base.
func (v *volume) parseXattrs(entries, base []byte) ([]xattr, error) {
	le := binary.LittleEndian
	var out []xattr
	for len(entries) >= 4 && le.Uint32(entries) != 0 {
		if len(entries) < 16 || len(entries) < 16+int(entries[0]) {
			return nil, tree.Damaged("an extended attribute is cut off")
		}
		a := xattr{index: entries[1], name: string(entries[16 : 16+int(entries[0])])}
		at, size := int(le.Uint16(entries[2:])), le.Uint32(entries[8:])
		var err error
		switch inum := le.Uint32(entries[4:]); {
		case inum != 0 && size > 0: // an empty value is nowhere, whatever the inode
			a.value, err = v.farValue(uint64(inum), size)
		case size > uint32(len(base)) || at > len(base)-int(size):
			err = tree.Damaged("the value of an extended attribute is cut off")
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
func (v *volume) farValue(num uint64, size uint32) ([]byte, error) {
	if size > 64<<10 {
		return nil, tree.Damaged("an extended attribute of %d bytes", size)
	}
	n, err := v.inode(num)
	if err != nil {
		return nil, err
	}
	x := n.Priv.(*inode)
	if x.flags&flagEAInode == 0 || x.flags&inodeFlagInline != 0 || x.size != int64(size) {
		return nil, tree.Damaged("inode %d is no extended attribute of %d bytes", num, size)
	}
	b := make([]byte, size)
	if _, err := (&file{v: v, x: x}).ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// portable translates to what getxattr would give; false for what is the file
// system's own.
func (x *xattr) portable() (tree.Xattr, bool) {
	switch x.index {
	case 1:
		return tree.Xattr{Name: "user." + x.name, Value: x.value}, true
	case 2, 3:
		value, ok := hostACL(x.value)
		if x.index == 2 {
			return tree.Xattr{Name: tree.ACLAccess, Value: value}, ok
		}
		return tree.Xattr{Name: tree.ACLDefault, Value: value}, ok
	case 4:
		return tree.Xattr{Name: "trusted." + x.name, Value: x.value}, !strings.HasPrefix(x.name, "overlay.")
	case 6:
		return tree.Xattr{Name: "security." + x.name, Value: x.value}, true
	}
	return tree.Xattr{}, false
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
