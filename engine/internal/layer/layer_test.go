package layer

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/internal/digest"
)

var update = flag.Bool("update", false, "write the golden files anew")

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "f"), os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600)
	check(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// again opens a file once more, for whoever closes it.
func again(t testing.TB, f *os.File) *os.File {
	t.Helper()
	g, err := os.OpenFile(f.Name(), os.O_RDWR, 0)
	check(t, err)
	t.Cleanup(func() { g.Close() })
	return g
}

func open(t testing.TB, f *os.File) blob.Blob {
	t.Helper()
	b, err := blob.Open(f.Name())
	check(t, err)
	t.Cleanup(func() { b.Close() })
	return b
}

// example is a difference to 5 blocks and a bit of data, which makes them 6 and a
// shorter bit: one block is written, two are zero, and what is behind 300,000 is cut
// off and grown again.
func example(t testing.TB) (base, diff *os.File) {
	t.Helper()
	base, diff = create(t), create(t)
	_, err := base.Write(bytes.Repeat([]byte("base"), (5*BlockSize+100)/4))
	check(t, err)
	f, err := New(open(t, base), digest.Sum([]byte("the base")), diff)
	check(t, err)
	_, err = f.WriteAt([]byte("written"), BlockSize+7)
	check(t, errors.Join(err, f.Zero(2*BlockSize, 2*BlockSize), f.Truncate(300_000), f.Truncate(6*BlockSize+10)))
	_, err = f.Finish()
	check(t, err)
	return base, diff
}

// The format never changes: stores hold it.
func TestGoldenTrailer(t *testing.T) {
	_, diff := example(t)
	info, err := diff.Stat()
	check(t, err)
	got := make([]byte, info.Size()-7*BlockSize)
	_, err = diff.ReadAt(got, 7*BlockSize)
	check(t, err)
	golden := filepath.Join("testdata", "trailer.hex")
	if *update {
		check(t, os.WriteFile(golden, []byte(hex.Dump(got)), 0o644))
	}
	want, err := os.ReadFile(golden)
	check(t, err)
	if hex.Dump(got) != string(want) {
		t.Errorf("the trailer is\n%swant\n%s", hex.Dump(got), want)
	}
	trailer, err := Read(diff)
	check(t, err)
	parsed := &Trailer{digest.Sum([]byte("the base")), 6*BlockSize + 10, 300_000, []Run{{1, 1, Here}, {2, 2, Zero}}}
	if !reflect.DeepEqual(trailer, parsed) {
		t.Errorf("it is read %+v, want %+v", trailer, parsed)
	}
}

// A bit that is wrong, and an end that is missing, are found, wherever they are.
func TestDamagedTrailers(t *testing.T) {
	_, diff := example(t)
	whole, err := os.ReadFile(diff.Name())
	check(t, err)
	for at := 7 * BlockSize; at < len(whole); at++ {
		for bit := range 8 {
			b := bytes.Clone(whole[at : at+1])
			b[0] ^= 1 << bit
			_, err := diff.WriteAt(b, int64(at))
			check(t, err)
			if _, err := Read(diff); !errors.Is(err, ErrDamaged) {
				t.Errorf("bit %d of byte %d is wrong: %v", bit, at-7*BlockSize, err)
			}
		}
		_, err := diff.WriteAt(whole[at:at+1], int64(at))
		check(t, err)
	}
	if _, err := Read(diff); err != nil {
		t.Fatal(err)
	}
	for size := len(whole) - 1; size > 6*BlockSize; size -= 13 {
		check(t, diff.Truncate(int64(size)))
		if _, err := Read(diff); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), diff.Name()) {
			t.Errorf("%d of %d bytes: %v", size, len(whole), err)
		}
	}
	check(t, os.WriteFile(diff.Name(), append(whole, 0), 0o600))
	if _, err := Read(diff); !errors.Is(err, ErrDamaged) {
		t.Errorf("with a byte after it: %v", err)
	}
	check(t, os.WriteFile(diff.Name(), whole[7*BlockSize:], 0o600))
	if _, err := Read(diff); !errors.Is(err, ErrDamaged) {
		t.Errorf("the trailer alone: %v", err)
	}
}

