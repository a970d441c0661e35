package vhd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/pump"
	"b9.build/b9/engine/disk/raw"
	"b9.build/b9/engine/near"
)

// Write makes w a dynamic disk, or with the subformat "fixed" a raw disk with a
// footer, as Azure takes it.
func (Format) Write(ctx context.Context, w *os.File, src image.Image, o image.WriteOptions) error {
	if err := o.Refuse("vhd", image.Subformat); err != nil {
		return err
	}
	size := image.RoundUp(src.Size(), 512)
	switch {
	case size == 0:
		return errors.New("an image of 0 bytes can't be a vhd: give it a size")
	case size > maxSize:
		return fmt.Errorf("%d bytes are too large for a vhd (at most %d): vhdx, qcow2 and vmdk have room", size, int64(maxSize))
	}
	v := &writer{file: w, size: size, id: pump.NewIdentity("vhd", size)}
	switch o.Subformat {
	case "", "dynamic":
		return v.writeDynamic(ctx, src, o)
	case "fixed":
		return v.writeFixed(ctx, src, o)
	}
	return fmt.Errorf("unknown vhd subformat %q (have dynamic, fixed)%s", o.Subformat, near.Hint(o.Subformat, []string{"dynamic", "fixed"}))
}

type writer struct {
	file  *os.File
	size  int64
	table []byte
	next  int64 // offset of the data of the next block
	last  int64 // end of the data so far
	id    *pump.Identity
	full  [512]byte // the bitmap of a block all of whose sectors are in use
}

// writeFixed writes the disk, then the footer. Its identity is that of its size:
// it may share all blocks with src, and is not read for that.
func (v *writer) writeFixed(ctx context.Context, src image.Image, o image.WriteOptions) error {
	if err := (raw.Format{}).Write(ctx, v.file, src, image.WriteOptions{Progress: o.Progress}); err != nil {
		return err
	}
	_, err := v.file.WriteAt(v.footer(kindFixed), v.size)
	return err
}

// writeDynamic lays out: copy of the footer, header, table, blocks, footer.
func (v *writer) writeDynamic(ctx context.Context, src image.Image, o image.WriteOptions) error {
	blocks := (v.size + block - 1) / block
	v.table = bytes.Repeat([]byte{0xff}, int(image.RoundUp(blocks*4, 512)))
	v.last = table + int64(len(v.table))
	v.next = image.RoundUp(v.last+int64(len(v.full)), 4096)
	for i := range v.full {
		v.full[i] = 0xff
	}
	j := pump.Job{Src: src, Out: v.file, Unit: block, Progress: o.Progress, Place: v.place, Reserve: pump.Growth(v.file, v.next)}
	if err := j.Run(ctx); err != nil {
		return err
	}
	if err := v.file.Truncate(v.last); err != nil {
		return err
	}
	footer := v.footer(kindDynamic)
	head := slices.Concat(footer, v.header(blocks), v.table)
	return pump.WriteChunks(v.file, image.Chunk{At: v.last, Bytes: footer}, image.Chunk{Bytes: head})
}

func (v *writer) place(u *pump.Unit) error {
	u.At = v.next
	bitmap := u.At - int64(len(v.full))
	binary.BigEndian.PutUint32(v.table[u.Off/block*4:], uint32(bitmap/512))
	v.last = u.At + block
	v.next += stride
	v.id.Add(u)
	_, err := v.file.WriteAt(v.full[:], bitmap)
	return err
}

// footer returns the footer. The time is 0: the beginning of the year 2000.
func (v *writer) footer(kind uint32) []byte {
	be := binary.BigEndian
	b := make([]byte, footer)
	copy(b, cookie)
	be.PutUint32(b[8:], 2) // always set
	be.PutUint32(b[12:], 0x00010000)
	be.PutUint64(b[16:], math.MaxUint64)
	if kind == kindDynamic {
		be.PutUint64(b[16:], footer)
	}
	copy(b[28:], "win ") // the size in bytes counts
	be.PutUint32(b[32:], 0x000a0000)
	copy(b[36:], "Wi2k")
	be.PutUint64(b[40:], uint64(v.size))
	be.PutUint64(b[48:], uint64(v.size))
	cylinders, heads, sectors := geometry(v.size / 512)
	be.PutUint16(b[56:], uint16(cylinders))
	b[58], b[59] = byte(heads), byte(sectors)
	be.PutUint32(b[60:], kind)
	copy(b[68:], v.id.UUID(byte(kind)))
	be.PutUint32(b[64:], checksum(b, 64))
	return b
}

// header returns the header of a dynamic disk.
func (v *writer) header(blocks int64) []byte {
	be := binary.BigEndian
	b := make([]byte, 1024)
	copy(b, dynamic)
	be.PutUint64(b[8:], math.MaxUint64)
	be.PutUint64(b[16:], table)
	be.PutUint32(b[24:], 0x00010000)
	be.PutUint32(b[28:], uint32(blocks))
	be.PutUint32(b[32:], block)
	be.PutUint32(b[36:], checksum(b, 36))
	return b
}

// geometry returns the geometry that the specification's appendix "CHS
// Calculation" gives a number of sectors.
func geometry(total int64) (cylinders, heads, sectors int64) {
	total = min(total, 65535*16*255)
	if total >= 65535*16*63 {
		return total / 255 / 16, 16, 255
	}
	sectors = 17
	tracks := total / sectors
	heads = max((tracks+1023)/1024, 4)
	if tracks >= heads*1024 || heads > 16 {
		sectors, heads = 31, 16
		tracks = total / sectors
	}
	if tracks >= heads*1024 {
		sectors, heads = 63, 16
		tracks = total / sectors
	}
	return tracks / heads, heads, sectors
}
