package disk

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/partition"
)

// blank makes a sparse raw file.
func blank(t testing.TB, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "blank.raw")
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

// sfdiskDump is what sfdisk --json prints.
type sfdiskDump struct {
	PartitionTable struct {
		Label, ID  string
		SectorSize int64
		Partitions []struct {
			Start, Size             int64
			Type, UUID, Name, Attrs string
			Bootable                bool
		}
	}
}

// sfdisk makes a table with a script and reads it back as sfdisk sees it.
func sfdisk(t *testing.T, path, script string) sfdiskDump {
	t.Helper()
	tool(t, "sfdisk")
	if script != "" {
		in := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(in, []byte(script), 0o666); err != nil {
			t.Fatal(err)
		}
		run(t, "sh", "-c", "sfdisk -q --no-reread --no-tell-kernel '"+path+"' <"+in)
	}
	var d sfdiskDump
	if err := json.Unmarshal([]byte(run(t, "sfdisk", "--json", path)), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// agree compares a table with sfdisk's view.
func agree(t *testing.T, tab *partition.Table, d sfdiskDump) {
	t.Helper()
	want := d.PartitionTable
	if kind := map[string]string{"dos": "mbr", "gpt": "gpt"}[want.Label]; kind != tab.Kind {
		t.Errorf("kind %q, sfdisk has %q", tab.Kind, want.Label)
	}
	if id := strings.TrimPrefix(strings.ToLower(want.ID), "0x"); id != tab.ID {
		t.Errorf("ID %q, sfdisk has %q", tab.ID, id)
	}
	if len(tab.Partitions) != len(want.Partitions) {
		t.Fatalf("%d partitions, sfdisk has %d: %+v", len(tab.Partitions), len(want.Partitions), tab.Partitions)
	}
	for i, p := range tab.Partitions {
		w := want.Partitions[i]
		kind := strings.ToLower(w.Type)
		if tab.Kind == "mbr" {
			kind = fmt.Sprintf("0x%02s", kind)
		}
		if p.Start != w.Start*512 || p.Length != w.Size*512 || p.Type != kind || p.Name != w.Name {
			t.Errorf("partition %+v, sfdisk has %+v", p, w)
		}
		if tab.Kind == "mbr" && p.Bootable != w.Bootable || tab.Kind == "gpt" && !strings.EqualFold(p.ID, w.UUID) {
			t.Errorf("partition %+v, sfdisk has %+v", p, w)
		}
	}
}

func TestReadTableOfSfdisk(t *testing.T) {
	for name, script := range map[string]string{
		"gpt":      "label: gpt\nsize=10M, type=U, name=\"EFI ä\"\nsize=5M, attrs=LegacyBIOSBootable\ntype=S\n",
		"mbr":      "label: dos\nsize=10M, type=83, bootable\nsize=5M, type=82\n",
		"logical":  "label: dos\nsize=5M\nsize=20M, type=5\nsize=4M\nsize=4M, type=82\nsize=4M\n",
		"extended": "label: dos\ntype=f\n",
		"empty":    "label: gpt\n",
	} {
		t.Run(name, func(t *testing.T) {
			path := blank(t, 40<<20)
			d := sfdisk(t, path, script)
			tab, err := partition.ReadTable(mustOpen(t, path, "raw", image.OpenOptions{}), 0)
			if err != nil {
				t.Fatal(err)
			}
			agree(t, tab, d)
		})
	}
}

// layouts are tables to write.
var layouts = []struct {
	name  string
	parts []partition.Spec
	o     partition.LayoutOptions
}{
	{"gpt", []partition.Spec{
		{Name: "boot", Type: "bios-boot", Size: 1 << 20},
		{Name: "EFI", Type: "efi", Size: 10<<20 + 1},
		{Name: "root ä", Type: "linux-root-x86-64", Fill: true, Bootable: true},
		{Type: "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F", Size: 3 << 20, ID: "11111111-2222-4333-8444-555555555555"},
	}, partition.LayoutOptions{Size: 64 << 20}},
	{"gpt-tight", []partition.Spec{{Size: 5 << 20}}, partition.LayoutOptions{}},
	{"mbr", []partition.Spec{{Size: 4 << 20, Bootable: true}, {Type: "swap", Fill: true, Min: 1 << 20}}, partition.LayoutOptions{Kind: "mbr", Size: 20 << 20}},
	{"mbr-logical", []partition.Spec{{Size: 1 << 20}, {Size: 1 << 20}, {Size: 1 << 20}, {Type: "0x82", Size: 1 << 20}, {Fill: true}, {Size: 1000}},
		partition.LayoutOptions{Kind: "mbr", DiskID: "DEADBEEF", Size: 30 << 20}},
	{"gpt-4096", []partition.Spec{{Name: "a", Size: 5000}, {Name: "b", Fill: true}}, partition.LayoutOptions{SectorSize: 4096, Size: 16 << 20}},
}

func TestWriteTable(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			tab, size, err := partition.Layout(l.parts, l.o)
			if err != nil {
				t.Fatal(err)
			}
			path := blank(t, size)
			writeTable(t, path, tab)
			got, err := partition.ReadTable(mustOpen(t, path, "raw", image.OpenOptions{}), 0)
			if err != nil {
				t.Fatal(err)
			}
			for i := range got.Partitions { // what is in an attribute is in both
				if got.Partitions[i].Bootable {
					got.Partitions[i].Attributes = tab.Partitions[i].Attributes
				}
			}
			if !reflect.DeepEqual(got, tab) {
				t.Errorf("wrote %+v\nread %+v", tab, got)
			}
			if tab.SectorSize == 512 {
				agree(t, tab, sfdisk(t, path, ""))
			}
			if l.o.Kind == "" && tab.SectorSize == 512 {
				if out := run(t, "sgdisk", "--verify", path); !strings.Contains(out, "No problems found") {
					t.Error(out)
				}
			}
		})
	}
}

