package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zlib"

	"b9/engine/internal/sparse"
)

// bytesFile is a file in memory.
type bytesFile struct{ *bytes.Reader }

func (bytesFile) Close() error { return nil }

func inMemory(b []byte) (source, int64) { return bytesFile{bytes.NewReader(b)}, int64(len(b)) }

// drain walks the extents of a foreign image and reads some of them. Errors are
// fine; a broken promise of the interface is not.
func drain(t *testing.T, img Image) {
	buf := make([]byte, 100_000)
	read := 0
	off := int64(0)
	for range 200 {
		e, err := img.Extent(off)
		if err == io.EOF && off < img.Size() || err == nil && (e.Start != off || e.Length <= 0 || e.End() > img.Size()) {
			t.Fatalf("extent at %d of %d: %+v, %v", off, img.Size(), e, err)
		}
		if err != nil {
			return
		}
		if part := buf[:min(e.Length, int64(len(buf)))]; read < 1<<20 {
			read += len(part)
			n, err := img.ReadAt(part, off)
			if err == nil && n < len(part) {
				t.Fatalf("short read at %d without an error", off)
			}
			if err == nil && e.State != Data && !sparse.IsZero(part) {
				t.Fatalf("%v at %d is not zero", e.State, off)
			}
		}
		off = e.End()
	}
}

func FuzzQcow2(f *testing.F) {
	for _, b := range tinyQcow2s() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, end := inMemory(b)
		if img, err := openQcow2(file, end, OpenOptions{}); err == nil {
			drain(t, img)
		}
	})
}

// tinyQcow2s are images with clusters of 512 bytes: a header, an L1 table, an L2
// table, one plain and one compressed cluster of each kind.
func tinyQcow2s() [][]byte {
	var all [][]byte
	for _, method := range []string{"zlib", "zstd"} {
		be := binary.BigEndian
		b := make([]byte, 4*512)
		copy(b, qcow2Magic)
		be.PutUint32(b[4:], 3)
		be.PutUint32(b[20:], 9)
		be.PutUint64(b[24:], 10*512)
		be.PutUint32(b[36:], 1)
		be.PutUint64(b[40:], 512)
		be.PutUint64(b[48:], 512) // only its place counts for reading
		be.PutUint32(b[56:], 1)
		be.PutUint32(b[96:], 4)
		be.PutUint32(b[100:], 112)
		if method == "zstd" {
			be.PutUint64(b[72:], qcow2Compressed)
			b[104] = 1
		}
		be.PutUint64(b[512:], 1024|qcow2Copied)
		be.PutUint64(b[1024:], 1536|qcow2Copied)
		be.PutUint64(b[1032:], qcow2Zero)
		copy(b[1536:], "plain")
		newPack, err := qcow2Packer(method)
		if err != nil {
			panic(err)
		}
		pack, err := newPack()
		if err != nil {
			panic(err)
		}
		be.PutUint64(b[1048:], 2048|qcow2Packed)
		b, err = pack(b, 0, bytes.Repeat([]byte("packed42"), 64))
		if err != nil {
			panic(err)
		}
		all = append(all, b)
	}
	return all
}

func FuzzVMDK(f *testing.F) {
	for _, b := range tinyVMDKs() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, end := inMemory(b)
		if img, err := openMonolithic(file, end); err == nil {
			drain(t, img)
		}
	})
}

// tinyVMDKs are a sparse file and a stream with grains of one sector.
func tinyVMDKs() [][]byte {
	h := vmdkHeader{version: 1, capacity: 20, grain: 1, perTable: 4, directoryAt: 1, descriptorAt: 4, descriptorSize: 1}
	le := binary.LittleEndian
	b := append(h.encode(), make([]byte, 5*512)...)
	le.PutUint32(b[512:], 2)
	le.PutUint32(b[1024:], 3)
	le.PutUint32(b[1024+8:], 3)
	copy(b[1536:], "grain")
	copy(b[2048:], "# Disk DescriptorFile\nparentCID=ffffffff\nRW 20 SPARSE \"x\"\n")

	s := bytes.Clone(b)
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	if _, err := w.Write(make([]byte, 512)); err != nil {
		panic(err)
	}
	w.Close()
	le.PutUint64(s[1536:], 0)
	le.PutUint32(s[1544:], uint32(z.Len()))
	copy(s[1548:], z.Bytes())
	h.version, h.compression, h.flags = 3, 1, vmdkCompressed|vmdkMarkers
	h.directoryAt = vmdkAtEnd
	copy(s, h.encode())
	h.directoryAt = 1
	s = append(append(s, h.encode()...), make([]byte, 512)...)
	return [][]byte{b, s}
}

