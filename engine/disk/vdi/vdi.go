// Package vdi reads and writes VirtualBox's disk images, version 1.1.
//
// There is no specification: the structures are those of VDIHEADER1PLUS and of
// the block table in VirtualBox's VDICore.h. It hides both. Snapshots and blocks
// of other than 1 MiB are not read. [Format] is all there is; the table is read by
// package mapped, and writer.place fills it.
package vdi

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/mapped"
	"b9.build/b9/engine/disk/internal/pump"
	"b9.build/b9/engine/internal/sparse"
)

// Format is VirtualBox's disk image, version 1.1: a header, a table of blocks of
// 1 MiB and the blocks. The structure is that of VDIHEADER1PLUS in VirtualBox's
// VDICore.h; all numbers are little endian.
type Format struct{}

// Name implements image.Format.
func (Format) Name() string { return "vdi" }

// Extensions implements image.Format.
func (Format) Extensions() []string { return []string{"vdi"} }

// Probe implements image.Format.
func (Format) Probe(head []byte) bool {
	return len(head) >= 68 && binary.LittleEndian.Uint32(head[64:]) == magic
}

const (
	magic  = 0xbeda107f
	block  = 1 << 20
	header = 512

	dynamic = 1
	fixed   = 2

	// Entries of the table that are no blocks.
	free      = 0xffffffff
	discarded = 0xfffffffe // reads as zero

	// maxBlocks bounds the table to 512 MiB, as QEMU does.
	maxBlocks = 1<<29/4 - 128
)

// Open reads dynamic and static images. Differencing images are refused.
func (Format) Open(f *os.File, o image.OpenOptions) (image.Image, error) {
	end, err := mapped.FileSize(f)
	if err != nil {
		return nil, err
	}
	return open(f, end)
}

func open(f mapped.Source, end int64) (image.Image, error) {
	h := make([]byte, header)
	if err := mapped.ReadHeader(f, h); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if le.Uint32(h[64:]) != magic {
		return nil, errors.New("not a vdi: it has not the signature at offset 64")
	}
	size, data := le.Uint64(h[0x170:]), int64(le.Uint32(h[0x158:]))
	blocks := int64(le.Uint32(h[0x180:]))
	switch kind, version := le.Uint32(h[0x4c:]), le.Uint32(h[0x44:]); {
	case version != 0x00010001:
		return nil, fmt.Errorf("vdi version %d.%d is not supported (have 1.1)", version>>16, version&0xffff)
	case kind != dynamic && kind != fixed || !sparse.IsZero(h[0x1a8:0x1c8]):
		return nil, fmt.Errorf("vdi is a snapshot (type %d), which is not supported: clone it to a disk of its own first", kind)
	case le.Uint32(h[0x168:]) != 512:
		return nil, fmt.Errorf("corrupt vdi: sectors of %d bytes", le.Uint32(h[0x168:]))
	case le.Uint32(h[0x178:]) != block || le.Uint32(h[0x17c:]) != 0:
		return nil, fmt.Errorf("vdi with blocks of %d bytes is not supported (have %d)", le.Uint32(h[0x178:]), block)
	case data%512 != 0 || le.Uint32(h[0x154:])%512 != 0:
		return nil, fmt.Errorf("corrupt vdi: table at offset %d, blocks from offset %d on: no multiples of 512", le.Uint32(h[0x154:]), data)
	case blocks > maxBlocks || size > uint64(blocks)*block:
		return nil, fmt.Errorf("corrupt vdi: %d bytes in %d blocks", size, blocks)
	}
	x := &mapped.Blocks{
		Name: "vdi", At: int64(le.Uint32(h[0x154:])), Entry: 4, Unit: block, Blocks: blocks,
		Decode: func(b []byte) (mapped.Spot, error) {
			switch n := le.Uint32(b); n {
			case free:
				return mapped.Spot{Kind: mapped.Hole}, nil
			case discarded:
				return mapped.Spot{Kind: mapped.Zero}, nil
			default:
				return mapped.Spot{Kind: mapped.Plain, At: data + int64(n)*block}, nil
			}
		},
	}
	return x.Open(f, end, image.RoundUp(int64(size), 512))
}

// writer places blocks one after the other.
type writer struct {
	table []byte
	used  int64
	data  int64 // offset of the first block
	id    *pump.Identity
}

// Write makes w a dynamic image. The size is rounded up to 512 bytes.
func (Format) Write(ctx context.Context, f *os.File, src image.Image, o image.WriteOptions) error {
	if err := o.Refuse("vdi"); err != nil {
		return err
	}
	size := image.RoundUp(src.Size(), 512)
	blocks := (size + block - 1) / block
	if blocks > maxBlocks {
		return fmt.Errorf("%d bytes are too large for a vdi (at most %d)", size, int64(maxBlocks)*block)
	}
	w := &writer{id: pump.NewIdentity("vdi", size)}
	w.table = bytes.Repeat([]byte{0xff}, int(image.RoundUp(blocks*4, 512)))
	w.data = image.RoundUp(header+int64(len(w.table)), block)
	j := pump.Job{Src: src, Out: f, Unit: block, Progress: o.Progress, Place: w.place, Reserve: pump.Growth(f, w.data)}
	if err := j.Run(ctx); err != nil {
		return err
	}
	if err := f.Truncate(w.data + w.used*block); err != nil {
		return err
	}
	return pump.WriteChunks(f, image.Chunk{At: header, Bytes: w.table}, image.Chunk{Bytes: w.header(size, blocks)})
}

func (w *writer) place(u *pump.Unit) error {
	u.At = w.data + w.used*block
	binary.LittleEndian.PutUint32(w.table[u.Off/block*4:], uint32(w.used))
	w.used++
	w.id.Add(u)
	return nil
}

func (w *writer) header(size, blocks int64) []byte {
	le := binary.LittleEndian
	h := make([]byte, header)
	copy(h, "<<< Oracle VM VirtualBox Disk Image >>>\n")
	le.PutUint32(h[0x40:], magic)
	le.PutUint32(h[0x44:], 0x00010001)
	le.PutUint32(h[0x48:], 0x190) // bytes of the header from here on
	le.PutUint32(h[0x4c:], dynamic)
	le.PutUint32(h[0x154:], header)
	le.PutUint32(h[0x158:], uint32(w.data))
	le.PutUint32(h[0x168:], 512)
	le.PutUint64(h[0x170:], uint64(size))
	le.PutUint32(h[0x178:], block)
	le.PutUint32(h[0x180:], uint32(blocks))
	le.PutUint32(h[0x184:], uint32(w.used))
	copy(h[0x188:], w.id.UUID(1)) // of the image
	copy(h[0x198:], w.id.UUID(2)) // of its last change
	return h
}
