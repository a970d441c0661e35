package partition

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"math"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/guid"
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

// gptHeader is a header as it lies on the disk, little endian. Numbers are sectors.
type gptHeader struct {
	Signature                    [8]byte
	Revision, Size, Sum, _       uint32
	Self, Other, First, Last     uint64
	ID                           [16]byte
	Entries                      uint64
	Count, EntrySize, EntriesSum uint32
}

// gptEntry is an entry of the array. First and Last are sectors.
type gptEntry struct {
	Type, ID                [16]byte
	First, Last, Attributes uint64
	Name                    [gptNameUnits]uint16
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
				if backup {
					t.Backup = backupReason(errs)
				}
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

// backupReason says why the backup is read, after these errors with the first copy.
func backupReason(errs []error) string {
	if len(errs) == 0 {
		return "the first copy is missing: its signature is not in the second sector"
	}
	return "the first copy is damaged: " + strings.ReplaceAll(errors.Join(errs...).Error(), "\n", "; ")
}

// readGPT reads the table whose header is in sector lba.
func readGPT(img image.Image, sector int, lba int64) (*Table, error) {
	c, err := readGPTCopy(img, int64(sector), lba)
	if err != nil {
		return nil, err
	}
	t := &Table{Kind: "gpt", SectorSize: sector, ID: guid.String(c.ID[:]), Size: img.Size()}
	for number, e := range c.used() {
		if err := t.addGPT(number, e); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// CheckCopies compares both copies of a GPT that was read from img. The error says
// what is wrong with one of them; an MBR has one copy, and gives none.
func (t *Table) CheckCopies(img image.Image) error {
	if t.Kind != "gpt" || t.Backup != "" {
		if t.Backup != "" {
			return errors.New(t.Backup)
		}
		return nil
	}
	c, err := readGPTCopy(img, int64(t.SectorSize), 1)
	if err != nil {
		return err
	}
	last := img.Size()/c.sector - 1
	if c.Other != uint64(last) {
		return fmt.Errorf("the backup is in sector %d, not in the last, %d", c.Other, last)
	}
	b, err := readGPTCopy(img, c.sector, last)
	switch {
	case errors.Is(err, errNoGPT):
		return errors.New("the backup is missing: its signature is not in the last sector")
	case err != nil:
		return fmt.Errorf("the backup is damaged: %w", err)
	case b.ID != c.ID || b.First != c.First || b.Last != c.Last || !bytes.Equal(b.array, c.array):
		return errors.New("the backup differs from the first copy")
	}
	return nil
}

// gptCopy is one copy of a GPT, with every byte of it.
type gptCopy struct {
	gptHeader
	sector int64
	head   []byte // the sector of the header
	array  []byte
}

// readGPTCopy reads the copy whose header is in sector lba.
func readGPTCopy(img image.Image, sector, lba int64) (*gptCopy, error) {
	h, head, err := readGPTHeader(img, sector, lba)
	if err != nil {
		return nil, err
	}
	c := &gptCopy{gptHeader: *h, sector: sector, head: head, array: make([]byte, int64(h.Count)*int64(h.EntrySize))}
	if err := image.ReadPadded(img, c.array, int64(h.Entries)*sector); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(c.array) != h.EntriesSum {
		return nil, fmt.Errorf("the checksum of the entries of the header in sector %d is wrong", lba)
	}
	return c, nil
}

// used yields the numbers of the partitions and their entries.
func (c *gptCopy) used() iter.Seq2[int, *gptEntry] {
	return func(yield func(int, *gptEntry) bool) {
		number := 0
		for b := range slices.Chunk(c.array, int(c.EntrySize)) {
			number++
			e := &gptEntry{}
			if _, err := binary.Decode(b, binary.LittleEndian, e); err != nil || e.Type == [16]byte{} {
				continue // which an entry of at least 128 bytes does not fail with
			}
			if !yield(number, e) {
				return
			}
		}
	}
}

// readGPTHeader reads and checks a header; the array of entries it names lies in
// the image and is of reasonable size. It returns its whole sector, too.
func readGPTHeader(img image.Image, sector, lba int64) (*gptHeader, []byte, error) {
	last := img.Size()/sector - 1
	if lba < 1 || lba > last {
		return nil, nil, errNoGPT
	}
	b := make([]byte, sector)
	if err := image.ReadPadded(img, b, lba*sector); err != nil {
		return nil, nil, err
	}
	h := &gptHeader{}
	if _, err := binary.Decode(b, binary.LittleEndian, h); err != nil {
		return nil, nil, err
	}
	if string(h.Signature[:]) != gptSignature {
		return nil, nil, errNoGPT
	}
	if h.Size < gptHeaderSize || int64(h.Size) > sector {
		return nil, nil, fmt.Errorf("the header in sector %d has %d bytes", lba, h.Size)
	}
	summed := slices.Clone(b[:h.Size])
	clear(summed[16:20])
	array := int64(h.Count) * int64(h.EntrySize)
	switch {
	case crc32.ChecksumIEEE(summed) != h.Sum:
		return nil, nil, fmt.Errorf("the checksum of the header in sector %d is wrong", lba)
	case h.Self != uint64(lba):
		return nil, nil, fmt.Errorf("the header in sector %d says it is in sector %d", lba, h.Self)
	case h.EntrySize < gptEntrySize || h.EntrySize > 4096 || h.EntrySize%8 != 0 || array > gptMaxEntries:
		return nil, nil, fmt.Errorf("the header in sector %d has %d entries of %d bytes", lba, h.Count, h.EntrySize)
	case h.Entries > uint64(last) || int64(h.Entries)*sector > img.Size()-array:
		return nil, nil, fmt.Errorf("the entries of the header in sector %d do not lie in the disk", lba)
	}
	return h, b, nil
}

// addGPT adds the partition of an entry.
func (t *Table) addGPT(number int, e *gptEntry) error {
	sector := int64(t.SectorSize)
	if e.First < 1 || e.Last < e.First || e.Last >= uint64(t.Size/sector) {
		return fmt.Errorf("partition %d (sectors %d to %d) does not lie in the disk of %d bytes", number, e.First, e.Last, t.Size)
	}
	p := Partition{
		Number: number, Start: int64(e.First) * sector, Length: int64(e.Last-e.First+1) * sector,
		Type: guid.String(e.Type[:]), ID: guid.String(e.ID[:]), Attributes: e.Attributes, Bootable: e.Attributes&gptLegacyBoot != 0,
	}
	p.TypeName = typeName(p.Type)
	name, _, _ := strings.Cut(string(utf16.Decode(e.Name[:])), "\x00")
	p.Name = name
	t.Partitions = append(t.Partitions, p)
	return nil
}

// encodeGPT returns the bytes of a new table. (One that is there is changed in
// place, by Resize, which keeps what a Table does not have.) The disk begins with the protective MBR, of which the boot code is left
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
	var r bootRecord
	r.Entries[0] = mbrEntry{
		First: [3]byte{0, 2, 0}, Kind: protectiveKind, Last: [3]byte{0xff, 0xff, 0xff},
		Start: 1, Length: uint32(min(lastLBA, math.MaxUint32)),
	}
	return r.encode()[BootCode:]
}
