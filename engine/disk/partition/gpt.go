package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"unicode/utf16"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/guid"
	"b9.build/b9/engine/internal/sparse"
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
	self             uint64
	id               string
	entries          uint64
	count, entrySize uint32
	sum              uint32
}

// findGPT looks for the headers with the given sector size, or with both.
func findGPT(img image.Image, sector int) (*Table, error) {
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
func readGPT(img image.Image, sector int, lba int64) (*Table, error) {
	h, err := readGPTHeader(img, int64(sector), lba)
	if err != nil {
		return nil, err
	}
	array := make([]byte, int64(h.count)*int64(h.entrySize))
	if err := image.ReadPadded(img, array, int64(h.entries)*int64(sector)); err != nil {
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
func readGPTHeader(img image.Image, sector, lba int64) (*gptHeader, error) {
	last := img.Size()/sector - 1
	if lba < 1 || lba > last {
		return nil, errNoGPT
	}
	b := make([]byte, sector)
	if err := image.ReadPadded(img, b, lba*sector); err != nil {
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
		self: le.Uint64(b[24:]), id: guid.String(b[56:72]), entries: le.Uint64(b[72:]), count: le.Uint32(b[80:]), entrySize: le.Uint32(b[84:]), sum: le.Uint32(b[88:]),
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
		Type: guid.String(e[:16]), ID: guid.String(e[16:32]), Attributes: le.Uint64(e[48:]),
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

// encodeGPT returns the bytes of a new table, or of a table that was read and
// changed: all of it is written again, so that both copies agree even where one was
// damaged. The disk begins with the protective MBR, of which the boot code is left
// as it is, the header in sector 1 and the array of entries in the sectors after
// it; the backup array and header are the last sectors. Partitions lie between.
//
// The library gpt makes both copies with their checksums; what it does not check
// is checked before: it indexes past an entry for a name of more than 36 UTF-16
// units, derives IDs that are missing at random, and leaves out entries whose type
// is zero.
func (t *Table) encodeGPT(size int64) ([]image.Chunk, error) {
	sector := int64(t.SectorSize)
	lastLBA := size/sector - 1
	tableSectors := gptEntries * gptEntrySize / sector
	first, last := 2+tableSectors, lastLBA-1-tableSectors
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if err := p.checkGPT(); err != nil {
			return nil, err
		}
		if p.Start < first*sector || p.End() > (last+1)*sector {
			return nil, fmt.Errorf("partition %d (bytes %d to %d) does not lie between the tables (%d to %d)",
				p.Number, p.Start, p.End(), first*sector, (last+1)*sector)
		}
	}
	if last < first {
		return nil, fmt.Errorf("a disk of %d bytes is too small for a GPT", size)
	}
	if _, err := guid.Parse(t.ID); err != nil {
		return nil, fmt.Errorf("disk ID: %w", err)
	}
	table := gpt.Table{GUID: t.ID, LogicalSectorSize: t.SectorSize, PhysicalSectorSize: t.SectorSize}
	for i := range t.Partitions {
		table.Partitions = append(table.Partitions, t.Partitions[i].toGPT(sector))
	}
	w := chunkWriter{chunks: []image.Chunk{{At: BootCode, Bytes: protectiveMBR(lastLBA)}}}
	if err := table.Write(&w, size); err != nil {
		return nil, err
	}
	return w.chunks, nil
}

// chunkWriter keeps what is written to it. The library asks for a whole file to
// write to, and calls nothing but WriteAt.
type chunkWriter struct {
	backend.WritableFile
	chunks []image.Chunk
}

func (w *chunkWriter) WriteAt(b []byte, at int64) (int, error) {
	w.chunks = append(w.chunks, image.Chunk{At: at, Bytes: b})
	return len(b), nil
}

// checkGPT refuses what an entry can't hold.
func (p *Partition) checkGPT() error {
	if p.Number < 1 || p.Number > gptEntries {
		return fmt.Errorf("partition number %d (a GPT has 1 to %d)", p.Number, gptEntries)
	}
	kind, err := guid.Parse(p.Type)
	if err != nil {
		return fmt.Errorf("partition %d: type: %w", p.Number, err)
	}
	if kind == [16]byte{} {
		return fmt.Errorf("partition %d: type: all zeros is that of an entry which is not used", p.Number)
	}
	if _, err := guid.Parse(p.ID); err != nil {
		return fmt.Errorf("partition %d: UUID: %w", p.Number, err)
	}
	if len(utf16.Encode([]rune(p.Name))) > gptNameUnits {
		return fmt.Errorf("partition %d: the name %q is longer than %d UTF-16 units", p.Number, p.Name, gptNameUnits)
	}
	return nil
}

// toGPT returns p as the library describes it.
func (p *Partition) toGPT(sector int64) *gpt.Partition {
	attributes := p.Attributes
	if p.Bootable {
		attributes |= gptLegacyBoot
	}
	return &gpt.Partition{
		Index: p.Number, Start: uint64(p.Start / sector), End: uint64(p.End()/sector - 1),
		Type: gpt.Type(p.Type), GUID: p.ID, Name: p.Name, Attributes: attributes,
	}
}

// protectiveMBR returns an MBR, from the disk ID on, with one partition of the
// type 0xee that covers the whole disk (section 5.2.3).
func protectiveMBR(lastLBA int64) []byte {
	b := signed()
	e := b[mbrEntries:]
	copy(e, []byte{0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], uint32(min(lastLBA, math.MaxUint32)))
	return b[BootCode:]
}
