package vhd

import (
	"bytes"
	"encoding/binary"
	"testing"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/disktest"
)

func FuzzVHD(f *testing.F) {
	b := disktest.Smallest(f, Format{})
	f.Add(b[:8192])
	f.Add(b[len(b)-512:])
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		if len(b) >= 1536 { // make the checksums right, so that what they protect is reached
			binary.BigEndian.PutUint32(b[64:], checksum(b[:512], 64))
			binary.BigEndian.PutUint32(b[512+36:], checksum(b[512:1536], 36))
		}
		if img, err := (Format{}).Open(image.Bytes(b), "", image.OpenOptions{}); err == nil {
			disktest.Drain(t, img)
		}
	})
}
