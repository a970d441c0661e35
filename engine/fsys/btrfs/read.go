package btrfs

import (
	"errors"
	"fmt"
	"sort"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
)

// Bounds on what an image may make a reader keep.
const (
	maxChunks  = 1 << 20
	maxPieces  = 1 << 21 // extents of one file
	maxXattrs  = 1 << 16 // attributes of one object
	rootBits   = 16      // of a number, which say in which subvolume an object is
	numberBits = 64 - rootBits
)

// reader reads a btrfs on one device. It shows the default subvolume, as a mount does,
// and those below it as directories.
type reader struct {
	r        *volume.Pages
	nodeSize int
	chunks   []mapped // by logical address
	roots    block    // of the tree of roots
	subs     []sub
	unpacked unpacked
}

// mapped is a chunk, of which the first copy is read.
type mapped struct {
	logical, length, at uint64
	more                []uint64 // where further copies begin
}

// block is a block of a tree that something points to.
type block struct {
	at    uint64
	level int
}

// sub is a subvolume's tree.
type sub struct {
	id   uint64
	root block
}

// object is where an object of a subvolume is described.
type object struct {
	root   block
	number uint64
	sub    int
}

// Open reads the superblock and the chunks of a btrfs. One with a log that waits to be
// replayed, which a mount does, is an error, since its files may not be what they seem.
func Open(r *volume.Pages) (volume.Volume, error) {
	b, err := r.Bytes(superAt, blockSize)
	if err != nil {
		return nil, err
	}
	v := &reader{r: r, nodeSize: int(le.Uint32(b[0x94:])), roots: block{le.Uint64(b[0x50:]), int(b[0xc6])}}
	switch {
	case string(b[0x40:0x48]) != magic || v.nodeSize < 4096 || v.nodeSize > 65536:
		return nil, volume.Damaged("its superblock has blocks of %d bytes", v.nodeSize)
	case le.Uint64(b[0x88:]) != 1:
		return nil, fmt.Errorf("it is one of %d devices of a btrfs, and b9 reads those of one", le.Uint64(b[0x88:]))
	case le.Uint64(b[0x60:]) != 0:
		return nil, errors.New("its log waits to be replayed, as after a crash: mount it once, as a step of lxc_exec does")
	}
	if err := v.mapChunks(b); err != nil {
		return nil, err
	}
	return v, v.findDefault()
}

// mapChunks reads the chunks of the system, which the superblock has, and with them the
// tree of all.
func (v *reader) mapChunks(super []byte) error {
	array := super[0x32b:0xb2b]
	if n := le.Uint32(super[0xa0:]); n <= uint32(len(array)) {
		array = array[:n]
	}
	for len(array) >= keySize+80 {
		n, err := v.addChunk(parseKey(array), array[keySize:])
		if err != nil {
			return err
		}
		array = array[keySize+n:]
	}
	system := len(v.chunks)
	root := block{le.Uint64(super[0x58:]), int(super[0xc7])}
	var all []mapped
	err := v.scan(root, key{firstFree, typeChunk, 0}, func(k key, data []byte) (bool, error) {
		if k.kind != typeChunk {
			return false, nil
		}
		if len(v.chunks)+len(all) > maxChunks {
			return false, volume.Damaged("more than %d chunks", maxChunks)
		}
		before := len(v.chunks)
		_, err := v.addChunk(k, data)
		if err == nil {
			all, v.chunks = append(all, v.chunks[before]), v.chunks[:before]
		}
		return true, err
	})
	if err != nil {
		return err
	}
	v.chunks = append(v.chunks[:0:system], all...)
	sort.Slice(v.chunks, func(i, j int) bool { return v.chunks[i].logical < v.chunks[j].logical })
	return nil
}

func (v *reader) addChunk(k key, b []byte) (n int, err error) {
	if len(b) < 80 || k.kind != typeChunk {
		return 0, volume.Damaged("a chunk of %d bytes", len(b))
	}
	stripes := int(le.Uint16(b[44:]))
	if n = 48 + 32*stripes; stripes == 0 || n > len(b) {
		return 0, volume.Damaged("a chunk of %d stripes", stripes)
	}
	c := mapped{logical: k.offset, length: le.Uint64(b), at: le.Uint64(b[56:])}
	for i := 1; i < stripes; i++ {
		c.more = append(c.more, le.Uint64(b[56+32*i:]))
	}
	v.chunks = append(v.chunks, c)
	return n, nil
}

