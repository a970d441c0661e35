package btrfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/ident"
	"b9.build/b9/engine/fsys/tree"
)

// item is an entry of a tree. What is in a small file is read only when its leaf is
// written, behind data.
type item struct {
	key
	data   []byte
	inline *tree.Inode
}

func (i *item) size() int {
	if i.inline != nil {
		return len(i.data) + int(i.inline.Size)
	}
	return len(i.data)
}

// subvolume is a tree of files.
type subvolume struct {
	id     uint64
	uuid   []byte
	kind   string // as in Options.Subvolumes; the first one is rw
	path   string
	nodes  []*node
	byTree map[*tree.Inode]*node
	items  []item

	parent *subvolume // nil of the first one
	name   nameRef    // in parent
}

// nameRef is a name of an object in a directory.
type nameRef struct {
	dir, index uint64
	name       string
}

// node is an object of a subvolume.
type node struct {
	*tree.Inode
	number   uint64
	path     string
	names    []nameRef
	children []child
}

// child is an entry of a directory.
type child struct {
	name string
	key  key // of what it names
	kind byte
}

// writer makes one file system.
type writer struct {
	ctx  context.Context
	o    Options
	uuid struct{ fs, device, chunks []byte }
	subs []*subvolume
	f    *os.File
	buf  []byte

	free   []span   // of the device
	chunks []*chunk // by logical address
	extent []item   // of files' data
	forest forest
}

// inlineLimit is the longest file whose bytes are kept in its item.
const inlineLimit = 2048

// collect numbers the objects of all subvolumes and refuses what btrfs does not hold.
func (w *writer) collect(t *tree.Tree) error {
	w.identify()
	first := w.subvolume("", nil)
	first.id = treeFiles
	if err := makeMissing(t.Root, w.o.Subvolumes); err != nil {
		return err
	}
	if err := w.number(first, t.Root, "", nameRef{firstFree, 0, ".."}); err != nil {
		return err
	}
	if w.o.Size == 0 {
		w.o.Size = w.needed()
	}
	return nil
}

// identify derives the UUIDs of device and chunks from the file system's.
func (w *writer) identify() {
	w.uuid.fs, _ = ident.Parse(w.o.UUID) // which was checked
	w.uuid.device, w.uuid.chunks = w.derived("device"), w.derived("chunks")
}

func (w *writer) derived(name string) []byte {
	h := ident.NewHash()
	h.Bytes(w.uuid.fs)
	h.Text(name)
	b, _ := ident.Parse(ident.New(h.Sum()[:16]))
	return b
}

func (w *writer) subvolume(path string, parent *subvolume) *subvolume {
	s := &subvolume{id: firstFree + uint64(len(w.subs)) - 1, uuid: w.derived("subvolume " + path), kind: w.o.Subvolumes[path], path: path,
		parent: parent, byTree: map[*tree.Inode]*node{}}
	w.subs = append(w.subs, s)
	return s
}

// makeMissing makes the directories of subvolumes that are not there, as their
// directories above are.
func makeMissing(root *tree.Inode, list map[string]string) error {
	for _, p := range slices.Sorted(maps.Keys(list)) {
		dir := root
		for part := range strings.SplitSeq(p, "/") {
			i, ok := slices.BinarySearchFunc(dir.Entries, part, func(e tree.Entry, name string) int { return cmp.Compare(e.Name, name) })
			if !ok {
				made := &tree.Inode{Mode: unix.S_IFDIR | 0o755, Sec: dir.Sec, Nsec: dir.Nsec}
				dir.Entries = slices.Insert(dir.Entries, i, tree.Entry{Name: part, Inode: made})
			}
			if dir = dir.Entries[i].Inode; !dir.IsDir() {
				return fmt.Errorf("subvolume %s: /%s is no directory", p, part)
			}
		}
	}
	return nil
}

