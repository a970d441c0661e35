package disk

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/disktest"
	"b9.build/b9/engine/disk/partition"
)

// TestHostileHeaders puts large numbers, in both byte orders, at every place of
// each format's first 128 bytes, and at those that are used up to 1,100, and reads what is still accepted: no
// number may decide how much memory is taken.
func TestHostileHeaders(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "image")
			if err := convertFile(scattered(t, 11, 2<<20), "raw", path, v.format, v.o); err != nil {
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
	img, err := Open(f.Name(), format, image.OpenOptions{})
	if err == nil {
		disktest.Drain(t, img)
		partition.ReadTable(img, 0)
		img.Close()
	}
	Check(context.Background(), f.Name(), format, image.OpenOptions{})
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 128<<20 {
		t.Errorf("%x at %d takes %d MiB (%v)", bad, at, took>>20, err)
	}
}

// TestDamagedBlocks wants damage found that still lets every block be read.
func TestDamagedBlocks(t *testing.T) {
	le := binary.LittleEndian
	for _, d := range []struct {
		name, format, want string
		o                  image.WriteOptions
		change             func(b []byte) []byte
	}{
		{"grain with a wrong checksum", "vmdk", "invalid checksum", image.WriteOptions{Subformat: "streamOptimized"}, func(b []byte) []byte {
			grain := int(le.Uint64(b[64:])) * 512 // the first one follows the overhead
			b[grain+12+int(le.Uint32(b[grain+8:]))-1] ^= 1
			return b
		}},
		{"grain cut off by its marker", "vmdk", "unexpected EOF", image.WriteOptions{Subformat: "streamOptimized"}, func(b []byte) []byte {
			grain := int(le.Uint64(b[64:])) * 512
			le.PutUint32(b[grain+8:], le.Uint32(b[grain+8:])-5)
			return b
		}},
		{"descriptor lost", "vmdk", "there is no descriptor at sector 1", image.WriteOptions{}, func(b []byte) []byte {
			clear(b[512 : 512+20*512])
			return b
		}},
		{"blocks off sectors", "vdi", "no multiples of 512", image.WriteOptions{}, func(b []byte) []byte {
			b[0x158]++
			return b
		}},
		{"table off sectors", "vdi", "no multiples of 512", image.WriteOptions{}, func(b []byte) []byte {
			b[0x154]++
			return b
		}},
		{"last block cut off", "vhd", "it was cut off", image.WriteOptions{}, func(b []byte) []byte { return b[:len(b)-512-1<<20] }},
		{"block in the metadata", "vhdx", "overlaps a table", image.WriteOptions{}, func(b []byte) []byte {
			region := func(i int) uint64 { return le.Uint64(b[192<<10+16+32*i+16:]) } // the table of blocks is the first, the metadata the second
			le.PutUint64(b[region(0):], region(1)|6)
			return b
		}},
	} {
		path := filepath.Join(t.TempDir(), "image")
		if err := convertFile(scattered(t, 41, 9<<20), "raw", path, d.format, d.o); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, d.change(b), 0o666); err != nil {
			t.Fatal(err)
		}
		err = convertFile(path, d.format, filepath.Join(t.TempDir(), "out"), "raw", image.WriteOptions{})
		if err == nil || !strings.Contains(err.Error(), d.want) {
			t.Errorf("%s: %v, want %q", d.name, err, d.want)
		}
	}
}
