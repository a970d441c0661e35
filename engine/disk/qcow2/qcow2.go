// Package qcow2 reads, writes and checks QEMU's copy-on-write images, as
// docs/interop/qcow2.rst in QEMU's source describes versions 2 and 3.
//
// It hides clusters, the two levels of tables, reference counts and compressed
// clusters. It changes no image that is there, keeps no snapshots, and decrypts
// nothing; external data files are refused. Backing files are opened by whoever
// calls, never here.
//
//   - qcow2.go: [Format], and the header ("Header", "Header extensions")
//   - read.go: L1 and L2 tables ("Cluster mapping"), compressed clusters
//   - write.go: lays out a new file; writer.count is where a reference count is
//     written, writer.refcountTable writes the table of their blocks
//   - check.go: compares reference counts with what is in use
package qcow2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"b9.build/b9/engine/disk/image"
)

// Format is QEMU's copy-on-write format, as docs/interop/qcow2.rst of its source describes
// versions 2 and 3. Images with internal snapshots are read as they are now.
type Format struct{}

// Name implements image.Format.
func (Format) Name() string { return "qcow2" }

// Extensions implements image.Format.
func (Format) Extensions() []string { return []string{"qcow2"} }

// Probe implements image.Format.
func (Format) Probe(head []byte) bool {
	return bytes.HasPrefix(head, []byte(magic)) && !bytes.HasPrefix(head[len(magic):], []byte("\x00\x00\x00\x01"))
}

const magic = "QFI\xfb"

// Bits of the fields of the header and of table entries.
const (
	dirty      = 1 << 0 // incompatible: refcounts may be wrong, which reading does not care about
	corrupt    = 1 << 1
	dataFile   = 1 << 2
	compressed = 1 << 3 // the compression type is in the header
	extendedL2 = 1 << 4
	known      = 1<<5 - 1

	lazy = 1 << 0 // compatible: lazy refcounts

	zlibType = 0 // compression types
	zstdType = 1

	offset = 0x00fffffffffffe00 // of L1 entries, and L2 entries that are not packed
	packed = 1 << 62
	copied = 1 << 63
	zero   = 1 << 0

	formatExtension = 0xe2792aca
	dataExtension   = 0x44415441
)

// maxFirst bounds what of the first cluster may hold the header, its extensions
// and the name of the backing file, in bytes.
const maxFirst = 64 << 10

// maxL1 bounds the first-level table in bytes, as QEMU does.
const maxL1 = 32 << 20

// maxCounts bounds the table of reference counts in bytes, as QEMU does.
const maxCounts = 8 << 20

// fields is the header as it lies in the file ("Header"). Version 2 ends before
// Incompatible.
type fields struct {
	Magic                               [4]byte
	Version                             uint32
	BackingAt                           uint64 // the name of the backing file
	BackingLength, ClusterBits          uint32
	Size                                uint64
	Encryption, L1Size                  uint32
	L1At, CountsAt                      uint64
	CountsClusters, Snapshots           uint32
	SnapshotsAt                         uint64
	Incompatible, Compatible, Autoclear uint64
	CountOrder, Length                  uint32
	Compression                         uint8
	_                                   [7]byte
}

const (
	lengthOf2  = 72
	lengthOf3  = 104 // at least
	fullLength = 112
)

// header is a header that was read, with what its extensions say.
type header struct {
	fields
	backing  image.Backing
	dataFile string
}

func (h *header) cluster() int64 { return 1 << h.ClusterBits }

// entrySize is the bytes of an L2 entry.
func (h *header) entrySize() int64 {
	if h.Incompatible&extendedL2 != 0 {
		return 16
	}
	return 8
}

// perTable is the number of entries of an L2 table.
func (h *header) perTable() int64 { return h.cluster() / h.entrySize() }

// size is the virtual size in bytes. QEMU ignores a last part of a sector.
func (h *header) size() int64 { return int64(h.Size) / 512 * 512 }

// tables is the number of L2 tables that the virtual size needs.
func (h *header) tables() int64 {
	span := h.cluster() * h.perTable()
	return (h.size() + span - 1) / span
}

