package xfs

import (
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/volume"
)

// modeOf is the file type of an entry's kind, 0 where it tells none.
func modeOf(kind byte) uint32 {
	if kind > 7 {
		return 0
	}
	return [...]uint32{0, unix.S_IFREG, unix.S_IFDIR, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFLNK}[kind]
}

// List reads the entries of a directory; the index of hashes is not asked.
func (v *reader) List(n *volume.Node) (out []volume.Entry, err error) {
	p := n.Private.(*inode)
	if p.dataFormat == formatLocal {
		return v.shortEntries(p.data, n.Size)
	}
	if n.Size > volume.MaxDirBytes || n.Size%v.dirSize != 0 {
		return nil, volume.Damaged("a directory of %d bytes, in blocks of %d", n.Size, v.dirSize)
	}
	list, err := v.pieces(p.data, p.dataFormat, p.pieces)
	if err != nil {
		return nil, err
	}
	data := v.extents(list, n.Size)
	for off := int64(0); off < n.Size; off += v.dirSize {
		if off, err = data.NextData(off); err != nil || off >= n.Size {
			return out, err
		}
		off -= off % v.dirSize
		b := make([]byte, v.dirSize)
		if _, err := data.ReadAt(b, off); err != nil {
			return nil, err
		}
		if out, err = v.blockEntries(out, b); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (v *reader) shortEntries(b []byte, size int64) (out []volume.Entry, err error) {
	cut := volume.Damaged("a directory in an inode is cut off")
	if size > int64(len(b)) || size < 6 {
		return nil, cut
	}
	b = b[:size]
	count, width := int(b[0]), 4
	if b[1] > 0 { // numbers that need eight bytes, that of the parent among them
		width = 8
	}
	if b = b[2:]; len(b) < width {
		return nil, cut
	}
	b = b[width:] // the parent
	for range count {
		if len(b) < 3 {
			return nil, cut
		}
		length, kind := int(b[0]), byte(0)
		tail := width
		if v.kinds {
			tail++
		}
		if b = b[3:]; len(b) < length+tail {
			return nil, cut
		}
		name := string(b[:length])
		if b = b[length:]; v.kinds {
			kind, b = b[0], b[1:]
		}
		e := volume.Entry{Name: name, Kind: modeOf(kind)}
		if width == 8 {
			e.Number = be.Uint64(b)
		} else {
			e.Number = uint64(be.Uint32(b))
		}
		if out, err = volume.Append(out, e); err != nil {
			return nil, err
		}
		b = b[width:]
	}
	return out, nil
}

// blockEntries adds those of a block, in which runs that are free say so.
func (v *reader) blockEntries(out []volume.Entry, b []byte) (_ []volume.Entry, err error) {
	end := int64(len(b))
	switch string(b[:4]) {
	case "XD2B", "XDB3":
		if end -= 8 + 8*int64(be.Uint32(b[end-8:])); end < v.dirHeader {
			return nil, volume.Damaged("a directory's block has an index of %d bytes", int64(len(b))-end)
		}
	case "XD2D", "XDD3":
	default:
		return nil, volume.Damaged("a block of a directory is none")
	}
	for at := v.dirHeader; at < end; {
		e := b[at:end]
		if len(e) >= 8 && be.Uint16(e) == 0xffff {
			n := int64(be.Uint16(e[2:]))
			if n < 8 || n%8 != 0 {
				return nil, volume.Damaged("free space of %d bytes in a directory", n)
			}
			at += n
			continue
		}
		tail := int64(2)
		if v.kinds {
			tail++
		}
		if len(e) < 16 || int64(len(e)) < 9+int64(e[8])+tail {
			return nil, volume.Damaged("an entry of a directory is cut off")
		}
		length := int64(e[8])
		kind := byte(0)
		if v.kinds {
			kind = e[9+length]
		}
		if out, err = volume.Append(out, volume.Entry{Name: string(e[9 : 9+length]), Kind: modeOf(kind), Number: be.Uint64(e)}); err != nil {
			return nil, err
		}
		at += (9 + length + tail + 7) &^ 7
	}
	return out, nil
}

// shortAttrs reads attributes that an inode holds.
func shortAttrs(b []byte) ([]attr, error) {
	var list []attr
	cut := volume.Damaged("attributes in an inode are cut off")
	if len(b) < 4 {
		return nil, cut
	}
	count := int(b[2])
	b = b[4:]
	for range count {
		if len(b) < 3 || len(b) < 3+int(b[0])+int(b[1]) {
			return nil, cut
		}
		name, value := 3+int(b[0]), 3+int(b[0])+int(b[1])
		if space, ok := spaceOf(b[2]); ok {
			list = append(list, attr{space: space, name: string(b[3:name]), value: append([]byte(nil), b[name:value]...)})
		}
		b = b[value:]
	}
	return list, nil
}

// spaceOf is an attribute's name space; what is being changed, or points to a parent, is
// no attribute.
func spaceOf(flags byte) (byte, bool) {
	space := flags &^ attrLocal
	return space, space == 0 || space == attrRoot || space == attrSecure
}

// leafAttrs reads attributes that lie in blocks: down a tree at the left, then from leaf
// to leaf.
func (v *reader) leafAttrs(p *inode) ([]attr, error) {
	pieces, err := v.pieces(p.attr, p.attrFormat, p.attrPieces)
	if err != nil || len(pieces) == 0 {
		return nil, err
	}
	last := pieces[len(pieces)-1]
	r := &leafReader{v: v, data: v.extents(pieces, int64(last.logical+last.count)*v.geo.blockSize)}
	seen := map[int64]bool{}
	for at := int64(0); len(seen) < maxAttrs; {
		if seen[at] {
			return nil, volume.Damaged("block %d of attributes comes twice", at)
		}
		seen[at] = true
		b := make([]byte, v.geo.blockSize)
		if _, err := r.data.ReadAt(b, at*v.geo.blockSize); err != nil {
			return nil, volume.Damaged("a block of attributes is missing")
		}
		switch magic := be.Uint16(b[8:]); magic {
		case magicNode, 0xfebe:
			header := int64(16)
			if magic == magicNode {
				header = dataHeader
			}
			at = int64(be.Uint32(b[header+4:]))
		case magicAttr, 0xfbee:
			if err := r.leaf(b, magic == magicAttr); err != nil {
				return nil, err
			}
			if at = int64(be.Uint32(b)); at == 0 {
				return r.list, nil
			}
		default:
			return nil, volume.Damaged("a block of attributes is none")
		}
	}
	return nil, volume.Damaged("more than %d blocks of attributes", maxAttrs)
}

// leafReader reads leaves of attributes of one inode.
type leafReader struct {
	v     *reader
	data  *volume.Extents // of the fork
	list  []attr
	bytes int64 // in list
}

func (r *leafReader) add(a attr) error {
	if r.bytes += int64(len(a.name)+len(a.value)) + 24; r.bytes > maxValues {
		return volume.Damaged("attributes of more than %d bytes", maxValues)
	}
	r.list = append(r.list, a)
	return nil
}

func (r *leafReader) leaf(b []byte, five bool) error {
	header, count := 32, int(be.Uint16(b[12:]))
	if five {
		header, count = attrHeader, int(be.Uint16(b[56:]))
	}
	cut := volume.Damaged("attributes are cut off")
	if header+8*count > len(b) {
		return cut
	}
	for i := range count {
		entry := b[header+8*i:]
		space, ok := spaceOf(entry[6])
		if !ok {
			continue
		}
		at := int(be.Uint16(entry[4:]))
		if at+9 > len(b) {
			return cut
		}
		a, e := attr{space: space}, b[at:]
		if entry[6]&attrLocal != 0 {
			size, length := int(be.Uint16(e)), int(e[2])
			if len(e) < 3+length+size {
				return cut
			}
			a.name, a.value = string(e[3:3+length]), append([]byte(nil), e[3+length:3+length+size]...)
		} else {
			block, size, length := int64(be.Uint32(e)), int(be.Uint32(e[4:])), int(e[8])
			if len(e) < 9+length || size > maxValue {
				return cut
			}
			a.name = string(e[9 : 9+length])
			var err error
			if a.value, err = r.v.farValue(r.data, block, size, five); err != nil {
				return err
			}
		}
		if err := r.add(a); err != nil {
			return err
		}
	}
	return nil
}

// farValue reads a value from blocks of its own.
func (v *reader) farValue(data *volume.Extents, block int64, size int, five bool) ([]byte, error) {
	value := make([]byte, 0, size)
	for len(value) < size {
		b := make([]byte, v.geo.blockSize)
		if _, err := data.ReadAt(b, block*v.geo.blockSize); err != nil {
			return nil, volume.Damaged("the value of an attribute is cut off")
		}
		if five {
			b = b[56:]
		}
		value = append(value, b[:min(len(b), size-len(value))]...)
		block++
	}
	return value, nil
}
