package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"b9.build/b9/engine/disk/image"
)

// BootCode is how many bytes of boot code have room at the start of a disk.
const BootCode = 440

// The master boot record as the UEFI specification 2.10, section 5.2.1 gives
// it, and the chain of extended boot records as Linux and Windows read it.
const (
	mbrSize        = 512
	mbrSignature   = 0xaa55
	mbrMaxLinks    = 256  // of extended boot records
	active         = 0x80 // flag of an entry
	protectiveKind = 0xee // kind of the entry that covers the disk of a GPT
)

// bootRecord is a master or extended boot record as it lies on the disk, little
// endian. Only the first has code and an ID.
type bootRecord struct {
	Code      [BootCode]byte
	ID        uint32
	_         uint16
	Entries   [4]mbrEntry
	Signature uint16
}

// mbrEntry is one of the four entries of a boot record. Start and Length are
// sectors; First and Last the same as cylinder, head and sector.
type mbrEntry struct {
	Flag          byte
	First         [3]byte
	Kind          byte
	Last          [3]byte
	Start, Length uint32
}

func (e mbrEntry) extended() bool { return extended(codeText(e.Kind)) }

func (e mbrEntry) empty() bool { return e.Kind == 0 || e.Length == 0 }

// readBootRecord reads the boot record at off. What is none, such as the first
// sector of a FAT, gives an error.
func readBootRecord(img image.Image, off int64) (r bootRecord, err error) {
	if img.Size()-off < mbrSize {
		return r, fmt.Errorf("%w: the image is too small", ErrNone)
	}
	if err := binary.Read(io.NewSectionReader(img, off, mbrSize), binary.LittleEndian, &r); err != nil {
		return r, err
	}
	if r.Signature != mbrSignature {
		return r, fmt.Errorf("%w: neither a GPT nor the signature of an MBR", ErrNone)
	}
	if slices.ContainsFunc(r.Entries[:], func(e mbrEntry) bool { return e.Flag&0x7f != 0 }) {
		return r, fmt.Errorf("%w: there is the signature of an MBR, but no valid entries", ErrNone)
	}
	return r, nil
}

// encode returns the bytes of a boot record.
func (r *bootRecord) encode() []byte {
	r.Signature = mbrSignature
	return image.Encode(binary.LittleEndian, r)
}

