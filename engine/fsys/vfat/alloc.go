package vfat

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/internal/sparse"
)

func (e *Editor) clusterSize() int64 { return int64(e.g.perCluster * e.g.sectorSize) }

// tableAt is the byte offset of the n-th copy of the allocation table.
func (e *Editor) tableAt(n uint64) int64 {
	return int64((e.g.reserved + n*e.g.fatSectors) * e.g.sectorSize)
}

// entry is what the table says of a cluster: 0 for free, the next of its chain, or
// at least last()-7 for the end.
func (e *Editor) entry(c uint32) uint32 {
	le := binary.LittleEndian
	switch at := uint64(c) * uint64(e.g.bits) / 8; e.g.bits {
	case 12:
		return uint32(le.Uint16(e.table[at:])) >> (c % 2 * 4) & 0xfff
	case 16:
		return uint32(le.Uint16(e.table[at:]))
	default:
		return le.Uint32(e.table[at:]) & 0x0fff_ffff
	}
}

func (e *Editor) setEntry(c, value uint32) {
	le, at := binary.LittleEndian, uint64(c)*uint64(e.g.bits)/8
	b, n := e.table[at:], uint64(2)
	switch e.g.bits {
	case 12:
		shift := c % 2 * 4
		le.PutUint16(b, le.Uint16(b)&^(0xfff<<shift)|uint16(value)<<shift)
	case 16:
		le.PutUint16(b, uint16(value))
	default:
		n = 4
		le.PutUint32(b, le.Uint32(b)&0xf000_0000|value) // the upper bits are not ours
	}
	e.changed[at/e.g.sectorSize], e.changed[(at+n-1)/e.g.sectorSize] = true, true
}

// chain lists the clusters of an object.
func (e *Editor) chain(o *Object) ([]uint32, error) {
	if o.chained {
		return o.clusters, nil
	}
	var list []uint32
	for c := o.first(); c != 0; {
		if c < 2 || uint64(c)-2 >= e.g.clusters {
			return nil, volume.Damaged("cluster %d is none of the %d", c, e.g.clusters)
		}
		if uint64(len(list)) == e.g.clusters {
			return nil, volume.Damaged("a chain of clusters has no end")
		}
		list = append(list, c)
		if c = e.entry(c); c >= e.g.last()&^7 {
			break
		}
	}
	o.clusters, o.chained = list, true
	return list, nil
}

// grow makes the chain of o n clusters long, with zeros, or leaves it as it was.
func (e *Editor) grow(o *Object, n int) error {
	old, err := e.chain(o)
	if err != nil {
		return err
	}
	if n <= len(old) {
		return nil
	}
	if uint64(n-len(old)) > e.free {
		return unix.ENOSPC
	}
	for len(o.clusters) < n {
		c := e.take()
		if err := e.zero(e.g.clusterAt(c), e.clusterSize()); err != nil {
			return err
		}
		if k := len(o.clusters); k > 0 {
			e.setEntry(o.clusters[k-1], c)
		} else {
			o.setFirst(c)
		}
		o.clusters = append(o.clusters, c)
	}
	return e.store(o)
}

// take allocates the first free cluster; there is one.
func (e *Editor) take() uint32 {
	for e.entry(e.low) != 0 {
		e.low++
	}
	e.setEntry(e.low, e.g.last())
	e.free--
	return e.low
}

// cut frees what the chain of o has behind n clusters.
func (e *Editor) cut(o *Object, n int) error {
	list, err := e.chain(o)
	if err != nil || n >= len(list) {
		return err
	}
	for _, c := range list[n:] {
		e.setEntry(c, 0)
		e.low = min(e.low, c)
		e.free++
	}
	o.clusters = list[:n]
	if n > 0 {
		e.setEntry(list[n-1], e.g.last())
	} else {
		o.setFirst(0)
	}
	return e.store(o)
}

// zero clears n bytes of the image. What is zeros already is not written to.
func (e *Editor) zero(at, n int64) error {
	buf := make([]byte, min(n, 64<<10))
	for n > 0 {
		b := buf[:min(n, int64(len(buf)))]
		if _, err := e.image.ReadAt(b, at); err != nil {
			return err
		}
		if !sparse.IsZero(b) {
			clear(b)
			if _, err := e.image.WriteAt(b, at); err != nil {
				return err
			}
		}
		at, n = at+int64(len(b)), n-int64(len(b))
	}
	return nil
}

// Close completes the file system in the image.
func (e *Editor) Close() error {
	for o := range e.orphans {
		if err := e.cut(o, 0); err != nil {
			return err
		}
	}
	clear(e.orphans)
	size, touched := e.g.sectorSize, false
	for i, changed := range e.changed {
		if !changed {
			continue
		}
		touched = true
		sector := e.table[uint64(i)*size:][:size]
		for n := range e.g.fats {
			if _, err := e.image.WriteAt(sector, e.tableAt(n)+int64(uint64(i)*size)); err != nil {
				return err
			}
		}
		e.changed[i] = false
	}
	if !touched || e.g.bits != 32 {
		return nil
	}
	return e.writeInfo()
}

// writeInfo brings the FSInfo sector and its copy up to date, where they are
// (Microsoft's FAT specification 1.03, section 5).
func (e *Editor) writeInfo() error {
	le, boot := binary.LittleEndian, make([]byte, bootSize)
	if _, err := e.image.ReadAt(boot, 0); err != nil {
		return err
	}
	for e.low < uint32(e.g.clusters)+2 && e.entry(e.low) != 0 {
		e.low++
	}
	info := uint64(le.Uint16(boot[48:]))
	for _, sector := range []uint64{info, info + uint64(le.Uint16(boot[50:]))} {
		b, at := make([]byte, bootSize), int64(sector*e.g.sectorSize)
		if sector == 0 || sector >= e.g.reserved {
			continue
		}
		if _, err := e.image.ReadAt(b, at); err != nil {
			return err
		}
		if string(b[:4]) != "RRaA" || string(b[484:488]) != "rrAa" {
			continue
		}
		le.PutUint32(b[488:], uint32(e.free))
		le.PutUint32(b[492:], e.low)
		if _, err := e.image.WriteAt(b, at); err != nil {
			return err
		}
	}
	return nil
}