func writeTable(t *testing.T, path string, tab *partition.Table) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := partition.WriteTable(f, tab); err != nil {
		t.Fatal(err)
	}
}

// TestEitherHeader damages the copies of a GPT in turn.
func TestEitherHeader(t *testing.T) {
	for _, l := range layouts {
		if l.o.Kind == "mbr" {
			continue
		}
		tab, size, err := partition.Layout(l.parts, l.o)
		if err != nil {
			t.Fatal(err)
		}
		s := int64(tab.SectorSize)
		for name, at := range map[string][]int64{
			"first header": {s + 20}, "first entries": {2*s + 30}, "backup": {size - s + 20}, "both": {s + 20, size - s + 20},
		} {
			path := blank(t, size)
			writeTable(t, path, tab)
			for _, off := range at {
				damage(t, path, off)
			}
			got, err := partition.ReadTable(mustOpen(t, path, "raw", image.OpenOptions{}), 0)
			if name == "both" {
				if err == nil || !strings.Contains(err.Error(), "damaged GPT") {
					t.Errorf("%s, %s: %v", l.name, name, err)
				}
				continue
			}
			if err != nil || got.ID != tab.ID || len(got.Partitions) != len(tab.Partitions) {
				t.Errorf("%s, %s: %v, %v", l.name, name, got, err)
			}
		}
	}
}

