package press

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"b9.build/b9/engine/disk/internal/disktest"
)

// deflateMax is the largest unit in bytes that is packed.
const deflateMax = 64 << 10

// deflateSamples are units of all kinds and sizes.
func deflateSamples() [][]byte {
	r := rand.New(rand.NewPCG(1, 1))
	var all [][]byte
	for _, n := range []int64{0, 1, 2, 3, 4, 5, 7, 100, 511, 4096, 65535, 65536} {
		for kind := 1; kind <= 3; kind++ {
			all = append(all, disktest.Contents(r, kind, n))
		}
	}
	text := disktest.BenchText(r, deflateMax)
	mixed := append(bytes.Clone(text[:30000]), disktest.Contents(r, 3, 35536)...)
	skewed := make([]byte, 0, deflateMax) // needs codes longer than 15 bits without a limit
	for i, n := 0, 1; len(skewed) < deflateMax && i < 256; i++ {
		for range min(n, deflateMax-len(skewed)) {
			skewed = append(skewed, byte(i*7))
		}
		n += max(1, n/2)
	}
	r.Shuffle(len(skewed), func(i, j int) { skewed[i], skewed[j] = skewed[j], skewed[i] })
	return append(all, text, mixed, skewed, bytes.Repeat([]byte("ab"), 30000), bytes.Repeat([]byte{7}, deflateMax))
}

// TestDeflate lets the standard library inflate what was deflated.
func TestDeflate(t *testing.T) {
	for level := 1; level <= 9; level++ {
		t.Run(fmt.Sprint(level), func(t *testing.T) { testDeflate(t, level) })
	}
}

func testDeflate(t *testing.T, level int) {
	d := mustDeflater(t, level)
	for i, b := range deflateSamples() {
		got, err := io.ReadAll(flate.NewReader(bytes.NewReader(d.Deflate(nil, b))))
		if err != nil || !bytes.Equal(got, b) {
			t.Fatalf("sample %d of %d bytes: %d bytes, %v", i, len(b), len(got), err)
		}
		z, err := zlib.NewReader(bytes.NewReader(d.Zlib([]byte("x"), b)[1:]))
		if err != nil {
			t.Fatal(err)
		}
		if got, err = io.ReadAll(z); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("sample %d: %v", i, err)
		}
	}
}

// TestDeflateAlone asserts that what one deflater makes of a unit does not depend
// on the units before, so that a file does not depend on how many workers there were.
func TestDeflateAlone(t *testing.T) {
	for _, level := range []int{6, 7} {
		d := mustDeflater(t, level)
		for round := range 3 {
			for i, b := range deflateSamples() {
				if !bytes.Equal(d.Deflate(nil, b), mustDeflater(t, level).Deflate(nil, b)) {
					t.Fatalf("level %d, round %d: sample %d of %d bytes depends on those before", level, round, i, len(b))
				}
			}
		}
	}
}

func mustDeflater(t testing.TB, level int) *Deflater {
	t.Helper()
	d, err := NewDeflater(level)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func FuzzDeflate(f *testing.F) {
	for _, b := range deflateSamples()[:12] {
		f.Add(b)
	}
	d := mustDeflater(f, 6)
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), deflateMax)]
		got, err := io.ReadAll(flate.NewReader(bytes.NewReader(d.Deflate(nil, b))))
		if err != nil || !bytes.Equal(got, b) {
			t.Fatalf("%d bytes became %d: %v", len(b), len(got), err)
		}
	})
}
