package disk

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"io"
	"math/rand/v2"
	"testing"
)

// deflateSamples are units of all kinds and sizes.
func deflateSamples() [][]byte {
	r := rand.New(rand.NewPCG(1, 1))
	var all [][]byte
	for _, n := range []int64{0, 1, 2, 3, 4, 5, 7, 100, 511, 4096, 65535, 65536} {
		for kind := 1; kind <= 3; kind++ {
			all = append(all, contents(r, kind, n))
		}
	}
	text := benchText(r, deflateMax)
	mixed := append(bytes.Clone(text[:30000]), contents(r, 3, 35536)...)
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
	d := deflater{depth: 40}
	for i, b := range deflateSamples() {
		got, err := io.ReadAll(flate.NewReader(bytes.NewReader(d.deflate(nil, b))))
		if err != nil || !bytes.Equal(got, b) {
			t.Fatalf("sample %d of %d bytes: %d bytes, %v", i, len(b), len(got), err)
		}
		z, err := zlib.NewReader(bytes.NewReader(d.zlib([]byte("x"), b)[1:]))
		if err != nil {
			t.Fatal(err)
		}
		if got, err = io.ReadAll(z); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("sample %d: %v", i, err)
		}
	}
}

// TestDeflateSize holds the encoder near to the standard library's best.
func TestDeflateSize(t *testing.T) {
	d := deflater{depth: 40}
	b := benchText(rand.New(rand.NewPCG(3, 3)), deflateMax)
	var best bytes.Buffer
	w, err := flate.NewWriter(&best, 9)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(b)
	w.Close()
	if n := len(d.deflate(nil, b)); n > best.Len()*103/100 {
		t.Errorf("%d bytes, the standard library makes %d", n, best.Len())
	}
}

func FuzzDeflate(f *testing.F) {
	for _, b := range deflateSamples()[:12] {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), deflateMax)]
		got, err := io.ReadAll(flate.NewReader(bytes.NewReader((&deflater{depth: 8}).deflate(nil, b))))
		if err != nil || !bytes.Equal(got, b) {
			t.Fatalf("%d bytes became %d: %v", len(b), len(got), err)
		}
	})
}
