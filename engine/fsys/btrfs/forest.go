package btrfs

import (
	"slices"
)

// forest is all trees of a file system. They describe each other: the tree of extents
// has an item for each block of every tree, its own among them, and the trees of chunks,
// of free space and of the device one for each chunk that these blocks take. So places
// are handed out again until as many are taken as are needed.
type forest struct {
	trees []*plan
}

// plan is a tree whose items are known by their sizes at least.
type plan struct {
	id     uint64
	items  []item
	levels [][]branch // of blocks, the leaves first
}

// branch is a block of a tree: items or blocks of the level below from from to to, and
// its address.
type branch struct {
	from, to int
	at       int64
	first    key
}

// pack divides the items into leaves and the leaves into nodes.
func (p *plan) pack() {
	var leaves []branch
	room, from := leafRoom, 0
	for i := range p.items {
		need := itemSize + p.items[i].size()
		if need > room {
			leaves = append(leaves, branch{from: from, to: i})
			room, from = leafRoom, i
		}
		room -= need
	}
	p.levels = [][]branch{append(leaves, branch{from: from, to: len(p.items)})}
	for len(p.levels[len(p.levels)-1]) > 1 {
		below := len(p.levels[len(p.levels)-1])
		n := (below + inNode - 1) / inNode
		level := make([]branch, n)
		for i := range n {
			level[i] = branch{from: i * below / n, to: (i + 1) * below / n}
		}
		p.levels = append(p.levels, level)
	}
}

func (p *plan) blocks() (n int64) {
	for _, l := range p.levels {
		n += int64(len(l))
	}
	return n
}

func (p *plan) root() *branch { return &p.levels[len(p.levels)-1][0] }

// tree is the plan of a tree.
func (f *forest) tree(id uint64) *plan {
	i := slices.IndexFunc(f.trees, func(p *plan) bool { return p.id == id })
	return f.trees[i]
}

// plant lays out all trees. Those of files and checksums are known; the others depend on
// what is taken.
func (w *writer) plant() error {
	f := &w.forest
	for _, s := range w.subs {
		f.trees = append(f.trees, &plan{id: s.id, items: s.items})
	}
	f.trees = append(f.trees, &plan{id: treeSums, items: w.sumItems()}, &plan{id: treeReloc, items: relocItems(w.time())},
		&plan{id: treeUUID, items: w.uuidItems()})
	for _, p := range f.trees {
		p.pack()
	}
	for _, id := range []uint64{treeRoot, treeExtent, treeChunk, treeDevice, treeFree} {
		f.trees = append(f.trees, &plan{id: id})
	}
	slices.SortStableFunc(f.trees, func(a, b *plan) int { return slices.Compare([]uint64{a.id}, []uint64{b.id}) })
	for {
		before := int64(0)
		for _, p := range f.trees {
			before += p.blocks()
		}
		if err := w.place(before); err != nil {
			return err
		}
		w.describe()
		after := int64(0)
		for _, p := range f.trees {
			after += p.blocks()
		}
		if after == before {
			break
		}
	}
	// Now every block has its place: what names places is written once more.
	w.address()
	w.describe()
	w.address()
	return nil
}

// place sees to it that the chunks of metadata hold so many blocks, and as many again,
// and notes how many bytes are used of each.
func (w *writer) place(blocks int64) error {
	if len(w.of(forSystem)) == 0 {
		if _, err := w.addChunk(forSystem|twice, systemChunk, systemChunk); err != nil {
			return err
		}
	}
	have := int64(0)
	for _, c := range w.of(forMetadata) {
		have += c.length
	}
	// Twice what is needed, so that the first files of whoever mounts it find room;
	// less where the device is full.
	for want := max(2*blocks*nodeSize, 16<<20); have < want; {
		length := min(256<<20, (want-have+1<<20-1)&^(1<<20-1))
		c, err := w.addChunk(forMetadata|twice, length, length)
		for err != nil && length > 1<<20 {
			length = length / 2 &^ (1<<20 - 1)
			c, err = w.addChunk(forMetadata|twice, max(length, 1<<20), length)
		}
		if err != nil {
			if have >= (blocks+8)*nodeSize {
				break
			}
			return err
		}
		have += c.length
	}
	w.address()
	return nil
}

// address gives every block its address, in the order of the trees, from the root of each
// down, and every block its first key.
func (w *writer) address() {
	for _, c := range w.chunks {
		if c.kind&forData == 0 {
			c.used = 0
		}
	}
	system, meta := w.of(forSystem), w.of(forMetadata)
	next := func(list []*chunk) int64 {
		for _, c := range list {
			if c.used+nodeSize <= c.length {
				c.used += nodeSize
				return c.logical + c.used - nodeSize
			}
		}
		return 0 // found out by plant, which makes more chunks
	}
	for _, p := range w.forest.trees {
		list := meta
		if p.id == treeChunk {
			list = system
		}
		for l := len(p.levels) - 1; l >= 0; l-- {
			for i := range p.levels[l] {
				p.levels[l][i].at = next(list)
			}
		}
		for l, level := range p.levels {
			for i := range level {
				if b := &level[i]; l > 0 {
					b.first = p.levels[l-1][b.from].first
				} else if b.from < b.to {
					b.first = p.items[b.from].key
				}
			}
		}
	}
}
