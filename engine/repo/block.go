package repo

import (
	"github.com/zeebo/blake3"

	"b9.build/b9/engine/internal/digest"
)

const (
	// blockSize is the unit that is compared, named and stored once. File
	// systems place data at multiples of 4 KiB, so aligned blocks find the data
	// that content-defined chunks find, and bound changes more closely.
	// The figures are in docs/repositories.md.
	blockSize = 4 << 10
	// leafSize is the unit of a file's digest.
	leafSize = digest.BlockSize
	// segmentSize is what a goroutine reads and hashes at a time.
	segmentSize = 1 << 20
)

// blockID names a block's content: the first 128 bits of its BLAKE3 hash. It
// guards the block on its way; the image is named by its Digest.
type blockID [16]byte

// idOf hashes one block.
func idOf(block []byte) (id blockID) {
	sum := blake3.Sum256(block)
	copy(id[:], sum[:])
	return id
}

// blocksIn returns how many blocks size bytes take.
func blocksIn(size int64) int64 { return (size + blockSize - 1) / blockSize }

// Digest names the content of a file as b9's store does.
type Digest = digest.Digest

// ParseDigest is the inverse of [Digest.String]; it accepts no other spelling.
func ParseDigest(s string) (Digest, error) { return digest.Parse(s) }
