package digest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zeebo/blake3"

	"b9.build/b9/engine/internal/sparse"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sparseFile makes a file of size bytes with so many short runs of data.
func sparseFile(t *testing.T, path string, size int64, runs int) string {
	t.Helper()
	f, err := os.Create(path)
	check(t, err)
	defer f.Close()
	for i := range runs {
		off := size * int64(i) / int64(runs)
		_, err := f.WriteAt([]byte("data of a run")[:min(13, size-off)], off)
		check(t, err)
	}
	check(t, f.Truncate(size))
	return path
}

// definition is the comment of the package, word by word.
func definition(content []byte) Digest {
	sum := binary.LittleEndian.AppendUint64([]byte("b9 file 1\n"), uint64(len(content)))
	for i := 0; i*65536 < len(content); i++ {
		block := content[i*65536 : min(len(content), (i+1)*65536)]
		if strings.Trim(string(block), "\x00") == "" {
			continue
		}
		h := blake3.Sum256(block)
		sum = append(binary.LittleEndian.AppendUint64(sum, uint64(i)), h[:]...)
	}
	return blake3.Sum256(sum)
}

func TestPathFollowsItsDefinitionWhateverTheHoles(t *testing.T) {
	dir := t.TempDir()
	for i, c := range []struct {
		size int64
		runs int
	}{{1, 0}, {1, 1}, {4095, 1}, {65536, 1}, {65537, 1}, {200_000, 2}, {4 << 20, 3}, {4<<20 + 1, 0}, {9<<20 + 77, 4}, {33 << 20, 9}} {
		path := sparseFile(t, filepath.Join(dir, fmt.Sprint(i)), c.size, c.runs)
		content := read(t, path)
		want := definition(content)
		got, size, err := Path(t.Context(), path, 0)
		check(t, err)
		if got != want || size != c.size {
			t.Errorf("%d bytes in %d runs: %v %d, want %v", c.size, c.runs, got, size, want)
		}
		full := path + ".full" // the same bytes without a hole
		check(t, os.WriteFile(full, content, 0o600))
		if got, _, err := Path(t.Context(), full, 0); err != nil || got != want {
			t.Errorf("%d bytes without holes: %v %v, want %v", c.size, got, err, want)
		}
	}
}

func TestPathTellsFilesApart(t *testing.T) {
	dir := t.TempDir()
	seen := map[Digest]string{}
	for name, content := range map[string]string{
		"empty": "", "one zero": "\x00", "two zeros": "\x00\x00", "a": "a", "a and a zero": "a\x00",
		"block then a": strings.Repeat("\x00", 65536) + "a", "two blocks then a": strings.Repeat("\x00", 2*65536) + "a",
	} {
		d, _, err := Path(t.Context(), write(t, filepath.Join(dir, name), content), 0)
		check(t, err)
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s have one digest", name, other)
		}
		seen[d] = name
	}
}

func TestPathErrors(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := Path(t.Context(), filepath.Join(dir, "absent"), 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	if _, _, err := Path(t.Context(), dir, 0); err == nil || !strings.Contains(err.Error(), "is not a regular file but a directory") {
		t.Errorf("directory: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, size := range []int64{1 << 20, 64 << 20} {
		path := sparseFile(t, filepath.Join(dir, "f"), size, 3)
		if _, _, err := Path(ctx, path, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled hash of %d bytes: %v", size, err)
		}
	}
}

func TestPathNoticesAChange(t *testing.T) {
	path := sparseFile(t, filepath.Join(t.TempDir(), "f"), 1<<20, 2)
	f := open(t, path)
	defer f.Close()
	if _, err := Content(t.Context(), f, 2<<20, 2); err != nil {
		t.Errorf("a hole past the end: %v", err)
	}
	b := newBlockReader(f, 2<<20)
	b.start, b.end = 1<<20, 2<<20 // as if the data had been there
	if _, err := b.read(1 << 20); !errors.Is(err, sparse.ErrChanged) {
		t.Errorf("truncated while it was read: %v", err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	check(t, err)
	return content
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	check(t, err)
	return f
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	check(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// The digests of some files never change: stores and repositories hold them.
func TestVectors(t *testing.T) {
	for content, want := range map[string]string{
		"": "b3:7ac4d2aa54339f4d227c628d0e81ee85a0547f13deaf059d92c8f6e61989989b", "a": "b3:6e8779451fed24f5e2db12f04a4ad19ca421b4dbad6f212f5b412cc3c90824bd", strings.Repeat("\x00", 65536) + "a": "b3:5a91b82650e3859f98da22d6a777ddf04ac6f159b2769710711c766afc6e1603",
	} {
		d, size, err := Path(t.Context(), write(t, filepath.Join(t.TempDir(), "f"), content), 0)
		if err != nil || d.String() != want || size != int64(len(content)) {
			t.Errorf("%d bytes: %v of %d bytes, %v; want %s", len(content), d, size, err, want)
		}
	}
}

// What reads blocks itself gets the digest that Path gives.
func TestLeavesMakeTheSameDigest(t *testing.T) {
	path := sparseFile(t, filepath.Join(t.TempDir(), "f"), 1<<20+5, 7)
	content := read(t, path)
	h := New(int64(len(content)))
	for first := int64(0); first*BlockSize < int64(len(content)); first += 3 {
		h.Add(Leaves(nil, content[first*BlockSize:min((first+3)*BlockSize, int64(len(content)))], first))
	}
	if want, _, err := Path(t.Context(), path, 3); err != nil || h.Digest() != want {
		t.Errorf("%v from leaves, %v, %v", h.Digest(), want, err)
	}
}

func TestText(t *testing.T) {
	d := Sum([]byte("x"))
	if got, err := Parse(d.String()); err != nil || got != d {
		t.Errorf("%q is read %v, %v", d.String(), got, err)
	}
	if got, err := ParseHex(d.Hex()); err != nil || got != d || d.String() != "b3:"+d.Hex() {
		t.Errorf("%q is read %v, %v", d.Hex(), got, err)
	}
	for _, bad := range []string{"", d.Hex(), "b3:", "b3:" + strings.ToUpper(d.Hex()), d.String() + "0", "b3:" + strings.Repeat("g", 64)} {
		var text Digest
		if err := text.UnmarshalText([]byte(bad)); err == nil || !text.IsZero() {
			t.Errorf("%q is read %v, %v", bad, text, err)
		}
	}
}
