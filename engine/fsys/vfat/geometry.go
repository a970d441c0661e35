package vfat

import (
	"encoding/binary"
	"errors"
	"fmt"

	"b9.build/b9/engine/size"
)

// geometry is what a BIOS parameter block says.
type geometry struct {
	bits        int // 12, 16 or 32
	sectorSize  uint64
	perCluster  uint64
	reserved    uint64
	fats        uint64
	fatSectors  uint64
	rootEntries uint64
	rootCluster uint64
	sectors     uint64
	clusters    uint64
}

func parseBPB(b []byte) (geometry, bool) {
	le := binary.LittleEndian
	g := geometry{sectorSize: uint64(le.Uint16(b[11:])), perCluster: uint64(b[13]), reserved: uint64(le.Uint16(b[14:])),
		fats: uint64(b[16]), rootEntries: uint64(le.Uint16(b[17:])), sectors: uint64(le.Uint16(b[19:])),
		fatSectors: uint64(le.Uint16(b[22:]))}
	if g.sectors == 0 {
		g.sectors = uint64(le.Uint32(b[32:]))
	}
	wide := g.fatSectors == 0
	if wide {
		g.fatSectors, g.rootCluster = uint64(le.Uint32(b[36:])), uint64(le.Uint32(b[44:]))
	}
	power := func(n, lo, hi uint64) bool { return n >= lo && n <= hi && n&(n-1) == 0 }
	if b[0] != 0xeb && b[0] != 0xe9 || b[510] != 0x55 || b[511] != 0xaa || !power(g.sectorSize, 512, 4096) ||
		!power(g.perCluster, 1, 128) || g.reserved == 0 || g.fats == 0 || g.fats > 2 || b[21] < 0xf0 || g.fatSectors == 0 {
		return g, false
	}
	head := g.reserved + g.fats*g.fatSectors + g.rootSectors()
	if g.sectors <= head || wide != (g.rootEntries == 0) {
		return g, false
	}
	g.clusters = (g.sectors - head) / g.perCluster
	switch {
	case wide:
		g.bits = 32
	case g.clusters < 4085:
		g.bits = 12
	default:
		g.bits = 16
	}
	return g, g.clusters > 0
}

// rootAt is the byte offset behind the tables, where FAT12 and FAT16 have the root.
func (g *geometry) rootAt() int64 {
	return int64((g.reserved + g.fats*g.fatSectors) * g.sectorSize)
}

// clusterAt is the byte offset of a cluster.
func (g *geometry) clusterAt(c uint32) int64 {
	return g.rootAt() + int64((g.rootSectors()+uint64(c-2)*g.perCluster)*g.sectorSize)
}

func (g *geometry) rootSectors() uint64 {
	return (g.rootEntries*32 + g.sectorSize - 1) / g.sectorSize
}

// last is the table's entry for the end of a chain: all bits that count.
func (g *geometry) last() uint32 { return 1<<min(g.bits, 28) - 1 }

// demand is the number of clusters that the content needs.
func (w *writer) demand(perCluster uint64, bits int) uint64 {
	size := perCluster * w.o.sector()
	var n uint64
	if w.o.Size == 0 {
		n = (uint64(w.o.Free) + size - 1) / size
	}
	for i, d := range w.dirs {
		if i > 0 || bits == 32 {
			n += max(1, (uint64(d.slots)*32+size-1)/size)
		}
	}
	for _, f := range w.files {
		n += (uint64(f.Size) + size - 1) / size
	}
	return n
}

// geometry for the size asked for, or for the smallest that holds everything.
func (w *writer) geometry() (geometry, error) {
	if w.o.Size > 0 {
		return w.fixedGeometry(uint64(w.o.Size) / w.o.sector() / track * track)
	}
	var best geometry
	for _, bits := range []int{12, 16, 32} {
		if w.o.Bits != 0 && w.o.Bits != bits {
			continue
		}
		for per := uint64(1); per*w.o.sector() <= maxCluster; per *= 2 {
			g := w.blank(bits, per)
			low, high := clusterRange(bits)
			need := max(w.demand(per, bits), low)
			if need > high {
				continue
			}
			g.setSectors((g.head(need) + need*per + track - 1) / track * track)
			for g.clusters < need {
				g.setSectors(g.sectors + track)
			}
			if g.clusters <= high && (best.sectors == 0 || g.sectors < best.sectors) {
				best = g
			}
		}
	}
	if best.sectors == 0 {
		return best, errors.New("the files are too large for one vfat file system")
	}
	return best, nil
}

