// Package guid converts between the text of a GUID and the 16 bytes that GPT and
// VHDX store, and makes the GUIDs that are not given (RFC 9562).
//
// It makes none at random: what b9 writes depends on its input alone.
//
//	Parse, String   text and stored bytes
//	FromHash, Text  a GUID of version 8, in the order of its digits
package guid

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// swap turns stored bytes into those of the text, or back: the first three fields
// of a GUID are stored little endian (UEFI specification 2.10, appendix A).
func swap(b []byte) {
	slices.Reverse(b[:4])
	slices.Reverse(b[4:6])
	slices.Reverse(b[6:8])
}

// String returns the text of 16 stored bytes, in lower case.
func String(b []byte) string {
	id := [16]byte(b)
	swap(id[:])
	return Text(id)
}

// Parse is the reverse of String, for either case.
func Parse(s string) (b [16]byte, err error) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return b, fmt.Errorf("%q is no GUID", s)
	}
	t, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(t) != 16 {
		return b, fmt.Errorf("%q is no GUID", s)
	}
	swap(t)
	return [16]byte(t), nil
}

// FromHash returns the GUID of version 8 (RFC 9562, section 5.8) that has the
// first bits of a hash, in the order of its digits.
func FromHash(sum [32]byte) [16]byte {
	id := [16]byte(sum[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// Text returns the text of 16 bytes that are in the order of the digits.
func Text(id [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
