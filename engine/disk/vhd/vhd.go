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
	"os"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/mapped"
	"b9.build/b9/engine/internal/blob"
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

const (
	cookie  = "conectix"
	dynamic = "cxsparse"
	footer  = 512
	table   = 3 * 512 // offset of the table in what is written
	block   = 2 << 20
	stride  = block + 4096 // blocks lie so far apart, so that their data is aligned
	absent  = math.MaxUint32

	kindFixed   = 2
	kindDynamic = 3
	kindChild   = 4

	// maxSize is 2040 GiB, which a dynamic disk can't exceed.
	maxSize = 2040 << 30
)

// info holds what reading needs of the footer.
type info struct {
	kind uint32
	data uint64 // offset of the header of a dynamic disk
	size int64
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
func (v *info) decode(b []byte) error {
	be := binary.BigEndian
	if string(b[:8]) != cookie {
		return errors.New("not a vhd: there is no footer with the cookie conectix")
	}
	if got := checksum(b, 64); got != be.Uint32(b[64:]) {
		return fmt.Errorf("corrupt vhd: the footer's checksum is %#x, not %#x", got, be.Uint32(b[64:]))
	}
	size := be.Uint64(b[48:])
	if size > maxSize {
		return fmt.Errorf("corrupt vhd: %d bytes (at most %d)", size, int64(maxSize))
	}
	*v = info{kind: be.Uint32(b[60:]), data: be.Uint64(b[16:]), size: int64(size) / 512 * 512}
	chs := int64(be.Uint16(b[56:])) * int64(b[58]) * int64(b[59])
	if !bytesCount(string(b[28:32])) && chs > 0 && chs < 65535*16*255 {
		v.size = chs * 512
	}
	return nil
}

// bytesCount reports whether the program with this identifier means the size
// in bytes; the others mean the geometry.
func bytesCount(creator string) bool {
	switch creator {
	case "win ", "qem2", "d2v ", "CTXS", "tap\x00":
		return true
	}
	return false
}

// Open reads fixed and dynamic disks. Differencing disks are refused. As in QEMU,
// the bitmaps of sectors in use are not looked at: unused ones are zero.
func (Format) Open(f *os.File, o image.OpenOptions) (image.Image, error) {
	end, err := mapped.FileSize(f)
	if err != nil {
		return nil, err
	}
	return open(f, end)
}

func open(f mapped.Source, end int64) (image.Image, error) {
	b := make([]byte, footer)
	if err := mapped.ReadHeader(f, b); err != nil {
		return nil, err
	}
	if string(b[:8]) != cookie {
		if _, err := f.ReadAt(b, end-footer); err != nil {
			return nil, err
		}
	}
	var v info
	if err := v.decode(b); err != nil {
		return nil, err
	}
	switch v.kind {
	case kindFixed:
		if v.size > end-footer {
			return nil, fmt.Errorf("corrupt vhd: %d bytes in a file of %d: it was cut off", v.size, end)
		}
		j := &image.Joined{Length: v.size, Closers: []io.Closer{f}, Subformat: "fixed"}
		if r, ok := f.(*os.File); ok {
			b, err := blob.FromFile(r)
			if err != nil {
				return nil, err
			}
			j.Parts = []image.Part{{Length: v.size, Img: b}}
		}
		return j, nil
	case kindDynamic:
		return openDynamic(f, end, v)
	case kindChild:
		return nil, errors.New("vhd is a differencing disk, which is not supported: merge it with its parent first")
	}
	return nil, fmt.Errorf("corrupt vhd: disk type %d", v.kind)
}

func openDynamic(f mapped.Source, end int64, v info) (image.Image, error) {
	be := binary.BigEndian
	h := make([]byte, 1024)
	if v.data > uint64(end) || int64(v.data) > end-int64(len(h)) {
		return nil, fmt.Errorf("corrupt vhd: header at offset %d of a file of %d bytes", v.data, end)
	}
	if _, err := f.ReadAt(h, int64(v.data)); err != nil {
		return nil, err
	}
	unit, table, entries := int64(be.Uint32(h[32:])), be.Uint64(h[16:]), int64(be.Uint32(h[28:]))
	switch {
	case string(h[:8]) != dynamic:
		return nil, errors.New("corrupt vhd: no header with the cookie cxsparse")
	case checksum(h, 36) != be.Uint32(h[36:]):
		return nil, errors.New("corrupt vhd: the header's checksum is wrong")
	case unit < 512 || unit > 256<<20 || unit&(unit-1) != 0:
		return nil, fmt.Errorf("corrupt vhd: blocks of %d bytes", unit)
	case table > uint64(end):
		return nil, fmt.Errorf("corrupt vhd: table at offset %d of a file of %d bytes", table, end)
	case entries*unit < v.size:
		return nil, fmt.Errorf("corrupt vhd: a table of %d blocks of %d bytes for %d bytes", entries, unit, v.size)
	}
	bitmap := image.RoundUp(max(unit/512/8, 1), 512)
	x := &mapped.Blocks{
		Name: "vhd", At: int64(table), Entry: 4, Unit: unit, Blocks: (v.size + unit - 1) / unit, Whole: true,
		Decode: func(b []byte) (mapped.Spot, error) {
			if n := be.Uint32(b); n != absent {
				return mapped.Spot{Kind: mapped.Plain, At: int64(n)*512 + bitmap}, nil
			}
			return mapped.Spot{Kind: mapped.Hole}, nil
		},
	}
	return x.Open(f, end, v.size)
}
