package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// What is written has blocks of 8 MiB, unless that makes the table large, and
// an empty log. Everything begins at a multiple of 1 MiB, as the format wants.
const (
	vhdxBlock    = 8 << 20
	vhdxLog      = 1 << 20 // offset and size of the log
	vhdxMetaAt   = 2 << 20
	vhdxTableAt  = 3 << 20
	vhdxItemsAt  = 64 << 10 // of the metadata, after their table
	vhdxItemStep = 32
)

// vhdxWriter lays out: signature, headers and tables of regions in the first
// MiB, log, metadata, block table, blocks.
type vhdxWriter struct {
	vhdxInfo
	file  *os.File
	table []byte
	next  int64
	id    *identity
	room  reserve
}

// Write makes w a dynamic image with sectors of 512 bytes. The size is rounded
// up to these.
func (vhdx) Write(ctx context.Context, f *os.File, src Image, o WriteOptions) error {
	if err := refuseOptions("vhdx", o.Compress != "", o.Subformat != "", o.Backing != nil); err != nil {
		return err
	}
	w := &vhdxWriter{vhdxInfo: vhdxInfo{block: vhdxBlock, sector: 512, size: roundUp(src.Size(), 512)}, file: f}
	switch {
	case w.size == 0:
		return errors.New("an image of 0 bytes can't be a vhdx: give it a size")
	case w.size > vhdxMaxSize:
		return fmt.Errorf("%d bytes are too large for a vhdx (at most %d)", w.size, int64(vhdxMaxSize))
	case w.size > 8<<40:
		w.block = 64 << 20
	}
	blocks := (w.size + w.block - 1) / w.block
	w.table = make([]byte, roundUp((w.position(blocks-1)+1)*8, 1<<20))
	w.next = vhdxTableAt + int64(len(w.table))
	w.id, w.room = newIdentity("vhdx", w.size), reserve{file: f, from: w.next}
	// A piece is no larger than 1 MiB, so that memory stays small; a block is
	// placed when its first piece with data comes.
	p := pump{src: src, out: f, unit: 1 << 20, progress: o.Progress, place: w.placeUnits}
	if err := p.run(ctx); err != nil {
		return err
	}
	return w.finish()
}

// position returns the position of a block's entry in the table.
func (w *vhdxWriter) position(block int64) int64 { return block + block/w.chunk() }

func (w *vhdxWriter) placeUnits(units []unit) error {
	for i := range units {
		u := &units[i]
		if u.kind == absent {
			continue
		}
		entry := w.table[w.position(u.off/w.block)*8:]
		if binary.LittleEndian.Uint64(entry) == vhdxAbsent {
			binary.LittleEndian.PutUint64(entry, uint64(w.next)|vhdxPresent)
			w.next += w.block
		}
		u.at = int64(binary.LittleEndian.Uint64(entry))&^(1<<20-1) + u.off%w.block
		w.id.add(u)
	}
	return nil
}

// finish writes everything but the blocks, the signature last.
func (w *vhdxWriter) finish() error {
	if err := w.file.Truncate(w.next); err != nil {
		return err
	}
	regions := w.regions()
	for _, c := range []chunk{
		{vhdxTableAt, w.table},
		{vhdxMetaAt, w.metadata()},
		{vhdxRegions1, regions}, {vhdxRegions2, regions},
		{vhdxHeader1, w.header(1)}, {vhdxHeader2, w.header(2)},
		{0, append([]byte(vhdxMagic), 'b', 0, '9', 0)},
	} {
		if err := storeSparse(w.file, c.bytes, c.at); err != nil {
			return err
		}
	}
	return nil
}

// header returns a header with an empty log (section 2.2.2).
func (w *vhdxWriter) header(sequence uint64) []byte {
	le := binary.LittleEndian
	b := make([]byte, vhdxHeaderSize)
	copy(b, "head")
	le.PutUint64(b[8:], sequence)
	file, data := w.id.uuid(1), w.id.uuid(2)
	copy(b[16:], file[:])
	copy(b[32:], data[:])
	le.PutUint16(b[66:], 1)
	le.PutUint32(b[68:], vhdxLog)
	le.PutUint64(b[72:], vhdxLog)
	le.PutUint32(b[4:], vhdxChecksum(b))
	return b
}

// regions returns the table of regions (section 2.2.3).
func (w *vhdxWriter) regions() []byte {
	le := binary.LittleEndian
	b := make([]byte, vhdxRegionSize)
	copy(b, "regi")
	le.PutUint32(b[8:], 2)
	for i, r := range []struct {
		id         string
		at, length int
	}{{vhdxGUIDBlocks, vhdxTableAt, len(w.table)}, {vhdxGUIDMetadata, vhdxMetaAt, 1 << 20}} {
		e := b[16+32*i:]
		putGUID(e, r.id)
		le.PutUint64(e[16:], uint64(r.at))
		le.PutUint32(e[24:], uint32(r.length))
		le.PutUint32(e[28:], 1) // required
	}
	le.PutUint32(b[4:], vhdxChecksum(b))
	return b
}

// metadata returns the table of metadata and its items (section 2.6).
func (w *vhdxWriter) metadata() []byte {
	le := binary.LittleEndian
	disk := w.id.uuid(3)
	const virtual, required = 2, 4
	items := []struct {
		id    string
		value []byte
		flags uint32
	}{
		{vhdxGUIDFile, le.AppendUint64(nil, uint64(w.block)), required},
		{vhdxGUIDSize, le.AppendUint64(nil, uint64(w.size)), virtual | required},
		{vhdxGUIDDisk, disk[:], virtual | required},
		{vhdxGUIDSector, le.AppendUint32(nil, uint32(w.sector)), virtual | required},
		{vhdxGUIDPhysical, le.AppendUint32(nil, 4096), virtual | required},
	}
	b := make([]byte, vhdxItemsAt+vhdxItemStep*len(items))
	copy(b, "metadata")
	le.PutUint16(b[10:], uint16(len(items)))
	for i, item := range items {
		e, at := b[32+32*i:], vhdxItemsAt+vhdxItemStep*i
		putGUID(e, item.id)
		le.PutUint32(e[16:], uint32(at))
		le.PutUint32(e[20:], uint32(len(item.value)))
		le.PutUint32(e[24:], item.flags)
		copy(b[at:], item.value)
	}
	return b
}

// putGUID writes a GUID of this package, which is well formed.
func putGUID(b []byte, text string) {
	id, err := guidBytes(text)
	if err != nil {
		panic(err)
	}
	copy(b, id[:])
}
