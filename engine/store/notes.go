package store

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/zeebo/blake3"
)

// maxNotes is how many notes a store keeps: the newest.
const maxNotes = 64

// WriteNote keeps data under the key until something newer needs the place.
// A note only saves time: it is never flushed, and lost when it is damaged.
func (s *Store) WriteNote(key Digest, data []byte) error {
	dir := filepath.Join(s.dir, notesDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	sum := blake3.Sum256(data)
	if err := s.writeQuickly(filepath.Join(dir, key.Hex()), append(sum[:], data...)); err != nil {
		return err
	}
	return dropOldNotes(dir)
}

// ReadNote returns what was last kept under the key.
func (s *Store) ReadNote(key Digest) ([]byte, bool) {
	data, err := os.ReadFile(filepath.Join(s.dir, notesDir, key.Hex()))
	if err != nil || len(data) < len(Digest{}) {
		return nil, false
	}
	sum, text := data[:len(Digest{})], data[len(Digest{}):]
	want := blake3.Sum256(text)
	return text, bytes.Equal(sum, want[:])
}

// WriteBeside gives the file of that name in the store's directory the content
// data, whole or not at all. Like a note it only saves time, and after a power loss
// it may be anything. The file is its owner's; the store never reads it.
func (s *Store) WriteBeside(name string, data []byte) error {
	return s.writeQuickly(filepath.Join(s.dir, name), data)
}

func dropOldNotes(dir string) error {
	var notes []fs.FileInfo
	err := eachIn(dir, func(_ string, info fs.FileInfo) error {
		notes = append(notes, info)
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(notes, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, note := range notes[:max(0, len(notes)-maxNotes)] {
		if err := removeIfThere(filepath.Join(dir, note.Name())); err != nil {
			return err
		}
	}
	return nil
}
