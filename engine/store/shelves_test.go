package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// settled waits until the directories of objects are older than the grain.
func settled(t *testing.T, s *Store) Shelves {
	t.Helper()
	for {
		all := s.Shelves()
		if !slices.Contains(all[:], 0) {
			return all
		}
		if t.Context().Err() != nil {
			t.Fatal("the directories of objects do not become known")
		}
		time.Sleep(s.opts.Grain)
	}
}

// TestShelves holds what stands for objects without asking for each: whatever takes one away,
// or adds one, changes the shelf of its first byte, and no other.
func TestShelves(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := must[*Store](t)(Open(dir, Options{Grain: time.Hour}))
	defer s.Close()
	o, other := adopt(t, s, "one"), adopt(t, s, "two")
	if fresh := s.Shelves(); fresh[o.Digest[0]] != 0 || fresh[^o.Digest[0]] == 0 {
		t.Error("a directory that changed a moment ago is believed, or one that is not there is not")
	}
	s.opts.Grain = 20 * time.Millisecond
	before := settled(t, s)
	if now := s.Shelves(); !now.Holds(&before, o.Digest) || now.News(&before) != 0 {
		t.Error("nothing changed, and the shelves do not hold")
	}
	var nothing Shelves
	if before.Holds(&nothing, o.Digest) || nothing.Holds(&nothing, o.Digest) || before.News(&nothing) != len(before) {
		t.Error("what is not known is believed")
	}
	shelf := filepath.Dir(s.Path(o.Digest))
	for _, c := range []struct {
		what   string
		change func() error
	}{
		{"an object is gone", func() error { return os.Remove(filepath.Join(shelf, o.Digest.Hex())) }},
		{"an object has come", func() error { return os.WriteFile(filepath.Join(shelf, o.Digest.Hex()), nil, 0o400) }},
		{"the first difference has come", func() error {
			return os.Mkdir(filepath.Join(dir, differencesDir, filepath.Base(shelf)), 0o700)
		}},
		{"the directory is another one", func() error {
			return errors.Join(os.Rename(shelf, shelf+"-"), os.Mkdir(shelf, 0o700))
		}},
		{"the directory is gone", func() error { return os.Remove(shelf) }},
	} {
		check(t, c.change())
		if now := s.Shelves(); now.Holds(&before, o.Digest) {
			t.Errorf("%s: the shelf holds", c.what)
		}
		now := settled(t, s)
		if now.Holds(&before, o.Digest) || !now.Holds(&before, other.Digest) || now.News(&before) != 1 {
			t.Errorf("%s: not one shelf changed", c.what)
		}
		before = now
	}
}
