package pump

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"

	"b9.build/b9/engine/disk/internal/guid"
)

// Identity derives UUIDs from what is written, so that different disks have
// different ones, which hypervisors insist on, and equal disks the same.
type Identity struct{ sum hash.Hash }

// NewIdentity begins the identity of a disk of size bytes in the given format.
func NewIdentity(format string, size int64) *Identity {
	d := &Identity{sha256.New()}
	fmt.Fprintf(d.sum, "%s %d\n", format, size)
	return d
}

// Add lets the identity depend on a unit. The order of the calls counts.
func (d *Identity) Add(u *Unit) {
	var b [12]byte
	binary.LittleEndian.PutUint64(b[:], uint64(u.Off))
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(u.Body, crc32.MakeTable(crc32.Castagnoli)))
	d.sum.Write(b[:])
}

// UUID returns a UUID of version 8 (RFC 9562) in the order of its digits. The
// kind makes several for one disk.
func (d *Identity) UUID(kind byte) [16]byte {
	return guid.FromHash(sha256.Sum256(append(d.sum.Sum(nil), kind)))
}
