package vhdx

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/guid"
	"b9.build/b9/engine/disk/internal/pump"
)

// What is written has blocks of 8 MiB, unless that makes the table large, and
// an empty log. Everything begins at a multiple of 1 MiB, as the format wants.
const (
	block    = 8 << 20
	log      = 1 << 20 // offset and size of the log
	metaAt   = 2 << 20
	tableAt  = 3 << 20
	itemsAt  = 64 << 10 // of the metadata, after their table
	itemStep = 32
)

// writer lays out: signature, headers and tables of regions in the first
// MiB, log, metadata, block table, blocks.
type writer struct {
	info
	file  *os.File
	table []byte
	next  int64
	id    *pump.Identity
}

// Write makes w a dynamic image with sectors of 512 bytes. The size is rounded
// up to these.
func (Format) Write(ctx context.Context, f *os.File, src image.Image, o image.WriteOptions) error {
	if err := o.Refuse("vhdx"); err != nil {
		return err
	}
	w := &writer{info: info{block: block, sector: 512, size: image.RoundUp(src.Size(), 512)}, file: f}
	switch {
	case w.size == 0:
		return errors.New("an image of 0 bytes can't be a vhdx: give it a size")
	case w.size > maxSize:
		return fmt.Errorf("%d bytes are too large for a vhdx (at most %d)", w.size, int64(maxSize))
	case w.size > 8<<40:
		w.block = 64 << 20
	}
	blocks := (w.size + w.block - 1) / w.block
	w.table = make([]byte, image.RoundUp((w.position(blocks-1)+1)*8, 1<<20))
	w.next = tableAt + int64(len(w.table))
	w.id = pump.NewIdentity("vhdx", w.size)
	// A piece is no larger than 1 MiB, so that memory stays small; a block is
	// placed when its first piece with data comes.
	j := pump.Job{Src: src, Out: f, Unit: 1 << 20, Progress: o.Progress, Place: w.place}
	if err := j.Run(ctx); err != nil {
		return err
	}
	return w.finish()
}

func (w *writer) place(u *pump.Unit) error {
	entry := w.table[w.position(u.Off/w.block)*8:]
	if binary.LittleEndian.Uint64(entry) == absent {
		binary.LittleEndian.PutUint64(entry, uint64(w.next)|present)
		w.next += w.block
	}
	u.At = int64(binary.LittleEndian.Uint64(entry))&^(1<<20-1) + u.Off%w.block
	w.id.Add(u)
	return nil
}

// finish writes everything but the blocks, the signature last.
func (w *writer) finish() error {
	regions := w.regions()
	return pump.Finish(w.file, w.next, []image.Chunk{
		{At: tableAt, Bytes: w.table},
		{At: metaAt, Bytes: w.metadata()},
		{At: regions1, Bytes: regions}, {At: regions2, Bytes: regions},
		{At: header1, Bytes: w.header(1)}, {At: header2, Bytes: w.header(2)},
		{At: 0, Bytes: append([]byte(magic), 'b', 0, '9', 0)},
	}...)
}

// header returns a header with an empty log (section 2.2.2).
func (w *writer) header(sequence uint64) []byte {
	le := binary.LittleEndian
	b := make([]byte, headerSize)
	copy(b, "head")
	le.PutUint64(b[8:], sequence)
	file, data := w.id.UUID(1), w.id.UUID(2)
	copy(b[16:], file[:])
	copy(b[32:], data[:])
	le.PutUint16(b[66:], 1)
	le.PutUint32(b[68:], log)
	le.PutUint64(b[72:], log)
	le.PutUint32(b[4:], checksum(b))
	return b
}

// regions returns the table of regions (section 2.2.3).
func (w *writer) regions() []byte {
	le := binary.LittleEndian
	b := make([]byte, regionSize)
	copy(b, "regi")
	le.PutUint32(b[8:], 2)
	copy(b[16:], image.Encode(le, []region{
		{ID: stored(guidBlocks), At: tableAt, Length: uint32(len(w.table)), Required: 1},
		{ID: stored(guidMetadata), At: metaAt, Length: 1 << 20, Required: 1},
	}))
	le.PutUint32(b[4:], checksum(b))
	return b
}

// metadata returns the table of metadata and its items (section 2.6).
func (w *writer) metadata() []byte {
	le := binary.LittleEndian
	disk := w.id.UUID(3)
	values := []struct {
		id    string
		value []byte
		flags uint32
	}{
		{guidFile, le.AppendUint64(nil, uint64(w.block)), required},
		{guidSize, le.AppendUint64(nil, uint64(w.size)), virtual | required},
		{guidDisk, disk[:], virtual | required},
		{guidSector, le.AppendUint32(nil, uint32(w.sector)), virtual | required},
		{guidPhysical, le.AppendUint32(nil, 4096), virtual | required},
	}
	b := make([]byte, itemsAt+itemStep*len(values))
	copy(b, "metadata")
	le.PutUint16(b[10:], uint16(len(values)))
	for i, v := range values {
		at := itemsAt + itemStep*i
		copy(b[32+32*i:], image.Encode(le, item{ID: stored(v.id), At: uint32(at), Length: uint32(len(v.value)), Flags: v.flags}))
		copy(b[at:], v.value)
	}
	return b
}

// stored returns the bytes of a GUID of this package, which is well formed.
func stored(text string) [16]byte {
	id, err := guid.Parse(text)
	if err != nil {
		panic(err)
	}
	return id
}
