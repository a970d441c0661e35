package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"

	"b9/engine/internal/sparse"
)

// vdi is VirtualBox's disk image, version 1.1: a header, a table of blocks of
// 1 MiB and the blocks. The structure is that of VDIHEADER1PLUS in VirtualBox's
// VDICore.h; all numbers are little endian.
type vdi struct{}

func (vdi) Name() string         { return "vdi" }
func (vdi) Extensions() []string { return []string{"vdi"} }

func (vdi) Probe(head []byte) bool {
	return len(head) >= 68 && binary.LittleEndian.Uint32(head[64:]) == vdiMagic
}

const (
	vdiMagic  = 0xbeda107f
	vdiBlock  = 1 << 20
	vdiHeader = 512

	vdiDynamic = 1
	vdiFixed   = 2

	// Entries of the table from vdiNothing on are no blocks.
	vdiNothing = 0xfffffffe

	// vdiMaxBlocks bounds the table to 512 MiB, as QEMU does.
	vdiMaxBlocks = 1<<29/4 - 128
)

// Open reads dynamic and static images. Differencing images are refused.
func (vdi) Open(f *os.File, o OpenOptions) (Image, error) {
	end, err := regularSize(f)
	if err != nil {
		return nil, err
	}
	return openVDI(f, end)
}

func openVDI(f source, end int64) (Image, error) {
	h := make([]byte, vdiHeader)
	if err := readHead(f, h); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if le.Uint32(h[64:]) != vdiMagic {
		return nil, errors.New("not a vdi: it has not the signature at offset 64")
	}
	size, data := le.Uint64(h[0x170:]), int64(le.Uint32(h[0x158:]))
	blocks := int64(le.Uint32(h[0x180:]))
	switch kind, version := le.Uint32(h[0x4c:]), le.Uint32(h[0x44:]); {
	case version != 0x00010001:
		return nil, fmt.Errorf("vdi version %d.%d is not supported (have 1.1)", version>>16, version&0xffff)
	case kind != vdiDynamic && kind != vdiFixed || !sparse.IsZero(h[0x1a8:0x1c8]):
		return nil, fmt.Errorf("vdi is a snapshot (type %d), which is not supported: clone it to a disk of its own first", kind)
	case le.Uint32(h[0x168:]) != 512:
		return nil, fmt.Errorf("corrupt vdi: sectors of %d bytes", le.Uint32(h[0x168:]))
	case le.Uint32(h[0x178:]) != vdiBlock || le.Uint32(h[0x17c:]) != 0:
		return nil, fmt.Errorf("vdi with blocks of %d bytes is not supported (have %d)", le.Uint32(h[0x178:]), vdiBlock)
	case data%512 != 0 || le.Uint32(h[0x154:])%512 != 0:
		return nil, fmt.Errorf("corrupt vdi: table at offset %d, blocks from offset %d on: no multiples of 512", le.Uint32(h[0x154:]), data)
	case blocks > vdiMaxBlocks || size > uint64(blocks)*vdiBlock:
		return nil, fmt.Errorf("corrupt vdi: %d bytes in %d blocks", size, blocks)
	}
	x, err := newBlockIndex(f, end, blockIndex{
		name: "vdi", at: int64(le.Uint32(h[0x154:])), entry: 4, unit: vdiBlock, blocks: blocks,
		decode: func(b []byte) (spot, error) {
			n := le.Uint32(b)
			if n >= vdiNothing {
				return spot{kind: spotHole + spotKind(math.MaxUint32-n)}, nil // discarded ones are zero
			}
			return spot{kind: spotPlain, at: data + int64(n)*vdiBlock}, nil
		},
	})
	if err != nil {
		return nil, err
	}
	return &mapped{index: x, file: f, end: end, size: roundUp(int64(size), 512), unit: vdiBlock}, nil
}

// vdiWriter places blocks one after the other.
type vdiWriter struct {
	table []byte
	used  int64
	data  int64 // offset of the first block
	id    *identity
	room  reserve
}

// Write makes w a dynamic image. The size is rounded up to 512 bytes.
func (vdi) Write(ctx context.Context, f *os.File, src Image, o WriteOptions) error {
	if err := refuseOptions("vdi", o.Compress != "", o.Subformat != "", o.Backing != nil); err != nil {
		return err
	}
	size := roundUp(src.Size(), 512)
	blocks := (size + vdiBlock - 1) / vdiBlock
	if blocks > vdiMaxBlocks {
		return fmt.Errorf("%d bytes are too large for a vdi (at most %d)", size, int64(vdiMaxBlocks)*vdiBlock)
	}
	w := &vdiWriter{id: newIdentity("vdi", size), room: reserve{file: f}}
	w.table = bytes.Repeat([]byte{0xff}, int(roundUp(blocks*4, 512)))
	w.data = roundUp(vdiHeader+int64(len(w.table)), vdiBlock)
	w.room.from = w.data
	p := pump{src: src, out: f, unit: vdiBlock, progress: o.Progress, place: w.place}
	if err := p.run(ctx); err != nil {
		return err
	}
	if err := f.Truncate(w.data + w.used*vdiBlock); err != nil {
		return err
	}
	if _, err := f.WriteAt(w.table, vdiHeader); err != nil {
		return err
	}
	_, err := f.WriteAt(w.header(size, blocks), 0)
	return err
}

func (w *vdiWriter) place(units []unit) error {
	for i := range units {
		u := &units[i]
		if u.kind == absent {
			continue
		}
		u.at = w.data + w.used*vdiBlock
		binary.LittleEndian.PutUint32(w.table[u.off/vdiBlock*4:], uint32(w.used))
		w.used++
		w.id.add(u)
	}
	w.room.upTo(w.data + w.used*vdiBlock)
	return nil
}

func (w *vdiWriter) header(size, blocks int64) []byte {
	le := binary.LittleEndian
	h := make([]byte, vdiHeader)
	copy(h, "<<< Oracle VM VirtualBox Disk Image >>>\n")
	le.PutUint32(h[0x40:], vdiMagic)
	le.PutUint32(h[0x44:], 0x00010001)
	le.PutUint32(h[0x48:], 0x190) // bytes of the header from here on
	le.PutUint32(h[0x4c:], vdiDynamic)
	le.PutUint32(h[0x154:], vdiHeader)
	le.PutUint32(h[0x158:], uint32(w.data))
	le.PutUint32(h[0x168:], 512)
	le.PutUint64(h[0x170:], uint64(size))
	le.PutUint32(h[0x178:], vdiBlock)
	le.PutUint32(h[0x180:], uint32(blocks))
	le.PutUint32(h[0x184:], uint32(w.used))
	image, modified := w.id.uuid(1), w.id.uuid(2)
	copy(h[0x188:], image[:])
	copy(h[0x198:], modified[:])
	return h
}
