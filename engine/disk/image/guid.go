package image

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/crc32"
	"strings"
)

// guidOrder is the order in which the bytes of a GUID's text are stored: its
// first three fields are little endian (appendix A).
var guidOrder = [16]int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15}

// GUIDString returns the text of 16 stored bytes, in lower case.
func GUIDString(b []byte) string {
	var t [16]byte
	for i, j := range guidOrder {
		t[i] = b[j]
	}
	s := hex.EncodeToString(t[:])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}

// GUIDBytes is the reverse of GUIDString, for either case.
func GUIDBytes(s string) (b [16]byte, err error) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return b, fmt.Errorf("%q is no GUID", s)
	}
	t, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(t) != 16 {
		return b, fmt.Errorf("%q is no GUID", s)
	}
	for i, j := range guidOrder {
		b[j] = t[i]
	}
	return b, nil
}

// Identity derives a UUID from what is written, so that different disks have
// different ones, which hypervisors insist on, and equal disks the same.
type Identity struct {
	sum hash.Hash
	crc *crc32.Table
}

func NewIdentity(format string, size int64) *Identity {
	d := &Identity{sha256.New(), crc32.MakeTable(crc32.Castagnoli)}
	fmt.Fprintf(d.sum, "%s %d\n", format, size)
	return d
}

// Add takes note of a unit.
func (d *Identity) Add(u *Unit) {
	var b [12]byte
	binary.LittleEndian.PutUint64(b[:], uint64(u.Off))
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(u.Body, d.crc))
	d.sum.Write(b[:])
}

// Uuid returns a UUID of version 8 (RFC 9562) in the order of its digits. The
// kind makes several for one disk.
func (d *Identity) Uuid(kind byte) [16]byte {
	s := sha256.Sum256(append(d.sum.Sum(nil), kind))
	var id [16]byte
	copy(id[:], s[:])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}
