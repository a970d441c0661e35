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
	magic      = 0xbeda107f
	version    = 1<<16 | 1 // 1.1
	block      = 1 << 20
	headerSize = 512

	dynamic = 1
	fixed   = 2

	// Entries of the table that are no blocks.
	free      = 0xffffffff
	discarded = 0xfffffffe // reads as zero

	// maxBlocks bounds the table to 512 MiB, as QEMU does.
	maxBlocks = 1<<29/4 - 128
)

// header is the start of a file: VDIPREHEADER and VDIHEADER1PLUS.
type header struct {
	Text                      [64]byte
	Magic, Version            uint32
	Length                    uint32 // bytes from here to the end of Modified
	Kind, Flags               uint32
	Comment                   [256]byte
	TableAt, DataAt           uint32 // offsets of the table and of the first block
	Cylinders, Heads, Sectors uint32
	SectorSize, _             uint32
	Size                      uint64
	Block, Extra              uint32 // bytes of a block, and of what is before it
	Blocks, Used              uint32
	ID, Modified              [16]byte // UUIDs of the image and of its last change
	Parent                    [32]byte // both of the image beneath
	_                         [56]byte
}

// check refuses what is not read.
func (h *header) check() error {
	switch {
	case h.Magic != magic:
		return errors.New("not a vdi: it has not the signature at offset 64")
	case h.Version != version:
		return fmt.Errorf("vdi version %d.%d is not supported (have 1.1)", h.Version>>16, h.Version&0xffff)
	case h.Kind != dynamic && h.Kind != fixed || h.Parent != [32]byte{}:
		return fmt.Errorf("vdi is a snapshot (type %d), which is not supported: clone it to a disk of its own first", h.Kind)
	case h.SectorSize != 512:
		return fmt.Errorf("corrupt vdi: sectors of %d bytes", h.SectorSize)
	case h.Block != block || h.Extra != 0:
		return fmt.Errorf("vdi with blocks of %d bytes is not supported (have %d)", h.Block, block)
	case h.DataAt%512 != 0 || h.TableAt%512 != 0:
		return fmt.Errorf("corrupt vdi: table at offset %d, blocks from offset %d on: no multiples of 512", h.TableAt, h.DataAt)
	case h.Blocks > maxBlocks || h.Size > uint64(h.Blocks)*block:
		return fmt.Errorf("corrupt vdi: %d bytes in %d blocks", h.Size, h.Blocks)
	}
	return nil
}

// Open reads dynamic and static images. Differencing images are refused.
func (Format) Open(src image.Image, _ string, _ image.OpenOptions) (image.Image, error) {
	var h header
	if err := mapped.ReadHeader(src, binary.LittleEndian, &h); err != nil {
		return nil, err
	}
	if err := h.check(); err != nil {
		return nil, err
	}
	x := &mapped.Blocks{
		Name: "vdi", At: int64(h.TableAt), Entry: 4, Unit: block, Blocks: int64(h.Blocks),
		Decode: func(b []byte) (mapped.Spot, error) {
			switch n := binary.LittleEndian.Uint32(b); n {
			case free:
				return mapped.Spot{Kind: mapped.Hole}, nil
			case discarded:
				return mapped.Spot{Kind: mapped.Zero}, nil
			default:
				return mapped.Spot{Kind: mapped.Plain, At: int64(h.DataAt) + int64(n)*block}, nil
			}
		},
	}
	return x.Open(src, image.RoundUp(int64(h.Size), 512))
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
	w.data = image.RoundUp(headerSize+int64(len(w.table)), block)
	j := pump.Job{Src: src, Out: f, Unit: block, Progress: o.Progress, Place: w.place, Reserve: pump.Growth(f, w.data)}
	if err := j.Run(ctx); err != nil {
		return err
	}
	return pump.Finish(f, w.data+w.used*block, image.Chunk{At: headerSize, Bytes: w.table}, image.Chunk{Bytes: w.header(size, blocks)})
}

func (w *writer) place(u *pump.Unit) error {
	u.At = w.data + w.used*block
	binary.LittleEndian.PutUint32(w.table[u.Off/block*4:], uint32(w.used))
	w.used++
	w.id.Add(u)
	return nil
}

func (w *writer) header(size, blocks int64) []byte {
	h := header{
		Magic: magic, Version: version, Length: 0x190, Kind: dynamic, TableAt: headerSize, DataAt: uint32(w.data),
		SectorSize: 512, Size: uint64(size), Block: block, Blocks: uint32(blocks), Used: uint32(w.used),
		ID: w.id.UUID(1), Modified: w.id.UUID(2),
	}
	copy(h.Text[:], "<<< Oracle VM VirtualBox Disk Image >>>\n")
	return image.Encode(binary.LittleEndian, h)
}
