package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/partition"
)

// oddGPT makes a disk with all that a Table does not model: boot code, a disk
// signature, 256 entries, attributes, reserved bytes of the header, an array that does
// not begin in sector 2, and a hybrid MBR. Its partitions have content.
func oddGPT(t *testing.T, size int64, hybrid bool) string {
	t.Helper()
	tool(t, "sgdisk")
	path := blank(t, size)
	args := []string{"-S", "256", "-j", "40", "-n", "1:2048:+4M", "-c", "1:EFI", "-t", "1:ef00", "-n", "200:12288:+8M", "-A", "200:set:60", path}
	run(t, "sgdisk", args...)
	if hybrid {
		run(t, "sgdisk", "-h", "1", path)
	}
	change(t, path, func(f *os.File) {
		put(t, f, 0, bytes.Repeat([]byte{0x90}, 440))
		put(t, f, 440, []byte{0xde, 0xad, 0xbe, 0xef})
		put(t, f, 1<<20, bytes.Repeat([]byte("efi."), 1000))
		put(t, f, 6<<20, bytes.Repeat([]byte("root"), 1000))
		head := make([]byte, 512)
		if _, err := f.ReadAt(head, 512); err != nil {
			t.Fatal(err)
		}
		copy(head[100:], "kept") // behind the 92 bytes that mean something
		put(t, f, 512, head)
	})
	return path
}

func change(t *testing.T, path string, do func(*os.File)) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	do(f)
}

