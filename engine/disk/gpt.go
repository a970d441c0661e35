package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"unicode/utf16"

	"b9/engine/internal/sparse"
)

// The GUID partition table of the UEFI specification 2.10, section 5.3.
const (
	gptSignature  = "EFI PART"
	gptHeaderSize = 92
	gptEntrySize  = 128
	gptEntries    = 128
	gptNameUnits  = 36
	gptLegacyBoot = 1 << 2 // attribute: a legacy BIOS may boot from it

	gptMaxEntries = 4 << 20 // bytes of the array that are read at most
)

// errNoGPT says that nothing looks like a GPT, as opposed to a damaged one.
var errNoGPT = errors.New("no GPT")

// gptHeader is a header whose own checksum is right. Numbers are sectors.
type gptHeader struct {
	self, other      uint64
	first, last      uint64
	id               string
	entries          uint64
	count, entrySize uint32
	sum              uint32
}

// findGPT looks for the headers with the given sector size, or with both.
func findGPT(img Image, sector int) (*Table, error) {
	sectors := []int{sector}
	if sector == 0 {
		sectors = []int{512, 4096}
	}
	var errs []error
	for _, backup := range []bool{false, true} {
		for _, s := range sectors {
			lba := int64(1)
			if backup {
				lba = img.Size()/int64(s) - 1
			}
			t, err := readGPT(img, s, lba)
			if err == nil {
				return t, nil
			}
			if !errors.Is(err, errNoGPT) {
				errs = append(errs, err)
			}
		}
	}
	if len(errs) == 0 {
		return nil, fmt.Errorf("%w: its signature is neither in the second nor in the last sector", errNoGPT)
	}
	return nil, fmt.Errorf("damaged GPT: %w", errors.Join(errs...))
}

// readGPT reads the table whose header is in sector lba.
func readGPT(img Image, sector int, lba int64) (*Table, error) {
	h, err := readGPTHeader(img, int64(sector), lba)
	if err != nil {
		return nil, err
	}
	array := make([]byte, int64(h.count)*int64(h.entrySize))
	if err := readSparse(img, array, int64(h.entries)*int64(sector)); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(array) != h.sum {
		return nil, fmt.Errorf("the checksum of the entries of the header in sector %d is wrong", lba)
	}
	t := &Table{Kind: "gpt", SectorSize: sector, ID: h.id, Size: img.Size()}
	for i := range int(h.count) {
		e := array[i*int(h.entrySize):][:h.entrySize]
		if sparse.IsZero(e[:16]) {
			continue
		}
		if err := t.addGPT(i+1, e); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// readGPTHeader reads and checks a header; the array of entries it names lies in
// the image and is of reasonable size.
func readGPTHeader(img Image, sector, lba int64) (*gptHeader, error) {
	last := img.Size()/sector - 1
	if lba < 1 || lba > last {
		return nil, errNoGPT
	}
	b := make([]byte, sector)
	if err := readSparse(img, b, lba*sector); err != nil {
		return nil, err
	}
	if string(b[:8]) != gptSignature {
		return nil, errNoGPT
	}
	le := binary.LittleEndian
	size, sum := int64(le.Uint32(b[12:])), le.Uint32(b[16:])
	if size < gptHeaderSize || size > sector {
		return nil, fmt.Errorf("the header in sector %d has %d bytes", lba, size)
	}
	clear(b[16:20])
	if crc32.ChecksumIEEE(b[:size]) != sum {
		return nil, fmt.Errorf("the checksum of the header in sector %d is wrong", lba)
	}
	h := &gptHeader{
		self: le.Uint64(b[24:]), other: le.Uint64(b[32:]), first: le.Uint64(b[40:]), last: le.Uint64(b[48:]),
		id: guidString(b[56:72]), entries: le.Uint64(b[72:]), count: le.Uint32(b[80:]), entrySize: le.Uint32(b[84:]), sum: le.Uint32(b[88:]),
	}
	array := int64(h.count) * int64(h.entrySize)
	switch {
	case h.self != uint64(lba):
		return nil, fmt.Errorf("the header in sector %d says it is in sector %d", lba, h.self)
	case h.entrySize < gptEntrySize || h.entrySize > 4096 || h.entrySize%8 != 0 || array > gptMaxEntries:
		return nil, fmt.Errorf("the header in sector %d has %d entries of %d bytes", lba, h.count, h.entrySize)
	case h.entries > uint64(last) || int64(h.entries)*sector > img.Size()-array:
		return nil, fmt.Errorf("the entries of the header in sector %d do not lie in the disk", lba)
	}
	return h, nil
}

// addGPT decodes an entry.
func (t *Table) addGPT(number int, e []byte) error {
	le := binary.LittleEndian
	first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
	sector := int64(t.SectorSize)
	if first < 1 || last < first || last >= uint64(t.Size/sector) {
		return fmt.Errorf("partition %d (sectors %d to %d) does not lie in the disk of %d bytes", number, first, last, t.Size)
	}
	p := Partition{
		Number: number, Start: int64(first) * sector, Length: int64(last-first+1) * sector,
		Type: guidString(e[:16]), ID: guidString(e[16:32]), Attributes: le.Uint64(e[48:]),
	}
	p.TypeName = typeName(p.Type)
	p.Bootable = p.Attributes&gptLegacyBoot != 0
	var name []uint16
	for i := range gptNameUnits {
		u := le.Uint16(e[56+2*i:])
		if u == 0 {
			break
		}
		name = append(name, u)
	}
	p.Name = string(utf16.Decode(name))
	t.Partitions = append(t.Partitions, p)
	return nil
}

// encodeGPT returns the protective MBR, the table, and the backup table.
func (t *Table) encodeGPT(size int64) ([]chunk, error) {
	sector := int64(t.SectorSize)
	array, err := t.encodeEntries()
	if err != nil {
		return nil, err
	}
	lastLBA := size/sector - 1
	tableSectors := roundUp(int64(len(array)), sector) / sector
	first, last := 2+tableSectors, lastLBA-1-tableSectors
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if p.Start < first*sector || p.End() > (last+1)*sector {
			return nil, fmt.Errorf("partition %d (bytes %d to %d) does not lie between the tables (%d to %d)",
				p.Number, p.Start, p.End(), first*sector, (last+1)*sector)
		}
	}
	if last < first {
		return nil, fmt.Errorf("a disk of %d bytes is too small for a GPT", size)
	}
	id, err := guidBytes(t.ID)
	if err != nil {
		return nil, fmt.Errorf("disk ID: %w", err)
	}
	h := gptHeader{self: 1, other: uint64(lastLBA), first: uint64(first), last: uint64(last), entries: 2, sum: crc32.ChecksumIEEE(array)}
	b := h
	b.self, b.other, b.entries = h.other, h.self, uint64(last+1)
	return []chunk{
		{mbrCode, protectiveMBR(lastLBA)},
		{sector, h.encode(id, sector)},
		{2 * sector, array},
		{(last + 1) * sector, array},
		{lastLBA * sector, b.encode(id, sector)},
	}, nil
}

func (h *gptHeader) encode(id [16]byte, sector int64) []byte {
	le := binary.LittleEndian
	b := make([]byte, sector)
	copy(b, gptSignature)
	le.PutUint32(b[8:], 0x00010000)
	le.PutUint32(b[12:], gptHeaderSize)
	le.PutUint64(b[24:], h.self)
	le.PutUint64(b[32:], h.other)
	le.PutUint64(b[40:], h.first)
	le.PutUint64(b[48:], h.last)
	copy(b[56:], id[:])
	le.PutUint64(b[72:], h.entries)
	le.PutUint32(b[80:], gptEntries)
	le.PutUint32(b[84:], gptEntrySize)
	le.PutUint32(b[88:], h.sum)
	le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:gptHeaderSize]))
	return b
}