// number gives n, which has the name ref, and everything below it numbers in s.
func (w *writer) number(s *subvolume, n *tree.Inode, path string, ref nameRef) error {
	d := &node{Inode: n, number: firstFree + uint64(len(s.nodes)), path: path, names: []nameRef{ref}}
	s.nodes, s.byTree[n] = append(s.nodes, d), d
	if err := checkNode(d); err != nil {
		return fmt.Errorf("/%s: %w", path, err)
	}
	for i, e := range n.Entries {
		below := strings.TrimPrefix(path+"/"+e.Name, "/")
		name := nameRef{d.number, uint64(i) + 2, e.Name}
		if _, ok := w.o.Subvolumes[below]; ok {
			sub := w.subvolume(below, s)
			sub.name = name
			d.children = append(d.children, child{e.Name, key{sub.id, typeRoot, 1<<64 - 1}, kindOf(e.Inode)})
			if err := w.number(sub, e.Inode, below, nameRef{firstFree, 0, ".."}); err != nil {
				return err
			}
			continue
		}
		if known := s.byTree[e.Inode]; known != nil {
			known.names = append(known.names, name)
		} else if err := w.number(s, e.Inode, below, name); err != nil {
			return err
		}
		d.children = append(d.children, child{e.Name, key{s.byTree[e.Inode].number, typeInode, 0}, kindOf(e.Inode)})
	}
	return nil
}

// maxXattr is the most bytes that name and value of an attribute have, so that an item
// fits into a leaf.
const maxXattr = leafRoom - itemSize - 30

func checkNode(d *node) error {
	for _, x := range d.Xattrs {
		if len(x.Name)+len(x.Value) > maxXattr {
			return fmt.Errorf("attribute %.40s has %d bytes, btrfs holds %d", x.Name, len(x.Value), maxXattr-len(x.Name))
		}
		space, _, _ := strings.Cut(x.Name, ".")
		if space != "user" && space != "trusted" && space != "security" && x.Name != tree.ACLAccess && x.Name != tree.ACLDefault {
			return fmt.Errorf("btrfs stores only attributes of user, trusted and security, and access control lists, not %s", x.Name)
		}
	}
	switch {
	case d.IsLink() && d.Target == "":
		return errors.New("it is a link that has no target")
	case d.IsLink() && len(d.Target) >= blockSize:
		return fmt.Errorf("it is a link of %d bytes, btrfs holds %d", len(d.Target), blockSize-1)
	case d.Major >= 1<<12 || d.Minor >= 1<<20:
		return fmt.Errorf("its device number %d:%d is larger than btrfs holds", d.Major, d.Minor)
	}
	return nil
}

// kindOf is a file type as entries hold it.
func kindOf(n *tree.Inode) byte {
	switch n.Kind() {
	case unix.S_IFREG:
		return 1
	case unix.S_IFDIR:
		return 2
	case unix.S_IFCHR:
		return 3
	case unix.S_IFBLK:
		return 4
	case unix.S_IFIFO:
		return 5
	case unix.S_IFSOCK:
		return 6
	}
	return 7
}

const kindXattr = 8

// needed is a size that holds the content: data once, metadata twice, and chunks of both
// that are not full.
func (w *writer) needed() int64 {
	data, meta := int64(0), int64(2<<20)
	for _, s := range w.subs {
		for _, d := range s.nodes {
			meta += 160 + 4*itemSize
			for _, r := range d.names {
				meta += 3*itemSize + 80 + 3*int64(len(r.name))
			}
			for _, x := range d.Xattrs {
				meta += itemSize + 30 + int64(len(x.Name)+len(x.Value))
			}
			if d.IsRegular() && d.Size > inlineLimit {
				blocks := (d.Size + blockSize - 1) / blockSize
				data, meta = data+blocks*blockSize, meta+blocks*4+200+blocks/8
			} else {
				meta += d.Size
			}
		}
	}
	need := data + w.o.Free + 4*max(meta, 16<<20) + 2*systemChunk + (data+w.o.Free)/64 + 8<<20
	return max(Least, (need+1<<20-1)&^(1<<20-1))
}

// describe makes the items of a subvolume, whose files' data is written by now.
func (s *subvolume) describe(pieces map[*node][]piece) error {
	for _, d := range s.nodes {
		if err := s.object(d, pieces[d]); err != nil {
			return fmt.Errorf("/%s: %w", d.path, err)
		}
	}
	return nil
}

func (s *subvolume) add(k key, data []byte) { s.items = append(s.items, item{key: k, data: data}) }

