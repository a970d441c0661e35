package xfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"b9.build/b9/engine/fsys/internal/volume"
)

// leastGroup is how many blocks an allocation group has at least.
const leastGroup = 64

// Grow makes the xfs in the file as large as the file, as xfs_growfs does of a mounted
// one: the last group takes what it lacks, and groups without content follow. Its log
// must not wait to be replayed. Features beside those that Make gives, such as a reverse
// map, are refused before anything is written, as is what is damaged, with an error that
// is [volume.ErrCantGrow]. After another error the file may be damaged: work on a copy.
func Grow(ctx context.Context, f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	g := &grower{ctx: ctx, f: f, super: make([]byte, sector)}
	if err := g.open(st.Size()); err != nil {
		return volume.CantGrow(err)
	}
	return g.grow(uint64(st.Size()) / blockSize)
}

// open reads the superblock and refuses what can't grow.
func (g *grower) open(size int64) (err error) {
	if _, err := Open(volume.NewPages(io.NewSectionReader(g.f, 0, size))); err != nil {
		return err
	}
	if _, err := g.f.ReadAt(g.super, 0); err != nil {
		return err
	}
	if g.geo, err = parseSuper(g.super); err != nil {
		return err
	}
	if g.geo.agBlocks < leastGroup {
		return volume.Damaged("groups of %d blocks", g.geo.agBlocks)
	}
	const ro, incompat = roFinobt | roReflink | roInobtCnt, incompatFtype | incompatSpinode | incompatBigtime | incompatNrext64
	if g.geo.version&0xf != 5 || g.geo.ro|ro != ro || g.geo.ro&roFinobt == 0 || g.geo.incompat&^incompat != 0 || g.geo.blockSize != blockSize || be.Uint16(g.super[102:]) != sector {
		return errors.New("it has features with which b9 does not make an xfs larger: mount it and call xfs_growfs")
	}
	return nil
}

// grower makes one file system larger.
type grower struct {
	ctx   context.Context
	f     *os.File
	super []byte
	geo   geometry // as it was
}

func (g *grower) grow(blocks uint64) error {
	per := uint64(g.geo.agBlocks)
	if rest := blocks % per; rest < leastGroup {
		blocks -= rest
	}
	if blocks <= g.geo.blocks {
		return nil
	}
	if (blocks+per-1)/per > math.MaxUint32 {
		return volume.CantGrow(fmt.Errorf("it would have more than %d groups of %d blocks", uint32(math.MaxUint32), per))
	}
	was, last := g.geo, g.geo.agCount-1
	g.geo.blocks, g.geo.agCount = blocks, uint32((blocks+per-1)/per)
	added := uint64(0)
	if now := g.geo.groupBlocks(last); now > was.groupBlocks(last) {
		added += uint64(now - was.groupBlocks(last))
		if err := g.extend(last, was.groupBlocks(last), now); err != nil {
			return err
		}
	}
	for no := was.agCount; no < g.geo.agCount; no++ {
		if err := context.Cause(g.ctx); err != nil {
			return err
		}
		free, err := g.group(no)
		if err != nil {
			return err
		}
		added += free
	}
	be.PutUint64(g.super[8:], blocks)
	be.PutUint32(g.super[88:], g.geo.agCount)
	be.PutUint64(g.super[144:], be.Uint64(g.super[144:])+added)
	seal(g.super, 224)
	for no := range g.geo.agCount {
		if _, err := g.f.WriteAt(g.super, g.geo.groupByte(no)); err != nil {
			return err
		}
	}
	return nil
}

// Where a new group has its trees, and the blocks that these grow from. Behind them all
// is free.
const (
	rootBno, rootCnt, rootIno, rootFino, rootRefs = 1, 2, 3, 4, 5
	firstSpare, spares                            = 6, 4
	firstUnused                                   = firstSpare + spares

	magicRefs = 0x52334643 // R3FC
)