// readHeader reads and checks the header.
func readHeader(src image.Image) (*header, error) {
	first := make([]byte, maxFirst)
	n, err := src.ReadAt(first, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	h := &header{}
	if _, err := binary.Decode(first, binary.BigEndian, &h.fields); err != nil {
		return nil, err
	}
	switch {
	case n < lengthOf2 || string(h.Magic[:]) != magic:
		return nil, errors.New("not a qcow2 image: it does not begin with the qcow2 signature")
	case h.Version != 2 && h.Version != 3:
		return nil, fmt.Errorf("qcow2 version %d is not supported (have 2 and 3)", h.Version)
	case h.ClusterBits < 9 || h.ClusterBits > 21:
		return nil, fmt.Errorf("corrupt qcow2: cluster size of 2^%d bytes (allowed are 2^9 to 2^21)", h.ClusterBits)
	case h.Version == 2:
		h.Incompatible, h.CountOrder, h.Length = 0, 4, lengthOf2
	case n < lengthOf3:
		return nil, errors.New("corrupt qcow2: the file ends in its header")
	}
	err = h.checkFields()
	if err == nil {
		err = h.checkSizes(src.Size())
	}
	if err == nil {
		err = h.readExtensions(first[:min(int64(n), h.cluster())])
	}
	if err == nil {
		err = h.refuse()
	}
	return h, err
}

// checkFields checks what version 2 has not, and refuses encryption. The
// compression is zlib where the header does not say.
func (h *header) checkFields() error {
	if h.Length <= lengthOf3 || h.Incompatible&compressed == 0 {
		h.Compression = zlibType
	}
	switch {
	case h.Version == 3 && (h.Length < lengthOf3 || int64(h.Length) > h.cluster() || h.Length%8 != 0):
		return fmt.Errorf("corrupt qcow2: header of %d bytes", h.Length)
	case h.CountOrder > 6:
		return fmt.Errorf("corrupt qcow2: reference counts of 2^%d bits", h.CountOrder)
	case h.Compression > zstdType:
		return fmt.Errorf("qcow2 compression type %d is not supported (have zlib and zstd)", h.Compression)
	case h.Encryption != 0:
		return fmt.Errorf("encrypted qcow2 (method %d) is not supported: decrypt it first", h.Encryption)
	}
	return nil
}

// checkSizes checks the virtual size and the places of the L1 table and of the
// table of reference counts in a file of end bytes. Counts do not matter to reading, but an image
// without them was made by nobody.
func (h *header) checkSizes(end int64) error {
	need := h.tables()
	switch {
	case h.Size > 1<<62:
		return fmt.Errorf("corrupt qcow2: virtual size of %d bytes", h.Size)
	case int64(h.L1Size) < need:
		return fmt.Errorf("corrupt qcow2: L1 table of %d entries for a virtual size of %d bytes, which needs %d", h.L1Size, h.size(), need)
	case int64(h.L1Size)*8 > maxL1:
		return fmt.Errorf("qcow2 L1 table of %d entries is too large (at most %d)", h.L1Size, maxL1/8)
	case h.L1At%uint64(h.cluster()) != 0 || h.L1At > uint64(end) || int64(h.L1At) > end-need*8:
		return fmt.Errorf("corrupt qcow2: L1 table at offset %d does not lie in the file of %d bytes", h.L1At, end)
	case h.CountsAt == 0 || h.CountsAt%uint64(h.cluster()) != 0 || h.CountsAt > uint64(end) ||
		h.CountsClusters == 0 || int64(h.CountsClusters) > maxCounts/h.cluster():
		return fmt.Errorf("corrupt qcow2: table of reference counts of %d clusters at offset %d in a file of %d bytes", h.CountsClusters, h.CountsAt, end)
	}
	return nil
}

// readExtensions reads the header extensions, and the name of the backing file,
// all of which must lie in the first cluster.
func (h *header) readExtensions(first []byte) error {
	stop := int64(len(first))
	if at, length := h.BackingAt, uint64(h.BackingLength); at != 0 {
		if length > 1023 || at > uint64(stop) || at+length > uint64(stop) {
			return fmt.Errorf("corrupt qcow2: name of the backing file at offset %d, %d bytes", at, length)
		}
		h.backing.Path = string(first[at : at+length])
		stop = min(stop, int64(at))
	}
	be := binary.BigEndian
	for at := int64(h.Length); at+8 <= stop; {
		kind, size := be.Uint32(first[at:]), int64(be.Uint32(first[at+4:]))
		at += 8
		if kind == 0 {
			return nil
		}
		if size > stop-at {
			return fmt.Errorf("corrupt qcow2: header extension %#x of %d bytes", kind, size)
		}
		switch value := string(first[at : at+size]); kind {
		case formatExtension:
			h.backing.Format = value
		case dataExtension:
			h.dataFile = value
		}
		at += image.RoundUp(size, 8)
	}
	return nil
}

// refuse returns an error for features that are not read.
func (h *header) refuse() error {
	switch f := h.Incompatible; {
	case f&^known != 0:
		return fmt.Errorf("qcow2 image needs unknown features (incompatible bits %#x)", f&^uint64(known))
	case f&corrupt != 0:
		return errors.New("qcow2 image is marked as corrupt: repair it with qemu-img check -r all")
	case f&dataFile != 0:
		return fmt.Errorf("qcow2 image keeps its data in another file (%q), which is not supported: convert it with qemu-img first", h.dataFile)
	case f&extendedL2 != 0 && h.ClusterBits < 14:
		return fmt.Errorf("corrupt qcow2: extended L2 entries with clusters of %d bytes", h.cluster())
	}
	return nil
}

// Open reads the header and the L1 table. Memory is at most the L1 table's 32 MiB
// and a few MiB of cache; L2 tables are read when they are needed.
func (Format) Open(src image.Image, _ string, o image.OpenOptions) (image.Image, error) {
	h, err := readHeader(src)
	if err != nil {
		return nil, err
	}
	x, err := newIndex(src, h)
	if err != nil {
		return nil, err
	}
	m := x.image()
	if h.backing.Path == "" {
		return m, nil
	}
	if o.Backing == nil {
		return nil, fmt.Errorf("qcow2 image names a backing file %q (format %q), which was not declared: "+
			"name it where the image is opened (OpenOptions.Backing)", h.backing.Path, h.backing.Format)
	}
	if m.Under, err = o.Backing(h.backing); err != nil {
		return nil, fmt.Errorf("backing file: %w", err)
	}
	return m, nil
}
