package disk

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/disktest"
	"b9.build/b9/engine/disk/partition"
)

var update = flag.Bool("update", false, "write the digests of testdata anew")

// checkGolden compares lines "name digest" with the file of that name in
// testdata. A digest that changes is a result that every user builds anew: the
// kind of the actions that write it must be raised with it.
func checkGolden(t *testing.T, name string, lines []string) {
	t.Helper()
	got := strings.Join(lines, "\n") + "\n"
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	had := strings.Split(strings.TrimSuffix(string(want), "\n"), "\n")
	if len(had) != len(lines) {
		t.Errorf("%d lines, %s has %d", len(lines), path, len(had))
	}
	for i, l := range lines {
		if i < len(had) && l != had[i] {
			t.Errorf("now %s, was %s", l, had[i])
		}
	}
}

// TestGoldenFormats holds the bytes of every format that is written.
func TestGoldenFormats(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src.raw")
	f, err := os.Create(src)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(11, 11))
	for i, kind := range []int{2, 3, 2, 1, 2} { // text, noise, text, zeros, text
		if _, err := f.WriteAt(disktest.Contents(r, kind, 300_000), int64(i)<<20+4096); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.WriteAt(disktest.BenchText(r, 1<<20), 40<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(96<<20 + 512); err != nil {
		t.Fatal(err)
	}
	f.Close()
	var lines []string
	for _, v := range variants {
		v.o.Name = "golden"
		dst := filepath.Join(dir, "dst")
		if err := Convert(context.Background(), mustOpen(t, src, "raw", image.OpenOptions{}), dst, v.format, v.o); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(dst)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		lines = append(lines, fmt.Sprintf("%s %x", v.name, sum))
	}
	checkGolden(t, "formats", lines)
}

// TestGoldenTables holds the bytes of new partition tables.
func TestGoldenTables(t *testing.T) {
	wide := strings.Repeat("😀", 18) // 36 UTF-16 units
	parts := []partition.Spec{
		{Name: "boot", Type: "efi", Size: 64 << 20, Bootable: true},
		{Name: "wurzel ä", Size: 1 << 20, ID: "0FC63DAF-8483-4772-8E79-3D69D8477DE4", Attributes: 1 << 60},
		{Name: wide, Type: "swap", Size: 3<<20 + 512},
		{Type: "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", Fill: true, Align: 4 << 20},
	}
	mbr := []partition.Spec{{Type: "0x0c", Size: 5 << 20, Bootable: true}, {Size: 1 << 20}, {Size: 1 << 20}, {Type: "swap", Size: 1 << 20}, {Size: 3 << 20}}
	many := make([]partition.Spec, 128)
	for i := range many {
		many[i] = partition.Spec{Name: fmt.Sprint("p", i), Size: 1 << 20}
	}
	var lines []string
	add := func(name string, t0 *partition.Table, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, name+" "+tableDigest(t, t0))
	}
	for _, c := range []struct {
		name  string
		parts []partition.Spec
		o     partition.LayoutOptions
	}{
		{"gpt", parts, partition.LayoutOptions{Size: 1 << 30}},
		{"gpt-id", parts, partition.LayoutOptions{Size: 1 << 30, DiskID: "12345678-9ABC-DEF0-1234-56789ABCDEF0"}},
		{"gpt-4096", []partition.Spec{parts[0], parts[1]}, partition.LayoutOptions{SectorSize: 4096}},
		{"gpt-3TiB", parts, partition.LayoutOptions{Size: 3 << 40}},
		{"gpt-empty", nil, partition.LayoutOptions{Size: 1 << 20}},
		{"gpt-128", many, partition.LayoutOptions{}},
		{"mbr", mbr, partition.LayoutOptions{Kind: "mbr", Size: 64 << 20}},
		{"mbr-4096", mbr, partition.LayoutOptions{Kind: "mbr", SectorSize: 4096}},
	} {
		table, _, err := partition.Layout(c.parts, c.o)
		add(c.name, table, err)
	}
	table, _, err := partition.Layout(parts, partition.LayoutOptions{Size: 1 << 30})
	if err == nil { // numbers with gaps, in any order
		p := table.Partitions
		p[0].Number, p[1].Number, p[2].Number = 128, 7, 3
	}
	add("gpt-gaps", table, err)
	checkGolden(t, "tables", lines)
}

// tableDigest is the digest of where and what a table writes.
func tableDigest(t *testing.T, table *partition.Table) string {
	t.Helper()
	chunks, err := table.Encode(table.Size)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	for _, at := range chunkOrder(chunks) {
		fmt.Fprintf(h, "%d %d\n", at.At, len(at.Bytes))
		h.Write(at.Bytes)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// chunkOrder sorts chunks by where they lie.
func chunkOrder(chunks []image.Chunk) []image.Chunk {
	sorted := slices.Clone(chunks)
	slices.SortFunc(sorted, func(a, b image.Chunk) int { return cmp.Compare(a.At, b.At) })
	return sorted
}
