package fsys_test

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/tree"
)

// TestDirReader reads a directory of the host as an image: with links that stay inside,
// hard links, and holes.
func TestDirReader(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{"a/deep/file": "text", "a/empty": ""} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"abs": "/a/deep", "up": "../../a/deep/file", "out": filepath.Join(outside, "secret")} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "a/deep/file"), filepath.Join(dir, "second")); err != nil {
		t.Fatal(err)
	}
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	const size = 8 << 20
	if _, err := sparse.WriteAt([]byte("end"), size-3); err != nil {
		t.Fatal(err)
	}
	if err := sparse.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := fsys.NewDirReader(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a/deep/file", "abs/file", "up", "second"} {
		if data, err := fs.ReadFile(r, name); err != nil || string(data) != "text" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	if data, err := fs.ReadFile(r, "out"); err == nil {
		t.Errorf("a link led out of the directory: %q", data)
	}
	one, err1 := r.Lstat("second")
	two, err2 := r.Lstat("a/deep/file")
	if err1 != nil || err2 != nil || one.Sys().(*tree.Attr).Inode != two.Sys().(*tree.Attr).Inode || one.Sys().(*tree.Attr).Links != 2 {
		t.Errorf("names of one file: %v, %v, %v, %v", one.Sys(), two.Sys(), err1, err2)
	}
	f, err := r.Open("sparse")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if at, err := f.(tree.HoleSkipper).NextData(0); err != nil || at == 0 || at > size-3 {
		t.Errorf("the data begins at %d: %v", at, err)
	}
	if end, err := io.ReadAll(io.NewSectionReader(f.(io.ReaderAt), size-3, 10)); err != nil || string(end) != "end" {
		t.Errorf("the end is %q: %v", end, err)
	}
}
