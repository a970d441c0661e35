package btrfs

import (
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"sync"
)

var le = binary.LittleEndian

const (
	superAt   = 64 << 10
	magic     = "_BHRfS_M"
	blockSize = 4096
	nodeSize  = 16384
	header    = 101 // bytes, of a block of a tree
	itemSize  = 25  // of an item's head in a leaf
	leafRoom  = nodeSize - header
	inNode    = leafRoom / 33
	stripe    = 64 << 10

	generation = 8 // of everything that is written at once
)

// superCopies are where superblocks lie, as far as the device reaches.
func superCopies() []int64 { return []int64{superAt, 64 << 20, 256 << 30} }

// Trees by the numbers of their roots.
const (
	treeRoot   = 1
	treeExtent = 2
	treeChunk  = 3
	treeDevice = 4
	treeFiles  = 5
	rootDir    = 6
	treeSums   = 7
	treeUUID   = 9
	treeFree   = 10
	firstFree  = 256 // the first number of an object, and of a subvolume

	treeReloc = 1<<64 - 9
	sums      = 1<<64 - 10
)

// Types of keys.
const (
	typeInode       = 1
	typeInodeRef    = 12
	typeXattr       = 24
	typeDirItem     = 84
	typeDirIndex    = 96
	typeExtentData  = 108
	typeSums        = 128
	typeRoot        = 132
	typeRootBackref = 144
	typeRootRef     = 156
	typeExtent      = 168
	typeMetadata    = 169
	typeBlockRef    = 176
	typeDataRef     = 178
	typeBlockGroup  = 192
	typeFreeInfo    = 198
	typeFreeExtent  = 199
	typeDevExtent   = 204
	typeDevice      = 216
	typeChunk       = 228
	typeSubvolume   = 251
)

// What a chunk is for.
const (
	forData     = 1
	forSystem   = 2
	forMetadata = 4
	twice       = 1 << 5
)

// Features.
const (
	incompatible = 0x1 | 0x40 | 0x100 | 0x200 // mixed backreferences, extended references, skinny metadata, no holes
	compatibleRO = 0x1 | 0x2                  // a free space tree, which is valid
)

var castagnoli = sync.OnceValue(func() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) })

// seal puts the checksum of a block of a tree or a superblock at its beginning.
func seal(b []byte) {
	clear(b[:32])
	le.PutUint32(b, crc32.Checksum(b[32:], castagnoli()))
}

// hashName is the hash by which names are found.
func hashName(name string) uint64 { return uint64(^crc32.Update(1, castagnoli(), []byte(name))) }

// key names an item, and gives its order.
type key struct {
	object uint64
	kind   byte
	offset uint64
}

func (k key) compare(o key) int {
	return cmp.Or(cmp.Compare(k.object, o.object), cmp.Compare(k.kind, o.kind), cmp.Compare(k.offset, o.offset))
}

const keySize = 17

func (k key) append(b []byte) []byte {
	b = append(le.AppendUint64(b, k.object), k.kind)
	return le.AppendUint64(b, k.offset)
}

func parseKey(b []byte) key { return key{le.Uint64(b), b[8], le.Uint64(b[9:])} }

// words are numbers of 64 bits, as most items are made of.
func words(b []byte, list ...uint64) []byte {
	for _, n := range list {
		b = le.AppendUint64(b, n)
	}
	return b
}
