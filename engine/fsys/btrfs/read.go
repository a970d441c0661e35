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
	maxPieces  = 1 << 21  // extents of one file
	maxXattrs  = 1 << 16  // attributes of one object
	maxValues  = 16 << 20 // bytes of their values
	rootBits   = 16       // of a number, which say in which subvolume an object is
	numberBits = 64 - rootBits
)

// reader reads a btrfs on one device. It shows the default subvolume, as a mount does,
// and those below it as directories; where a snapshot was taken of what is above a
// subvolume, an empty directory stands in the snapshot for that.
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
	second              uint64 // where the second copy begins; 0: there is none
}

// block is a block of a tree that something points to: its keys are at least from, which
// is the first of them unless it is a root, and below to.
type block struct {
	at       uint64
	level    int
	from, to key
}

// rootBlock is the block that a tree begins with, which may have any keys.
func rootBlock(at uint64, level byte) block {
	return block{at: at, level: int(level), to: key{1<<64 - 1, 255, 1<<64 - 1}}
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
	v := &reader{r: r, nodeSize: int(le.Uint32(b[0x94:])), roots: rootBlock(le.Uint64(b[0x50:]), b[0xc6])}
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
	root := rootBlock(le.Uint64(super[0x58:]), super[0xc7])
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
	if n = 48 + 32*stripes; stripes == 0 || stripes > 2 || n > len(b) {
		return 0, volume.Damaged("a chunk of %d stripes on one device", stripes)
	}
	c := mapped{logical: k.offset, length: le.Uint64(b), at: le.Uint64(b[56:])}
	if stripes == 2 {
		c.second = le.Uint64(b[56+32:])
	}
	v.chunks = append(v.chunks, c)
	return n, nil
}

// copies are all places where a block of a tree lies, in a file of size bytes.
func (v *reader) copies(logical uint64, size int64) ([]int64, error) {
	c, off, err := v.chunkOf(logical)
	if err != nil {
		return nil, err
	}
	places := []int64{int64(c.at + off)}
	if c.second != 0 {
		places = append(places, int64(c.second+off))
	}
	for _, at := range places {
		if at < 0 || at > size-int64(v.nodeSize) {
			return nil, volume.Damaged("a copy of the block %d lies at byte %d, behind the end, %d", logical, uint64(at), size)
		}
	}
	return places, nil
}

// place is where a logical address lies, and how many bytes follow each other there.
func (v *reader) place(logical uint64) (at, n int64, err error) {
	c, off, err := v.chunkOf(logical)
	if err != nil {
		return 0, 0, err
	}
	return int64(c.at + off), int64(min(c.length-off, 1<<62)), nil
}

// chunkOf is the chunk of a logical address, which lies off bytes behind its beginning.
func (v *reader) chunkOf(logical uint64) (c mapped, off uint64, err error) {
	if i := sort.Search(len(v.chunks), func(i int) bool { return v.chunks[i].logical > logical }) - 1; i >= 0 {
		c, off = v.chunks[i], logical-v.chunks[i].logical
		if off < c.length && c.at+off < 1<<62 {
			return c, off, nil
		}
	}
	return c, 0, volume.Damaged("address %d lies in no chunk", logical)
}

// scan calls do with the items of a tree from one on, until it returns false.
func (v *reader) scan(from block, first key, do func(k key, data []byte) (bool, error)) error {
	_, err := v.scanBlock(from, first, do)
	return err
}

// pointerSize is how many bytes a block has for one below it.
const pointerSize = keySize + 16

// unit is the size of what a block holds: heads of items, or pointers.
func (p block) unit() int {
	if p.level > 0 {
		return pointerSize
	}
	return itemSize
}

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
	n := int(le.Uint32(b[96:]))
	if le.Uint64(b[48:]) != p.at || int(b[100]) != p.level || p.level > 7 || n > (v.nodeSize-header)/p.unit() {
		return nil, volume.Damaged("a block of a tree is missing at %d", p.at)
	}
	if p.from != (key{}) && (n == 0 || parseKey(b[header:]) != p.from) {
		return nil, volume.Damaged("the block of a tree at %d begins with another key than what points to it", p.at)
	}
	return b, nil
}

