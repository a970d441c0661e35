package partition

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"strings"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/guid"
	"b9.build/b9/engine/near"
)

// mebi is 1 MiB, the alignment that suits every disk.
const mebi = 1 << 20

// Spec is what a partition shall be like. Sizes are bytes.
type Spec struct {
	Name       string // at most 36 UTF-16 units; an MBR does not record it
	Type       string // a name such as "linux" or "efi", a GUID, or "0x83"; empty: linux
	ID         string // GUID; empty: derived from the disk's ID, name and position. GPT only
	Size       int64  // rounded up to whole sectors; with Fill the least size, like Min
	Min        int64  // least size with Fill
	Fill       bool   // takes what the others leave; one partition may
	Align      int64  // of the start; 0: that of the disk
	Bootable   bool
	Attributes uint64 // GPT only
}

// LayoutOptions are for the disk as a whole.
type LayoutOptions struct {
	Kind       string // "gpt" (the default) or "mbr"
	SectorSize int    // 512 (the default) or 4096
	DiskID     string // GUID or eight hexadecimal digits; empty: derived from the partitions
	Size       int64  // of the disk, whole sectors; 0: as large as needed, a multiple of 1 MiB
	Align      int64  // of partitions; 0: 1 MiB
}

// Layout places partitions one after the other and returns the table and the
// size of the disk in bytes. The same arguments give the same table: IDs that
// are not given are derived from what is. More than four partitions of an MBR
// make the fourth an extended one, and those from there on logical, numbered
// from 5.
func Layout(parts []Spec, o LayoutOptions) (*Table, int64, error) {
	l, err := newLayout(parts, o)
	if err != nil {
		return nil, 0, err
	}
	need, err := l.put(0)
	if err != nil {
		return nil, 0, err
	}
	size := o.Size
	if size == 0 {
		size = image.RoundUp(need, mebi)
	}
	if size < need {
		return nil, 0, fmt.Errorf("the partitions need a disk of %d bytes, it has %d", need, size)
	}
	if l.fill >= 0 {
		spare := (size - need) / l.align * l.align
		if _, err := l.put(spare); err != nil {
			return nil, 0, err
		}
	}
	l.table.Size = size
	if err := l.identify(); err != nil {
		return nil, 0, err
	}
	if _, err := l.table.Encode(size); err != nil {
		return nil, 0, err
	}
	return l.table, size, nil
}

// layout is the state of one call of Layout.
type layout struct {
	specs  []Spec
	table  *Table
	align  int64
	fill   int // index of the partition that fills; -1: none
	diskID string
}

func newLayout(parts []Spec, o LayoutOptions) (*layout, error) {
	l := &layout{specs: parts, align: cmp.Or(o.Align, mebi), fill: -1, diskID: o.DiskID}
	l.table = &Table{Kind: cmp.Or(o.Kind, "gpt"), SectorSize: cmp.Or(o.SectorSize, 512)}
	if k := l.table.Kind; k != "gpt" && k != "mbr" {
		return nil, fmt.Errorf("unknown partition table %q (have gpt, mbr)%s", k, near.Hint(k, []string{"gpt", "mbr"}))
	}
	if err := checkSectors(l.table.SectorSize, o.Size); err != nil {
		return nil, err
	}
	return l, l.checkSpecs()
}

func (l *layout) checkSpecs() error {
	sector := int64(l.table.SectorSize)
	for i, s := range l.specs {
		align := l.alignOf(s)
		switch {
		case s.Size < 0 || s.Min < 0 || s.Size > math.MaxInt64/4 || s.Min > math.MaxInt64/4 || max(s.Size, s.Min) == 0 && !s.Fill:
			return fmt.Errorf("partition %s: a size of %d bytes", l.label(i), s.Size)
		case align < sector || align%sector != 0 || align > 1<<40:
			return fmt.Errorf("partition %s: alignment of %d bytes, which is no multiple of the sectors of %d bytes", l.label(i), align, sector)
		case s.Fill && l.fill >= 0:
			return fmt.Errorf("partitions %s and %s: only one can fill the rest of the disk", l.label(l.fill), l.label(i))
		case l.table.Kind == "mbr" && s.ID != "":
			return fmt.Errorf("partition %s: an MBR has no UUIDs: set the disk ID", l.label(i))
		}
		if s.Fill {
			l.fill = i
		}
	}
	return nil
}