// group writes a group without content, and returns how many of its blocks are free.
func (g *grower) group(no uint32) (uint64, error) {
	n := &group{no: no, blocks: g.geo.groupBlocks(no), base: g.geo.groupByte(no), agf: make([]byte, sector), agi: make([]byte, sector)}
	n.free, n.left = []span{{firstUnused, n.blocks - firstUnused}}, n.blocks-firstUnused
	uuid := g.geo.uuid[:]
	for at, v := range map[int]uint32{0: 0x58414746, 4: 1, 8: no, 12: n.blocks, 16: rootBno, 20: rootCnt, 28: 1, 32: 1, 40: 1, 44: spares, 48: spares} {
		be.PutUint32(n.agf[at:], v)
	}
	copy(n.agf[64:], uuid)
	if g.geo.ro&roReflink != 0 {
		for at, v := range map[int]uint32{84: 1, 88: rootRefs, 92: 1} {
			be.PutUint32(n.agf[at:], v)
		}
	}
	for i := 40; i < 296; i++ {
		n.agi[i] = 0xff // no inode is unlinked and open
	}
	for at, v := range map[int]uint32{0: 0x58414749, 4: 1, 8: no, 12: n.blocks, 20: rootIno, 24: 1, 32: nullBlock, 36: nullBlock, 328: rootFino, 332: 1} {
		be.PutUint32(n.agi[at:], v)
	}
	if g.geo.ro&roInobtCnt != 0 {
		be.PutUint32(n.agi[336:], 1)
		be.PutUint32(n.agi[340:], 1)
	}
	copy(n.agi[296:], uuid)
	seal(n.agi, 312)
	agfl := make([]byte, sector)
	be.PutUint32(agfl, 0x5841464c)
	be.PutUint32(agfl[4:], no)
	copy(agfl[8:], uuid)
	for i := range uint32((sector - 36) / 4) {
		block := uint32(nullBlock)
		if i >= 1 && i <= spares {
			block = firstSpare + i - 1
		}
		be.PutUint32(agfl[36+4*i:], block)
	}
	seal(agfl, 32)
	_, err := g.f.WriteAt(make([]byte, firstUnused*blockSize), n.base)
	for i, b := range [][]byte{n.agi, agfl} {
		_, werr := g.f.WriteAt(b, n.base+int64(i+2)*sector)
		err = errors.Join(err, werr)
	}
	for magic, root := range map[uint32]uint32{magicIno: rootIno, magicFino: rootFino, magicRefs: rootRefs} {
		if magic == magicRefs && g.geo.ro&roReflink == 0 {
			continue
		}
		_, werr := g.f.WriteAt(n.shortBlock(&g.geo, magic, 0, root, nullBlock, nullBlock, 0, nil), n.byteOf(root))
		err = errors.Join(err, werr)
	}
	return uint64(n.left) + spares, errors.Join(err, n.writeFree(g.f, &g.geo))
}

// extend gives a group the blocks from was to now, which become free.
func (g *grower) extend(no, was, now uint32) error {
	n := &group{no: no, blocks: now, base: g.geo.groupByte(no), agf: make([]byte, sector), agi: make([]byte, sector)}
	_, ferr := g.f.ReadAt(n.agf, n.base+sector)
	_, ierr := g.f.ReadAt(n.agi, n.base+2*sector)
	if err := errors.Join(ferr, ierr); err != nil {
		return err
	}
	byPlace, perr := g.readTree(n, was, magicBno, be.Uint32(n.agf[16:]), be.Uint32(n.agf[28:]))
	bySize, serr := g.readTree(n, was, magicCnt, be.Uint32(n.agf[20:]), be.Uint32(n.agf[32:]))
	if err := cmp.Or(perr, serr); err != nil {
		return volume.CantGrow(err)
	}
	list := byPlace.records
	if last := len(list) - 1; last >= 0 && list[last].start+list[last].count == was {
		list[last].count += now - was
	} else {
		list = append(list, span{was, now - was})
	}
	longest := uint32(0)
	for _, s := range list {
		longest = max(longest, s.count)
	}
	sorted := slices.SortedFunc(slices.Values(list), func(a, b span) int { return cmp.Or(cmp.Compare(a.count, b.count), cmp.Compare(a.start, b.start)) })
	if err := cmp.Or(byPlace.hold(n, list), bySize.hold(n, sorted)); err != nil {
		return volume.CantGrow(err)
	}
	if err := errors.Join(byPlace.write(g.f, n), bySize.write(g.f, n)); err != nil {
		return err
	}
	be.PutUint32(n.agf[12:], now)
	be.PutUint32(n.agf[52:], be.Uint32(n.agf[52:])+now-was)
	be.PutUint32(n.agf[56:], longest)
	be.PutUint32(n.agi[12:], now)
	seal(n.agf, 216)
	seal(n.agi, 312)
	_, ferr = g.f.WriteAt(n.agf, n.base+sector)
	_, ierr = g.f.WriteAt(n.agi, n.base+2*sector)
	return errors.Join(ferr, ierr)
}

// spaceTree is a tree of free space as it is on disk: its blocks by level, the leaves
// last, and what they hold.
type spaceTree struct {
	levels  [][]treeBlock
	records []span
}

