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
	footer := v.footer(kindDynamic)
	head := slices.Concat(footer, v.header(blocks), v.table)
	return pump.Finish(v.file, v.last, image.Chunk{At: v.last, Bytes: footer}, image.Chunk{Bytes: head})
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

// footer returns the footer. The time is 0.
func (v *writer) footer(kind uint32) []byte {
	cylinders, heads, sectors := geometry(v.size / 512)
	d := hardDisk{
		Cookie: [8]byte([]byte(cookie)), Features: reserved, Version: version, HeaderAt: math.MaxUint64,
		Creator: [4]byte([]byte("win ")), CreatorVersion: 0x000a0000, CreatorHost: [4]byte([]byte("Wi2k")), // the size in bytes counts
		Original: uint64(v.size), Size: uint64(v.size),
		Cylinders: uint16(cylinders), Heads: uint8(heads), Sectors: uint8(sectors), Kind: kind, ID: v.id.UUID(byte(kind)),
	}
	if kind == kindDynamic {
		d.HeaderAt = footer
	}
	d.Checksum = checksum(image.Encode(binary.BigEndian, d), 64)
	return image.Encode(binary.BigEndian, d)
}

// header returns the header of a dynamic disk.
func (v *writer) header(blocks int64) []byte {
	d := dynamicDisk{
		Cookie: [8]byte([]byte(dynamic)), Next: math.MaxUint64, TableAt: table,
		Version: version, Entries: uint32(blocks), Unit: block,
	}
	d.Checksum = checksum(image.Encode(binary.BigEndian, d), 36)
	return image.Encode(binary.BigEndian, d)
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
