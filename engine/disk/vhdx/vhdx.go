// Package vhdx reads and writes Hyper-V's disk images, as [MS-VHDX] describes
// version 1.
//
// It hides headers and regions (section 2.2), metadata (2.6) and the block table
// (2.5). It replays no log (2.3): an image that needs it is refused, and so are
// differencing disks. vhdx.go has [Format] and reading, write.go lays out a file.
package vhdx

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/guid"
	"b9.build/b9/engine/disk/internal/mapped"
	"b9.build/b9/engine/internal/sparse"
)

// Format is Hyper-V's format, as [MS-VHDX] describes version 1. All numbers are
// little endian. An image whose log holds writes that are not yet where they
// belong is refused: its owner crashed, and has to replay the log itself.
type Format struct{}

// Name implements image.Format.
func (Format) Name() string { return "vhdx" }

// Extensions implements image.Format.
func (Format) Extensions() []string { return []string{"vhdx"} }

// Probe implements image.Format.
func (Format) Probe(head []byte) bool { return bytes.HasPrefix(head, []byte(magic)) }

const (
	magic = "vhdxfile"

	// Offsets of the parts that have a fixed place (section 2.2).
	header1    = 64 << 10
	header2    = 128 << 10
	regions1   = 192 << 10
	regions2   = 256 << 10
	headerSize = 4 << 10
	regionSize = 64 << 10

	maxSize = 64 << 40

	// States of a block (section 2.5.1.1).
	absent    = 0
	undefined = 1
	zero      = 2
	unmapped  = 3
	present   = 6
	partly    = 7
)

// GUIDs of the regions and of metadata items (sections 2.2.3 and 2.6.2).
const (
	guidBlocks   = "2dc27766-f623-4200-9d64-115e9bfd4a08"
	guidMetadata = "8b7ca206-4790-4b9a-b8fe-575f050f886e"
	guidFile     = "caa16737-fa36-4d43-b3b6-33f0aa44e76b"
	guidSize     = "2fa54224-cd1b-4876-b211-5dbed83bf4b8"
	guidSector   = "8141bf1d-a96f-4709-ba47-f233a8faab5f"
	guidPhysical = "cda348c7-445d-4471-9cc9-e9885251c556"
	guidDisk     = "beca12ab-b2e6-4523-93ef-c309e000c746"
	guidParent   = "a8d35f2d-b30b-454d-abf7-d3d84834ab0c"
)

// region is an entry of the table of regions (section 2.2.3.2).
type region struct {
	ID               [16]byte
	At               uint64
	Length, Required uint32
}

// item is an entry of the table of metadata (section 2.6.1.2).
type item struct {
	ID                   [16]byte
	At, Length, Flags, _ uint32
}

// Flags of an item.
const virtual, required = 2, 4

// checksum is the CRC-32C of b with the checksum at offset 4 taken as zero.
func checksum(b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, b[:4])
	sum = crc32.Update(sum, table, make([]byte, 4))
	return crc32.Update(sum, table, b[8:])
}

// copies reads size bytes at each of two places, and returns those, one or two,
// that have the signature and a right checksum.
func copies(f io.ReaderAt, places [2]int64, size int, signature string) ([][]byte, error) {
	var good [][]byte
	for _, at := range places {
		b := make([]byte, size)
		if _, err := f.ReadAt(b, at); err != nil && err != io.EOF {
			return nil, err
		}
		if string(b[:4]) == signature && checksum(b) == binary.LittleEndian.Uint32(b[4:]) {
			good = append(good, b)
		}
	}
	if len(good) == 0 {
		return nil, fmt.Errorf("corrupt vhdx: neither copy of the part %q is good", signature)
	}
	return good, nil
}

// info is what the metadata tell.
type info struct {
	block, sector, size int64
	child               bool
}

// Open reads fixed and dynamic images. Differencing images are refused.
func (Format) Open(src image.Image, _ string, _ image.OpenOptions) (image.Image, error) {
	word := make([]byte, len(magic))
	if err := mapped.ReadHeader(src, binary.LittleEndian, word); err != nil {
		return nil, err
	}
	if string(word) != magic {
		return nil, errors.New("not a vhdx: it does not begin with the signature vhdxfile")
	}
	le := binary.LittleEndian
	heads, err := copies(src, [2]int64{header1, header2}, headerSize, "head")
	if err != nil {
		return nil, err
	}
	head := slices.MaxFunc(heads, func(a, b []byte) int { return cmp.Compare(le.Uint64(a[8:]), le.Uint64(b[8:])) }) // the newer one
	if version := le.Uint16(head[66:]); version != 1 {
		return nil, fmt.Errorf("vhdx version %d is not supported (have 1)", version)
	}
	if !sparse.IsZero(head[48:64]) {
		return nil, errors.New("vhdx was not closed: its log holds writes that must be replayed first: attach it once in Hyper-V, or run qemu-img check -r all")
	}
	regions, err := regions(src)
	if err != nil {
		return nil, err
	}
	info, err := metadata(src, regions[guidMetadata])
	if err != nil {
		return nil, err
	}
	return openBlocks(src, regions[guidBlocks], regions[guidMetadata], info)
}

