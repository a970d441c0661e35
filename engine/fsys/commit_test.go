package fsys

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestCommitsNameFilesInOrder tries both ways to make a file that has no name yet.
func TestCommitsNameFilesInOrder(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	dead := filepath.Join(dir, tempPrefix+"4194305-1") // above the largest process id
	if err := os.WriteFile(dead, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "there"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := newCommits(root)
	if err != nil {
		t.Fatal(err)
	}
	add := func(as string, named bool) {
		t.Helper()
		f, temp, err := c.create(as)
		if named && err == nil {
			f.Close()
			temp = c.temp(as)
			f, err = root.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("new"); err != nil {
			t.Fatal(err)
		}
		if err := c.name(f, temp, as, 3); err != nil {
			t.Fatal(err)
		}
	}
	add("there", false)
	add("named", true)
	add("fresh", false)
	if data, err := os.ReadFile(filepath.Join(dir, "there")); err != nil || string(data) != "old" {
		t.Errorf("before the flush: %q, %v", data, err)
	}
	linked := false
	if err := c.then(func() error { linked = true; return root.Link("fresh", "linked") }); err != nil || linked {
		t.Errorf("what has to wait was done at once (%v), %v", linked, err)
	}
	if err := c.close(true); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"there", "named", "fresh", "linked"} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != "new" {
			t.Errorf("%s is %q, %v", name, data, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 4 {
		t.Errorf("there are %v, %v", entries, err)
	}
}

// Many files are named in several goes, and an error drops what is left.
func TestCommitsAreBounded(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	c, err := newCommits(root)
	if err != nil {
		t.Fatal(err)
	}
	for i := range mostFiles + 1 {
		f, temp, err := c.create("x")
		if err == nil {
			err = c.name(f, temp, fmt.Sprint("f", i), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := root.Lstat("f0"); err != nil || c.files != 1 {
		t.Errorf("%d files wait, and the first: %v", c.files, err)
	}
	if err := c.then(func() error { return os.ErrInvalid }); err != nil {
		t.Fatal(err)
	}
	f, temp, err := c.create("late")
	if err == nil {
		err = c.name(f, temp, "late", 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := c.close(true); err == nil {
		t.Error("the error is lost")
	}
	if _, err := root.Lstat("late"); err == nil {
		t.Error("what comes after an error got its name")
	}
}
