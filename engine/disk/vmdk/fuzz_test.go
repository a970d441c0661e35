package vmdk

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/klauspost/compress/zlib"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/disktest"
)

func FuzzVMDK(f *testing.F) {
	for _, b := range tinyVMDKs() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if img, err := openMonolithic(image.Bytes(b)); err == nil {
			disktest.Drain(t, img)
		}
	})
}

// tinyVMDKs are a sparse file and a stream with grains of one sector.
func tinyVMDKs() [][]byte {
	h := header{Version: 1, Capacity: 20, Grain: 1, PerTable: 4, DirectoryAt: 1, DescriptorAt: 4, DescriptorSize: 1}
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
	h.Version, h.Compression, h.Flags = 3, 1, compressed|markers
	h.DirectoryAt = atEnd
	copy(s, h.encode())
	h.DirectoryAt = 1
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

// TestTinyVMDKs makes sure that the seeds are images, not just rubbish.
func TestTinyVMDKs(t *testing.T) {
	for i, b := range tinyVMDKs() {
		img, err := openMonolithic(image.Bytes(b))
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 512)
		if _, err := img.ReadAt(got, 0); err != nil || i == 0 && string(got[:5]) != "grain" {
			t.Errorf("vmdk %d: %v", i, err)
		}
	}
}