// object makes the items of one object, in the order of their keys.
func (s *subvolume) object(d *node, list []piece) error {
	s.add(key{d.number, typeInode, 0}, d.inode(list))
	if err := s.references(d); err != nil {
		return err
	}
	if err := s.attributes(d); err != nil {
		return err
	}
	var named []item
	for i, c := range d.children {
		data := append(c.key.append(nil), words(nil, generation)...)
		data = le.AppendUint16(le.AppendUint16(data, 0), uint16(len(c.name)))
		data = append(append(data, c.kind), c.name...)
		named = append(named, item{key: key{d.number, typeDirItem, hashName(c.name)}, data: data},
			item{key: key{d.number, typeDirIndex, uint64(i) + 2}, data: data})
	}
	if err := s.join(named, "entries whose names have one hash"); err != nil {
		return err
	}
	switch {
	case d.IsLink():
		s.add(key{d.number, typeExtentData, 0}, append(inlineHead(len(d.Target)), d.Target...))
	case d.IsRegular() && d.Size > 0 && d.Size <= inlineLimit:
		s.items = append(s.items, item{key: key{d.number, typeExtentData, 0}, data: inlineHead(int(d.Size)), inline: d.Inode})
	}
	for _, p := range list {
		data := append(words(nil, generation, uint64(p.bytes)), 0, 0, 0, 0, 1)
		s.add(key{d.number, typeExtentData, uint64(p.offset)}, words(data, uint64(p.at), uint64(p.bytes), 0, uint64(p.bytes)))
	}
	return nil
}

// joined sorts items and joins those of one key, whose names have one hash.
func joined(list []item) []item {
	slices.SortStableFunc(list, func(a, b item) int { return a.compare(b.key) })
	var out []item
	for _, i := range list {
		if n := len(out); n > 0 && out[n-1].key == i.key {
			out[n-1].data = append(slices.Clip(out[n-1].data), i.data...)
			continue
		}
		out = append(out, i)
	}
	return out
}

// inlineHead begins the item of a file whose bytes are in it.
func inlineHead(n int) []byte { return append(words(nil, generation, uint64(n)), 0, 0, 0, 0, 0) }

// references makes an item for each directory in which d has names.
func (s *subvolume) references(d *node) error {
	var list []item
	for _, r := range d.names {
		data := le.AppendUint16(words(nil, r.index), uint16(len(r.name)))
		list = append(list, item{key: key{d.number, typeInodeRef, r.dir}, data: append(data, r.name...)})
	}
	return s.join(list, "names in one directory")
}

// join adds items that are joined, unless one becomes longer than a leaf.
func (s *subvolume) join(list []item, what string) error {
	list = joined(list)
	for _, i := range list {
		if len(i.data) > leafRoom-itemSize {
			return fmt.Errorf("it has more %s than btrfs holds in an item of %d bytes", what, leafRoom-itemSize)
		}
	}
	s.items = append(s.items, list...)
	return nil
}

func (s *subvolume) attributes(d *node) error {
	var list []item
	for _, x := range d.Xattrs {
		data := words(key{}.append(nil), generation)
		data = le.AppendUint16(le.AppendUint16(data, uint16(len(x.Value))), uint16(len(x.Name)))
		data = append(append(append(data, kindXattr), x.Name...), x.Value...)
		list = append(list, item{key: key{d.number, typeXattr, hashName(x.Name)}, data: data})
	}
	return s.join(list, "attributes whose names have one hash")
}

// inode is the item that describes d.
func (d *node) inode(list []piece) []byte {
	length, stored, links := uint64(d.Size), uint64(0), uint32(len(d.names))
	for _, p := range list {
		stored += uint64(p.bytes)
	}
	device := uint64(0)
	switch d.Kind() {
	case unix.S_IFDIR:
		length = 0
		for _, c := range d.children {
			length += 2 * uint64(len(c.name))
		}
	case unix.S_IFREG:
		if d.Size <= inlineLimit {
			stored = length
		}
	case unix.S_IFLNK:
		length = uint64(len(d.Target))
		stored = length
	default:
		length, device = 0, uint64(d.Major)<<20|uint64(d.Minor)
	}
	return inodeItem(length, stored, links, d.UID, d.GID, d.Mode, device, d.Sec, d.Nsec)
}

func inodeItem(length, stored uint64, links, uid, gid, mode uint32, device uint64, sec int64, nsec uint32) []byte {
	b := words(nil, generation, generation, length, stored, 0)
	for _, n := range []uint32{links, uid, gid, mode} {
		b = le.AppendUint32(b, n)
	}
	b = words(b, device, 0, 0, 0, 0, 0, 0)
	for range 4 {
		b = le.AppendUint32(words(b, uint64(sec)), nsec)
	}
	return b
}
