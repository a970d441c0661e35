package newfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

const other = 54321

func ownerOf(t *testing.T, path string) uint32 {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Uid
}

// TestWhatRootMakesInADirectoryOfAnother belongs to that one, and nothing else does.
func TestWhatRootMakesInADirectoryOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, other, other); err != nil {
		t.Fatal(err)
	}
	deep := filepath.Join(dir, "a", "b", "c")
	for range 2 {
		if err := MkdirAll(deep, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(deep, "file")
	for range 2 {
		f, err := Open(file, os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("x"); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	for _, path := range []string{filepath.Join(dir, "a"), filepath.Join(dir, "a", "b"), deep, file} {
		if got := ownerOf(t, path); got != other {
			t.Errorf("%s belongs to %d", path, got)
		}
	}
	if text, _ := os.ReadFile(file); string(text) != "xx" {
		t.Errorf("%q", text)
	}
}

// TestWhatIsNotGivenAway is root's file behind a name that somebody else has laid in the way.
func TestWhatIsNotGivenAway(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	dir := t.TempDir()
	own, theirs := filepath.Join(dir, "own"), filepath.Join(dir, "theirs")
	if err := errors.Join(os.WriteFile(own, nil, 0o600), os.Mkdir(theirs, 0o700), os.Chown(theirs, other, other),
		os.Link(own, filepath.Join(theirs, "hard")), os.Symlink(own, filepath.Join(theirs, "soft")),
		os.Symlink(filepath.Join(dir, "new"), filepath.Join(theirs, "dangling"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"hard", "soft"} {
		f, err := Open(filepath.Join(theirs, name), 0, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(Inherit(f), f.Close()); err != nil && name == "hard" {
			t.Error(err)
		}
		if name == "hard" && ownerOf(t, own) != 0 {
			t.Error("a file with two names was given away")
		}
	}
	if _, err := Open(filepath.Join(theirs, "dangling"), 0, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a link to nothing named was made: %v", err)
	}
	if err := MkdirAll(filepath.Join(own, "below"), 0o700); !errors.Is(err, syscall.ENOTDIR) {
		t.Error(err)
	}
}
