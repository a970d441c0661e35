package store

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestSalted holds that digests of secrets are those of one store, and of nobody who
// has not its key.
func TestSalted(t *testing.T) {
	dir := t.TempDir()
	open := func(dir string) *Store {
		s, err := Open(dir, Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	salted := func(s *Store, text string) Digest {
		d, err := s.Salted([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	first := salted(open(dir), "hunter2")
	if again := salted(open(dir), "hunter2"); again != first {
		t.Errorf("the digest became %s, was %s", again, first)
	}
	if salted(open(dir), "hunter3") == first || first == Sum([]byte("hunter2")) || salted(open(t.TempDir()), "hunter2") == first {
		t.Error("another value, or another store, has the same digest")
	}
	info, err := os.Stat(filepath.Join(dir, saltFile))
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != saltSize {
		t.Errorf("the key: %v, %v", info, err)
	}
	for _, damaged := range [][]byte{nil, bytes.Repeat([]byte{0}, saltSize), []byte("short")} {
		if err := os.WriteFile(filepath.Join(dir, saltFile), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if d := salted(open(dir), "hunter2"); d == first || d != salted(open(dir), "hunter2") {
			t.Errorf("after %q: %s", damaged, d)
		}
	}
}

// TestSaltOfMany has several processes make the key at once.
func TestSaltOfMany(t *testing.T) {
	dir := t.TempDir()
	var wait sync.WaitGroup
	got := make([]Digest, 8)
	for i := range got {
		s, err := Open(dir, Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		wait.Go(func() {
			if got[i], err = s.Salted([]byte("x")); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	for _, d := range got {
		if d != got[0] {
			t.Errorf("%s and %s", d, got[0])
		}
	}
}
