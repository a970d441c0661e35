package disk

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/partition"
)

func FuzzMBR(f *testing.F) { fuzzTable(f, "mbr", func([]byte) {}) }

func FuzzGPT(f *testing.F) { fuzzTable(f, "gpt", mendGPT) }

// mendGPT makes the checksums right, so that what they protect is reached.
func mendGPT(b []byte) {
	le := binary.LittleEndian
	for _, at := range []int{512, 4096, len(b) - 512, len(b) - 4096} {
		if at < 0 || at+512 > len(b) || string(b[at:at+8]) != "EFI PART" {
			continue
		}
		h := b[at:]
		sector := uint64(512)
		if at == 4096 || at == len(b)-4096 {
			sector = 4096
		}
		start, n := le.Uint64(h[72:]), uint64(le.Uint32(h[80:]))*uint64(le.Uint32(h[84:]))
		if start < 1<<32 && start*sector+n <= uint64(len(b)) && n < 1<<20 {
			le.PutUint32(h[88:], crc32.ChecksumIEEE(b[start*sector:start*sector+n]))
		}
		if size := le.Uint32(h[12:]); int64(size) <= int64(len(h)) && size >= 92 {
			clear(h[16:20])
			le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:size]))
		}
	}
}

func fuzzTable(f *testing.F, kind string, mend func([]byte)) {
	for _, sector := range []int{512, 4096} {
		parts := []partition.Spec{{Size: 4096, Align: 4096}, {Size: 4096, Align: 4096}, {Size: 4096, Align: 4096}}
		if kind == "mbr" {
			parts = append(parts, parts[:2]...)
		}
		tab, _, err := partition.Layout(parts, partition.LayoutOptions{Kind: kind, SectorSize: sector, Size: 80 << 10})
		if err != nil {
			f.Fatal(err)
		}
		img, err := joinParts(tab, nil, nil)
		if err != nil {
			f.Fatal(err)
		}
		b := make([]byte, img.Size())
		if _, err := img.ReadAt(b, 0); err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(hybrid(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		mend(b)
		for _, sector := range []int{0, 512, 4096} {
			tab, err := partition.ReadTable(image.Bytes(b), sector)
			if err != nil {
				continue
			}
			first := int64(1)
			if tab.Kind == "mbr" {
				first = 0 // a partition of a hybrid ISO image begins with the table itself
			}
			for _, p := range tab.Partitions {
				if p.Start < first || p.Length <= 0 || p.End() > int64(len(b)) {
					t.Fatalf("partition %+v in %d bytes", p, len(b))
				}
			}
			joinParts(tab, nil, nil)
		}
	})
}

// hybrid returns a disk whose first partition begins with the table itself.
func hybrid(f *testing.F) []byte {
	f.Helper()
	b := make([]byte, 64<<10)
	b[446+4] = 0x83
	binary.LittleEndian.PutUint32(b[446+12:], 64)
	b[510], b[511] = 0x55, 0xaa
	tab, err := partition.ReadTable(image.Bytes(b), 512)
	if err != nil || len(tab.Partitions) != 1 || tab.Partitions[0].Start != 0 {
		f.Fatalf("a partition at 0 is read as %+v, %v", tab, err)
	}
	return b
}
