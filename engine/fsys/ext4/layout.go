package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"b9.build/b9/engine/fsys/internal/volume"
)

// The on-disk layout follows the kernel's Documentation/filesystems/ext4
// (super.rst, group_descr.rst, checksums.rst). All numbers are little endian.

const (
	magic     = 0xef53
	superAt   = 1024
	superSize = 1024
)

// Feature bits, by the word of the superblock they stand in.
const (
	compatJournal      = 0x4
	compatSparseSuper2 = 0x200
	incompatRecover    = 0x4
	incompatJournalDev = 0x8
	incompatMetaBG     = 0x10
	incompatExtents    = 0x40
	incompat64Bit      = 0x80
	incompatCsumSeed   = 0x2000
	roSparseSuper      = 0x1
	roLargeFile        = 0x2
	roGdtCsum          = 0x10
	roDirNlink         = 0x20
	roQuota            = 0x100
	roBigalloc         = 0x200
	roMetadataCsum     = 0x400
	groupInodeUninit   = 0x1
	groupBlockUninit   = 0x2
	inodeFlagExtents   = 0x80000
	inodeFlagInline    = 0x10000000
	// settableFlags are those of an inode that chattr(1) sets and that ask for no
	// other layout: s, u, c, S, i, a, d, A, j, t, D, T, x.
	settableFlags = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x80 | 0x4000 | 0x8000 | 0x10000 | 0x20000 | 0x2000000
)

// layout is the geometry of an ext2/3/4 file system, from its superblock.
type layout struct {
	sb              []byte
	blockSize       int
	blocks          uint64
	inodes          uint32
	firstData       uint64
	blocksPerGroup  uint32
	inodesPerGroup  uint32
	inodeSize       int
	firstInode      uint32
	descSize        int
	reservedGDT     uint64
	compat          uint32
	incompat        uint32
	ro              uint32
	groups          uint32
	seed            uint32
	uuid            []byte
	extraInodeBytes int
}

// parseSuper reads the 1024 bytes of a superblock and checks that its
// numbers fit together, so that nothing computed from them later overflows.
func parseSuper(sb []byte) (*layout, error) {
	if len(sb) < superSize || binary.LittleEndian.Uint16(sb[0x38:]) != magic {
		return nil, errors.New("no ext2/3/4 superblock")
	}
	le := binary.LittleEndian
	l := &layout{
		sb: sb, inodes: le.Uint32(sb),
		firstData: uint64(le.Uint32(sb[0x14:])), blocksPerGroup: le.Uint32(sb[0x20:]),
		inodesPerGroup: le.Uint32(sb[0x28:]), inodeSize: 128, firstInode: 11, descSize: 32,
		reservedGDT: uint64(le.Uint16(sb[0xce:])), compat: le.Uint32(sb[0x5c:]),
		incompat: le.Uint32(sb[0x60:]), ro: le.Uint32(sb[0x64:]), uuid: sb[0x68:0x78],
	}
	if le.Uint32(sb[0x4c:]) > 0 { // revision 1: variable inode size
		l.inodeSize, l.firstInode = int(le.Uint16(sb[0x58:])), le.Uint32(sb[0x54:])
	}
	l.blocks = l.wide(4, 0x150)
	if l.incompat&incompat64Bit != 0 {
		l.descSize = int(le.Uint16(sb[0xfe:]))
	}
	shift := le.Uint32(sb[0x18:])
	if shift > 6 {
		return nil, fmt.Errorf("block size 2^%d is out of range", uint64(shift)+10)
	}
	l.blockSize = 1024 << shift
	if err := l.check(); err != nil {
		return nil, err
	}
	l.groups = uint32((l.blocks - l.firstData + uint64(l.blocksPerGroup) - 1) / uint64(l.blocksPerGroup))
	l.seed = crc(^uint32(0), l.uuid)
	if l.incompat&incompatCsumSeed != 0 {
		l.seed = le.Uint32(sb[0x270:])
	}
	if l.inodeSize > 128 {
		l.extraInodeBytes = int(le.Uint16(sb[0x15e:])) // what new inodes want
	}
	if l.extraInodeBytes%4 != 0 || l.extraInodeBytes > l.inodeSize-128-4 {
		l.extraInodeBytes = 0
	}
	return l, nil
}