// copies are all places where a block of a tree lies.
func (v *reader) copies(logical uint64) ([]int64, error) {
	at, _, err := v.place(logical)
	places := []int64{at}
	for _, c := range v.chunks {
		if off := logical - c.logical; logical >= c.logical && off < c.length {
			for _, more := range c.more {
				places = append(places, int64(more+off))
			}
		}
	}
	return places, err
}

// place is where a logical address lies, and how many bytes follow each other there.
func (v *reader) place(logical uint64) (at, n int64, err error) {
	if i := sort.Search(len(v.chunks), func(i int) bool { return v.chunks[i].logical > logical }) - 1; i >= 0 {
		c := v.chunks[i]
		if off := logical - c.logical; off < c.length && c.at+off < 1<<62 {
			return int64(c.at + off), int64(min(c.length-off, 1<<62)), nil
		}
	}
	return 0, 0, volume.Damaged("address %d lies in no chunk", logical)
}

// scan calls do with the items of a tree from one on, until it returns false.
func (v *reader) scan(from block, first key, do func(k key, data []byte) (bool, error)) error {
	_, err := v.scanBlock(from, first, do)
	return err
}

// pointerSize is how many bytes a block has for one below it.
const pointerSize = keySize + 16

// readBlock reads a block of a tree, and holds it against what pointed to it.
func (v *reader) readBlock(p block) ([]byte, error) {
	at, _, err := v.place(p.at)
	if err != nil {
		return nil, err
	}
	b, err := v.r.Bytes(at, v.nodeSize)
	if err != nil {
		return nil, err
	}
	unit := itemSize
	if p.level > 0 {
		unit = pointerSize
	}
	if le.Uint64(b[48:]) != p.at || int(b[100]) != p.level || p.level > 7 || int(le.Uint32(b[96:])) > (v.nodeSize-header)/unit {
		return nil, volume.Damaged("a block of a tree is missing at %d", p.at)
	}
	return b, nil
}

