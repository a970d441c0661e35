package store

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

func TestNotes(t *testing.T) {
	s := open(t, t.TempDir())
	key := Sum([]byte("key"))
	if data, ok := s.ReadNote(key); ok {
		t.Errorf("read %q where nothing was written", data)
	}
	for _, text := range []string{"first", "second", ""} {
		if err := s.WriteNote(key, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if data, ok := s.ReadNote(key); !ok || string(data) != text {
			t.Errorf("read %q (%v), want %q", data, ok, text)
		}
	}
	path := filepath.Join(s.Dir(), notesDir, key.Hex())
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(data, 'x'), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, ok := s.ReadNote(key); ok {
		t.Errorf("read %q from a damaged note", data)
	}
}

func TestNotesAreFew(t *testing.T) {
	s := open(t, t.TempDir())
	for i := range maxNotes + 10 {
		if err := s.WriteNote(Sum(binary.AppendVarint(nil, int64(i))), nil); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(s.Dir(), notesDir))
	if err != nil || len(entries) != maxNotes {
		t.Errorf("%d notes are kept (%v), want %d", len(entries), err, maxNotes)
	}
}
