// Package disktest has what the tests of several formats share: data to put into
// images ([Contents], [BenchText], [RealData]), foreign bytes as a file
// ([InMemory], [Smallest]), what any image has to keep to ([Drain]), and figures of
// benchmarks. Nothing but tests imports it.
package disktest

import (
	"bytes"
	"cmp"
	"context"
	"hash/fnv"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"syscall"
	"testing"
	"time"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/mapped"
	"b9.build/b9/engine/internal/sparse"
)

// RealData returns n bytes of the files under /usr, at most 1 MiB of each, in
// the order of the hashes of their names; from the first again where they end.
func RealData(b *testing.B, n int64) []byte {
	b.Helper()
	var names []string
	err := filepath.WalkDir("/usr", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			names = append(names, path)
		}
		return nil
	})
	if err != nil || len(names) == 0 {
		b.Fatalf("no files under /usr: %v", err)
	}
	slices.SortFunc(names, func(x, y string) int { return cmp.Compare(nameHash(x), nameHash(y)) })
	data := make([]byte, 0, n)
	for i := 0; int64(len(data)) < n; i = (i + 1) % len(names) {
		f, err := os.Open(names[i])
		if err != nil {
			continue
		}
		part, err := io.ReadAll(io.LimitReader(f, min(1<<20, n-int64(len(data)))))
		f.Close()
		if err != nil {
			b.Fatal(err)
		}
		data = append(data, part...)
	}
	return data
}

func nameHash(name string) uint64 {
	h := fnv.New64a()
	io.WriteString(h, name)
	return h.Sum64()
}

func BenchText(r *rand.Rand, n int) []byte {
	words := []string{"static ", "int ", "return ", "(struct ", "->", "void\n", "if (", "0x", "{\n\t", "}\n", "buffer", "length", "offset"}
	b := make([]byte, 0, n+16)
	for len(b) < n {
		b = append(b, words[r.IntN(len(words))]...)
		b = strconv.AppendUint(b, r.Uint64()>>(r.IntN(60)+4), 16)
	}
	return b[:n]
}

// OwnCPU returns the processor time of this process in milliseconds.
func OwnCPU(b *testing.B) float64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return Milliseconds(time.Duration(r.Utime.Nano() + r.Stime.Nano()))
}

func Milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func Median(v []float64) float64 {
	sort.Float64s(v)
	return v[len(v)/2]
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

// bytesFile is a file in memory.
type bytesFile struct{ *bytes.Reader }

func (bytesFile) Close() error { return nil }

func InMemory(b []byte) (mapped.Source, int64) { return bytesFile{bytes.NewReader(b)}, int64(len(b)) }

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
