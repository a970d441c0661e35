package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"slices"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/internal/blob"
)

// Where the fields of a GPT header lie that change when a copy is moved.
const (
	atSum     = 16
	atSelf    = 24
	atOther   = 32
	atLast    = 48
	atEntries = 72
	atArray   = 88 // the checksum of the entries

	atEntryLast = 40 // in an entry
	atMBR       = 446
	mbrEntryLen = 16
)

// Resize makes the disk in f, a raw image, size bytes long. A GPT goes with it: its
// backup moves to the new end, both headers say so, and an entry of the type 0xee in
// the MBR that reached to the old end reaches to the new one. Nothing else changes:
// boot code, the other entries of a hybrid MBR, the number and size of the entries,
// their reserved bytes, and where the first array lies stay as they are. An MBR alone
// says nothing of the size, so none of its bytes change.
//
// What would be cut off, and a GPT whose first copy is damaged, is an error, before
// anything is written.
func Resize(f *os.File, size int64) error {
	img, err := blob.FromFile(f)
	if err != nil {
		return err
	}
	chunks, err := resized(img, size)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	return writeChunks(f, chunks, size)
}

// writeChunks writes what lies in the first size bytes.
func writeChunks(f *os.File, chunks []image.Chunk, size int64) error {
	for _, c := range chunks {
		if c.At >= size {
			continue
		}
		if _, err := f.WriteAt(c.Bytes[:min(int64(len(c.Bytes)), size-c.At)], c.At); err != nil {
			return err
		}
	}
	return nil
}

// resized returns what changes in a disk that gets a new size.
func resized(img image.Image, size int64) ([]image.Chunk, error) {
	t, err := ReadTable(img, 0)
	if err != nil {
		return nil, err
	}
	for i := range t.Partitions {
		if p := &t.Partitions[i]; p.End() > size {
			return nil, fmt.Errorf("partition %d ends at %d, after the new size of %d", p.Number, p.End(), size)
		}
	}
	c, err := firstGPT(img, t)
	if c == nil || err != nil {
		return nil, err
	}
	if err := checkSectors(int(c.sector), size); err != nil {
		return nil, err
	}
	gone := c.oldBackup(img)
	moved, err := c.move(size)
	if err != nil {
		return nil, err
	}
	mbr, err := stretchMBR(img, c.sector, int64(c.Other)+1, size/c.sector)
	return append(append(gone, mbr...), moved...), err
}

// firstGPT returns the first copy of the GPT of a disk whose table is t; nil where
// the disk has none. A GPT behind an MBR that is not protective, as hybrid images
// have it, counts too.
func firstGPT(img image.Image, t *Table) (*gptCopy, error) {
	if t.Backup != "" {
		return nil, fmt.Errorf("the table is read from its backup, and %s: mend it first (gdisk, or sgdisk -e)", t.Backup)
	}
	var c *gptCopy
	var err error
	for _, sector := range []int64{512, 4096} {
		if t.Kind == "gpt" && sector != int64(t.SectorSize) {
			continue
		}
		if c, err = readGPTCopy(img, sector, 1); err == nil {
			return c, nil
		}
	}
	if t.Kind == "mbr" {
		return nil, nil
	}
	return nil, err
}

// arraySectors is how long the array of entries is.
func (c *gptCopy) arraySectors() uint64 {
	return uint64((int64(len(c.array)) + c.sector - 1) / c.sector)
}

// oldBackup returns zeros for the backup that the header names, if it is whole and
// nothing else lies there.
func (c *gptCopy) oldBackup(img image.Image) []image.Chunk {
	if c.Other > math.MaxInt64/uint64(c.sector) {
		return nil
	}
	old, err := readGPTCopy(img, c.sector, int64(c.Other))
	if err != nil || old.Entries <= c.Last || old.Entries <= c.Entries+c.arraySectors() {
		return nil
	}
	for _, e := range c.used() {
		if e.Last >= old.Entries || e.Last >= c.Other {
			return nil
		}
	}
	return []image.Chunk{
		{At: int64(old.Entries) * c.sector, Bytes: make([]byte, len(old.array))},
		{At: int64(c.Other) * c.sector, Bytes: make([]byte, c.sector)},
	}
}

