// Package digest names content: it has the one type of a digest, and the one
// hasher of files. The store, its records and repositories all mean the same by
// a file's digest, which is
//
//	the BLAKE3 hash of the ten bytes "b9 file 1\n", the size (64 bits,
//	little-endian), and, for each block of 64 KiB (the last may be shorter) that
//	has a non-zero byte, in order: its index (64 bits, little-endian) and its
//	BLAKE3 hash.
//
// It does not depend on which zeros are holes, and holes are not read.
//
//	Digest        a digest and its text; Parse, Sum
//	Path, File    hash a file by several goroutines
//	Leaves, Hash  make the same digest of blocks that somebody else reads
//	Table         the leaves of a file: Scan makes it, Update from those of other
//	              files that it is known to share bytes with
//
// Of b9 the package imports only sparse, for the holes.
package digest

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/zeebo/blake3"
)

// Digest is a BLAKE3 hash with 256 bits. The zero value names nothing.
type Digest [32]byte

const (
	prefix = "b3:"
	digits = 2 * len(Digest{})
)

// String returns "b3:" and 64 lower-case hexadecimal digits.
func (d Digest) String() string { return string(d.Append(make([]byte, 0, len(prefix)+digits))) }

// Append appends what String returns.
func (d Digest) Append(b []byte) []byte { return hex.AppendEncode(append(b, prefix...), d[:]) }

// Hex returns the 64 digits alone.
func (d Digest) Hex() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether d is the zero value, which names nothing.
func (d Digest) IsZero() bool { return d == Digest{} }

// Sum is the BLAKE3 hash of data.
func Sum(data []byte) Digest { return blake3.Sum256(data) }

// Parse is the inverse of [Digest.String]; it accepts no other spelling.
func Parse(s string) (Digest, error) {
	text, ok := strings.CutPrefix(s, prefix)
	if !ok || len(text) != digits || strings.ToLower(text) != text {
		return Digest{}, fmt.Errorf("digest %q is not %q followed by 64 lower-case hexadecimal digits", s, prefix)
	}
	return ParseHex(text)
}

// ParseHex is the inverse of [Digest.Hex]; it accepts no other spelling.
func ParseHex(s string) (Digest, error) {
	var d Digest
	if len(s) != digits || strings.ToLower(s) != s {
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
	v, err := Parse(string(text))
	if err == nil {
		*d = v
	}
	return err
}
