package press

import (
	"bytes"
	"math/rand/v2"
	"os/exec"
	"testing"

	"github.com/klauspost/compress/zstd"

	"b9.build/b9/engine/disk/internal/disktest"
)

// zstdSamples are units of 64 KiB.
func zstdSamples() [][]byte {
	var all [][]byte
	for _, b := range deflateSamples() {
		if len(b) > 4 {
			all = append(all, bytes.Repeat(b, unitSize/len(b)+1)[:unitSize])
		}
	}
	r := rand.New(rand.NewPCG(5, 5))
	for period := 1; period < 3000; period = period*2 + 1 { // each distance, with changes now and then
		b := bytes.Repeat(disktest.Contents(r, 3, int64(period)), unitSize/period+1)[:unitSize]
		for range 400 {
			b[r.IntN(len(b))] = byte(r.Uint32())
		}
		all = append(all, b)
	}
	for range 8 { // pieces of what was before
		b := disktest.Contents(r, 2, 3000)
		for len(b) < unitSize {
			at := r.IntN(len(b) - 100)
			b = append(b, b[at:at+3+r.IntN(97)]...)
			b = append(b, disktest.Contents(r, 3, r.Int64N(4))...)
		}
		all = append(all, b[:unitSize])
	}
	return all
}

// TestZstd lets two other programs decompress.
func TestZstd(t *testing.T) {
	p, err := NewZstd()
	if err != nil {
		t.Fatal(err)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var plain, packed []byte
	for i, b := range zstdSamples() {
		out := p.Compress([]byte("x"), b)[1:]
		got, err := d.DecodeAll(out, nil)
		if err != nil || !bytes.Equal(got, b) {
			t.Fatalf("sample %d: %d bytes, %d sequences: %v", i, len(out), len(p.sequences), err)
		}
		plain, packed = append(plain, b...), append(packed, out...)
	}
	tool, err := exec.LookPath("zstd")
	if err != nil {
		t.Skip("zstd is not installed")
	}
	cmd := exec.Command(tool, "-dc")
	cmd.Stdin = bytes.NewReader(packed)
	if got, err := cmd.Output(); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("zstd -d: %v", err)
	}
}

func FuzzZstd(f *testing.F) {
	p, err := NewZstd()
	if err != nil {
		f.Fatal(err)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range zstdSamples() {
		f.Add(b[:2000])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		b = bytes.Repeat(b, unitSize/len(b)+1)[:unitSize]
		r := rand.New(rand.NewPCG(uint64(b[0]), 1))
		for range 500 {
			b[r.IntN(len(b))] ^= byte(1 + r.IntN(255))
		}
		if got, err := d.DecodeAll(p.Compress(nil, b), nil); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("%d bytes: %v", len(got), err)
		}
	})
}
