package btrfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/size"
)

func (w *writer) time() int64 { return tree.FixedTime(w.o.Time) }

// make writes everything. The file is a new one.
func (w *writer) make(f *os.File) error {
	w.f, w.buf = f, make([]byte, 1<<20)
	if err := f.Truncate(w.o.Size); err != nil {
		return err
	}
	w.layDevice()
	err := w.fill()
	if errors.Is(err, errNoRoom) {
		return fmt.Errorf("the content does not fit into %s: %s are enough", size.About(w.o.Size), size.Bytes(w.needed()))
	}
	return err
}

func (w *writer) fill() error {
	pieces, err := w.data()
	if err != nil {
		return err
	}
	for _, s := range w.subs {
		if err := s.describe(pieces); err != nil {
			return err
		}
	}
	if err := w.plant(); err != nil {
		return err
	}
	for _, p := range w.forest.trees {
		if err := w.writeTree(p); err != nil {
			return err
		}
	}
	return w.supers()
}

// sumItems are the checksums of all data, which lies at the beginning of its chunks.
func (w *writer) sumItems() (list []item) {
	const most = 2000 // of an item: two of them fill a leaf
	for _, c := range w.of(forData) {
		for i := 0; i < len(c.sums); i += most {
			var data []byte
			for _, sum := range c.sums[i:min(len(c.sums), i+most)] {
				data = le.AppendUint32(data, sum)
			}
			list = append(list, item{key: key{sums, typeSums, uint64(c.logical) + uint64(i)*blockSize}, data: data})
		}
	}
	return list
}

// relocItems are those of an empty directory, which the kernel moves data through.
func relocItems(at int64) []item {
	return []item{
		{key: key{firstFree, typeInode, 0}, data: inodeItem(0, 0, 1, 0, 0, unix.S_IFDIR|0o755, 0, at, 0)},
		{key: key{firstFree, typeInodeRef, firstFree}, data: append(le.AppendUint16(words(nil, 0), 2), ".."...)},
	}
}

func (w *writer) uuidItems() (list []item) {
	for _, s := range w.subs {
		list = append(list, item{key: key{le.Uint64(s.uuid), typeSubvolume, le.Uint64(s.uuid[8:])}, data: words(nil, s.id)})
	}
	return joined(list)
}

// describe makes the items of the trees that depend on places.
func (w *writer) describe() {
	f := &w.forest
	f.tree(treeRoot).items = w.rootItems()
	f.tree(treeChunk).items, f.tree(treeDevice).items = w.chunkItems()
	f.tree(treeExtent).items = w.extentItems()
	f.tree(treeFree).items = w.freeItems()
	for _, id := range []uint64{treeRoot, treeExtent, treeChunk, treeDevice, treeFree} {
		f.tree(id).pack()
	}
	w.address()
}

// rootItems name the roots of all trees but those of roots and chunks, which the
// superblock names.
func (w *writer) rootItems() []item {
	top := uint64(treeFiles)
	for _, s := range w.subs {
		if strings.HasPrefix(s.kind, "default") {
			top = s.id
		}
	}
	entry := append(key{top, typeRoot, 1<<64 - 1}.append(nil), words(nil, 0)...)
	entry = le.AppendUint16(le.AppendUint16(entry, 0), uint16(len("default")))
	list := []item{
		{key: key{treeFiles, typeInodeRef, rootDir}, data: append(le.AppendUint16(words(nil, 0), 7), "default"...)},
		{key: key{rootDir, typeInode, 0}, data: inodeItem(0, nodeSize, 1, 0, 0, unix.S_IFDIR|0o755, 0, w.time(), 0)},
		{key: key{rootDir, typeInodeRef, rootDir}, data: append(le.AppendUint16(words(nil, 0), 2), ".."...)},
		{key: key{rootDir, typeDirItem, hashName("default")}, data: append(append(entry, 2), "default"...)},
	}
	for _, p := range w.forest.trees {
		if p.id != treeRoot && p.id != treeChunk {
			list = append(list, item{key: key{p.id, typeRoot, 0}, data: w.rootItem(p)})
		}
	}
	for _, s := range w.subs {
		if s.parent != nil {
			ref := append(le.AppendUint16(words(nil, s.name.dir, s.name.index), uint16(len(s.name.name))), s.name.name...)
			list = append(list, item{key: key{s.parent.id, typeRootRef, s.id}, data: ref}, item{key: key{s.id, typeRootBackref, s.parent.id}, data: ref})
		}
	}
	return joined(list)
}

