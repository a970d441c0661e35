package blob

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const block = 64 << 10

// holey writes a file of four blocks, of which the second holds data.
func holey(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, werr := f.WriteAt(bytes.Repeat([]byte("x"), block), block)
	if err := errors.Join(werr, f.Truncate(4*block), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, path string) Blob {
	t.Helper()
	b, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestExtentsCoverTheFileAndNameItsHoles(t *testing.T) {
	b := open(t, holey(t))
	var got []Extent
	for off := int64(0); ; {
		e, err := b.Extent(off)
		if err == io.EOF {
			break
		}
		if err != nil || e.Start != off || e.Length < 1 {
			t.Fatalf("extent at %d: %+v, %v", off, e, err)
		}
		if n := len(got); n > 0 && got[n-1].State == e.State {
			got[n-1].Length += e.Length
		} else {
			got = append(got, e)
		}
		off = e.End()
	}
	want := []Extent{{0, block, Hole}, {block, block, Data}, {2 * block, 2 * block, Hole}}
	if len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("extents %v, want %v", got, want)
	}
	for _, off := range []int64{-1, 4 * block} {
		if _, err := b.Extent(off); err != io.EOF {
			t.Errorf("extent at %d: %v, want EOF", off, err)
		}
	}
}

func TestReads(t *testing.T) {
	path := holey(t)
	b := open(t, path)
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ReadAll(b, 4*block); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes (%v), want the %d of the file", len(got), err, len(want))
	}
	if _, err := ReadAll(b, 4*block-1); err == nil || !strings.Contains(err.Error(), "room in memory") {
		t.Errorf("a blob larger than the limit: %v", err)
	}
	buf := make([]byte, 10)
	for off, n := range map[int64]int{4*block - 3: 3, 4 * block: 0, 9 * block: 0} {
		if got, err := b.ReadAt(buf, off); got != n || err != io.EOF {
			t.Errorf("at %d: %d bytes and %v, want %d and EOF", off, got, err, n)
		}
	}
	if _, err := b.ReadAt(buf, -1); err == nil || err == io.EOF {
		t.Errorf("at a negative offset: %v", err)
	}
	if err := os.Truncate(path, block); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ReadAt(buf, 2*block); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("in a file that was shortened: %v", err)
	}
}

func TestADirectoryIsNoBlob(t *testing.T) {
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("error %v", err)
	}
}