// encodeEntries returns the array of 128 entries.
func (t *Table) encodeEntries() ([]byte, error) {
	array := make([]byte, gptEntries*gptEntrySize)
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if p.Number < 1 || p.Number > gptEntries {
			return nil, fmt.Errorf("partition number %d (a GPT has 1 to %d)", p.Number, gptEntries)
		}
		if err := p.encodeGPT(array[(p.Number-1)*gptEntrySize:], int64(t.SectorSize)); err != nil {
			return nil, fmt.Errorf("partition %d: %w", p.Number, err)
		}
	}
	return array, nil
}

func (p *Partition) encodeGPT(b []byte, sector int64) error {
	kind, err := guidBytes(p.Type)
	if err != nil {
		return fmt.Errorf("type: %w", err)
	}
	id, err := guidBytes(p.ID)
	if err != nil {
		return fmt.Errorf("UUID: %w", err)
	}
	name := utf16.Encode([]rune(p.Name))
	if len(name) > gptNameUnits {
		return fmt.Errorf("the name %q is longer than %d UTF-16 units", p.Name, gptNameUnits)
	}
	le := binary.LittleEndian
	copy(b, kind[:])
	copy(b[16:], id[:])
	le.PutUint64(b[32:], uint64(p.Start/sector))
	le.PutUint64(b[40:], uint64(p.End()/sector-1))
	attributes := p.Attributes
	if p.Bootable {
		attributes |= gptLegacyBoot
	}
	le.PutUint64(b[48:], attributes)
	for i, u := range name {
		le.PutUint16(b[56+2*i:], u)
	}
	return nil
}

// protectiveMBR returns an MBR, from the disk ID on, with one partition of the
// type 0xee that covers the whole disk (section 5.2.3).
func protectiveMBR(lastLBA int64) []byte {
	b := signed()
	e := b[mbrEntries:]
	copy(e, []byte{0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], uint32(min(lastLBA, math.MaxUint32)))
	return b[mbrCode:]
}