// move returns both copies for a disk of size bytes. Between the last sector for
// partitions and the header stays the room that was there, if it is enough.
func (c *gptCopy) move(size int64) ([]image.Chunk, error) {
	self := uint64(size/c.sector) - 1
	room := c.arraySectors() + 1
	if c.Other > c.Last {
		room = max(room, c.Other-c.Last)
	}
	least, fixed := uint64(2), c.arraySectors()+1 // behind the last sector for partitions
	for number, e := range c.used() {
		if least = max(least, e.Last); self < fixed || e.Last > self-fixed {
			return nil, fmt.Errorf("partition %d ends at %d, and a disk of %d bytes has its table from %d on: it is too small",
				number, int64(e.Last+1)*c.sector, size, (int64(self)+1-int64(fixed))*c.sector)
		}
	}
	least = max(least, c.Entries+c.arraySectors()-1, c.First)
	if self < fixed || least > self-fixed {
		return nil, fmt.Errorf("a disk of %d bytes is too small for its GPT", size)
	}
	last := self - fixed
	if room <= self {
		last = max(min(self-room, last), least)
	}
	backup := self - c.arraySectors()
	first := image.Chunk{At: c.sector, Bytes: c.header(1, self, last, c.Entries)}
	return []image.Chunk{
		{At: int64(backup) * c.sector, Bytes: c.array},
		{At: int64(self) * c.sector, Bytes: c.header(self, 1, last, backup)},
		{At: int64(c.Entries) * c.sector, Bytes: c.array}, first,
	}, nil
}

// header returns the sector of the header with these numbers and true checksums.
func (c *gptCopy) header(self, other, last, entries uint64) []byte {
	b := append([]byte(nil), c.head...)
	le := binary.LittleEndian
	le.PutUint64(b[atSelf:], self)
	le.PutUint64(b[atOther:], other)
	le.PutUint64(b[atLast:], last)
	le.PutUint64(b[atEntries:], entries)
	le.PutUint32(b[atArray:], crc32.ChecksumIEEE(c.array))
	le.PutUint32(b[atSum:], 0)
	le.PutUint32(b[atSum:], crc32.ChecksumIEEE(b[:c.Size]))
	return b
}

// stretchMBR returns the MBR in front of a GPT for a disk that had so many sectors and
// gets others; nothing where it stays. Only the length of an entry that stands for
// the GPT changes.
func stretchMBR(img image.Image, sector, had, gets int64) ([]image.Chunk, error) {
	r, err := readBootRecord(img, 0)
	if err != nil {
		return nil, nil // there is none, and there need not be
	}
	var chunks []image.Chunk
	for i, e := range r.Entries {
		end := int64(e.Start) + int64(e.Length)
		switch {
		case e.Length == 0 || e.Kind == protectiveKind && e.Length == math.MaxUint32:
		case e.Kind == protectiveKind && (end == had || end > gets):
			length := binary.LittleEndian.AppendUint32(nil, uint32(min(gets-int64(e.Start), math.MaxUint32)))
			chunks = append(chunks, image.Chunk{At: int64(atMBR + i*mbrEntryLen + mbrEntryLen - 4), Bytes: length})
		case end > gets:
			return nil, fmt.Errorf("entry %d of the MBR in front of the GPT ends at %d, after the new size of %d", i+1, end*sector, gets*sector)
		}
	}
	return chunks, nil
}

// Grow makes the last partition of the disk in f, a raw image, as large as the table
// leaves room for, and returns it as it was and as it is. Its start, and all other
// bytes of the table, stay. A disk without a partition, and one whose last partition is a
// logical one or stands in a hybrid MBR too, is an error.
func Grow(f *os.File) (before, after Partition, err error) {
	img, err := blob.FromFile(f)
	if err != nil {
		return before, after, err
	}
	t, err := ReadTable(img, 0)
	if err != nil {
		return before, after, err
	}
	c, err := firstGPT(img, t)
	if err != nil {
		return before, after, err
	}
	if before, err = t.last(); err != nil {
		return before, after, err
	}
	var chunks []image.Chunk
	after = before
	switch {
	case c == nil && after.Number > 4:
		chunks, err = growLogical(img, t, &after)
	case c == nil:
		chunks, err = growMBR(t, &after)
	case t.Kind == "gpt":
		chunks, err = c.grow(img, &after)
	default:
		err = errors.New("the disk has both a GPT and an MBR with partitions of its own, of which only one would grow")
	}
	if err != nil {
		return before, after, err
	}
	return before, after, writeChunks(f, chunks, t.Size)
}

// last returns the partition that lies behind all others: an extended one only if no
// logical one lies in it.
func (t *Table) last() (Partition, error) {
	var last Partition
	for _, p := range t.Partitions {
		holds := func(x Partition) bool { return x.Number > 4 && x.Start >= p.Start && x.End() <= p.End() }
		if p.End() > last.End() && !(p.Extended() && slices.ContainsFunc(t.Partitions, holds)) {
			last = p
		}
	}
	if last.Number == 0 {
		return last, errors.New("the disk has no partition that could grow")
	}
	logical := t.Kind == "mbr" && last.Number > 4
	for _, p := range t.Partitions {
		if p.Number != last.Number && p.End() > last.Start && !(logical && p.Extended() && p.Start < last.Start) {
			return last, fmt.Errorf("partitions %d and %d overlap", p.Number, last.Number)
		}
	}
	return last, nil
}