func (w *writer) rootItem(p *plan) []byte {
	b := inodeItem(3, nodeSize, 1, 0, 0, unix.S_IFDIR|0o755, 0, 0, 0)
	at, used, level := uint64(0), uint64(p.blocks())*nodeSize, byte(0)
	if len(p.levels) > 0 {
		at, level = uint64(p.root().at), byte(len(p.levels)-1)
	}
	i := slices.IndexFunc(w.subs, func(s *subvolume) bool { return s.id == p.id })
	dir, flags := uint64(0), uint64(0)
	if i >= 0 || p.id == treeReloc {
		dir = firstFree
	}
	if i >= 0 && strings.HasSuffix(w.subs[i].kind, "ro") {
		flags = 1
	}
	b = words(b, generation, dir, at, 0, used, 0, flags)
	b = le.AppendUint32(b, 1)
	b = append(key{}.append(b), 0, level)
	b = words(b, generation)
	b = append(b, make([]byte, 439-len(b))...)
	if i >= 0 {
		copy(b[247:], w.subs[i].uuid)
		le.PutUint64(b[327:], uint64(w.time()))
		le.PutUint64(b[339:], uint64(w.time()))
	}
	return b
}

// chunkItems are those of the tree of chunks, and of the tree that has the device's side
// of them.
func (w *writer) chunkItems() (chunks, device []item) {
	chunks = []item{{key: key{1, typeDevice, 1}, data: w.deviceItem()}}
	for _, c := range w.chunks {
		chunks = append(chunks, item{key: key{firstFree, typeChunk, uint64(c.logical)}, data: w.chunkItem(c)})
		for _, at := range c.stripes {
			data := append(words(nil, treeChunk, firstFree, uint64(c.logical), uint64(c.length)), w.uuid.chunks...)
			device = append(device, item{key: key{1, typeDevExtent, uint64(at)}, data: data})
		}
	}
	return chunks, joined(device)
}

func (w *writer) deviceItem() []byte {
	used := int64(0)
	for _, c := range w.chunks {
		used += c.length * int64(len(c.stripes))
	}
	b := words(nil, 1, uint64(w.o.Size&^(blockSize-1)), uint64(used))
	for range 3 {
		b = le.AppendUint32(b, blockSize)
	}
	b = append(words(b, 0, 0, 0), make([]byte, 6)...)
	return append(append(b, w.uuid.device...), w.uuid.fs...)
}

func (w *writer) chunkItem(c *chunk) []byte {
	b := words(nil, uint64(c.length), treeExtent, stripe, c.kind)
	for _, n := range []uint32{stripe, stripe, blockSize} {
		b = le.AppendUint32(b, n)
	}
	b = le.AppendUint16(le.AppendUint16(b, uint16(len(c.stripes))), 1)
	for _, at := range c.stripes {
		b = append(words(b, 1, uint64(at)), w.uuid.device...)
	}
	return b
}

