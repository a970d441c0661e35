package build

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/builtins/lang"
)

// TestMakeWhole gives a directory its name when all is in it, and has one process make it.
func TestMakeWhole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vm.kept")
	full := errors.New("the disk is full")
	write := func(fresh, name string) error { return os.WriteFile(filepath.Join(fresh, name), []byte(name), 0o600) }
	gone := func(path string) {
		t.Helper()
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
	err := makeWhole(dir, "last", func(fresh string) error { return errors.Join(write(fresh, "last"), full) })
	if !errors.Is(err, full) {
		t.Errorf("an error of what fills it: %v", err)
	}
	gone(dir)
	gone(dir + ".new")
	if err := errors.Join(os.Mkdir(dir+".new", 0o700), write(dir+".new", "half")); err != nil { // as after kill -9
		t.Fatal(err)
	}
	err = makeWhole(dir, "last", func(fresh string) error {
		gone(filepath.Join(fresh, "half"))
		err := makeWhole(dir, "last", func(string) error { return errors.New("filled twice") })
		if err == nil || !strings.HasPrefix(err.Error(), "another b9 makes "+dir) {
			t.Errorf("a second process: %v", err)
		}
		return errors.Join(write(fresh, "disk"), write(fresh, "last"))
	})
	if err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "disk")); err != nil || string(data) != "disk" {
		t.Errorf("made is %q, %v", data, err)
	}
	if err := makeWhole(dir, "last", func(string) error { return errors.New("filled twice") }); err != nil {
		t.Errorf("one that came after: %v", err)
	}
	gone(dir + ".new")
}

// TestNoMachine asks for a machine where no target is.
func TestNoMachine(t *testing.T) {
	if hasMachine(&lang.Graph{}) {
		t.Error("a graph without targets has a machine")
	}
}