// grow changes the entry of p in both copies.
func (c *gptCopy) grow(img image.Image, p *Partition) ([]image.Chunk, error) {
	if r, err := readBootRecord(img, 0); err == nil {
		for _, e := range r.Entries {
			if !e.empty() && e.Kind != protectiveKind && int64(e.Start)*c.sector == p.Start {
				return nil, fmt.Errorf("partition %d stands in a hybrid MBR too, which has room for its old size only", p.Number)
			}
		}
	}
	end := (int64(c.Last) + 1) * c.sector
	p.Length = max(p.Length, (end-p.Start)/growth*growth)
	at := (p.Number-1)*int(c.EntrySize) + atEntryLast
	binary.LittleEndian.PutUint64(c.array[at:], uint64(p.End()/c.sector-1))
	return c.move(img.Size())
}

// growth is of what the length of a grown partition is a multiple: a page.
const growth = 4096

// growMBR changes the entry of a primary partition.
func growMBR(t *Table, p *Partition) ([]image.Chunk, error) {
	t.fill(p)
	e, err := t.entry(p, p.Start)
	if err != nil {
		return nil, err
	}
	return endOf(e, mbrEntryAt(0, p.Number-1)), nil
}

// fill makes p reach to the end of the disk, or of what an MBR can record.
func (t *Table) fill(p *Partition) {
	end := min(t.Size, (math.MaxUint32+1)*int64(t.SectorSize))
	p.Length = max(p.Length, (end-p.Start)/growth*growth)
}

// mbrEntryAt is where the entry n, from 0 on, of the boot record at an offset lies.
func mbrEntryAt(record int64, n int) int64 { return record + int64(atMBR+n*mbrEntryLen) }

// endOf writes of an entry at an offset what changes with the partition's end.
func endOf(e mbrEntry, at int64) []image.Chunk {
	return []image.Chunk{{At: at + 5, Bytes: e.Last[:]}, {At: at + 12, Bytes: binary.LittleEndian.AppendUint32(nil, e.Length)}}
}

// growLogical changes the entries that tell where a logical partition ends: its own,
// that of the extended partition, and the link to its boot record, if it is not in the
// first one. Everything else of the chain stays as it is.
func growLogical(img image.Image, t *Table, p *Partition) ([]image.Chunk, error) {
	i := slices.IndexFunc(t.Partitions, func(x Partition) bool { return x.Extended() && x.Start < p.Start && p.End() <= x.End() })
	if i < 0 {
		return nil, fmt.Errorf("partition %d lies in no extended partition", p.Number)
	}
	ext, sector := t.Partitions[i], int64(t.SectorSize)
	record, entry, link, err := findLogical(img, ext, *p, sector)
	if err != nil {
		return nil, err
	}
	t.fill(p)
	ext.Length = max(ext.Length, p.End()-ext.Start)
	covered := Partition{Number: p.Number, Type: "0x05", Start: record, Length: p.End() - record}
	var chunks []image.Chunk
	for _, x := range []struct {
		p    *Partition
		from int64 // what the entry's start is counted from
		at   int64
	}{{p, record, mbrEntryAt(record, entry)}, {&ext, 0, mbrEntryAt(0, ext.Number-1)}, {&covered, ext.Start, link}} {
		if x.at < 0 {
			continue
		}
		e, err := t.entry(x.p, x.p.Start-x.from)
		if err != nil {
			return nil, err
		}
		chunks = append(chunks, endOf(e, x.at)...)
	}
	return chunks, nil
}

// findLogical returns where the boot record of p lies, which of its entries p is, and
// where the entry lies that leads to that record; -1 for the first one.
func findLogical(img image.Image, ext, p Partition, sector int64) (record int64, entry int, link int64, err error) {
	record, link = ext.Start, -1
	for range mbrMaxLinks {
		r, err := readBootRecord(img, record)
		if err != nil {
			return 0, 0, 0, err
		}
		next, from := int64(-1), int64(-1)
		for n, e := range r.Entries {
			switch at := int64(e.Start) * sector; {
			case e.empty():
			case e.extended():
				next, from = ext.Start+at, mbrEntryAt(record, n)
			case record+at == p.Start:
				return record, n, link, nil
			}
		}
		if next < 0 {
			break
		}
		record, link = next, from
	}
	return 0, 0, 0, fmt.Errorf("partition %d is in no boot record of the extended partition", p.Number)
}