func (l *layout) check() error {
	bits := uint32(l.blockSize) * 8
	switch {
	case l.blocks <= l.firstData || l.blocks > 1<<48:
		return fmt.Errorf("%d blocks are out of range", l.blocks)
	case l.firstData > 1 || (l.blockSize == 1024) != (l.firstData == 1) && l.ro&roBigalloc == 0:
		return fmt.Errorf("first data block %d is out of range", l.firstData)
	case l.blocksPerGroup == 0 || l.blocksPerGroup > bits && l.ro&roBigalloc == 0:
		return fmt.Errorf("%d blocks per group are out of range", l.blocksPerGroup)
	case l.inodesPerGroup == 0 || l.inodesPerGroup > bits:
		return fmt.Errorf("%d inodes per group are out of range", l.inodesPerGroup)
	case l.inodeSize < 128 || l.inodeSize > l.blockSize || l.inodeSize&(l.inodeSize-1) != 0:
		return fmt.Errorf("inode size %d is out of range", l.inodeSize)
	case l.descSize < 32 || l.descSize > 1024 || l.descSize&(l.descSize-1) != 0:
		return fmt.Errorf("group descriptor size %d is out of range", l.descSize)
	case (l.blocks-l.firstData)/uint64(l.blocksPerGroup) > 1<<28:
		return errors.New("too many block groups")
	}
	return nil
}

// size is the file system's length in bytes.
func (l *layout) size() int64 { return int64(l.blocks) * int64(l.blockSize) }

// wide reads a number kept as two halves, hi only in file systems of 64 bits.
func (l *layout) wide(lo, hi int) uint64 { return wide(l.sb, lo, hi, l.incompat&incompat64Bit != 0) }

func (l *layout) freeBlocks() uint64 { return l.wide(0xc, 0x158) }

func (l *layout) reservedBlocks() uint64 { return l.wide(8, 0x154) }

func (l *layout) setFreeBlocks(n uint64) {
	binary.LittleEndian.PutUint32(l.sb[0xc:], uint32(n))
	if l.incompat&incompat64Bit != 0 {
		binary.LittleEndian.PutUint32(l.sb[0x158:], uint32(n>>32))
	}
}

func wide(b []byte, lo, hi int, both bool) uint64 {
	n := uint64(binary.LittleEndian.Uint32(b[lo:]))
	if both {
		n |= uint64(binary.LittleEndian.Uint32(b[hi:])) << 32
	}
	return n
}

func (l *layout) freeInodes() uint32 { return binary.LittleEndian.Uint32(l.sb[0x10:]) }

// sums reports whether group descriptors have checksums of any kind, so that their
// flags count.
func (l *layout) sums() bool { return l.ro&(roGdtCsum|roMetadataCsum) != 0 }

func (l *layout) csum() bool { return l.ro&roMetadataCsum != 0 }

func (l *layout) label() string { return volume.Text(l.sb[0x78:0x88]) }

// groupStart is the first block of group g.
func (l *layout) groupStart(g uint32) uint64 {
	return l.firstData + uint64(g)*uint64(l.blocksPerGroup)
}

// groupBlocks is the number of blocks in group g; the last may be short.
func (l *layout) groupBlocks(g uint32) uint32 {
	return uint32(min(uint64(l.blocksPerGroup), l.blocks-l.groupStart(g)))
}

// hasSuper reports whether group g begins with a copy of the superblock and
// the group descriptors.
func (l *layout) hasSuper(g uint32) bool {
	switch {
	case g == 0:
		return true
	case l.compat&compatSparseSuper2 != 0:
		le := binary.LittleEndian
		return g == le.Uint32(l.sb[0x24c:]) || g == le.Uint32(l.sb[0x250:])
	case l.ro&roSparseSuper == 0 || g == 1:
		return true
	}
	return isPower(g, 3) || isPower(g, 5) || isPower(g, 7)
}

func isPower(n, base uint32) bool {
	for n > 1 && n%base == 0 {
		n /= base
	}
	return n == 1
}

// descBlocks is the length of the group descriptor table in blocks.
func (l *layout) descBlocks() uint64 {
	perBlock := uint64(l.blockSize / l.descSize)
	return (uint64(l.groups) + perBlock - 1) / perBlock
}

// descAt is the byte offset of group g's descriptor: in the first table, or with
// meta_bg in the first block of the run of groups that it describes.
func (l *layout) descAt(g uint32) int64 {
	bs := int64(l.blockSize)
	per := uint32(l.blockSize / l.descSize)
	if first := binary.LittleEndian.Uint32(l.sb[0x104:]); l.incompat&incompatMetaBG == 0 || g/per < first {
		return (superAt/bs+1)*bs + int64(g)*int64(l.descSize)
	}
	lead := g / per * per
	at := int64(l.groupStart(lead))
	if l.hasSuper(lead) {
		at++
	}
	at = max(at, superAt/bs+1)
	return at*bs + int64(g-lead)*int64(l.descSize)
}

// sealSuper writes the checksum of the superblock into it.
func (l *layout) sealSuper() {
	if l.csum() {
		binary.LittleEndian.PutUint32(l.sb[0x3fc:], crc(^uint32(0), l.sb[:0x3fc]))
	}
}

