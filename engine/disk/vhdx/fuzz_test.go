package vhdx

import (
	"bytes"
	"encoding/binary"
	"testing"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/disktest"
)

// FuzzVHDX changes the parts in which something is said, and puts them in their
// places, which lie far apart.
func FuzzVHDX(f *testing.F) {
	b := disktest.Smallest(f, Format{})
	f.Add(b[header1:][:128], b[regions1:][:128], b[metaAt:][:256], b[metaAt+itemsAt:][:160], b[tableAt:][:32])
	f.Fuzz(func(t *testing.T, header, regions, metadata, items, table []byte) {
		b := bytes.Clone(b[:tableAt+4096])
		for at, part := range map[int][]byte{header1: header, regions1: regions, metaAt: metadata, metaAt + itemsAt: items, tableAt: table} {
			copy(b[at:], part[:min(len(part), 4096)])
		}
		binary.LittleEndian.PutUint32(b[header1+4:], checksum(b[header1:][:headerSize]))
		binary.LittleEndian.PutUint32(b[regions1+4:], checksum(b[regions1:][:regionSize]))
		if img, err := (Format{}).Open(image.Bytes(b), "", image.OpenOptions{}); err == nil {
			disktest.Drain(t, img)
		}
	})
}
