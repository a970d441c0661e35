package store

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/zeebo/blake3"
)

// Digest is a BLAKE3 hash with 256 bits. What it covers depends on what it
// names: see [HashFile] for files and [Manifest] for trees.
type Digest [32]byte

const digestPrefix = "b3:"

// String returns "b3:" and 64 lower-case hexadecimal digits.
func (d Digest) String() string { return string(d.Append(make([]byte, 0, len(digestPrefix)+64))) }

// Append appends what String returns.
func (d Digest) Append(b []byte) []byte { return hex.AppendEncode(append(b, digestPrefix...), d[:]) }

func (d Digest) hex() string { return hex.EncodeToString(d[:]) }

// Sum is the digest of data.
func Sum(data []byte) Digest { return blake3.Sum256(data) }

// IsZero reports whether d is the zero value, which names nothing.
func (d Digest) IsZero() bool { return d == Digest{} }

// ParseDigest is the inverse of [Digest.String]; it accepts no other spelling.
func ParseDigest(s string) (Digest, error) {
	digits, ok := strings.CutPrefix(s, digestPrefix)
	if !ok || len(digits) != 64 {
		return Digest{}, fmt.Errorf("digest %q is not %q followed by 64 hexadecimal digits", s, digestPrefix)
	}
	return parseHex(digits)
}

// parseHex reads exactly 64 lower-case hexadecimal digits.
func parseHex(s string) (Digest, error) {
	var d Digest
	if len(s) != 64 || strings.ToLower(s) != s {
		return d, fmt.Errorf("%q is not 64 lower-case hexadecimal digits", s)
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("digest %q: %w", s, err)
	}
	return d, nil
}

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(text []byte) error {
	v, err := ParseDigest(string(text))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

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
