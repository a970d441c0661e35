package repo

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Digest names the content of a file as b9's store does, so that one may be
// converted to the other: see [HashFile].
type Digest [32]byte

// String returns "b3:" and 64 lower-case hexadecimal digits.
func (d Digest) String() string { return "b3:" + hex.EncodeToString(d[:]) }

// IsZero reports whether d is the zero value, which names nothing.
func (d Digest) IsZero() bool { return d == Digest{} }

// ParseDigest is the inverse of [Digest.String]; it accepts no other spelling.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	digits, ok := strings.CutPrefix(s, "b3:")
	if !ok || len(digits) != 2*len(d) || strings.ToLower(digits) != digits {
		return d, fmt.Errorf("digest %q is not %q followed by 64 lower-case hexadecimal digits", s, "b3:")
	}
	if _, err := hex.Decode(d[:], []byte(digits)); err != nil {
		return Digest{}, fmt.Errorf("digest %q: %w", s, err)
	}
	return d, nil
}

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDigest(string(text))
	return err
}
