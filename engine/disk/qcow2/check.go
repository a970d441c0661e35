package qcow2

import (
	"context"
	"encoding/binary"
	"fmt"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/mapped"
)

// maxCounted bounds the clusters whose reference counts are checked: those of a
// file of 4 TiB with clusters of 64 KiB, for 128 MiB of memory.
const maxCounted = 1 << 26

// refCheck counts the uses of each cluster of a qcow2 file.
type refCheck struct {
	*index
	r    *image.Report
	uses []uint16
	once []uint8 // of each cluster that tables refer to: what they say of its count
}

// What an entry of a table says of the cluster that it names.
const (
	saysOnce = 1 << iota // it has the flag COPIED: the count is 1, and it may be written in place
	saysMore             // it has not
)

// checkRefcounts compares the counts in the file with the tables. A dirty image,
// whose counts are allowed to be too low, is only checked for leaks.
func (x *index) checkRefcounts(ctx context.Context, r *image.Report) error {
	n := (x.end + x.cluster() - 1) / x.cluster()
	if n > maxCounted {
		return fmt.Errorf("the file has %d clusters, more than the %d whose reference counts can be checked", n, maxCounted)
	}
	c := &refCheck{index: x, r: r, uses: make([]uint16, n), once: make([]uint8, n)}
	if x.Snapshots > 0 {
		return fmt.Errorf("the image has %d internal snapshots: their reference counts can't be checked", x.Snapshots)
	}
	c.use(0, x.cluster())
	c.use(int64(x.L1At), int64(x.L1Size)*8)
	if err := c.useTables(ctx); err != nil {
		return err
	}
	table, size := int64(x.CountsAt), int64(x.CountsClusters)*x.cluster()
	if table > x.end-size {
		r.Corrupt("the table of reference counts, offset %d, %d bytes, does not lie in the file", table, size)
		return nil
	}
	c.use(table, size)
	return c.compare(ctx, table, size)
}

// use counts a use of all clusters from off on for length bytes.
func (c *refCheck) use(off, length int64) {
	for i := off / c.cluster(); i <= (off+length-1)/c.cluster() && i < int64(len(c.uses)); i++ {
		if c.uses[i] < 1<<16-1 {
			c.uses[i]++
		}
	}
}

// useTables counts the L2 tables and the clusters they name.
func (c *refCheck) useTables(ctx context.Context) error {
	step := c.entrySize()
	for i, e := range c.l1 {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := int64(e & offset)
		if at == 0 {
			continue
		}
		table, err := c.l2.At(at)
		if err != nil || at%c.cluster() != 0 {
			continue // reported by whoever follows the tables
		}
		c.use(at, c.cluster())
		c.says(at, e)
		for j := int64(0); j < c.perTable(); j++ {
			entry := binary.BigEndian.Uint64(table[j*step:])
			if entry&packed != 0 {
				if entry&copied != 0 {
					c.r.Corrupt("L1 entry %d, L2 entry %d: a compressed cluster has the flag COPIED", i, j)
				}
				if s, err := c.packedEntry(entry); err == nil {
					c.use(s.At, int64(s.Size))
				}
			} else if at := int64(entry & offset); at != 0 && at%c.cluster() == 0 && at < c.end {
				c.use(at, c.cluster())
				c.says(at, entry)
			} else if at != 0 {
				c.r.Corrupt("L1 entry %d, L2 entry %d: cluster at offset %d of a file of %d bytes", i, j, at, c.end)
			}
		}
	}
	return nil
}

// says notes what a table's entry says of the count of the cluster at an offset.
func (c *refCheck) says(at int64, entry uint64) {
	if i := at / c.cluster(); i < int64(len(c.once)) {
		if entry&copied != 0 {
			c.once[i] |= saysOnce
		} else {
			c.once[i] |= saysMore
		}
	}
}

// compare reads the blocks of counts that the table names.
func (c *refCheck) compare(ctx context.Context, table, size int64) error {
	blocks := make([]uint64, size/8)
	if err := mapped.Read(c.file, table, binary.BigEndian, blocks); err != nil {
		return err
	}
	for i := range blocks {
		blocks[i] &^= 511
		at := int64(blocks[i])
		if at != 0 && (at%c.cluster() != 0 || at < 0 || at > c.end-c.cluster()) {
			c.r.Corrupt("block %d of reference counts at offset %d of a file of %d bytes", i, at, c.end)
		} else if at != 0 {
			c.use(at, c.cluster())
		}
	}
	per := c.cluster() * 8 >> c.CountOrder
	buf := make([]byte, c.cluster())
	for first := int64(0); first < int64(len(c.uses)); first += per {
		if err := ctx.Err(); err != nil {
			return err
		}
		clear(buf)
		if i := first / per; i < int64(len(blocks)) {
			at := int64(blocks[i])
			if at > 0 && at <= c.end-c.cluster() {
				if _, err := c.file.ReadAt(buf, at); err != nil {
					return err
				}
			}
		}
		c.compareBlock(buf, first, per)
	}
	return nil
}

// compareBlock compares the counts of the clusters from first on.
func (c *refCheck) compareBlock(buf []byte, first, per int64) {
	for i := int64(0); i < per && first+i < int64(len(c.uses)); i++ {
		got, want := refcount(buf, i, c.CountOrder), uint64(c.uses[first+i])
		switch {
		case got > want:
			c.r.Leak("cluster %d is counted %d times and used %d times: leaked", first+i, got, want)
		case got < want && c.Incompatible&dirty == 0:
			c.r.Corrupt("cluster %d is counted %d times and used %d times", first+i, got, want)
		}
		switch says := c.once[first+i]; {
		case says&saysOnce != 0 && got > 1:
			c.r.Corrupt("cluster %d is counted %d times, and a table says that it is used once (COPIED): a write to it would go to all", first+i, got)
		case says&saysMore != 0 && got == 1:
			c.r.Corrupt("cluster %d is counted once, and a table says that it is used more often (no COPIED)", first+i)
		}
	}
}

// refcount returns count i of a block of counts of 2^order bits.
func refcount(b []byte, i int64, order uint32) uint64 {
	switch order {
	case 3:
		return uint64(b[i])
	case 4:
		return uint64(binary.BigEndian.Uint16(b[i*2:]))
	case 5:
		return uint64(binary.BigEndian.Uint32(b[i*4:]))
	case 6:
		return binary.BigEndian.Uint64(b[i*8:])
	}
	width := int64(1) << order // the lowest bits come first
	return uint64(b[i*width/8]>>(i*width%8)) & (1<<width - 1)
}