// regions reads the places of the block table and of the metadata.
func regions(src image.Image) (map[string]image.Extent, error) {
	tables, err := copies(src, [2]int64{regions1, regions2}, regionSize, "regi")
	if err != nil {
		return nil, err
	}
	b := tables[0]
	le := binary.LittleEndian
	n, end := le.Uint32(b[8:]), src.Size()
	if n > 2047 {
		return nil, fmt.Errorf("corrupt vhdx: %d regions", n)
	}
	entries := make([]region, n)
	if _, err := binary.Decode(b[16:], le, entries); err != nil {
		return nil, err
	}
	found := map[string]image.Extent{}
	for _, e := range entries {
		id, length := guid.String(e.ID[:]), int64(e.Length)
		switch {
		case id != guidBlocks && id != guidMetadata:
			if e.Required&1 != 0 {
				return nil, fmt.Errorf("vhdx needs an unknown region %s", id)
			}
			continue
		case e.At < 1<<20 || e.At > uint64(end) || int64(e.At) > end-length:
			return nil, fmt.Errorf("corrupt vhdx: region %s at offset %d, %d bytes, does not lie in the file of %d bytes", id, e.At, length, end)
		}
		found[id] = image.Extent{Start: int64(e.At), Length: length}
	}
	if len(found) != 2 {
		return nil, errors.New("corrupt vhdx: the region of the block table or of the metadata is missing")
	}
	return found, nil
}

// metadata reads the items that say how large disk and blocks are.
func metadata(f io.ReaderAt, region image.Extent) (v info, err error) {
	b := make([]byte, regionSize)
	if err := image.ReadPadded(f, b, region.Start); err != nil {
		return v, err
	}
	le := binary.LittleEndian
	items := make([]item, le.Uint16(b[10:]))
	if string(b[:8]) != "metadata" || len(items) > 2047 {
		return v, errors.New("corrupt vhdx: no table of metadata")
	}
	if _, err := binary.Decode(b[32:], le, items); err != nil {
		return v, err
	}
	for _, e := range items {
		id, at := guid.String(e.ID[:]), int64(e.At)
		if at > region.Length-8 {
			return v, fmt.Errorf("corrupt vhdx: metadata item at offset %d of %d bytes", at, region.Length)
		}
		var value [8]byte
		if err := image.ReadPadded(f, value[:], region.Start+at); err != nil {
			return v, err
		}
		switch id {
		case guidFile:
			v.block, v.child = int64(le.Uint32(value[:])), value[4]&2 != 0
		case guidSize:
			v.size = int64(min(le.Uint64(value[:]), maxSize+1))
		case guidSector:
			v.sector = int64(le.Uint32(value[:]))
		case guidPhysical, guidDisk, guidParent:
		default:
			if e.Flags&required != 0 {
				return v, fmt.Errorf("vhdx needs an unknown metadata item %s", id)
			}
		}
	}
	return v, v.check()
}

func (v *info) check() error {
	switch {
	case v.child:
		return errors.New("vhdx is a differencing disk, which is not supported: merge it with its parent first")
	case v.sector != 512 && v.sector != 4096:
		return fmt.Errorf("corrupt vhdx: sectors of %d bytes", v.sector)
	case v.block < 1<<20 || v.block > 256<<20 || v.block&(v.block-1) != 0:
		return fmt.Errorf("corrupt vhdx: blocks of %d bytes", v.block)
	case v.size > maxSize || v.size%v.sector != 0:
		return fmt.Errorf("corrupt vhdx: size of %d bytes (at most %d, whole sectors of %d)", v.size, int64(maxSize), v.sector)
	}
	return nil
}

// openBlocks reads the block table, in which after each chunk of blocks
// there is an entry for the bitmap of sectors that a differencing disk has.
func openBlocks(src image.Image, region, metadata image.Extent, v info) (image.Image, error) {
	blocks := (v.size + v.block - 1) / v.block
	if blocks > 0 && (v.position(blocks-1)+1)*8 > region.Length {
		return nil, fmt.Errorf("corrupt vhdx: a block table of %d bytes for %d blocks", region.Length, blocks)
	}
	x := &mapped.Blocks{
		Name: "vhdx", At: region.Start, Entry: 8, Unit: v.block, Blocks: blocks, Chunk: v.chunk(), Decode: entry,
		Taken: []image.Extent{{Length: 1 << 20}, region, metadata},
	}
	return x.Open(src, v.size)
}

// chunk is how many blocks there are whose sectors one bitmap of 1 MiB describes.
func (v *info) chunk() int64 { return (1 << 23) * v.sector / v.block }

// position returns the position of a block's entry in the table.
func (v *info) position(block int64) int64 { return block + block/v.chunk() }

func entry(b []byte) (mapped.Spot, error) {
	e := binary.LittleEndian.Uint64(b)
	switch e & 7 {
	case absent, undefined:
		return mapped.Spot{Kind: mapped.Hole}, nil
	case zero, unmapped:
		return mapped.Spot{Kind: mapped.Zero}, nil
	case present:
		if at := e >> 20 << 20; at < 1<<62 {
			return mapped.Spot{Kind: mapped.Plain, At: int64(at)}, nil
		}
	}
	return mapped.Spot{}, fmt.Errorf("corrupt vhdx: block table entry %#x", e)
}
