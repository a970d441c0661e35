package vdi

import (
	"encoding/binary"
	"testing"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/disktest"
)

func FuzzVDI(f *testing.F) {
	b := disktest.Smallest(f, Format{})[:1<<20+512]
	copy(b[1024:], b[1<<20:]) // bring the data near
	binary.LittleEndian.PutUint32(b[0x158:], 1024)
	f.Add(b[:1536])
	f.Fuzz(func(t *testing.T, b []byte) {
		if img, err := (Format{}).Open(image.Bytes(b), "", image.OpenOptions{}); err == nil {
			disktest.Drain(t, img)
		}
	})
}
