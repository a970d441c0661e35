package store

import (
	"fmt"

	"b9.build/b9/engine/internal/digest"
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
