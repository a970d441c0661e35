package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/sparse"
)

func TestHolesAreNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "huge")
	f := must[*os.File](t)(os.Create(path))
	check(t, f.Truncate(1<<43)) // 8 TiB
	_, err := f.WriteAt([]byte("end"), 1<<43-3)
	check(t, err)
	check(t, f.Close())
	if _, _, err := digest.Path(t.Context(), path, 0); err != nil {
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
	check(t, copyThrough(out, in, 0, 3<<20+5))
	if msg, err := exec.Command("cmp", src, src+".copy").CombinedOutput(); err != nil {
		t.Errorf("%s", msg)
	}
	if err := copyThrough(out, in, 0, 4<<20); !errors.Is(err, sparse.ErrChanged) {
		t.Errorf("past the end: %v", err)
	}
}