type treeBlock struct {
	at    uint32
	b     []byte
	first span // the first record below it
}

// readTree reads a tree of a group of that many blocks.
func (g *grower) readTree(n *group, blocks, magic, root, levels uint32) (*spaceTree, error) {
	t := &spaceTree{}
	if levels < 1 || levels > maxLevels {
		return nil, volume.Damaged("a tree of %d levels", levels)
	}
	for at, level := root, int(levels)-1; level >= 0; level-- {
		row, err := g.readRow(n, blocks, magic, at, level)
		if err != nil {
			return nil, err
		}
		t.levels = append(t.levels, row)
		if level > 0 {
			at = be.Uint32(row[0].b[shortHeader+8*nodeKeys:])
		}
	}
	for _, leaf := range t.levels[len(t.levels)-1] {
		for i := range int(be.Uint16(leaf.b[6:])) {
			t.records = append(t.records, span{be.Uint32(leaf.b[shortHeader+8*i:]), be.Uint32(leaf.b[shortHeader+8*i+4:])})
		}
	}
	return t, nil
}

// readRow reads a level from its first block on. That each block names the one before
// it makes a row end, for none can come twice.
func (g *grower) readRow(n *group, blocks, magic, first uint32, level int) (row []treeBlock, err error) {
	most := keysInNode
	if level > 0 {
		most = nodeKeys
	}
	for at, before := first, uint32(nullBlock); at != nullBlock || len(row) == 0; {
		b := make([]byte, blockSize)
		if at < blocks {
			if _, err := g.f.ReadAt(b, n.byteOf(at)); err != nil {
				return nil, err
			}
		}
		if be.Uint32(b) != magic || int(be.Uint16(b[4:])) != level || int(be.Uint16(b[6:])) > most || be.Uint32(b[8:]) != before {
			return nil, volume.Damaged("block %d of group %d is none of a tree of free space", at, n.no)
		}
		row = append(row, treeBlock{at: at, b: b})
		at, before = be.Uint32(b[12:]), at
	}
	return row, nil
}

// nodeKeys is how many keys of 8 bytes, and pointers of 4, a block of such a tree has.
const nodeKeys = (blockSize - shortHeader) / 12

// hold puts as many records as the tree had, or one more, into the blocks that it has.
func (t *spaceTree) hold(n *group, records []span) error {
	leaves := t.levels[len(t.levels)-1]
	more := len(records) - len(t.records)
	rest := records
	for i := len(leaves) - 1; i >= 0; i-- { // from behind, where the new one goes
		count := int(be.Uint16(leaves[i].b[6:]))
		if more > 0 && count+more <= keysInNode {
			count, more = count+more, 0
			be.PutUint16(leaves[i].b[6:], uint16(count))
		}
		part := rest[len(rest)-min(count, len(rest)):]
		rest = rest[:len(rest)-len(part)]
		for k, s := range part {
			be.PutUint32(leaves[i].b[shortHeader+8*k:], s.start)
			be.PutUint32(leaves[i].b[shortHeader+8*k+4:], s.count)
		}
		if len(part) > 0 {
			leaves[i].first = part[0]
		}
	}
	if more > 0 {
		return fmt.Errorf("group %d has too many pieces of free space: mount it and call xfs_growfs", n.no)
	}
	return t.keys(n)
}

// keys makes the keys, which follow from the first records below them.
func (t *spaceTree) keys(n *group) error {
	for l := len(t.levels) - 2; l >= 0; l-- {
		for i := range t.levels[l] {
			block := &t.levels[l][i]
			for k := range int(be.Uint16(block.b[6:])) {
				at := be.Uint32(block.b[shortHeader+8*nodeKeys+4*k:])
				below := slices.IndexFunc(t.levels[l+1], func(b treeBlock) bool { return b.at == at })
				if below < 0 {
					return volume.Damaged("group %d has a tree with a block too many", n.no)
				}
				first := t.levels[l+1][below].first
				be.PutUint32(block.b[shortHeader+8*k:], first.start)
				be.PutUint32(block.b[shortHeader+8*k+4:], first.count)
				if k == 0 {
					block.first = first
				}
			}
		}
	}
	return nil
}

// write writes all blocks.
func (t *spaceTree) write(f *os.File, n *group) error {
	for _, level := range t.levels {
		for _, block := range level {
			seal(block.b, 52)
			if _, err := f.WriteAt(block.b, n.byteOf(block.at)); err != nil {
				return err
			}
		}
	}
	return nil
}
