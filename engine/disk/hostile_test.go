package disk

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// TestHostileHeaders puts large numbers, in both byte orders, at every place of
// each format's first 128 bytes, and at those that are used up to 1,100, and reads what is still accepted: no
// number may decide how much memory is taken.
func TestHostileHeaders(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "image")
			if err := convertFile(sparse(t, 11, 2<<20), "raw", path, v.format, v.o); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var old, bad [4]byte
			for at := int64(0); at < 1100; at += 4 {
				if _, err := f.ReadAt(old[:], at); err != nil {
					t.Fatal(err)
				}
				if at >= 128 && binary.LittleEndian.Uint32(old[:]) == 0 {
					continue
				}
				for _, n := range []uint32{1<<32 - 1, 1<<31 - 1, 1<<24 - 1} {
					binary.BigEndian.PutUint32(bad[:], n)
					hostileBytes(t, f, v.format, at, bad[:])
					binary.LittleEndian.PutUint32(bad[:], n)
					hostileBytes(t, f, v.format, at, bad[:])
				}
				if _, err := f.WriteAt(old[:], at); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// hostileBytes reads the image with some other bytes in it.
func hostileBytes(t *testing.T, f *os.File, format string, at int64, bad []byte) {
	t.Helper()
	if _, err := f.WriteAt(bad, at); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	img, err := Open(f.Name(), format, OpenOptions{})
	if err == nil {
		drain(t, img)
		ReadTable(img, 0)
		img.Close()
	}
	Check(context.Background(), f.Name(), format, OpenOptions{})
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 128<<20 {
		t.Errorf("%x at %d takes %d MiB (%v)", bad, at, took>>20, err)
	}
}
