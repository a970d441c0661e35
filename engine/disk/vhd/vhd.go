// Package vhd reads and writes the disk images of Virtual PC, Hyper-V and Azure, as
// Microsoft's "Virtual Hard Disk Image Format Specification", version 1.0,
// describes them: fixed and dynamic disks.
//
// It hides footers, checksums, bitmaps of sectors and the two sizes that such a
// file tells. Differencing disks are not read. vhd.go has [Format], the footer
// ("Hard Disk Footer Format") and reading, write.go the header ("Dynamic Disk
// Header Format"), the table and the geometry ("CHS Calculation").
package vhd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/mapped"
)

// Format is Microsoft's "Virtual Hard Disk Image Format Specification", version
// 1.0: fixed (a raw disk and a footer) and dynamic. All numbers are big endian.
//
// The size of a VHD is told twice: in bytes, and as a number of cylinders, heads
// and sectors, which allows only some sizes. Virtual PC goes by the latter,
// Hyper-V and Azure by the former. Who is right is told by the program that made
// the file; what is written here says that it is the size in bytes, so the size
// is kept (rounded up to 512 bytes; Azure wants whole MiB).
type Format struct{}

// Name implements image.Format.
func (Format) Name() string { return "vhd" }

// Extensions implements image.Format.
func (Format) Extensions() []string { return []string{"vhd"} }

// Probe implements image.Format.
func (Format) Probe(head []byte) bool { return bytes.HasPrefix(head, []byte(cookie)) }

// IsFooter reports whether b, the last 512 bytes of a file of size bytes, is the
// footer of a fixed disk, which has nothing in front that tells what it is.
func IsFooter(b []byte, size int64) bool {
	var d hardDisk
	return d.decode(b) == nil && d.Kind == kindFixed && d.size() <= size-footer && int64(d.Size) == size-footer
}

const (
	cookie  = "conectix"
	dynamic = "cxsparse"
	footer  = 512
	table   = 3 * 512 // offset of the table in what is written
	block   = 2 << 20
	stride  = block + 4096 // blocks lie so far apart, so that their data is aligned
	absent  = math.MaxUint32

	reserved = 2 // the feature that is always set
	version  = 1 << 16

	kindFixed   = 2
	kindDynamic = 3
	kindChild   = 4

	// maxSize is 2040 GiB, which a dynamic disk can't exceed.
	maxSize = 2040 << 30
)

// hardDisk is the footer, "Hard Disk Footer Format".
type hardDisk struct {
	Cookie            [8]byte
	Features, Version uint32
	HeaderAt          uint64 // of a dynamic disk
	Time              uint32 // seconds since the beginning of the year 2000
	Creator           [4]byte
	CreatorVersion    uint32
	CreatorHost       [4]byte
	Original, Size    uint64
	Cylinders         uint16
	Heads, Sectors    uint8
	Kind, Checksum    uint32
	ID                [16]byte
	_                 [428]byte
}

// dynamicDisk is the header of a dynamic disk, "Dynamic Disk Header Format".
type dynamicDisk struct {
	Cookie           [8]byte
	Next, TableAt    uint64
	Version, Entries uint32
	Unit, Checksum   uint32
	_                [984]byte // of differencing disks
}

// checksum is the complement of the sum of all bytes but those at offset at.
func checksum(b []byte, at int) uint32 {
	sum := uint32(0)
	for i, c := range b {
		if i < at || i >= at+4 {
			sum += uint32(c)
		}
	}
	return ^sum
}

// decode reads a footer or its copy.
func (d *hardDisk) decode(b []byte) error {
	if _, err := binary.Decode(b, binary.BigEndian, d); err != nil {
		return err
	}
	got := checksum(b, 64)
	switch {
	case string(d.Cookie[:]) != cookie:
		return errors.New("not a vhd: there is no footer with the cookie conectix")
	case got != d.Checksum:
		return fmt.Errorf("corrupt vhd: the footer's checksum is %#x, not %#x", got, d.Checksum)
	case d.Size > maxSize:
		return fmt.Errorf("corrupt vhd: %d bytes (at most %d)", d.Size, int64(maxSize))
	}
	return nil
}