// label names a partition in messages: its position and, if it has one, name.
func (l *layout) label(i int) string {
	if n := l.specs[i].Name; n != "" {
		return fmt.Sprintf("%d (%q)", i+1, n)
	}
	return fmt.Sprint(i + 1)
}

func (l *layout) alignOf(s Spec) int64 { return cmp.Or(s.Align, l.align) }

// put places all partitions, with spare bytes more for the one that fills, and
// returns the size that the disk needs.
func (l *layout) put(spare int64) (int64, error) {
	t, sector := l.table, int64(l.table.SectorSize)
	t.Partitions = t.Partitions[:0]
	at, tail := sector, int64(0) // what lies before the first partition at least, and behind the last
	if t.Kind == "gpt" {
		at, tail = 2*sector+gptEntries*gptEntrySize, sector+gptEntries*gptEntrySize
	}
	for i, s := range l.specs {
		code, err := typeCode(t.Kind, cmp.Or(s.Type, "linux"))
		if err != nil {
			return 0, fmt.Errorf("partition %s: %w", l.label(i), err)
		}
		number := i + 1
		if t.Kind == "mbr" && len(l.specs) > 4 && i >= 3 {
			number = i + 2
			at = l.openLogical(i, at)
		}
		length := image.RoundUp(max(s.Size, s.Min), sector)
		if i == l.fill {
			length = max(length, sector) + spare
		}
		p := Partition{Number: number, Start: image.RoundUp(at, l.alignOf(s)), Length: length, Type: code, Name: s.Name,
			ID: strings.ToLower(s.ID), Bootable: s.Bootable, Attributes: s.Attributes}
		if t.Kind == "mbr" {
			p.Name, p.Attributes = "", 0
		}
		p.TypeName = typeName(code)
		t.Partitions = append(t.Partitions, p)
		if at = p.End(); at < 0 || at > math.MaxInt64/2 {
			return 0, errors.New("the partitions are too large")
		}
	}
	if t.Kind == "mbr" && len(l.specs) > 4 {
		ext := &t.Partitions[3] // which openLogical added
		ext.Length = at - ext.Start
	}
	return at + tail, nil
}

// openLogical makes room for an extended boot record before logical partition i
// and, before the first, adds the extended partition.
func (l *layout) openLogical(i int, at int64) int64 {
	at = image.RoundUp(at, l.alignOf(l.specs[i]))
	if i == 3 {
		p := Partition{Number: 4, Start: at, Type: "0x0f", TypeName: "extended"}
		l.table.Partitions = append(l.table.Partitions, p)
	}
	return at + int64(l.table.SectorSize)
}

// identify fills in the IDs that were not given. What two partitions have in common
// would tell neither.
func (l *layout) identify() error {
	t := l.table
	t.ID = strings.ToLower(l.diskID)
	if t.ID == "" {
		t.ID = DeriveGUID("disk", fmt.Sprintf("%s %d %d %q", t.Kind, t.SectorSize, t.Size, fmt.Sprint(t.Partitions)))
		if t.Kind == "mbr" {
			t.ID = t.ID[:8]
		}
	}
	seen := map[string]int{}
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if other := seen[p.ID]; other > 0 && p.ID != "" {
			return fmt.Errorf("partitions %d and %d have the UUID %s", other, p.Number, p.ID)
		}
		seen[p.ID] = p.Number
		switch {
		case t.Kind == "mbr":
			p.ID = fmt.Sprintf("%s-%02x", t.ID, p.Number)
		case p.ID == "":
			p.ID = DeriveGUID("partition", fmt.Sprintf("%s %d %q", t.ID, p.Number, p.Name))
		}
	}
	return nil
}

// DeriveGUID returns a GUID of version 8 (RFC 9562, section 5.8) that is a hash
// of what and of, in lower case.
func DeriveGUID(what, of string) string {
	return guid.Text(guid.FromHash(sha256.Sum256([]byte("b9 " + what + "\x00" + of))))
}
