package qcow2

import (
	"bytes"
	"encoding/binary"
	"testing"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/disktest"
)

func FuzzQcow2(f *testing.F) {
	for _, b := range tinyQcow2s() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if img, err := (Format{}).Open(image.Bytes(b), "", image.OpenOptions{}); err == nil {
			disktest.Drain(t, img)
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
		copy(b, magic)
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
			be.PutUint64(b[72:], compressed)
			b[104] = 1
		}
		be.PutUint64(b[512:], 1024|copied)
		be.PutUint64(b[1024:], 1536|copied)
		be.PutUint64(b[1032:], zero)
		copy(b[1536:], "plain")
		newPack, err := packer(method)
		if err != nil {
			panic(err)
		}
		pack, err := newPack()
		if err != nil {
			panic(err)
		}
		be.PutUint64(b[1048:], 2048|packed)
		b, err = pack(b, 0, bytes.Repeat([]byte("packed42"), 64))
		if err != nil {
			panic(err)
		}
		all = append(all, b)
	}
	return all
}

// TestTinyQcow2s makes sure that the seeds are images, not just rubbish.
func TestTinyQcow2s(t *testing.T) {
	for i, b := range tinyQcow2s() {
		img, err := Format{}.Open(image.Bytes(b), "", image.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, img.Size())
		if _, err := img.ReadAt(got, 0); err != nil || string(got[:5]) != "plain" || !bytes.HasSuffix(got[:4*512], []byte("packed42")) {
			t.Errorf("qcow2 %d: %v, %.5q", i, err, got)
		}
	}
}
