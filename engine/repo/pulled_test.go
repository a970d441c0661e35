package repo

import (
	"os"
	"path/filepath"
	"testing"

	"b9.build/b9/engine/internal/flock"
)

// TestPulledByAnother replaces the file of a pull before it is noted: the note
// is of the file that was made, not of the one that is there.
func TestPulledByAnother(t *testing.T) {
	t.Parallel()
	s := openState(t.TempDir(), "id")
	dir := t.TempDir()
	dst, other := filepath.Join(dir, "image"), filepath.Join(dir, "other")
	for _, path := range []string{dst, other} {
		if err := os.WriteFile(path, []byte(path), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(dst)
	if err != nil {
		t.Fatal(err)
	}
	s.setPulled(dst, info, Digest{1})
	if d, ok := s.pulledTo(dst); !ok || d != (Digest{1}) {
		t.Errorf("what was pulled: %s, %v", d, ok)
	}
	if err := os.Rename(other, dst); err != nil {
		t.Fatal(err)
	}
	s.setPulled(dst, info, Digest{1})
	if d, ok := s.pulledTo(dst); ok {
		t.Errorf("the file of another pull is taken for %s", d)
	}
}

// TestPartialIsHeld opens the same destination again and again: all files are
// locked, so that nobody tidies them away.
func TestPartialIsHeld(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "image")
	for _, open := range []func(string) (*os.File, error){openPartial, openPartial, newPartial} {
		f, err := open(dst)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if again, err := flock.TryOpen(f.Name(), os.O_RDWR, flock.Exclusive); err == nil {
			again.Close()
			t.Errorf("nobody holds %s", f.Name())
		}
	}
}
