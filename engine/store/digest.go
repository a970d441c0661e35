package store

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/zeebo/blake3"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/newfile"
)

// Digest is a BLAKE3 hash with 256 bits. What it covers depends on what it
// names: see package digest for files; that of a tree is the hash of its
// manifest.
type Digest = digest.Digest

// Sum is the digest of data.
func Sum(data []byte) Digest { return digest.Sum(data) }

// ParseDigest is the inverse of [Digest.String]; it accepts no other spelling.
func ParseDigest(s string) (Digest, error) { return digest.Parse(s) }

// Kind tells what an object is.
type Kind uint8

// The kinds of objects.
const (
	File Kind = iota + 1 // the bytes of one regular file
	Tree                 // a directory: a manifest that names file objects
)

// String returns "file" or "tree".
func (k Kind) String() string {
	switch k {
	case File:
		return "file"
	case Tree:
		return "tree"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// MarshalText implements encoding.TextMarshaler.
func (k Kind) MarshalText() ([]byte, error) {
	if k != File && k != Tree {
		return nil, fmt.Errorf("object kind %d does not exist", uint8(k))
	}
	return []byte(k.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Kind) UnmarshalText(text []byte) error {
	switch string(text) {
	case "file":
		*k = File
	case "tree":
		*k = Tree
	default:
		return fmt.Errorf("object kind %q does not exist (have file, tree)", text)
	}
	return nil
}

// Object names something in the store.
type Object struct {
	Kind   Kind   `json:"kind"`
	Digest Digest `json:"digest"`
	Size   int64  `json:"size"` // bytes: apparent size of a file, total of a tree's files
}

// String returns the kind, the digest and the size.
func (o Object) String() string {
	return fmt.Sprintf("%s %s (%d bytes)", o.Kind, o.Digest, o.Size)
}

// saltSize is the length of the key of BLAKE3's keyed mode, in bytes.
const saltSize = 32

// Salted returns a digest of data, a secret, that is another one in every store:
// BLAKE3 in its keyed mode, under a random key of this store. Records and keys, which
// hold it, are read by others than the store is (in a step cache, in logs, in what
// explains a build); a plain digest would let each of them try out passwords and
// short tokens. Who can read the store's own files can do that still.
//
// Losing the key costs that steps with secrets run once more.
func (s *Store) Salted(data []byte) (Digest, error) {
	key, err := s.salt()
	if err != nil {
		return Digest{}, fmt.Errorf("the salt of digests of secrets: %w", err)
	}
	h, err := blake3.NewKeyed(key)
	if err != nil {
		return Digest{}, err
	}
	if _, err := h.Write(data); err != nil {
		return Digest{}, err
	}
	return Digest(h.Sum(nil)), nil
}

// salt returns the key, and makes it when there is none.
func (s *Store) salt() ([]byte, error) {
	path := filepath.Join(s.dir, saltFile)
	key, err := os.ReadFile(path)
	switch {
	case isSalt(key):
		return key, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if err := s.ReadOnly(); err != nil {
		return nil, err
	}
	key = make([]byte, saltSize)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	if err := s.placeSalt(path, key); err != nil {
		return nil, err
	}
	if key, err = os.ReadFile(path); err == nil && !isSalt(key) {
		err = fmt.Errorf("%s was changed while it was made", path)
	}
	return key, err
}

// isSalt reports whether a file holds a key: not what a power loss has left of one.
func isSalt(key []byte) bool {
	return len(key) == saltSize && bytes.Count(key, []byte{0}) < saltSize/2
}

// placeSalt writes a key to path. Of several processes at once one is the first, and
// the others use what it wrote.
func (s *Store) placeSalt(path string, key []byte) error {
	dir, err := s.tempDir()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "salt-")
	if err != nil {
		return spaceError(s.dir, s.dir, err)
	}
	defer os.Remove(f.Name()) // does nothing after the rename
	_, err = f.Write(key)
	if err = errors.Join(err, newfile.Inherit(f), f.Close()); err != nil {
		return spaceError(s.dir, s.dir, err)
	}
	err = os.Link(f.Name(), path)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if there, err := os.ReadFile(path); err != nil || isSalt(there) {
		return err
	}
	return os.Rename(f.Name(), path)
}
