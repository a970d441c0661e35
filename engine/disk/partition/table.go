// Package partition reads, writes and plans partition tables: GPT (UEFI
// specification 2.10, section 5.3) and MBR with logical partitions (section 5.2.1).
//
// It hides sectors, checksums, backup copies and extended boot records: a
// [Partition] has a start and a length in bytes. It never reads what is in a
// partition and never moves one. What it reads is foreign, and checked: every
// partition of a [Table] lies in the disk.
//
//   - [ReadTable], [WriteTable], [Table.Find]: the table of a disk (table.go)
//   - [Resize] changes the length of a disk, [Grow] its last partition (resize.go, grow.go)
//   - [Layout] places partitions that are described by a [Spec] each (layout.go)
//   - gpt.go, mbr.go: the two kinds of table, as they lie on the disk
//   - types.go: the names of the types of partitions
package partition

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"b9.build/b9/engine/disk/image"
)

// Table is the partition table of a disk.
type Table struct {
	Kind       string // "gpt" or "mbr"
	SectorSize int    // bytes: 512 or 4096
	ID         string // GUID of the disk in lower case, or eight hexadecimal digits
	Size       int64  // bytes of the whole disk
	Partitions []Partition
	Backup     string // why the backup of a GPT was read; empty where the first copy is good
}

// Partition is an entry of a Table. An MBR's extended partition is one too; the
// logical ones in it have numbers from 5 on.
type Partition struct {
	Number     int    `json:"number"`
	Start      int64  `json:"start"`                // bytes
	Length     int64  `json:"size"`                 // bytes
	Type       string `json:"type"`                 // GUID in lower case, or "0x83"
	TypeName   string `json:"type_name,omitempty"`  // such as "linux"; empty where the type has no name here
	Name       string `json:"name,omitempty"`       // GPT only
	ID         string `json:"id,omitempty"`         // GUID in lower case, or as Linux derives it for MBR: "1234abcd-01"
	Bootable   bool   `json:"bootable,omitempty"`   // MBR's active flag, GPT's legacy BIOS bootable
	Attributes uint64 `json:"attributes,omitempty"` // GPT only
}

// End is the offset in bytes after the last byte of p.
func (p *Partition) End() int64 { return p.Start + p.Length }

// Extended reports whether p is an extended partition of an MBR, which holds
// others and no content of its own.
func (p *Partition) Extended() bool { return extended(p.Type) }

func extended(code string) bool { return code == "0x05" || code == "0x0f" || code == "0x85" }

// ErrNone is in the error of ReadTable for an image that has no partition table, as
// opposed to a damaged one.
var ErrNone = errors.New("no partition table")

// ReadTable reads the GPT or MBR of img. The sector size is 512 or 4096 bytes; 0
// stands for what the GPT says, or 512 where only an MBR is there, which does
// not say. If the first copy of a GPT is damaged the backup is used, and Backup
// says so.
func ReadTable(img image.Image, sector int) (*Table, error) {
	if err := checkSectors(cmp.Or(sector, 512), 0); err != nil {
		return nil, err
	}
	mbr, err := readMBR(img, max(sector, 512))
	if err == nil && !mbr.protective() && mbr.inUse() {
		return mbr, nil
	}
	protective := err == nil && mbr.protective()
	found, gptErr := findGPT(img, sector)
	switch {
	case gptErr == nil:
		return found, nil
	case protective || !errors.Is(gptErr, errNoGPT):
		return nil, gptErr
	case err != nil:
		return nil, err
	}
	return mbr, nil
}

// inUse reports whether t has a partition that an operating system would use.
func (t *Table) inUse() bool {
	return slices.ContainsFunc(t.Partitions, func(p Partition) bool { return p.Type != "0x00" })
}

// protective reports whether t is the MBR in front of a GPT.
func (t *Table) protective() bool {
	return slices.ContainsFunc(t.Partitions, func(p Partition) bool { return p.Type == "0xee" })
}

// Find returns the partition with the given number, name or UUID.
func (t *Table) Find(sel string) (*Partition, error) {
	number, err := strconv.Atoi(sel)
	var found *Partition
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if err == nil && p.Number == number || strings.EqualFold(p.ID, sel) {
			return p, nil
		}
		if p.Name == sel && sel != "" {
			if found != nil {
				return nil, fmt.Errorf("several partitions are called %q (%s): use the number", sel, t.list())
			}
			found = p
		}
	}
	if found == nil {
		return nil, fmt.Errorf("no partition %q (%s)", sel, t.list())
	}
	return found, nil
}

