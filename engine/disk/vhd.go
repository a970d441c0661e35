package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
)

// vhd is Microsoft's "Virtual Hard Disk Image Format Specification", version
// 1.0: fixed (a raw disk and a footer) and dynamic. All numbers are big endian.
//
// The size of a VHD is told twice: in bytes, and as a number of cylinders, heads
// and sectors, which allows only some sizes. Virtual PC goes by the latter,
// Hyper-V and Azure by the former. Who is right is told by the program that made
// the file; what is written here says that it is the size in bytes, so the size
// is kept (rounded up to 512 bytes; Azure wants whole MiB).
type vhd struct{}

func (vhd) Name() string           { return "vhd" }
func (vhd) Extensions() []string   { return []string{"vhd"} }
func (vhd) Probe(head []byte) bool { return bytes.HasPrefix(head, []byte(vhdCookie)) }

const (
	vhdCookie  = "conectix"
	vhdDynamic = "cxsparse"
	vhdFooter  = 512
	vhdTable   = 3 * 512 // offset of the table in what is written
	vhdBlock   = 2 << 20
	vhdStride  = vhdBlock + 4096 // blocks lie so far apart, so that their data is aligned
	vhdAbsent  = math.MaxUint32

	vhdKindFixed   = 2
	vhdKindDynamic = 3
	vhdKindChild   = 4

	// vhdMaxSize is 2040 GiB, which a dynamic disk can't exceed.
	vhdMaxSize = 2040 << 30
)

// vhdInfo holds what reading needs of the footer.
type vhdInfo struct {
	kind uint32
	data uint64 // offset of the header of a dynamic disk
	size int64
}

// vhdChecksum is the complement of the sum of all bytes but those at offset at.
func vhdChecksum(b []byte, at int) uint32 {
	sum := uint32(0)
	for i, c := range b {
		if i < at || i >= at+4 {
			sum += uint32(c)
		}
	}
	return ^sum
}

// decode reads a footer or its copy.
func (v *vhdInfo) decode(b []byte) error {
	be := binary.BigEndian
	if string(b[:8]) != vhdCookie {
		return errors.New("not a vhd: there is no footer with the cookie conectix")
	}
	if got := vhdChecksum(b, 64); got != be.Uint32(b[64:]) {
		return fmt.Errorf("corrupt vhd: the footer's checksum is %#x, not %#x", got, be.Uint32(b[64:]))
	}
	size := be.Uint64(b[48:])
	if size > vhdMaxSize {
		return fmt.Errorf("corrupt vhd: %d bytes (at most %d)", size, int64(vhdMaxSize))
	}
	*v = vhdInfo{kind: be.Uint32(b[60:]), data: be.Uint64(b[16:]), size: int64(size) / 512 * 512}
	chs := int64(be.Uint16(b[56:])) * int64(b[58]) * int64(b[59])
	if !vhdBytesCount(string(b[28:32])) && chs > 0 && chs < 65535*16*255 {
		v.size = chs * 512
	}
	return nil
}

// vhdBytesCount reports whether the program with this identifier means the size
// in bytes; the others mean the geometry.
func vhdBytesCount(creator string) bool {
	switch creator {
	case "win ", "qem2", "d2v ", "CTXS", "tap\x00":
		return true
	}
	return false
}

// Open reads fixed and dynamic disks. Differencing disks are refused. As in QEMU,
// the bitmaps of sectors in use are not looked at: unused ones are zero.
func (vhd) Open(f *os.File, o OpenOptions) (Image, error) {
	end, err := regularSize(f)
	if err != nil {
		return nil, err
	}
	return openVHD(f, end)
}

func openVHD(f source, end int64) (Image, error) {
	b := make([]byte, vhdFooter)
	if err := readHead(f, b); err != nil {
		return nil, err
	}
	if string(b[:8]) != vhdCookie {
		if _, err := f.ReadAt(b, end-vhdFooter); err != nil {
			return nil, err
		}
	}
	var v vhdInfo
	if err := v.decode(b); err != nil {
		return nil, err
	}
	switch v.kind {
	case vhdKindFixed:
		if v.size > end-vhdFooter {
			return nil, fmt.Errorf("corrupt vhd: %d bytes in a file of %d: it was cut off", v.size, end)
		}
		if r, ok := f.(*os.File); ok {
			return &joined{size: v.size, parts: []part{{length: v.size, img: &rawImage{file: r, size: end}}}, closers: closing(f), kind: "fixed"}, nil
		}
		return &joined{size: v.size, closers: closing(f), kind: "fixed"}, nil
	case vhdKindDynamic:
		return openDynamicVHD(f, end, v)
	case vhdKindChild:
		return nil, errors.New("vhd is a differencing disk, which is not supported: merge it with its parent first")
	}
	return nil, fmt.Errorf("corrupt vhd: disk type %d", v.kind)
}

func openDynamicVHD(f source, end int64, v vhdInfo) (Image, error) {
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
	case string(h[:8]) != vhdDynamic:
		return nil, errors.New("corrupt vhd: no header with the cookie cxsparse")
	case vhdChecksum(h, 36) != be.Uint32(h[36:]):
		return nil, errors.New("corrupt vhd: the header's checksum is wrong")
	case unit < 512 || unit > 256<<20 || unit&(unit-1) != 0:
		return nil, fmt.Errorf("corrupt vhd: blocks of %d bytes", unit)
	case table > uint64(end):
		return nil, fmt.Errorf("corrupt vhd: table at offset %d of a file of %d bytes", table, end)
	case entries*unit < v.size:
		return nil, fmt.Errorf("corrupt vhd: a table of %d blocks of %d bytes for %d bytes", entries, unit, v.size)
	}
	bitmap := roundUp(max(unit/512/8, 1), 512)
	x, err := newBlockIndex(f, end, blockIndex{
		name: "vhd", at: int64(table), entry: 4, unit: unit, blocks: (v.size + unit - 1) / unit, whole: true,
		decode: func(b []byte) (spot, error) {
			if n := be.Uint32(b); n != vhdAbsent {
				return spot{kind: spotPlain, at: int64(n)*512 + bitmap}, nil
			}
			return spot{kind: spotHole}, nil
		},
	})
	if err != nil {
		return nil, err
	}
	return &mapped{index: x, file: f, end: end, size: v.size, unit: unit}, nil
}
