package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zeebo/blake3"
)

// definition is the comment of HashFile, word by word.
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

func TestHashFileFollowsItsDefinitionWhateverTheHoles(t *testing.T) {
	dir := t.TempDir()
	for i, c := range []struct {
		size int64
		runs int
	}{{1, 0}, {1, 1}, {4095, 1}, {65536, 1}, {65537, 1}, {200_000, 2}, {4 << 20, 3}, {4<<20 + 1, 0}, {9<<20 + 77, 4}, {33 << 20, 9}} {
		path := sparseFile(t, filepath.Join(dir, fmt.Sprint(i)), c.size, c.runs)
		content := must[[]byte](t)(os.ReadFile(path))
		want := definition(content)
		got, size, err := HashFile(t.Context(), path)
		check(t, err)
		if got != want || size != c.size {
			t.Errorf("%d bytes in %d runs: %v %d, want %v", c.size, c.runs, got, size, want)
		}
		full := path + ".full" // the same bytes without a hole
		check(t, os.WriteFile(full, content, 0o600))
		if got, _, err := HashFile(t.Context(), full); err != nil || got != want {
			t.Errorf("%d bytes without holes: %v %v, want %v", c.size, got, err, want)
		}
	}
}

func TestHashFileTellsFilesApart(t *testing.T) {
	dir := t.TempDir()
	seen := map[Digest]string{}
	for name, content := range map[string]string{
		"empty": "", "one zero": "\x00", "two zeros": "\x00\x00", "a": "a", "a and a zero": "a\x00",
		"block then a": strings.Repeat("\x00", 65536) + "a", "two blocks then a": strings.Repeat("\x00", 2*65536) + "a",
	} {
		d, _, err := HashFile(t.Context(), write(t, filepath.Join(dir, name), content))
		check(t, err)
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s have one digest", name, other)
		}
		seen[d] = name
	}
}

func TestHashFileErrors(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := HashFile(t.Context(), filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	if _, _, err := HashFile(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "is not a regular file but a directory") {
		t.Errorf("directory: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, size := range []int64{1 << 20, 64 << 20} {
		path := sparseFile(t, filepath.Join(dir, "f"), size, 3)
		if _, _, err := HashFile(ctx, path); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled hash of %d bytes: %v", size, err)
		}
	}
}

func TestHashFileNoticesAChange(t *testing.T) {
	path := sparseFile(t, filepath.Join(t.TempDir(), "f"), 1<<20, 2)
	f := must[*os.File](t)(os.Open(path))
	defer f.Close()
	if _, err := hashContent(t.Context(), f, 2<<20, 2); err != nil {
		t.Errorf("a hole past the end: %v", err)
	}
	b := newBlockReader(f, 2<<20)
	b.start, b.end = 1<<20, 2<<20 // as if the data had been there
	if _, err := b.read(1 << 20); !errors.Is(err, ErrChanged) {
		t.Errorf("truncated while it was read: %v", err)
	}
}

func TestHolesAreNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "huge")
	f := must[*os.File](t)(os.Create(path))
	check(t, f.Truncate(1<<43)) // 8 TiB
	_, err := f.WriteAt([]byte("end"), 1<<43-3)
	check(t, err)
	check(t, f.Close())
	if _, _, err := HashFile(t.Context(), path); err != nil {
		t.Error(err)
	}
	check(t, CopySparse(t.Context(), path, path+".copy"))
	if got := allocatedAt(t, path+".copy"); got > 1<<20 {
		t.Errorf("the copy occupies %d bytes", got)
	}
}

func TestCopySparseEqualsItsSource(t *testing.T) {
	dir := t.TempDir()
	for i, size := range []int64{0, 1, smallFile, smallFile + 1, 20<<20 + 5} {
		src := filepath.Join(dir, fmt.Sprint(i))
		if size == 0 {
			write(t, src, "")
		} else {
			sparseFile(t, src, size, 6)
		}
		check(t, CopySparse(t.Context(), src, src+".copy"))
		if out, err := exec.Command("cmp", src, src+".copy").CombinedOutput(); err != nil {
			t.Errorf("%d bytes: %s", size, out)
		}
		if err := CopySparse(t.Context(), src, src+".copy"); !errors.Is(err, fs.ErrExist) {
			t.Errorf("over a file: %v", err)
		}
	}
}

func TestCopyThroughEqualsItsSource(t *testing.T) {
	src := sparseFile(t, filepath.Join(t.TempDir(), "f"), 3<<20+5, 6)
	in := must[*os.File](t)(os.Open(src))
	defer in.Close()
	out := must[*os.File](t)(os.Create(src + ".copy"))
	defer out.Close()
	check(t, copyThrough(t.Context(), out, in, 0, 3<<20+5))
	if msg, err := exec.Command("cmp", src, src+".copy").CombinedOutput(); err != nil {
		t.Errorf("%s", msg)
	}
	if err := copyThrough(t.Context(), out, in, 0, 4<<20); !errors.Is(err, ErrChanged) {
		t.Errorf("past the end: %v", err)
	}
}