func (v *reader) scanBlock(from block, first key, do func(k key, data []byte) (bool, error)) (more bool, err error) {
	b, err := v.readBlock(from)
	if err != nil {
		return false, err
	}
	n, unit := int(le.Uint32(b[96:])), itemSize
	if from.level > 0 {
		unit = pointerSize
	}
	keyOf := func(i int) key { return parseKey(b[header+unit*i:]) }
	start := sort.Search(n, func(i int) bool { return keyOf(i).compare(first) >= 0 })
	if from.level > 0 {
		for i := max(0, start-1); i < n; i++ {
			below := block{le.Uint64(b[header+unit*i+keySize:]), from.level - 1}
			if more, err := v.scanBlock(below, first, do); err != nil || !more {
				return false, err
			}
		}
		return true, nil
	}
	for i := start; i < n; i++ {
		head := b[header+unit*i:]
		off, size := int64(le.Uint32(head[17:])), int64(le.Uint32(head[21:]))
		if off+size > int64(v.nodeSize-header) {
			return false, volume.Damaged("an item lies outside of its block")
		}
		if more, err := do(keyOf(i), b[header+off:][:size]); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// items calls do with the items of one kind that an object has.
func (v *reader) items(root block, number uint64, kind byte, do func(offset uint64, data []byte) error) error {
	return v.scan(root, key{number, kind, 0}, func(k key, data []byte) (bool, error) {
		if k.object != number || k.kind != kind {
			return false, nil
		}
		return true, do(k.offset, data)
	})
}

// findDefault finds the subvolume that a mount shows.
func (v *reader) findDefault() error {
	id := uint64(treeFiles)
	err := v.items(v.roots, rootDir, typeDirItem, func(_ uint64, data []byte) error {
		return eachName(data, func(k key, _ byte, name string, _ []byte) error {
			if name == "default" {
				id = k.object
			}
			return nil
		})
	})
	if err == nil {
		_, err = v.subvolume(id)
	}
	return err
}

// subvolume is the place in v.subs of the one of that number.
func (v *reader) subvolume(id uint64) (int, error) {
	for i, s := range v.subs {
		if s.id == id {
			return i, nil
		}
	}
	s := sub{id: id}
	err := v.items(v.roots, id, typeRoot, func(_ uint64, data []byte) error {
		if len(data) < 239 {
			return volume.Damaged("a root of %d bytes", len(data))
		}
		s.root = block{le.Uint64(data[176:]), int(data[238])}
		return nil
	})
	if err == nil && s.root.at == 0 {
		err = volume.Damaged("subvolume %d is missing", id)
	}
	if err == nil && len(v.subs) == 1<<rootBits {
		err = fmt.Errorf("it has more than %d subvolumes", 1<<rootBits)
	}
	v.subs = append(v.subs, s)
	return len(v.subs) - 1, err
}

func (v *reader) Fold(name string) string { return name }

func (v *reader) Root() (*volume.Node, error) { return v.inode(firstFree) }

func (v *reader) Load(e *volume.Entry) (*volume.Node, error) { return v.inode(e.Number) }

// inode describes an object, whose number has the place of its subvolume in the upper bits.
func (v *reader) inode(number uint64) (*volume.Node, error) {
	o := &object{sub: int(number >> numberBits), number: number & (1<<numberBits - 1)}
	o.root = v.subs[o.sub].root
	var n *volume.Node
	err := v.items(o.root, o.number, typeInode, func(_ uint64, b []byte) error {
		if len(b) < 160 {
			return volume.Damaged("an inode of %d bytes", len(b))
		}
		n = &volume.Node{Mode: le.Uint32(b[52:]), Size: int64(le.Uint64(b[16:])), Sec: int64(le.Uint64(b[136:])), Nsec: le.Uint32(b[144:]), Private: o}
		n.Inode, n.Links, n.UID, n.GID = number, le.Uint32(b[40:]), le.Uint32(b[44:]), le.Uint32(b[48:])
		if k := n.Kind(); k == unix.S_IFCHR || k == unix.S_IFBLK {
			device := le.Uint64(b[56:])
			n.Major, n.Minor = uint32(device>>20&0xfff), uint32(device&(1<<20-1))
		}
		return nil
	})
	if err == nil && (n == nil || n.Size < 0 || n.Nsec > 1e9) {
		err = volume.Damaged("object %d is missing", o.number)
	}
	return n, err
}

// eachName calls do with what an item names: several entries where names have one hash.
func eachName(b []byte, do func(k key, kind byte, name string, value []byte) error) error {
	for len(b) > 0 {
		if len(b) < 30 {
			return volume.Damaged("an entry is cut off")
		}
		value, name := int(le.Uint16(b[25:])), int(le.Uint16(b[27:]))
		end := 30 + name + value
		if len(b) < end {
			return volume.Damaged("an entry is cut off")
		}
		if err := do(parseKey(b), b[29], string(b[30:30+name]), b[30+name:end]); err != nil {
			return err
		}
		b = b[end:]
	}
	return nil
}

func (v *reader) List(n *volume.Node) (out []volume.Entry, err error) {
	o := n.Private.(*object)
	err = v.items(o.root, o.number, typeDirIndex, func(_ uint64, data []byte) error {
		return eachName(data, func(k key, kind byte, name string, _ []byte) error {
			e := volume.Entry{Name: name, Kind: modeOf(kind), Number: uint64(o.sub)<<numberBits | k.object}
			if k.kind == typeRoot {
				i, err := v.subvolume(k.object)
				if err != nil {
					return err
				}
				e.Number = uint64(i)<<numberBits | firstFree
			} else if k.object >= 1<<numberBits {
				return volume.Damaged("an entry names object %d", k.object)
			}
			out, err = volume.Append(out, e)
			return err
		})
	})
	return out, err
}

// modeOf is the file type of an entry's kind, 0 where it tells none.
func modeOf(kind byte) uint32 {
	if kind > 7 {
		return 0
	}
	return [...]uint32{0, unix.S_IFREG, unix.S_IFDIR, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFLNK}[kind]
}

func (v *reader) Xattrs(n *volume.Node) (list []tree.Xattr, err error) {
	o := n.Private.(*object)
	err = v.items(o.root, o.number, typeXattr, func(_ uint64, data []byte) error {
		return eachName(data, func(_ key, _ byte, name string, value []byte) error {
			if len(list) > maxXattrs {
				return volume.Damaged("more than %d attributes", maxXattrs)
			}
			list = append(list, tree.Xattr{Name: name, Value: append([]byte(nil), value...)})
			return nil
		})
	})
	return list, err
}
