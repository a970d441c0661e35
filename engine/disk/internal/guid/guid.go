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
	"strings"
)

// order is the order in which the bytes of a GUID's text are stored: its first
// three fields are little endian (UEFI specification 2.10, appendix A).
var order = [16]int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15}

// String returns the text of 16 stored bytes, in lower case.
func String(b []byte) string {
	var t [16]byte
	for i, j := range order {
		t[i] = b[j]
	}
	return Text(t)
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
	for i, j := range order {
		b[j] = t[i]
	}
	return b, nil
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
	s := hex.EncodeToString(id[:])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}