func FuzzDescriptor(f *testing.F) {
	f.Add([]byte("# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 4 FLAT \"a b.vmdk\" 0\nRW 7 ZERO\nRDONLY 1 SPARSE \"c\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		isDescriptor(b)
		d, err := parseDescriptor(b)
		if err != nil {
			return
		}
		for _, e := range d.extents {
			if e.length < 0 || e.offset < 0 || e.kind != "ZERO" && e.name == "" {
				t.Fatalf("%+v", e)
			}
		}
	})
}

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
		parts := []PartSpec{{Size: 4096, Align: 4096}, {Size: 4096, Align: 4096}, {Size: 4096, Align: 4096}}
		if kind == "mbr" {
			parts = append(parts, parts[:2]...)
		}
		tab, _, err := Layout(parts, LayoutOptions{Kind: kind, SectorSize: sector, Size: 80 << 10})
		if err != nil {
			f.Fatal(err)
		}
		img, err := Join(tab, nil, nil)
		if err != nil {
			f.Fatal(err)
		}
		b := make([]byte, img.Size())
		if _, err := img.ReadAt(b, 0); err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		mend(b)
		for _, sector := range []int{0, 512, 4096} {
			tab, err := ReadTable(memory(b), sector)
			if err != nil {
				continue
			}
			for _, p := range tab.Partitions {
				if p.Start <= 0 || p.Length <= 0 || p.End() > int64(len(b)) {
					t.Fatalf("partition %+v in %d bytes", p, len(b))
				}
			}
			Join(tab, nil, nil)
		}
	})
}

// TestTinyQcow2s makes sure that the seeds are images, not just rubbish.
func TestTinyQcow2s(t *testing.T) {
	for i, b := range tinyQcow2s() {
		file, end := inMemory(b)
		img, err := openQcow2(file, end, OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, img.Size())
		if _, err := img.ReadAt(got, 0); err != nil || string(got[:5]) != "plain" || !bytes.HasSuffix(got[:4*512], []byte("packed42")) {
			t.Errorf("qcow2 %d: %v, %.5q", i, err, got)
		}
	}
}

// TestTinyVMDKs makes sure that the seeds are images, not just rubbish.
func TestTinyVMDKs(t *testing.T) {
	for i, b := range tinyVMDKs() {
		file, end := inMemory(b)
		img, err := openMonolithic(file, end)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 512)
		if _, err := img.ReadAt(got, 0); err != nil || i == 0 && string(got[:5]) != "grain" {
			t.Errorf("vmdk %d: %v", i, err)
		}
	}
}

// smallest returns the smallest image of a format, with one block of data.
func smallest(f *testing.F, format Format) []byte {
	f.Helper()
	w, err := os.Create(filepath.Join(f.TempDir(), "seed"))
	if err != nil {
		f.Fatal(err)
	}
	defer w.Close()
	if err := format.Write(context.Background(), w, memory(bytes.Repeat([]byte("data"), 128)), WriteOptions{}); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(w.Name())
	if err != nil {
		f.Fatal(err)
	}
	return b
}

func FuzzVDI(f *testing.F) {
	b := smallest(f, vdi{})[:1<<20+512]
	copy(b[1024:], b[1<<20:]) // bring the data near
	binary.LittleEndian.PutUint32(b[0x158:], 1024)
	f.Add(b[:1536])
	f.Fuzz(func(t *testing.T, b []byte) {
		file, end := inMemory(b)
		if img, err := openVDI(file, end); err == nil {
			drain(t, img)
		}
	})
}

func FuzzVHD(f *testing.F) {
	b := smallest(f, vhd{})
	f.Add(b[:8192])
	f.Add(b[len(b)-512:])
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		if len(b) >= 1536 { // make the checksums right, so that what they protect is reached
			binary.BigEndian.PutUint32(b[64:], vhdChecksum(b[:512], 64))
			binary.BigEndian.PutUint32(b[512+36:], vhdChecksum(b[512:1536], 36))
		}
		file, end := inMemory(b)
		if img, err := openVHD(file, end); err == nil {
			drain(t, img)
		}
	})
}

// FuzzVHDX changes the parts in which something is said, and puts them in their
// places, which lie far apart.
func FuzzVHDX(f *testing.F) {
	b := smallest(f, vhdx{})
	f.Add(b[vhdxHeader1:][:128], b[vhdxRegions1:][:128], b[vhdxMetaAt:][:256], b[vhdxMetaAt+vhdxItemsAt:][:160], b[vhdxTableAt:][:32])
	f.Fuzz(func(t *testing.T, header, regions, metadata, items, table []byte) {
		b := bytes.Clone(b[:vhdxTableAt+4096])
		for at, part := range map[int][]byte{vhdxHeader1: header, vhdxRegions1: regions, vhdxMetaAt: metadata, vhdxMetaAt + vhdxItemsAt: items, vhdxTableAt: table} {
			copy(b[at:], part[:min(len(part), 4096)])
		}
		binary.LittleEndian.PutUint32(b[vhdxHeader1+4:], vhdxChecksum(b[vhdxHeader1:][:vhdxHeaderSize]))
		binary.LittleEndian.PutUint32(b[vhdxRegions1+4:], vhdxChecksum(b[vhdxRegions1:][:vhdxRegionSize]))
		file, end := inMemory(b)
		if img, err := openVHDX(file, end); err == nil {
			drain(t, img)
		}
	})
}