// size is the size in bytes that the program meant which made the file.
func (d *hardDisk) size() int64 {
	chs := int64(d.Cylinders) * int64(d.Heads) * int64(d.Sectors)
	if !bytesCount(string(d.Creator[:])) && chs > 0 && chs < 65535*16*255 {
		return chs * 512
	}
	return int64(d.Size) / 512 * 512
}

// bytesCount reports whether the program with this identifier means the size
// in bytes; the others mean the geometry.
func bytesCount(creator string) bool {
	return slices.Contains([]string{"win ", "qem2", "d2v ", "CTXS", "tap\x00"}, creator)
}

// Open reads fixed and dynamic disks. Differencing disks are refused. As in QEMU,
// the bitmaps of sectors in use are not looked at: unused ones are zero.
func (Format) Open(src image.Image, _ string, _ image.OpenOptions) (image.Image, error) {
	b := make([]byte, footer)
	if err := mapped.ReadHeader(src, binary.BigEndian, b); err != nil {
		return nil, err
	}
	if string(b[:8]) != cookie {
		if _, err := src.ReadAt(b, src.Size()-footer); err != nil {
			return nil, err
		}
	}
	var d hardDisk
	if err := d.decode(b); err != nil {
		return nil, err
	}
	switch d.Kind {
	case kindFixed:
		size := d.size()
		if size > src.Size()-footer {
			return nil, fmt.Errorf("corrupt vhd: %d bytes in a file of %d: it was cut off", size, src.Size())
		}
		return &image.Joined{Length: size, Parts: []image.Part{{Length: size, Img: src}}, Closers: []io.Closer{src}, Subformat: "fixed"}, nil
	case kindDynamic:
		return openDynamic(src, d)
	case kindChild:
		return nil, errors.New("vhd is a differencing disk, which is not supported: merge it with its parent first")
	}
	return nil, fmt.Errorf("corrupt vhd: disk type %d", d.Kind)
}

func openDynamic(src image.Image, d hardDisk) (image.Image, error) {
	var h dynamicDisk
	b, end := make([]byte, binary.Size(h)), src.Size()
	if d.HeaderAt > uint64(end) || int64(d.HeaderAt) > end-int64(len(b)) {
		return nil, fmt.Errorf("corrupt vhd: header at offset %d of a file of %d bytes", d.HeaderAt, end)
	}
	if _, err := src.ReadAt(b, int64(d.HeaderAt)); err != nil {
		return nil, err
	}
	if _, err := binary.Decode(b, binary.BigEndian, &h); err != nil {
		return nil, err
	}
	unit, size := int64(h.Unit), d.size()
	switch {
	case string(h.Cookie[:]) != dynamic:
		return nil, errors.New("corrupt vhd: no header with the cookie cxsparse")
	case checksum(b, 36) != h.Checksum:
		return nil, errors.New("corrupt vhd: the header's checksum is wrong")
	case unit < 512 || unit > 256<<20 || unit&(unit-1) != 0:
		return nil, fmt.Errorf("corrupt vhd: blocks of %d bytes", unit)
	case h.TableAt > uint64(end):
		return nil, fmt.Errorf("corrupt vhd: table at offset %d of a file of %d bytes", h.TableAt, end)
	case int64(h.Entries)*unit < size:
		return nil, fmt.Errorf("corrupt vhd: a table of %d blocks of %d bytes for %d bytes", h.Entries, unit, size)
	}
	bitmap := image.RoundUp(max(unit/512/8, 1), 512)
	x := &mapped.Blocks{
		Name: "vhd", At: int64(h.TableAt), Entry: 4, Unit: unit, Blocks: (size + unit - 1) / unit, Whole: true,
		Decode: func(b []byte) (mapped.Spot, error) {
			if n := binary.BigEndian.Uint32(b); n != absent {
				return mapped.Spot{Kind: mapped.Plain, At: int64(n)*512 + bitmap}, nil
			}
			return mapped.Spot{Kind: mapped.Hole}, nil
		},
	}
	return x.Open(src, size)
}