// group is one group descriptor.
type group struct {
	l   *layout
	num uint32
	raw []byte
}

func (l *layout) readGroup(r io.ReaderAt, g uint32) (*group, error) {
	raw := make([]byte, l.descSize)
	if _, err := r.ReadAt(raw, l.descAt(g)); err != nil {
		return nil, fmt.Errorf("group descriptor %d: %w", g, err)
	}
	d := &group{l: l, num: g, raw: raw}
	itableBlocks := (uint64(l.inodesPerGroup)*uint64(l.inodeSize) + uint64(l.blockSize) - 1) / uint64(l.blockSize)
	for _, b := range []uint64{d.blockBitmap(), d.inodeBitmap(), d.inodeTable(), d.inodeTable() + itableBlocks - 1} {
		if b <= l.firstData || b >= l.blocks {
			return nil, fmt.Errorf("group descriptor %d: block %d is out of range", g, b)
		}
	}
	return d, nil
}

// wide reads a number kept as two halves, hi only in 64-byte descriptors.
func (d *group) wide(lo, hi int) uint64 { return wide(d.raw, lo, hi, len(d.raw) >= 64) }

// count and setCount do the same for counters of two 16-bit halves.
func (d *group) count(lo, hi int) uint32 {
	n := uint32(binary.LittleEndian.Uint16(d.raw[lo:]))
	if len(d.raw) >= 64 {
		n |= uint32(binary.LittleEndian.Uint16(d.raw[hi:])) << 16
	}
	return n
}

func (d *group) setCount(lo, hi int, n uint32) {
	binary.LittleEndian.PutUint16(d.raw[lo:], uint16(n))
	if len(d.raw) >= 64 {
		binary.LittleEndian.PutUint16(d.raw[hi:], uint16(n>>16))
	}
}

func (d *group) blockBitmap() uint64 { return d.wide(0, 0x20) }

func (d *group) inodeBitmap() uint64 { return d.wide(4, 0x24) }

func (d *group) inodeTable() uint64 { return d.wide(8, 0x28) }

func (d *group) flags() uint16 { return binary.LittleEndian.Uint16(d.raw[0x12:]) }

func (d *group) clearFlag(bit uint16) {
	binary.LittleEndian.PutUint16(d.raw[0x12:], d.flags()&^bit)
}

// useBlocks and useInodes move the counters of the group.
func (d *group) useBlocks(n uint32) { d.setCount(0xc, 0x2c, d.count(0xc, 0x2c)-n) }

func (d *group) useInodes(inodes, dirs, unused uint32) {
	d.setCount(0xe, 0x2e, d.count(0xe, 0x2e)-inodes)
	d.setCount(0x10, 0x30, d.count(0x10, 0x30)+dirs)
	if d.l.sums() {
		d.setCount(0x1c, 0x32, unused)
	}
}

// sumBitmap stores the checksum of the block (or inode) bitmap.
func (d *group) sumBitmap(bitmap []byte, inode bool) {
	if !d.l.csum() {
		return
	}
	lo, hi, n := 0x18, 0x38, d.l.blocksPerGroup/8
	if inode {
		lo, hi, n = 0x1a, 0x3a, d.l.inodesPerGroup/8
	}
	d.setCount(lo, hi, crc(d.l.seed, bitmap[:n]))
}

// seal writes the checksum of the descriptor itself.
func (d *group) seal() {
	le := binary.LittleEndian
	var num [4]byte
	le.PutUint32(num[:], d.num)
	switch {
	case d.l.csum():
		le.PutUint16(d.raw[0x1e:], 0)
		le.PutUint16(d.raw[0x1e:], uint16(crc(crc(d.l.seed, num[:]), d.raw)))
	case d.l.ro&roGdtCsum != 0:
		sum := crc16(crc16(crc16(0xffff, d.l.uuid), num[:]), d.raw[:0x1e])
		if len(d.raw) > 32 {
			sum = crc16(sum, d.raw[0x20:])
		}
		le.PutUint16(d.raw[0x1e:], sum)
	}
}

// castagnoli is the table of CRC-32C; never written to.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc continues a CRC-32C as ext4 counts it: without the inversion that
// usually begins and ends one.
func crc(crc uint32, b []byte) uint32 { return ^crc32.Update(^crc, castagnoli, b) }

// crc16 is the reflected CRC-16 (polynomial 0xA001) of older descriptors.
func crc16(crc uint16, b []byte) uint16 {
	for _, c := range b {
		crc ^= uint16(c)
		for range 8 {
			crc = crc>>1 ^ 0xa001*(crc&1)
		}
	}
	return crc
}
