package store

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bundleTree puts a tree with files, a link and an empty directory into s.
func bundleTree(t *testing.T, s *Store) Object {
	t.Helper()
	work, err := s.Scratch("test")
	if err != nil {
		t.Fatal(err)
	}
	defer work.Close()
	root := filepath.Join(work.Dir(), "tree")
	for _, dir := range []string{"a/b", "empty"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"a/b/c": "content\n", "a/d": "", "e": strings.Repeat("x", 100_000)} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a/d", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(root, "e"), filepath.Join(root, "hard")); err != nil {
		t.Fatal(err)
	}
	o, err := s.Adopt(context.Background(), root)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestBundleCarriesATree(t *testing.T) {
	from, to := open(t, t.TempDir()), open(t, t.TempDir())
	want := bundleTree(t, from)
	file := filepath.Join(t.TempDir(), "bundle")
	if err := from.Bundle(context.Background(), want.Digest, file); err != nil {
		t.Fatal(err)
	}
	got, err := to.AdoptBundle(context.Background(), file)
	if err != nil || got != want {
		t.Fatalf("adopted %v (%v), want %v", got, err, want)
	}
	if !to.Has(want) {
		t.Error("the tree is not there")
	}
	if report, err := to.Verify(context.Background(), false); err != nil || len(report.Corrupt)+len(report.Missing) > 0 {
		t.Errorf("the store is damaged: %+v (%v)", report, err)
	}
}

func TestBundleThatIsWrong(t *testing.T) {
	s := open(t, t.TempDir())
	o := bundleTree(t, s)
	file := filepath.Join(t.TempDir(), "bundle")
	if err := s.Bundle(context.Background(), o.Digest, file); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(whole); n += 1 + n/3 {
		if err := os.WriteFile(file, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := s.AdoptBundle(context.Background(), file); err == nil {
			t.Errorf("%d of %d bytes gave %v", n, len(whole), got)
		}
	}
	whole[len(whole)-1]++
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := s.AdoptBundle(context.Background(), file); err == nil && got == o {
		t.Error("a changed byte was taken for the tree")
	}
}

// FuzzBundle adopts bundles that come from anyone. What is taken from one is
// sound, and makes a bundle from which the same is taken again.
func FuzzBundle(f *testing.F) {
	f.Add([]byte(bundleTag + "0\n"))
	m := (&manifest{Entries: []entry{
		{Path: ".", Type: typeDir, Mode: 0o755},
		{Path: "a", Type: typeDir, Mode: 0o755},
		{Path: "a/b", Type: typeFile, Mode: 0o644, Size: 3, Digest: Sum([]byte("abc"))},
		{Path: "l", Type: typeSymlink, Target: "a/b"},
	}}).Encode()
	f.Add(append(fmt.Appendf(nil, "%s%d\n%s", bundleTag, len(m), m), "abc"...))
	f.Add(append(fmt.Appendf(nil, "%s%d\n%s", bundleTag, len(m), m), "abcd"...))
	dir := f.TempDir()
	s := must[*Store](f)(Open(filepath.Join(dir, "store"), Options{NoSync: true}))
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "bundle")
		check(t, os.WriteFile(path, data, 0o600))
		o, err := s.AdoptBundle(t.Context(), path)
		if err != nil {
			return
		}
		sound(t, s)
		again := path + ".again"
		check(t, s.Bundle(t.Context(), o.Digest, again))
		if o2 := must[Object](t)(s.AdoptBundle(t.Context(), again)); o2 != o {
			t.Errorf("%v became %v", o, o2)
		}
		check(t, emptyStore(s))
	})
}

// emptyStore removes every object, so that checking stays quick.
func emptyStore(s *Store) error {
	for _, kind := range []string{objectsDir, treesDir} {
		if err := s.eachStored(kind, func(path string, _ Digest, _ fs.FileInfo) error { return os.Remove(path) }); err != nil {
			return err
		}
	}
	return nil
}