// extentItems say who has which bytes.
func (w *writer) extentItems() []item {
	list := slices.Clone(w.extent)
	for _, c := range w.chunks {
		list = append(list, item{key: key{uint64(c.logical), typeBlockGroup, uint64(c.length)}, data: words(nil, uint64(c.used), firstFree, c.kind)})
	}
	for _, p := range w.forest.trees {
		for l, level := range p.levels {
			for _, b := range level {
				data := words(append(words(nil, 1, generation, 2), typeBlockRef), p.id)
				list = append(list, item{key: key{uint64(b.at), typeMetadata, uint64(l)}, data: data})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b item) int { return a.compare(b.key) })
	return list
}

// freeItems say what of each chunk is free: its end.
func (w *writer) freeItems() (list []item) {
	for _, c := range w.chunks {
		n := uint32(0)
		if c.used < c.length {
			n = 1
		}
		list = append(list, item{key: key{uint64(c.logical), typeFreeInfo, uint64(c.length)}, data: le.AppendUint32(le.AppendUint32(nil, n), 0)})
		if n > 0 {
			list = append(list, item{key: key{uint64(c.logical + c.used), typeFreeExtent, uint64(c.length - c.used)}})
		}
	}
	return list
}

func (w *writer) writeTree(p *plan) error {
	for l, level := range p.levels {
		for i := range level {
			b, err := w.block(p, l, &level[i])
			if err != nil {
				return err
			}
			if err := w.writeBlock(b, level[i].at); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeBlock writes a block of a tree wherever its chunk lies.
func (w *writer) writeBlock(b []byte, at int64) error {
	for _, c := range w.chunks {
		if at >= c.logical && at < c.logical+c.length {
			for _, start := range c.stripes {
				if _, err := w.f.WriteAt(b, start+at-c.logical); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return fmt.Errorf("address %d lies in no chunk", at)
}

func (w *writer) block(p *plan, level int, br *branch) ([]byte, error) {
	b := make([]byte, nodeSize)
	copy(b[32:], w.uuid.fs)
	le.PutUint64(b[48:], uint64(br.at))
	le.PutUint64(b[56:], 1|1<<56) // written; the revision of back references
	copy(b[64:], w.uuid.chunks)
	le.PutUint64(b[80:], generation)
	le.PutUint64(b[88:], p.id)
	le.PutUint32(b[96:], uint32(br.to-br.from))
	b[100] = byte(level)
	if level > 0 {
		for i, below := range p.levels[level-1][br.from:br.to] {
			copy(b[header+33*i:], words(below.first.append(nil), uint64(below.at), generation))
		}
		seal(b)
		return b, nil
	}
	end := leafRoom
	for i := range p.items[br.from:br.to] {
		it := &p.items[br.from+i]
		end -= it.size()
		head := le.AppendUint32(le.AppendUint32(it.append(nil), uint32(end)), uint32(it.size()))
		copy(b[header+itemSize*i:], head)
		copy(b[header+end:], it.data)
		if it.inline != nil {
			if err := readInline(it.inline, b[header+end+len(it.data):][:it.inline.Size]); err != nil {
				return nil, fmt.Errorf("%s: %w", it.inline.Origin, err)
			}
		}
	}
	seal(b)
	return b, nil
}

func readInline(n *tree.Inode, b []byte) error {
	in, err := n.Open()
	if err != nil {
		return err
	}
	if _, err = io.ReadFull(in, b); err != nil {
		err = n.Short(err)
	} else {
		err = n.CheckEnd(in)
	}
	return errors.Join(err, in.Close())
}

// supers writes the superblock and its copies.
func (w *writer) supers() error {
	b := make([]byte, blockSize)
	copy(b[0x20:], w.uuid.fs)
	le.PutUint64(b[0x38:], 1)
	copy(b[0x40:], magic)
	used := int64(0)
	for _, c := range w.chunks {
		used += c.used
	}
	root, chunks := w.forest.tree(treeRoot), w.forest.tree(treeChunk)
	for at, n := range map[int]uint64{
		0x48: generation, 0x50: uint64(root.root().at), 0x58: uint64(chunks.root().at), 0x70: uint64(w.o.Size &^ (blockSize - 1)), 0x78: uint64(used),
		0x80: rootDir, 0x88: 1, 0xa4: generation, 0xb4: compatibleRO, 0xbc: incompatible, 0x233: generation,
	} {
		le.PutUint64(b[at:], n)
	}
	for at, n := range map[int]uint32{0x90: blockSize, 0x94: nodeSize, 0x98: nodeSize, 0x9c: blockSize} {
		le.PutUint32(b[at:], n)
	}
	b[0xc6], b[0xc7] = byte(len(root.levels)-1), byte(len(chunks.levels)-1)
	copy(b[0xc9:0x12b], w.deviceItem())
	copy(b[0x12b:0x22b], w.o.Label)
	system := w.of(forSystem)[0]
	array := append(key{firstFree, typeChunk, uint64(system.logical)}.append(nil), w.chunkItem(system)...)
	le.PutUint32(b[0xa0:], uint32(len(array)))
	copy(b[0x32b:], array)
	return writeSupers(w.f, b, w.o.Size)
}

// writeSupers writes a superblock at its places, each of which it names.
func writeSupers(f *os.File, b []byte, size int64) error {
	for _, at := range superCopies() {
		if at+blockSize > size {
			break
		}
		le.PutUint64(b[0x30:], uint64(at))
		seal(b)
		if _, err := f.WriteAt(b, at); err != nil {
			return err
		}
	}
	return nil
}