// Runs are right in themselves and to one another, or the trailer is damaged, though
// its checksum may be right.
func TestRunsThatCanNotBe(t *testing.T) {
	for name, runs := range map[string][]Run{
		"of no blocks": {{1, 0, Here}}, "of the base": {{1, 1, Base}}, "of no kind": {{1, 1, 3}}, "behind the end": {{3, 2, Here}}, "far behind it": {{1 << 60, 1, Here}},
		"in the wrong order": {{2, 1, Here}, {1, 1, Here}}, "one over another": {{0, 2, Here}, {1, 1, Zero}},
	} {
		b := append(make([]byte, 4*BlockSize), (&Trailer{Size: 4 * BlockSize, Runs: runs}).encode()...)
		if _, err := read(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "run of") {
			t.Errorf("runs %s: %v", name, err)
		}
	}
	for name, trailer := range map[string]Trailer{"more is kept": {Size: 9, Kept: 10}, "a negative size": {Size: -1}, "too large": {Size: maxSize + 1}} {
		b := append(make([]byte, BlockSize), trailer.encode()...)
		if _, err := read(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzTrailer(f *testing.F) {
	_, diff := example(f)
	whole, err := os.ReadFile(diff.Name())
	check(f, err)
	f.Add(whole[7*BlockSize:], int64(7))
	f.Add((&Trailer{Size: 1, Kept: 1}).encode(), int64(1))
	f.Add([]byte{}, int64(0))
	f.Fuzz(func(t *testing.T, b []byte, blocks int64) {
		blocks = min(max(blocks, 0), 1<<40)
		if n := len(b); n >= endSize { // else no mutation would get past it
			sum := crc32.Checksum(b[:n-4], crcTable())
			b = append(bytes.Clone(b[:n-4]), byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24))
		}
		trailer, err := read(&behind{b, blocks * BlockSize}, blocks*BlockSize+int64(len(b)))
		if err != nil {
			return
		}
		at := int64(0)
		for _, r := range trailer.Runs {
			if r.Start < at || r.Count < 1 || r.End() > blocks || r.Kind != Here && r.Kind != Zero {
				t.Fatalf("runs %v of %d blocks", trailer.Runs, blocks)
			}
			at = r.End()
		}
		if trailer.Kept < 0 || trailer.Kept > trailer.Size || blocksOf(trailer.Size) != blocks {
			t.Fatalf("%+v of %d blocks", trailer, blocks)
		}
		b = trailer.encode()
		if second, err := read(&behind{b, blocks * BlockSize}, blocks*BlockSize+int64(len(b))); err != nil || !reflect.DeepEqual(second, trailer) {
			t.Fatalf("%+v is read %+v, %v", trailer, second, err)
		}
	})
}

// behind is a file with a hole before some bytes.
type behind struct {
	b    []byte
	hole int64
}

func (h *behind) ReadAt(p []byte, off int64) (int, error) {
	if off < h.hole {
		return 0, errors.New("a read before the trailer")
	}
	return bytes.NewReader(h.b).ReadAt(p, off-h.hole)
}

// A run of more blocks than its field counts is written as several.
func TestLongRuns(t *testing.T) {
	want := &Trailer{Size: 1 << 50, Runs: []Run{{5, 1<<33 + 7, Zero}, {1<<33 + 99, 1, Here}}}
	b := want.encode()
	got, err := read(&behind{b, want.Size}, want.Size+int64(len(b)))
	if err != nil || !reflect.DeepEqual(got, want) || len(b) != 4*runSize+endSize {
		t.Errorf("%d bytes are read %+v, %v; want %+v", len(b), got, err, want)
	}
}