func put(t *testing.T, f *os.File, at int64, b []byte) {
	t.Helper()
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

func resizeTo(t *testing.T, path string, size int64) error {
	t.Helper()
	var err error
	change(t, path, func(f *os.File) { err = partition.Resize(f, size) })
	return err
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// differences lists the ranges in which a and b differ, within their common length.
func differences(a, b []byte) (all []string) {
	n := min(len(a), len(b))
	for i := 0; i < n; i++ {
		if a[i] == b[i] {
			continue
		}
		from := i
		for i < n && !bytes.Equal(a[i:min(i+16, n)], b[i:min(i+16, n)]) {
			i++
		}
		all = append(all, fmt.Sprintf("%d-%d", from, i))
	}
	return all
}

// TestResizeKeepsWhatItDoesNotModel grows and shrinks a disk. In front of the
// backup, the fields of the header that have to change do, and with a protective MBR the
// length of its entry; no other byte. Back at the old size every byte is the old one.
func TestResizeKeepsWhatItDoesNotModel(t *testing.T) {
	for _, hybrid := range []bool{false, true} {
		t.Run(fmt.Sprintf("hybrid=%v", hybrid), func(t *testing.T) {
			const size, larger = 20 << 20, 37<<20 + 512
			path := oddGPT(t, size, hybrid)
			old := read(t, path)
			if err := resizeTo(t, path, larger); err != nil {
				t.Fatal(err)
			}
			now := read(t, path)
			if out := run(t, "sgdisk", "--verify", path); !strings.Contains(out, "No problems found") && !hybrid {
				t.Error(out)
			}
			area := size - 512 - 256*128 // of the old backup
			for _, d := range differences(old[:area], now[:area]) {
				var from, to int
				fmt.Sscanf(d, "%d-%d", &from, &to)
				if !(from >= 512+16 && to <= 512+64 || !hybrid && from >= 446+12 && to <= 446+16) {
					t.Errorf("bytes %s changed", d)
				}
			}
			if !bytes.Equal(now[area:size], make([]byte, 512+256*128)) {
				t.Error("the old backup is still there")
			}
			if !bytes.Equal(now[larger-512-256*128:larger-512], old[area:size-512]) {
				t.Error("the entries of the backup are others")
			}
			if n := binary.LittleEndian.Uint32(now[larger-512+80:]); n != 256 {
				t.Errorf("the backup says %d entries", n)
			}
			if err := resizeTo(t, path, size); err != nil {
				t.Fatal(err)
			}
			if d := differences(old[:area], read(t, path)[:area]); len(d) > 0 {
				t.Errorf("back at the old size these bytes are others: %v", d)
			}
			err := resizeTo(t, path, 14<<20)
			if err == nil || !strings.Contains(err.Error(), "partition 200 ends at 14680064") {
				t.Errorf("cut off: %v", err)
			}
		})
	}
}

// TestResizeOfAHybridMBRRefusesToCutAnEntryOff has an entry in the MBR that the GPT
// does not have.
func TestResizeOfAHybridMBRRefusesToCutAnEntryOff(t *testing.T) {
	path := oddGPT(t, 20<<20, true)
	change(t, path, func(f *os.File) {
		put(t, f, 446+32, []byte{0, 0, 0, 0, 0x0c, 0, 0, 0, 0x00, 0x78, 0, 0, 0x00, 0x20, 0, 0}) // 15 to 19 MiB
	})
	before := read(t, path)
	err := resizeTo(t, path, 18<<20)
	if err == nil || !strings.Contains(err.Error(), "entry 3 of the MBR in front of the GPT ends at") {
		t.Errorf("%v", err)
	}
	if !bytes.Equal(before, read(t, path)) {
		t.Error("a refused resize changed the disk")
	}
}

// TestResizeOfAnMBRChangesNoByte also has logical partitions.
func TestResizeOfAnMBRChangesNoByte(t *testing.T) {
	path := blank(t, 40<<20)
	sfdisk(t, path, "label: dos\n1 : size=5M, bootable\n4 : size=20M, type=5\n5 : size=4M\n6 : size=4M, type=82\n")
	change(t, path, func(f *os.File) { put(t, f, 0, bytes.Repeat([]byte{0xcc}, 440)) })
	old := read(t, path)
	for _, size := range []int64{90 << 20, 30 << 20} {
		if err := resizeTo(t, path, size); err != nil {
			t.Fatal(err)
		}
		if d := differences(old, read(t, path)); len(d) > 0 {
			t.Errorf("at %d bytes these changed: %v", size, d)
		}
	}
	if err := resizeTo(t, path, 20<<20); err == nil || !strings.Contains(err.Error(), "partition 4 ends at") {
		t.Errorf("cut off: %v", err)
	}
}

// TestResizeWithOneGoodCopy makes the backup anew from the first copy, and refuses to
// guess the first one from the backup.
func TestResizeWithOneGoodCopy(t *testing.T) {
	path := oddGPT(t, 20<<20, false)
	if err := os.Truncate(path, 19<<20); err != nil { // as a cut download
		t.Fatal(err)
	}
	if err := resizeTo(t, path, 30<<20); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "sgdisk", "--verify", path); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
	damage(t, path, 512+30)
	tab, err := partition.ReadTable(mustOpen(t, path, "raw", image.OpenOptions{}), 0)
	if err != nil || !strings.HasPrefix(tab.Backup, "the first copy is damaged: the checksum of the header in sector 1 is wrong") || len(tab.Partitions) != 2 {
		t.Errorf("%+v, %v", tab, err)
	}
	for what, err := range map[string]error{
		"resize":  resizeTo(t, path, 40<<20),
		"replace": Replace(context.Background(), path, "1", image.Blank(1<<20)),
	} {
		if err == nil || !strings.Contains(err.Error(), "the table is read from its backup") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestCheckCopies(t *testing.T) {
	for want, spoil := range map[string]func(f *os.File){
		"":                                     func(*os.File) {},
		"the backup is damaged: the checksum":  func(f *os.File) { put(t, f, 20<<20-512+60, []byte{9}) },
		"the first copy is damaged: ":          func(f *os.File) { put(t, f, 512+60, []byte{9}) },
		"the first copy is missing: ":          func(f *os.File) { put(t, f, 512, make([]byte, 8)) },
		"the backup is missing: its signature": func(f *os.File) { put(t, f, 20<<20-512, make([]byte, 8)) },
		"the backup is in sector 40959, not":   func(f *os.File) { f.Truncate(21 << 20) },
	} {
		path := oddGPT(t, 20<<20, false)
		change(t, path, spoil)
		img := mustOpen(t, path, "raw", image.OpenOptions{})
		tab, err := partition.ReadTable(img, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err = tab.CheckCopies(img); want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestGrow lets sfdisk say where the last partition ends.
func TestGrow(t *testing.T) {
	odd := oddGPT(t, 20<<20, false)
	mbr := blank(t, 20<<20)
	sfdisk(t, mbr, "label: dos\nsize=5M, bootable\nsize=4M\n")
	for name, path := range map[string]string{"gpt": odd, "mbr": mbr} {
		if err := resizeTo(t, path, 50<<20); err != nil {
			t.Fatal(err)
		}
		old := read(t, path)
		var was, is partition.Partition
		var err error
		change(t, path, func(f *os.File) { was, is, err = partition.Grow(f) })
		if err != nil {
			t.Fatal(err)
		}
		parts := sfdisk(t, path, "").PartitionTable.Partitions
		last := parts[len(parts)-1]
		if last.Start*512 != was.Start || last.Size*512 != is.Length || is.End() < 50<<20-40<<10 || is.Start != was.Start {
			t.Errorf("%s: from %+v to %+v, sfdisk has %+v", name, was, is, last)
		}
		for _, d := range differences(old[440:446], read(t, path)[440:446]) {
			t.Errorf("%s: the signature changed: %s", name, d)
		}
		if name == "gpt" {
			if out := run(t, "sgdisk", "--verify", path); !strings.Contains(out, "No problems found") {
				t.Error(out)
			}
		}
	}
}

// TestGrowLogical lets sfdisk say where a logical partition and the extended one end,
// and that nothing else is another one.
func TestGrowLogical(t *testing.T) {
	for name, script := range map[string]string{
		"first":       "label: dos\n4 : size=15M, type=5\n5 : size=4M\n",
		"third":       "label: dos\n1 : size=2M, bootable\n3 : size=16M, type=f\n5 : size=4M\n6 : size=3M, type=82\n7 : size=4M\n",
		"none":        "label: dos\n1 : size=5M\n2 : size=10M, type=5\n",
		"out of turn": "label: dos\n1 : start=34816, size=2M\n2 : start=2048, size=15M, type=5\n5 : size=4M\n6 : size=3M\n",
	} {
		t.Run(name, func(t *testing.T) {
			path := blank(t, 20<<20)
			sfdisk(t, path, script)
			if err := resizeTo(t, path, 50<<20); err != nil {
				t.Fatal(err)
			}
			old := sfdisk(t, path, "").PartitionTable.Partitions
			var was, is partition.Partition
			var err error
			change(t, path, func(f *os.File) { was, is, err = partition.Grow(f) })
			if err != nil {
				t.Fatal(err)
			}
			parts := sfdisk(t, path, "").PartitionTable.Partitions
			if name == "out of turn" { // a primary partition lies behind the logical ones
				parts, old = parts[:1], old[:1]
			}
			last := parts[len(parts)-1]
			if last.Start*512 != was.Start || last.Size*512 != is.Length || is.End() < 50<<20-40<<10 || is.Start != was.Start {
				t.Errorf("from %+v to %+v, sfdisk has %+v", was, is, last)
			}
			for i, p := range parts[:len(parts)-1] {
				ext := p.Type == "5" || p.Type == "f"
				if ext && (p.Start != old[i].Start || (p.Start+p.Size)*512 != is.End()) || !ext && p != old[i] {
					t.Errorf("partition %d: from %+v to %+v", i, old[i], p)
				}
			}
			if out := run(t, "sfdisk", "--verify", path); strings.Contains(out, "overlap") || strings.Contains(out, "outside") {
				t.Error(out)
			}
			tab, err := partition.ReadTable(mustOpen(t, path, "raw", image.OpenOptions{}), 0)
			if err != nil || tab.Partitions[len(tab.Partitions)-1].Length != is.Length && name != "out of turn" {
				t.Errorf("read back %+v, %v", tab, err)
			}
		})
	}
}

// TestReplaceRefusesWhatOverlaps has a partition that holds another one.
func TestReplaceRefusesWhatOverlaps(t *testing.T) {
	path := blank(t, 8<<20)
	sfdisk(t, path, "label: dos\nstart=2048, size=4M\n")
	entry := []byte{0, 0, 0, 0, 0xef, 0, 0, 0, 0x00, 0x10, 0, 0, 0x00, 0x08, 0, 0} // 2 to 3 MiB
	change(t, path, func(f *os.File) { put(t, f, 446+16, entry) })
	err := Replace(context.Background(), path, "1", image.Blank(1<<20))
	if err == nil || !strings.Contains(err.Error(), "partition 1 has bytes in common with partition 2") {
		t.Errorf("the outer one: %v", err)
	}
	if err := Replace(context.Background(), path, "2", image.Blank(1<<20)); err != nil {
		t.Errorf("the inner one: %v", err)
	}
}

// TestTypeZeroOfAHybridISO lists the partition that covers an ISO image of Debian's:
// its type is 0, and it can be started.
func TestTypeZeroOfAHybridISO(t *testing.T) {
	path := blank(t, 8<<20)
	sfdisk(t, path, "label: dos\nstart=2048, size=1M, type=ef\n")
	change(t, path, func(f *os.File) {
		first := make([]byte, 16)
		if _, err := f.ReadAt(first, 446); err != nil {
			t.Fatal(err)
		}
		put(t, f, 446, []byte{0x80, 0, 1, 0, 0, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0x40, 0, 0})
		put(t, f, 446+16, first)
		put(t, f, 446+32, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x40, 0, 0}) // deleted long ago, on a larger disk
	})
	tab, err := partition.ReadTable(mustOpen(t, path, "raw", image.OpenOptions{}), 0)
	if err != nil || len(tab.Partitions) != 2 {
		t.Fatalf("%+v, %v", tab, err)
	}
	if p := tab.Partitions[0]; p.Type != "0x00" || p.TypeName != "empty" || !p.Bootable || p.Start != 0 || p.Length != 8<<20 {
		t.Errorf("%+v", p)
	}
}

// TestUpdate keeps owner, mode, extended attributes and a symbolic link, and leaves no
// other file, also when the change fails or the process ends in it.
func TestUpdate(t *testing.T) {
	path := blank(t, 1<<20)
	link := filepath.Join(filepath.Dir(path), "link")
	if err := os.Symlink("blank.raw", link); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	root := os.Geteuid() == 0
	if root {
		if err := os.Chown(path, 1234, 4321); err != nil {
			t.Fatal(err)
		}
	}
	fail := fmt.Errorf("no")
	for _, want := range []error{nil, fail} {
		err := Update(context.Background(), link, nil, func(_ context.Context, work string) error {
			if names := entries(t, filepath.Dir(path)); names != "blank.raw link" {
				t.Errorf("while it works there are %s", names)
			}
			if err := os.Truncate(work, 2<<20); err != nil {
				return err
			}
			return want
		})
		if (err == nil) != (want == nil) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if names := entries(t, filepath.Dir(path)); names != "blank.raw link" {
		t.Errorf("afterwards there are %s", names)
	}
	if to, err := os.Readlink(link); err != nil || to != "blank.raw" {
		t.Errorf("the link is %q, %v", to, err)
	}
	st := run(t, "stat", "-c", "%u:%g %a %s", path)
	want := fmt.Sprintf("%d:%d 640 %d\n", os.Geteuid(), os.Getegid(), 2<<20)
	if root {
		want = fmt.Sprintf("1234:4321 640 %d\n", 2<<20)
	}
	if st != want {
		t.Errorf("%q, want %q", st, want)
	}
}

func entries(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// TestResizeOfForeignHybrids resizes a hybrid ISO image that xorriso makes, with a GPT
// behind an MBR that is not protective.
func TestResizeOfForeignHybrids(t *testing.T) {
	tool(t, "xorriso")
	tool(t, "sgdisk")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), bytes.Repeat([]byte("x"), 1<<20), 0o666); err != nil {
		t.Fatal(err)
	}
	efi := blank(t, 1<<20)
	path := filepath.Join(t.TempDir(), "hybrid.iso")
	out, err := exec.Command("xorriso", "-as", "mkisofs", "-o", path, "-append_partition", "2", "0xef", efi, "-appended_part_as_gpt", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("xorriso: %v: %s", err, out)
	}
	old := read(t, path)
	size := int64(len(old)) + 5<<20
	if err := resizeTo(t, path, size); err != nil {
		t.Fatal(err)
	}
	now := read(t, path)
	head := now[size-512:]
	if string(head[:8]) != "EFI PART" {
		t.Fatal("there is no backup at the new end")
	}
	sum := binary.LittleEndian.Uint32(head[16:])
	clear(head[16:20])
	if crc32.ChecksumIEEE(head[:92]) != sum {
		t.Error("the checksum of the backup is wrong")
	}
	if out := run(t, "sgdisk", "-p", path); !strings.Contains(out, fmt.Sprintf("%d sectors", size/512)) {
		t.Error(out)
	}
}
