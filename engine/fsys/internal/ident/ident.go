// Package ident makes what identifies a file system: UUIDs, and the hash from
// which they follow when the caller names none. It draws no random numbers and
// reads no clock, so that equal options and content give equal identifiers.
//
//	Hash    collects texts and numbers into 32 bytes
//	New     a UUID of 16 of them (RFC 9562, version 8)
//	Text    a UUID of a superblock, as blkid prints it
//	Parse   the 16 bytes of a UUID that somebody wrote
package ident

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strings"

	"b9.build/b9/engine/internal/sparse"
)

// Hash is a SHA-256 of a series of texts and numbers, each of which counts by
// itself: "ab", "c" and "a", "bc" differ.
type Hash struct{ h hash.Hash }

// NewHash returns a Hash of nothing.
func NewHash() Hash { return Hash{sha256.New()} }

// Text adds a text, its length first.
func (h Hash) Text(s string) {
	h.Numbers(uint64(len(s)))
	_, _ = io.WriteString(h.h, s) // a hash takes everything
}

// Numbers adds numbers of 64 bits, little endian.
func (h Hash) Numbers(numbers ...uint64) {
	for _, n := range numbers {
		h.Bytes(binary.LittleEndian.AppendUint64(nil, n))
	}
}

// Bytes adds bytes as they are.
func (h Hash) Bytes(b []byte) { _, _ = h.h.Write(b) }

// Sum returns the 32 bytes.
func (h Hash) Sum() []byte { return h.h.Sum(nil) }

// New returns the UUID of version 8 whose free bits are those of b's 16 bytes.
func New(b []byte) string {
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return format(b)
}

// Text returns the UUID in the first 16 bytes of b, "" where all are zeros.
func Text(b []byte) string {
	if sparse.IsZero(b[:16]) {
		return ""
	}
	return format(b)
}

func format(b []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// Parse returns the 16 bytes of a UUID; the error says what one looks like.
func Parse(s string) ([]byte, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 || !strings.EqualFold(format(b), s) {
		return nil, fmt.Errorf("%q is no UUID (such as 6f1dc3a2-0b57-4f7e-9d6c-2f8b0c1e4a55)", s)
	}
	return b, nil
}
