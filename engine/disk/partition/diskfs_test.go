package partition

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/diskfs/go-diskfs/partition/mbr"
)

// tableFile writes the table of these partitions to a new sparse file.
func tableFile(t *testing.T, parts []Spec, o LayoutOptions) (*os.File, *Table) {
	t.Helper()
	table, size, err := Layout(parts, o)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := WriteTable(f, table); err != nil {
		t.Fatal(err)
	}
	return f, table
}

// TestGPTByGoDiskfs lets go-diskfs read new tables, and their backup where the
// primary one is damaged.
func TestGPTByGoDiskfs(t *testing.T) {
	parts := []Spec{
		{Name: "boot", Type: "efi", Size: 64 << 20, Bootable: true},
		{Name: "wurzel ä 😀", Size: 1 << 20, ID: "0FC63DAF-8483-4772-8E79-3D69D8477DE4", Attributes: 1 << 60},
		{Fill: true},
	}
	for _, sector := range []int{512, 4096} {
		f, table := tableFile(t, parts, LayoutOptions{SectorSize: sector, Size: 1 << 30})
		for _, damaged := range []bool{false, true} {
			if damaged {
				if _, err := f.WriteAt([]byte("no GPT"), int64(sector)); err != nil {
					t.Fatal(err)
				}
			}
			got, err := gpt.Read(f, sector, sector)
			if err != nil {
				t.Fatal(err)
			}
			if got.RecoveredFromBackup != damaged || !strings.EqualFold(got.GUID, table.ID) || len(got.Partitions) != len(table.Partitions) {
				t.Fatalf("sectors of %d bytes: %+v", sector, got)
			}
			for i, p := range table.Partitions {
				q := got.Partitions[i]
				attributes := p.Attributes
				if p.Bootable {
					attributes |= 1 << 2
				}
				if q.Index != p.Number || q.Name != p.Name || !strings.EqualFold(q.GUID, p.ID) || !strings.EqualFold(string(q.Type), p.Type) ||
					int64(q.Start)*int64(sector) != p.Start || int64(q.Size) != p.Length || q.Attributes != attributes {
					t.Errorf("go-diskfs reads %+v, written was %+v", q, p)
				}
			}
		}
	}
}

// TestMBRByGoDiskfs lets go-diskfs read the primary partitions of an MBR; it
// knows no logical ones.
func TestMBRByGoDiskfs(t *testing.T) {
	parts := []Spec{{Type: "0x0c", Size: 5 << 20, Bootable: true}, {Size: 1 << 20}, {Size: 1 << 20}, {Type: "swap", Size: 1 << 20}, {Size: 3 << 20}}
	f, table := tableFile(t, parts, LayoutOptions{Kind: "mbr", Size: 64 << 20})
	got, err := mbr.Read(f, 512, 512)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range table.Partitions[:4] {
		q := got.Partitions[i]
		if q.Bootable != p.Bootable || int64(q.Start)*512 != p.Start || int64(q.Size)*512 != p.Length || !strings.EqualFold(p.Type, hexByte(byte(q.Type))) {
			t.Errorf("go-diskfs reads %+v, written was %+v", q, p)
		}
	}
}

func hexByte(b byte) string {
	return "0x" + string("0123456789abcdef"[b>>4]) + string("0123456789abcdef"[b&15])
}

// TestGPTRefused gives tables that go-diskfs would write wrong, or not come back from.
func TestGPTRefused(t *testing.T) {
	const id = "0fc63daf-8483-4772-8e79-3d69d8477de4"
	good := Partition{Number: 1, Start: 1 << 20, Length: 1 << 20, Type: id, ID: id}
	for _, c := range []struct {
		want   string
		change func(*Table, *Partition)
	}{
		{"longer than 36 UTF-16 units", func(_ *Table, p *Partition) { p.Name = strings.Repeat("😀", 19) }},
		{"longer than 36 UTF-16 units", func(_ *Table, p *Partition) { p.Name = strings.Repeat("a", 37) }},
		{"type: all zeros", func(_ *Table, p *Partition) { p.Type = "00000000-0000-0000-0000-000000000000" }},
		{"type: \"linux\" is no GUID", func(_ *Table, p *Partition) { p.Type = "linux" }},
		{"UUID: \"\" is no GUID", func(_ *Table, p *Partition) { p.ID = "" }},
		{"disk ID: \"\" is no GUID", func(t *Table, _ *Partition) { t.ID = "" }},
		{"partition number 129", func(_ *Table, p *Partition) { p.Number = 129 }},
		{"between the tables", func(_ *Table, p *Partition) { p.Start = 33 * 512 }},
		{"between the tables", func(_ *Table, p *Partition) { p.Length = 16<<20 - p.Start - 32*512 }},
		{"too small for a GPT", func(t *Table, _ *Partition) { t.Partitions, t.Size = nil, 66*512 }},
	} {
		table := &Table{Kind: "gpt", SectorSize: 512, ID: id, Size: 16 << 20, Partitions: []Partition{good}}
		c.change(table, &table.Partitions[0])
		if _, err := table.Encode(table.Size); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q, got %v", c.want, err)
		}
	}
}

// TestGPTFaultsOfGoDiskfs holds the minimal cases of docs/decisions/0006-go-diskfs.md.
// Where one fails the library has mended it, and the note and our check can go.
func TestGPTFaultsOfGoDiskfs(t *testing.T) {
	const id = "0fc63daf-8483-4772-8e79-3d69d8477de4"
	write := func(w *chunkWriter, size int64, sector int, name string) {
		table := gpt.Table{GUID: id, LogicalSectorSize: sector, PhysicalSectorSize: sector, ProtectiveMBR: true,
			Partitions: []*gpt.Partition{{Index: 1, Start: 2048, End: 4095, Type: id, GUID: id, Name: name}}}
		if err := table.Write(w, size); err != nil {
			t.Error(err)
		}
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a name of 36 runes and 72 UTF-16 units does not panic any more")
			}
		}()
		write(&chunkWriter{}, 16<<20, 512, strings.Repeat("😀", 36))
	}()
	var w chunkWriter
	write(&w, 3<<40, 512, "")
	if got := w.chunks[0].Bytes[12:16]; string(got) == "\xff\xff\xff\xff" {
		t.Error("the protective MBR of a disk over 2 TiB covers all that it can name now")
	}
	f, _ := tableFile(t, []Spec{{Size: 1 << 20}}, LayoutOptions{SectorSize: 4096, Size: 64 << 20})
	got, err := gpt.Read(f, 4096, 4096)
	if err != nil {
		t.Fatal(err)
	}
	if got.ProtectiveMBR {
		t.Error("the protective MBR before sectors of 4096 bytes is seen now")
	}
}
