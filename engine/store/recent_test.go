package store

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestRecent(t *testing.T) {
	s, err := Open(t.TempDir(), Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var want []Object
	for i, size := range []int{64 << 10, 128 << 10, 1 << 10} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, bytes.Repeat([]byte{byte(i + 1)}, size), 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := s.Import(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		used := time.Now().Add(time.Duration(i-3) * time.Hour)
		if err := os.Chtimes(s.Path(o.Digest), used, used); err != nil {
			t.Fatal(err)
		}
		want = append([]Object{o}, want...)
	}
	got, err := s.Recent(t.Context(), 32<<10)
	if err != nil || !slices.Equal(got, want[1:]) {
		t.Errorf("got %v, %v, want %v", got, err, want[1:])
	}
}
