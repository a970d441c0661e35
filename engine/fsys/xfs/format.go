package xfs

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
	"sync"
)

var be = binary.BigEndian

// What this package writes: blocks of 4096 bytes, inodes of 512, chunks of 64 inodes.
const (
	blockSize  = 4096
	inodeSize  = 512
	chunkCount = 64
	chunkBlock = chunkCount * inodeSize / blockSize
	coreSize   = 176 // of an inode, before its forks
	literal    = inodeSize - coreSize
	sector     = 512
)

// Features by the superblock's bits.
const (
	roFinobt   = 1
	roRmapbt   = 2
	roReflink  = 4
	roInobtCnt = 8

	incompatFtype   = 1
	incompatSpinode = 2
	incompatMetaID  = 4
	incompatBigtime = 8
	incompatNrext64 = 32
)

// Formats of a fork.
const (
	formatDev     = 0
	formatLocal   = 1
	formatExtents = 2
	formatBtree   = 3
)

// Magic numbers, four bytes where they are words.
const (
	magicBno   = 0x41423342 // AB3B
	magicCnt   = 0x41423343 // AB3C
	magicIno   = 0x49414233 // IAB3
	magicFino  = 0x46494233 // FIB3
	magicBmap  = 0x424d4133 // BMA3
	magicBlock = 0x58444233 // XDB3: a directory of one block
	magicData  = 0x58444433 // XDD3
	magicFree  = 0x58444633 // XDF3
	magicLeaf1 = 0x3df1
	magicLeafN = 0x3dff
	magicNode  = 0x3ebe
	magicAttr  = 0x3bee
	magicLink  = 0x58534c4d // XSLM
	magicValue = 0x5841524d // XARM
)

var castagnoli = sync.OnceValue(func() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) })

// seal puts the checksum of b, little endian as nothing else, at byte at.
func seal(b []byte, at int) {
	clear(b[at : at+4])
	binary.LittleEndian.PutUint32(b[at:], crc32.Checksum(b, castagnoli()))
}

// hashName is the hash by which directories and attributes find a name.
func hashName(name []byte) uint32 {
	var h uint32
	for ; len(name) >= 4; name = name[4:] {
		h = uint32(name[0])<<21 ^ uint32(name[1])<<14 ^ uint32(name[2])<<7 ^ uint32(name[3]) ^ bits.RotateLeft32(h, 28)
	}
	switch len(name) {
	case 3:
		return uint32(name[0])<<14 ^ uint32(name[1])<<7 ^ uint32(name[2]) ^ bits.RotateLeft32(h, 21)
	case 2:
		return uint32(name[0])<<7 ^ uint32(name[1]) ^ bits.RotateLeft32(h, 14)
	case 1:
		return uint32(name[0]) ^ bits.RotateLeft32(h, 7)
	}
	return h
}

// geometry is what a superblock says that places depend on.
type geometry struct {
	blockSize, inodeSize        int64
	blocks                      uint64
	agBlocks, agCount           uint32
	blockLog, agLog, inodePerLg uint8 // logarithms to the base 2
	dirLog                      uint8 // blocks of a directory's block
	ro, incompat                uint32
	version                     uint16
	root                        uint64
	uuid                        [16]byte // what metadata is marked with
}

func parseSuper(b []byte) (geometry, error) {
	g := geometry{
		blockSize: int64(be.Uint32(b[4:])), blocks: be.Uint64(b[8:]), root: be.Uint64(b[56:]),
		agBlocks: be.Uint32(b[84:]), agCount: be.Uint32(b[88:]), version: be.Uint16(b[100:]), inodeSize: int64(be.Uint16(b[104:])),
		blockLog: b[120], inodePerLg: b[123], agLog: b[124], dirLog: b[192], ro: be.Uint32(b[212:]), incompat: be.Uint32(b[216:]),
	}
	copy(g.uuid[:], b[32:48])
	if g.incompat&incompatMetaID != 0 {
		copy(g.uuid[:], b[248:264])
	}
	log := func(n int64) int { return bits.TrailingZeros64(uint64(n)) }
	switch {
	case string(b[:4]) != "XFSB":
		return g, fmt.Errorf("it has no superblock of an xfs")
	case g.blockSize < 512 || g.blockSize > 65536 || log(g.blockSize) != int(g.blockLog) || bits.OnesCount64(uint64(g.blockSize)) != 1,
		g.inodeSize < 256 || g.inodeSize > 2048 || g.inodeSize > g.blockSize || log(g.blockSize/max(g.inodeSize, 1)) != int(g.inodePerLg),
		g.agLog > 31 || g.agBlocks == 0 || uint64(g.agBlocks) > 1<<g.agLog, g.agCount == 0, g.dirLog > 4 || g.blockSize<<g.dirLog > 65536,
		g.blocks > uint64(g.agCount)*uint64(g.agBlocks), g.blocks <= uint64(g.agCount-1)*uint64(g.agBlocks):
		return g, fmt.Errorf("its superblock is damaged")
	}
	return g, nil
}

// byteOf is where block fsb of the file system lies, whose upper bits name a group.
func (g *geometry) byteOf(fsb uint64) int64 {
	ag, block := fsb>>g.agLog, fsb&(1<<g.agLog-1)
	return int64(ag*uint64(g.agBlocks)+block) << g.blockLog
}

// number is the inode's in a group.
func (g *geometry) number(ag, block, index uint32) uint64 {
	return (uint64(ag)<<g.agLog|uint64(block))<<g.inodePerLg | uint64(index)
}

// groupBlocks is how many blocks a group has: the last one may be shorter.
func (g *geometry) groupBlocks(ag uint32) uint32 {
	return uint32(min(uint64(g.agBlocks), g.blocks-uint64(ag)*uint64(g.agBlocks)))
}

// groupByte is where a group begins.
func (g *geometry) groupByte(ag uint32) int64 { return int64(ag) * int64(g.agBlocks) * g.blockSize }
