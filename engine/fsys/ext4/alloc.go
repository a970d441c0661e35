package ext4

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
)

// bitmap returns group d's block bitmap, made up when the group says that
// it was never written: then only the group's own metadata is in use.
func bitmap(r io.ReaderAt, d *group) ([]byte, error) {
	l := d.l
	bitmap := make([]byte, l.blockSize)
	if d.flags()&groupBlockUninit == 0 || !l.sums() {
		if _, err := r.ReadAt(bitmap, int64(d.blockBitmap())*int64(l.blockSize)); err != nil {
			return nil, fmt.Errorf("block bitmap of group %d: %w", d.num, err)
		}
		return bitmap, nil
	}
	start, n := l.groupStart(d.num), l.groupBlocks(d.num)
	mark := func(first, count uint64) {
		for b := max(first, start); b < min(first+count, start+uint64(n)); b++ {
			setBit(bitmap, uint32(b-start))
		}
	}
	if l.hasSuper(d.num) {
		mark(start, 1+l.descBlocks()+l.reservedGDT)
	}
	mark(d.blockBitmap(), 1)
	mark(d.inodeBitmap(), 1)
	mark(d.inodeTable(), uint64(l.inodesPerGroup)*uint64(l.inodeSize)/uint64(l.blockSize))
	for i := n; i < uint32(l.blockSize)*8; i++ {
		setBit(bitmap, i) // beyond the end
	}
	return bitmap, nil
}

func setBit(b []byte, i uint32) { b[i>>3] |= 1 << (i & 7) }

func testBit(b []byte, i uint32) bool { return b[i>>3]&(1<<(i&7)) != 0 }

// nextBit returns the first position in [i, n) whose bit is want, else n.
func nextBit(b []byte, i, n uint32, want bool) uint32 {
	flip := byte(0xff)
	if want {
		flip = 0
	}
	for i < n {
		if c := (b[i>>3] ^ flip) >> (i & 7); c != 0 {
			return min(i+uint32(bits.TrailingZeros8(c)), n)
		}
		i = i&^7 + 8
	}
	return n
}

// topBit returns one above the highest of n bits that is set, 0 when none is.
func topBit(b []byte, n uint32) uint32 {
	for n > 0 && !testBit(b, n-1) {
		n--
	}
	return n
}

// allocator hands out free blocks in ascending order, group after group, and
// keeps one bitmap in memory.
type allocator struct {
	l      *layout
	f      io.ReaderAt
	groups []*group
	bitmap []byte
	g      uint32 // the group of bitmap
	at     uint32 // the next position in it to try
	used   uint32 // allocated in the group
	total  uint64
	put    func(b []byte, block uint64) error
}

// next allocates up to want (at least 1) consecutive blocks.
func (a *allocator) next(want uint32) (uint64, uint32, error) {
	for {
		if a.bitmap == nil {
			if err := a.enter(); err != nil {
				return 0, 0, err
			}
		}
		n := a.l.groupBlocks(a.g)
		first := nextBit(a.bitmap, a.at, n, false)
		if first == n {
			if err := a.leave(); err != nil {
				return 0, 0, err
			}
			continue
		}
		end := nextBit(a.bitmap, first, min(n, first+want), true)
		for i := first; i < end; i++ {
			setBit(a.bitmap, i)
		}
		a.at, a.used, a.total = end, a.used+end-first, a.total+uint64(end-first)
		return a.l.groupStart(a.g) + uint64(first), end - first, nil
	}
}

// errFull is out of blocks.
var errFull = errors.New("no block is free")

func (a *allocator) enter() error {
	if a.g >= uint32(len(a.groups)) {
		return errFull
	}
	bitmap, err := bitmap(a.f, a.groups[a.g])
	a.bitmap, a.at, a.used = bitmap, 0, 0
	return err
}

// leave writes the bitmap that is in memory, if anything was allocated in its
// group, and moves on.
func (a *allocator) leave() error {
	if a.bitmap == nil {
		return nil
	}
	d := a.groups[a.g]
	if a.used > 0 {
		d.clearFlag(groupBlockUninit)
		d.useBlocks(a.used)
		d.sumBitmap(a.bitmap, false)
		if err := a.put(a.bitmap, d.blockBitmap()); err != nil {
			return err
		}
	}
	a.bitmap = nil
	a.g++
	return nil
}
