// Package disktest has what the tests of several formats share: data to put into
// images ([Contents], [BenchText]), the smallest image of a format ([Smallest]), and
// what any image has to keep to ([Drain]). Nothing but tests imports it.
package disktest

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/internal/sparse"
)

// BenchText makes n bytes that compress about as well as source text.
func BenchText(r *rand.Rand, n int) []byte {
	words := []string{"static ", "int ", "return ", "(struct ", "->", "void\n", "if (", "0x", "{\n\t", "}\n", "buffer", "length", "offset"}
	b := make([]byte, 0, n+16)
	for len(b) < n {
		b = append(b, words[r.IntN(len(words))]...)
		b = strconv.AppendUint(b, r.Uint64()>>(r.IntN(60)+4), 16)
	}
	return b[:n]
}

// Contents makes zeros, text or noise.
func Contents(r *rand.Rand, kind int, n int64) []byte {
	b := make([]byte, n)
	switch kind {
	case 2:
		for i := range b {
			b[i] = "the quick brown fox "[r.IntN(20)]
		}
	case 3:
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	}
	return b
}

// Drain walks the extents of a foreign image and reads some of them. Errors are
// fine; a broken promise of the interface is not.
func Drain(t *testing.T, img image.Image) {
	buf := make([]byte, 100_000)
	read := 0
	off := int64(0)
	for range 200 {
		e, err := img.Extent(off)
		if err == io.EOF && off < img.Size() || err == nil && (e.Start != off || e.Length <= 0 || e.End() > img.Size()) {
			t.Fatalf("extent at %d of %d: %+v, %v", off, img.Size(), e, err)
		}
		if err != nil {
			return
		}
		if part := buf[:min(e.Length, int64(len(buf)))]; read < 1<<20 {
			read += len(part)
			n, err := img.ReadAt(part, off)
			if err == nil && n < len(part) {
				t.Fatalf("short read at %d without an error", off)
			}
			if err == nil && e.State != image.Data && !sparse.IsZero(part) {
				t.Fatalf("%v at %d is not zero", e.State, off)
			}
		}
		off = e.End()
	}
}

// Smallest returns the Smallest image of a format, with one block of data.
func Smallest(f *testing.F, format image.Format) []byte {
	f.Helper()
	w, err := os.Create(filepath.Join(f.TempDir(), "seed"))
	if err != nil {
		f.Fatal(err)
	}
	defer w.Close()
	if err := format.Write(context.Background(), w, image.Bytes(bytes.Repeat([]byte("data"), 128)), image.WriteOptions{}); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(w.Name())
	if err != nil {
		f.Fatal(err)
	}
	return b
}