// damage inverts a byte.
func damage(t *testing.T, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0xff
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

func TestFind(t *testing.T) {
	tab, _, err := partition.Layout(layouts[0].parts, layouts[0].o)
	if err != nil {
		t.Fatal(err)
	}
	for sel, number := range map[string]int{"1": 1, "EFI": 2, "root ä": 3, "11111111-2222-4333-8444-555555555555": 4} {
		if p, err := tab.Find(sel); err != nil || p.Number != number {
			t.Errorf("%q: %+v, %v", sel, p, err)
		}
	}
	_, err = tab.Find("rot")
	if want := `no partition "rot" (have 1 "boot", 2 "EFI", 3 "root ä", 4)`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestLayoutErrors(t *testing.T) {
	for _, c := range []struct {
		parts []partition.Spec
		o     partition.LayoutOptions
		want  string
	}{
		{[]partition.Spec{{Type: "linus", Size: 1}}, partition.LayoutOptions{}, `partition 1: unknown partition type "linus" for gpt (have linux, linux-home, linux-srv, linux-var, linux-tmp, linux-user-home, linux-boot, xbootldr, swap, lvm, raid, luks, efi, esp, bios-boot, data, fat32, fat16, ntfs, microsoft-reserved, prep, linux-root-ARCH, linux-usr-ARCH, the latter two with -verity or -verity-sig, such as linux-root-x86-64-verity, or a GUID): did you mean "linux"?`},
		{[]partition.Spec{{Type: "256", Size: 1}}, partition.LayoutOptions{Kind: "mbr"}, `partition 1: unknown partition type "256" for mbr (have linux, linux-home, linux-srv, linux-var, linux-tmp, linux-user-home, linux-boot, xbootldr, swap, lvm, raid, luks, efi, esp, data, fat32, fat16, ntfs, prep, linux-root-ARCH, linux-usr-ARCH, such as linux-root-x86-64, or a number such as 0x83)`},
		{[]partition.Spec{{Type: "bios-boot", Size: 1}}, partition.LayoutOptions{Kind: "mbr"}, `partition 1: partition type "bios-boot" does not exist for mbr`},
		{[]partition.Spec{{Name: "x"}}, partition.LayoutOptions{}, `partition 1 ("x"): a size of 0 bytes`},
		{[]partition.Spec{{Fill: true}, {Fill: true}}, partition.LayoutOptions{Size: 1 << 20}, `partitions 1 and 2: only one can fill the rest of the disk`},
		{[]partition.Spec{{Size: 10 << 20}}, partition.LayoutOptions{Size: 5 << 20}, `the partitions need a disk of 11551232 bytes, it has 5242880`},
		{nil, partition.LayoutOptions{Kind: "gtp"}, `unknown partition table "gtp" (have gpt, mbr): did you mean "gpt"?`},
		{[]partition.Spec{{Size: 3 << 40}}, partition.LayoutOptions{Kind: "mbr"}, `partition 1 ends at 3298535931904 bytes, which an MBR can't record: use a GPT`},
	} {
		_, _, err := partition.Layout(c.parts, c.o)
		if err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

// TestAssemble puts contents into a disk, and takes them out again.
func TestAssemble(t *testing.T) {
	for _, l := range layouts {
		tab, size, err := partition.Layout(l.parts, l.o)
		if err != nil {
			t.Fatal(err)
		}
		contents, files := map[int]image.Image{}, map[int]string{}
		for i, p := range tab.Partitions {
			if p.Extended() {
				continue
			}
			files[p.Number] = scattered(t, uint64(i), p.Length-int64(i))
			contents[p.Number] = mustOpen(t, files[p.Number], "raw", image.OpenOptions{})
		}
		dst := filepath.Join(t.TempDir(), "disk.raw")
		code := bytes.Repeat([]byte{0xeb}, partition.BootCode)
		if err := Assemble(context.Background(), dst, tab, contents, code); err != nil {
			t.Fatal(err)
		}
		img := mustOpen(t, dst, "raw", image.OpenOptions{})
		got, err := partition.ReadTable(img, 0)
		if err != nil || img.Size() != size || got.ID != tab.ID {
			t.Fatalf("%v, %v", got, err)
		}
		head := make([]byte, partition.BootCode)
		if _, err := img.ReadAt(head, 0); err != nil || !bytes.Equal(head, code) {
			t.Errorf("boot code: %v", err)
		}
		for n, file := range files {
			p, err := got.Find(fmt.Sprint(n))
			if err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(t.TempDir(), "part.raw")
			if err := Convert(context.Background(), image.Section(img, p.Start, p.Length), out, "raw", image.WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			sameBytes(t, file, out)
		}
	}
}

// TestHybridMBR reads the table of a hybrid ISO: one partition is all of the image,
// table included, and another one lies in it.
func TestHybridMBR(t *testing.T) {
	tool(t, "sfdisk")
	path := blank(t, 4<<20)
	cmd := exec.Command("sfdisk", "-q", "--force", path)
	cmd.Stdin = strings.NewReader("label: dos\nstart=2048, size=512, type=ef\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v: %s", err, out)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := []byte{0x80, 0, 1, 0, 0x17, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0x20, 0, 0} // sfdisk does not write it
	if _, err := f.WriteAt(all, 446+16); err != nil {
		t.Fatal(err)
	}
	f.Close()
	tab, err := partition.ReadTable(mustOpen(t, path, "raw", image.OpenOptions{}), 0)
	if err != nil {
		t.Fatal(err)
	}
	p, err := tab.Find("2")
	if err != nil || p.Start != 0 || p.Length != 4<<20 || !p.Bootable {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err = tab.Find("1"); err != nil || p.Start != 1<<20 || p.TypeName != "efi" {
		t.Errorf("%+v, %v", p, err)
	}
	err = Replace(context.Background(), path, "2", image.Blank(1<<20))
	if err == nil || !strings.Contains(err.Error(), "it begins with the partition table") {
		t.Errorf("replace: %v", err)
	}
}