// Alone returns an error if the table itself has bytes in common with p, or another
// partition, unless p lies in it: such as the partition of a hybrid ISO image that
// covers others.
func (t *Table) Alone(p *Partition) error {
	for i := range t.Partitions {
		o := &t.Partitions[i]
		within := o.Start <= p.Start && p.End() <= o.End()
		if o.Number != p.Number && o.Start < p.End() && p.Start < o.End() && !within {
			return fmt.Errorf("partition %d has bytes in common with partition %d", p.Number, o.Number)
		}
	}
	sector := int64(t.SectorSize)
	first, last := sector, t.Size
	if t.Kind == "gpt" {
		first, last = 2*sector, t.Size-sector
	}
	if p.Start < first || p.End() > last {
		return fmt.Errorf("partition %d has bytes in common with the partition table", p.Number)
	}
	return nil
}

// list names the partitions for an error message.
func (t *Table) list() string {
	if len(t.Partitions) == 0 {
		return "the table is empty"
	}
	var names []string
	for _, p := range t.Partitions {
		name := strconv.Itoa(p.Number)
		if p.Name != "" {
			name += fmt.Sprintf(" %q", p.Name)
		}
		names = append(names, name)
	}
	return "have " + strings.Join(names, ", ")
}

// WriteTable writes t to f, whose size is that of the disk. It writes both
// copies of a GPT and the protective MBR, or an MBR with its extended boot
// records, and nothing else: the boot code in the first 440 bytes stays. The
// bytes depend on t and the size only.
func WriteTable(f *os.File, t *Table) error {
	size, err := f.Seek(0, 2)
	if err != nil {
		return err
	}
	chunks, err := t.Encode(size)
	if err != nil {
		return err
	}
	for _, c := range chunks {
		if _, err := f.WriteAt(c.Bytes, c.At); err != nil {
			return err
		}
	}
	return nil
}

// Encode returns the bytes of the table of a disk of size bytes, in order.
func (t *Table) Encode(size int64) ([]image.Chunk, error) {
	if err := checkSectors(t.SectorSize, size); err != nil {
		return nil, err
	}
	if err := t.checkPlaces(); err != nil {
		return nil, err
	}
	switch t.Kind {
	case "gpt":
		return t.encodeGPT(size)
	case "mbr":
		return t.encodeMBR(size)
	}
	return nil, fmt.Errorf("unknown partition table %q (have gpt, mbr)", t.Kind)
}

// checkSectors checks that a disk of size bytes has whole sectors of a usual size.
func checkSectors(sector int, size int64) error {
	if sector != 512 && sector != 4096 {
		return fmt.Errorf("sector size of %d bytes (have 512, 4096)", sector)
	}
	if size < 0 || size%int64(sector) != 0 {
		return fmt.Errorf("a disk of %d bytes is no multiple of its sectors of %d bytes", size, sector)
	}
	return nil
}

// checkPlaces checks that partitions have whole sectors and don't overlap.
func (t *Table) checkPlaces() error {
	sector := int64(t.SectorSize)
	seen := map[int]bool{}
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if p.Start < sector || p.Length <= 0 || p.Start%sector != 0 || p.Length%sector != 0 {
			return fmt.Errorf("partition %d: %d bytes at %d are not whole sectors of %d bytes after the first", p.Number, p.Length, p.Start, sector)
		}
		if seen[p.Number] {
			return fmt.Errorf("two partitions have the number %d", p.Number)
		}
		seen[p.Number] = true
	}
	sorted := slices.DeleteFunc(slices.Clone(t.Partitions), func(p Partition) bool { return p.Extended() })
	slices.SortFunc(sorted, func(a, b Partition) int { return cmp.Compare(a.Start, b.Start) })
	for i := 1; i < len(sorted); i++ {
		if a, b := sorted[i-1], sorted[i]; a.End() > b.Start {
			return fmt.Errorf("partitions %d and %d overlap", a.Number, b.Number)
		}
	}
	return nil
}