// readMBR reads the primary and logical partitions.
func readMBR(img image.Image, sector int) (*Table, error) {
	r, err := readBootRecord(img, 0)
	if err != nil {
		return nil, err
	}
	t := &Table{Kind: "mbr", SectorSize: sector, ID: fmt.Sprintf("%08x", r.ID), Size: img.Size()}
	for i, e := range r.Entries {
		if e.Length == 0 {
			continue
		}
		// Of the type 0, "unused", is what covers a hybrid ISO image; the kernel has
		// a partition for it, too. Elsewhere it is the rest of one that was deleted.
		if err := t.addMBR(i+1, e, 0); err != nil {
			if e.Kind == protectiveKind || e.Kind == 0 { // its length means nothing
				continue
			}
			return nil, err
		}
	}
	for _, p := range t.Partitions {
		if p.Extended() {
			if err := t.addLogical(img, p); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// addMBR adds a partition whose start is counted in sectors from base on. One that
// begins with the table itself is what hybrid ISO images have.
func (t *Table) addMBR(number int, e mbrEntry, base int64) error {
	p := Partition{
		Number: number, Start: base + int64(e.Start)*int64(t.SectorSize), Length: int64(e.Length) * int64(t.SectorSize),
		Type: codeText(e.Kind), Bootable: e.Flag == active, ID: fmt.Sprintf("%s-%02x", t.ID, number),
	}
	p.TypeName = typeName(p.Type)
	if e.Kind == protectiveKind {
		p.Length = min(p.Length, t.Size-p.Start)
	}
	if p.Start < 0 || p.Start == 0 && p.Extended() || p.Length <= 0 || p.End() > t.Size {
		return fmt.Errorf("corrupt MBR: partition %d (%d bytes at %d) does not lie in the disk of %d bytes", number, p.Length, p.Start, t.Size)
	}
	t.Partitions = append(t.Partitions, p)
	return nil
}

// addLogical follows the chain of extended boot records in ext.
func (t *Table) addLogical(img image.Image, ext Partition) error {
	number := 5
	for _, p := range t.Partitions {
		number = max(number, p.Number+1)
	}
	seen := map[int64]bool{}
	for at := ext.Start; ; {
		if seen[at] || len(seen) >= mbrMaxLinks {
			return errors.New("corrupt MBR: the chain of logical partitions has no end")
		}
		seen[at] = true
		r, err := readBootRecord(img, at)
		if err != nil {
			if at == ext.Start {
				return nil // an extended partition never used
			}
			return fmt.Errorf("corrupt MBR: logical partition %d: no boot record at %d", number, at)
		}
		next := int64(0)
		for _, e := range r.Entries {
			if e.empty() {
				continue
			}
			if e.extended() {
				next = max(next, int64(e.Start)*int64(t.SectorSize))
				continue
			}
			if err := t.addMBR(number, e, at); err != nil {
				return err
			}
			number++
		}
		if next == 0 {
			return nil
		}
		if at = ext.Start + next; at > ext.End()-mbrSize {
			return fmt.Errorf("corrupt MBR: link to a boot record at %d, outside the extended partition", at)
		}
	}
}

// encodeMBR returns the boot record and the extended boot records.
func (t *Table) encodeMBR(size int64) ([]image.Chunk, error) {
	id, err := strconv.ParseUint(t.ID, 16, 32)
	if err != nil || len(t.ID) != 8 {
		return nil, fmt.Errorf("disk ID %q of an MBR: want eight hexadecimal digits", t.ID)
	}
	r := bootRecord{ID: uint32(id)}
	var extended *Partition
	var logical []*Partition
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if p.End() > size {
			return nil, fmt.Errorf("partition %d ends at %d, after the disk of %d bytes", p.Number, p.End(), size)
		}
		if p.Number > 4 {
			logical = append(logical, p)
			continue
		}
		if p.Number < 1 {
			return nil, fmt.Errorf("partition number %d in an MBR", p.Number)
		}
		if p.Extended() {
			if extended != nil {
				return nil, errors.New("an MBR can have only one extended partition")
			}
			extended = p
		}
		if r.Entries[p.Number-1], err = t.entry(p, p.Start); err != nil {
			return nil, err
		}
	}
	chunks := []image.Chunk{{At: BootCode, Bytes: r.encode()[BootCode:]}}
	if len(logical) == 0 && extended == nil {
		return chunks, nil
	}
	if extended == nil {
		return nil, fmt.Errorf("partition %d of an MBR needs an extended partition", logical[0].Number)
	}
	more, err := t.encodeLogical(extended, logical)
	return append(chunks, more...), err
}

// entry returns the entry of a partition; its start is relative to another place
// in bytes.
func (t *Table) entry(p *Partition, start int64) (e mbrEntry, err error) {
	kind, err := strconv.ParseUint(p.Type, 0, 8)
	if err != nil || kind == 0 {
		return e, fmt.Errorf("partition %d: type %q is none of an MBR (such as 0x83)", p.Number, p.Type)
	}
	sector := int64(t.SectorSize)
	if p.End()/sector > 1<<32 {
		return e, fmt.Errorf("partition %d ends at %d bytes, which an MBR can't record: use a GPT", p.Number, p.End())
	}
	if p.Bootable {
		e.Flag = active
	}
	e.Kind, e.Start, e.Length = byte(kind), uint32(start/sector), uint32(p.Length/sector)
	e.First, e.Last = chs(p.Start/sector), chs(p.End()/sector-1)
	return e, nil
}

// chs returns cylinder, head and sector for 255 heads and 63 sectors; beyond
// their range it is the largest.
func chs(lba int64) [3]byte {
	c, h, s := lba/(255*63), lba/63%255, lba%63+1
	if c > 1023 {
		c, h, s = 1023, 254, 63
	}
	return [3]byte{byte(h), byte(s) | byte(c>>8<<6), byte(c)}
}

// encodeLogical returns a boot record for each logical partition. The first lies
// at the start of the extended partition; each other one 1 MiB before its
// partition or, if there is no room, right behind the partition before.
func (t *Table) encodeLogical(ext *Partition, logical []*Partition) ([]image.Chunk, error) {
	sector := int64(t.SectorSize)
	if len(logical) == 0 {
		return []image.Chunk{{At: ext.Start, Bytes: new(bootRecord).encode()}}, nil
	}
	var chunks []image.Chunk
	places := make([]int64, len(logical)+1)
	for i, p := range logical {
		if p.Number != 5+i {
			return nil, fmt.Errorf("logical partitions must be numbered from 5 on without a gap (there is %d)", p.Number)
		}
		places[i] = ext.Start
		if i > 0 {
			places[i] = max(logical[i-1].End(), p.Start-mebi)
		}
		if p.Start < places[i]+sector || p.End() > ext.End() {
			return nil, fmt.Errorf("logical partition %d does not lie, with a sector before it, in the extended partition", p.Number)
		}
	}
	for i, p := range logical {
		var r bootRecord
		var err error
		if r.Entries[0], err = t.entry(p, p.Start-places[i]); err != nil {
			return nil, err
		}
		if i+1 < len(logical) {
			next := Partition{Number: p.Number, Type: "0x05", Start: places[i+1], Length: logical[i+1].End() - places[i+1]}
			if r.Entries[1], err = t.entry(&next, next.Start-ext.Start); err != nil {
				return nil, err
			}
		}
		chunks = append(chunks, image.Chunk{At: places[i], Bytes: r.encode()})
	}
	return chunks, nil
}