// scanBlock scans what is below a block. Pointers of a block have ascending keys, and a
// block has only keys from its own pointer's on, below the next one's: so no image makes
// a scan visit a block twice.
func (v *reader) scanBlock(p block, first key, do func(k key, data []byte) (bool, error)) (more bool, err error) {
	b, err := v.readBlock(p)
	if err != nil {
		return false, err
	}
	n := int(le.Uint32(b[96:]))
	i := sort.Search(n, func(i int) bool { return parseKey(b[header+p.unit()*i:]).compare(first) >= 0 })
	if p.level > 0 {
		i = max(0, i-1)
	}
	for ; i < n; i++ {
		at := b[header+p.unit()*i:]
		k, next := parseKey(at), p.to
		if i+1 < n {
			next = parseKey(at[p.unit():])
		}
		if k.compare(p.from) < 0 || k.compare(next) >= 0 || next.compare(p.to) > 0 {
			return false, volume.Damaged("the keys of the block of a tree at %d are not in order", p.at)
		}
		if p.level > 0 {
			more, err = v.scanBlock(block{le.Uint64(at[keySize:]), p.level - 1, k, next}, first, do)
		} else {
			more, err = v.item(b, at, k, do)
		}
		if err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// item calls do with the item of a leaf whose head is at head.
func (v *reader) item(leaf, head []byte, k key, do func(k key, data []byte) (bool, error)) (more bool, err error) {
	off, size := int64(le.Uint32(head[17:])), int64(le.Uint32(head[21:]))
	if off+size > int64(v.nodeSize-header) {
		return false, volume.Damaged("an item lies outside of its block")
	}
	return do(k, leaf[header+off:][:size])
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
		s.root = rootBlock(le.Uint64(data[176:]), data[238])
		return nil
	})
	switch {
	case err != nil:
		return 0, err
	case s.root.at == 0:
		return 0, volume.Damaged("subvolume %d is missing", id)
	case len(v.subs) == 1<<rootBits:
		return 0, fmt.Errorf("it has more than %d subvolumes", 1<<rootBits)
	}
	v.subs = append(v.subs, s)
	return len(v.subs) - 1, nil
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
	if o == nil {
		return nil, nil
	}
	names := 0
	err = v.items(o.root, o.number, typeDirIndex, func(_ uint64, data []byte) error {
		return eachName(data, func(k key, kind byte, name string, _ []byte) error {
			if len(name) > tree.MaxName || name == "." || name == ".." {
				return volume.Damaged("%.40q is no name", name)
			}
			if names += len(name); names > volume.MaxDirBytes {
				return fmt.Errorf("a directory with names of more than %d bytes", volume.MaxDirBytes)
			}
			e, err := v.entry(n, k, name)
			if err == nil {
				e.Kind = modeOf(kind)
				out, err = volume.Append(out, e)
			}
			return err
		})
	})
	return out, err
}

// entry is what a directory calls name, whose item has the key k.
func (v *reader) entry(dir *volume.Node, k key, name string) (volume.Entry, error) {
	o := dir.Private.(*object)
	e := volume.Entry{Name: name, Number: uint64(o.sub)<<numberBits | k.object}
	if k.kind != typeRoot {
		if k.object >= 1<<numberBits {
			return e, volume.Damaged("an entry names object %d", k.object)
		}
		return e, nil
	}
	mounted, err := v.mounted(o, k.object, name)
	if err != nil {
		return e, err
	}
	if !mounted {
		e.Node = emptyDir(dir, uint64(o.sub)<<numberBits|numberEmpty)
		return e, nil
	}
	i, err := v.subvolume(k.object)
	e.Number = uint64(i)<<numberBits | firstFree
	return e, err
}

// mounted reports whether the subvolume is in the directory at dir by that name. Entries
// are copied into snapshots; the tree of roots tells the one place where it is.
func (v *reader) mounted(dir *object, id uint64, name string) (found bool, err error) {
	want := key{v.subs[dir.sub].id, typeRootRef, id}
	err = v.scan(v.roots, want, func(k key, b []byte) (bool, error) {
		if k != want {
			return false, nil
		}
		if len(b) < 18 || len(b) != 18+int(le.Uint16(b[16:])) {
			return false, volume.Damaged("the place of a subvolume in %d bytes", len(b))
		}
		found = le.Uint64(b) == dir.number && string(b[18:]) == name
		return false, nil
	})
	return found, err
}

// numberEmpty is the inode number of all directories of a subvolume that are emptyDir.
const numberEmpty = 2

// emptyDir is what Linux shows in a snapshot in place of a subvolume. It has the time of
// the directory that it is in, where Linux shows when it was looked at.
func emptyDir(in *volume.Node, number uint64) *volume.Node {
	n := &volume.Node{Mode: unix.S_IFDIR | 0o755, Sec: in.Sec, Nsec: in.Nsec, Private: (*object)(nil)}
	n.Inode, n.Links, n.UID, n.GID = number, 1, in.UID, in.GID
	return n
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
	if o == nil {
		return nil, nil
	}
	values := 0
	err = v.items(o.root, o.number, typeXattr, func(_ uint64, data []byte) error {
		return eachName(data, func(_ key, _ byte, name string, value []byte) error {
			if values += len(name) + len(value); len(list) == maxXattrs || values > maxValues {
				return fmt.Errorf("more than %d attributes, or %d bytes of them", maxXattrs, maxValues)
			}
			list = append(list, tree.Xattr{Name: name, Value: append([]byte(nil), value...)})
			return nil
		})
	})
	return list, err
}