// fixedGeometry finds a cluster size for a number of sectors: small at first,
// as large as the width of the table needs.
func (w *writer) fixedGeometry(sectors uint64) (geometry, error) {
	bits, per, sector := w.o.Bits, uint64(1), w.o.sector()
	switch size := sectors * sector; {
	case bits == 0 && sectors < 8192: // 4 MiB
		bits = 12
	case bits == 0 && size < 512<<20:
		bits = 16
	case bits == 0:
		bits = 32
	}
	if bits == 32 && sectors*sector >= 512<<20 {
		per = max(1, 4096/sector)
	}
	low, high := clusterRange(bits)
	if bits == 16 {
		for per = max(1, 2048/sector); per > 1 && sectors/per < low+low/8; per /= 2 {
		}
	}
	for ; per*sector <= maxCluster; per *= 2 {
		g := w.blank(bits, per)
		g.setSectors(sectors)
		if g.clusters > high {
			continue
		}
		if need := w.demand(per, bits); need > g.clusters {
			return g, fmt.Errorf("the files need %d clusters of %d bytes, %s have %d", need, per*sector, size.About(int64(sectors*sector)), g.clusters)
		}
		if g.clusters < low {
			break
		}
		return g, nil
	}
	return geometry{}, fmt.Errorf("%s cannot be divided into clusters for a table of %d bits", size.About(int64(sectors*sector)), bits)
}

// clusterRange is what each width may hold: the count decides the width.
func clusterRange(bits int) (low, high uint64) {
	switch bits {
	case 12:
		return 1, 4084
	case 16:
		return 4085, 65524
	}
	return 65525, 1<<28 - 16
}

// blank is a geometry without a size.
func (w *writer) blank(bits int, perCluster uint64) geometry {
	g := geometry{bits: bits, sectorSize: w.o.sector(), perCluster: perCluster, fats: 2, reserved: reserved}
	if bits == 32 {
		g.reserved, g.rootCluster = fat32Head, 2
		return g
	}
	per := w.o.sector() / 32 // entries of a sector
	g.rootEntries = (max(uint64(w.dirs[0].slots), per) + per - 1) / per * per
	if w.o.Size > 0 || w.o.Free > 0 {
		g.rootEntries = max(g.rootEntries, 512)
	}
	return g
}

// fatSectorsFor is the length of one table for n clusters.
func (g *geometry) fatSectorsFor(n uint64) uint64 {
	return ((n+2)*uint64(g.bits) + 8*g.sectorSize - 1) / (8 * g.sectorSize)
}

// head is what precedes the first of n clusters, in sectors.
func (g *geometry) head(n uint64) uint64 {
	return g.reserved + g.fats*g.fatSectorsFor(n) + g.rootSectors()
}

// setSectors divides n sectors into tables and clusters. The number of clusters
// is what a reader of the boot sector computes: all that fit behind the tables.
func (g *geometry) setSectors(n uint64) {
	g.sectors, g.clusters = n, 0
	fixed := g.reserved + g.rootSectors()
	if n <= fixed {
		return
	}
	// A table without its own space taken off is too long; this is at most a
	// few sectors too short.
	entries := (n - fixed) * 8 * g.sectorSize / (g.perCluster*8*g.sectorSize + g.fats*uint64(g.bits))
	for g.fatSectors = max(1, g.fatSectorsFor(entries)) - 1; ; g.fatSectors++ {
		head := fixed + g.fats*g.fatSectors
		if head >= n {
			g.clusters = 0
			return
		}
		g.clusters = (n - head) / g.perCluster
		if g.fatSectorsFor(g.clusters) <= g.fatSectors {
			return
		}
	}
}
