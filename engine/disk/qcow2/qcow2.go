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
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/mapped"
)

// Format is QEMU's copy-on-write format, as docs/interop/qcow2.rst of its source describes
// versions 2 and 3. Images with internal snapshots are read as they are now.
type Format struct{}

// Name implements image.Format.
func (Format) Name() string { return "qcow2" }

// Extensions implements image.Format.
func (Format) Extensions() []string { return []string{"qcow2"} }

// Probe implements image.Format.
func (Format) Probe(head []byte) bool { return bytes.HasPrefix(head, []byte(magic)) }

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

	offset = 0x00fffffffffffe00 // of L1 entries, and L2 entries that are not packed
	packed = 1 << 62
	copied = 1 << 63
	zero   = 1 << 0

	formatExtension = 0xe2792aca
	dataExtension   = 0x44415441
)

// maxL1 bounds the first-level table in bytes, as QEMU does.
const maxL1 = 32 << 20

// maxCounts bounds the table of reference counts in bytes, as QEMU does.
const maxCounts = 8 << 20

// header holds the fields of the header that reading needs.
type header struct {
	version     uint32
	backing     image.Backing
	clusterBits uint32
	size        int64
	l1Size      uint32
	l1Offset    int64
	features    uint64
	zstd        bool
	dataFile    string
}

func (h *header) cluster() int64 { return 1 << h.clusterBits }

// entrySize is the bytes of an L2 entry.
func (h *header) entrySize() int64 {
	if h.features&extendedL2 != 0 {
		return 16
	}
	return 8
}

// perTable is the number of entries of an L2 table.
func (h *header) perTable() int64 { return h.cluster() / h.entrySize() }

// readHeader reads and checks the header of a file of end bytes.
func readHeader(r io.ReaderAt, end int64) (*header, error) {
	var fixed [112]byte
	n, err := r.ReadAt(fixed[:], 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if n < 72 || string(fixed[:4]) != magic {
		return nil, errors.New("not a qcow2 image: it does not begin with the qcow2 signature")
	}
	be := binary.BigEndian
	h := &header{
		version:     be.Uint32(fixed[4:]),
		clusterBits: be.Uint32(fixed[20:]),
		l1Size:      be.Uint32(fixed[36:]),
	}
	if h.version != 2 && h.version != 3 {
		return nil, fmt.Errorf("qcow2 version %d is not supported (have 2 and 3)", h.version)
	}
	if h.clusterBits < 9 || h.clusterBits > 21 {
		return nil, fmt.Errorf("corrupt qcow2: cluster size of 2^%d bytes (allowed are 2^9 to 2^21)", h.clusterBits)
	}
	length := int64(72)
	if h.version == 3 {
		if n < 104 {
			return nil, errors.New("corrupt qcow2: the file ends in its header")
		}
		length = int64(be.Uint32(fixed[100:]))
		if err := h.readVersion3(fixed[:], length); err != nil {
			return nil, err
		}
	}
	if method := be.Uint32(fixed[32:]); method != 0 {
		return nil, fmt.Errorf("encrypted qcow2 (method %d) is not supported: decrypt it first", method)
	}
	if err := h.readSizes(fixed[:], end); err != nil {
		return nil, err
	}
	if err := h.readExtensions(r, length, be.Uint64(fixed[8:]), be.Uint32(fixed[16:])); err != nil {
		return nil, err
	}
	return h, h.refuse()
}

// readVersion3 reads what version 2 has not.
func (h *header) readVersion3(b []byte, length int64) error {
	be := binary.BigEndian
	h.features = be.Uint64(b[72:])
	if length < 104 || length > h.cluster() || length%8 != 0 {
		return fmt.Errorf("corrupt qcow2: header of %d bytes", length)
	}
	if order := be.Uint32(b[96:]); order > 6 {
		return fmt.Errorf("corrupt qcow2: reference counts of 2^%d bits", order)
	}
	if length <= 104 || h.features&compressed == 0 {
		return nil
	}
	switch b[104] {
	case 0:
	case 1:
		h.zstd = true
	default:
		return fmt.Errorf("qcow2 compression type %d is not supported (have zlib and zstd)", b[104])
	}
	return nil
}

// readSizes reads and checks the virtual size and the places of the L1 table and
// of the table of reference counts. Counts do not matter to reading, but an
// image without them was made by nobody.
func (h *header) readSizes(b []byte, end int64) error {
	be := binary.BigEndian
	size, l1 := be.Uint64(b[24:]), be.Uint64(b[40:])
	if size > 1<<62 {
		return fmt.Errorf("corrupt qcow2: virtual size of %d bytes", size)
	}
	h.size = int64(size) / 512 * 512 // QEMU ignores a last part of a sector
	span := h.cluster() * h.perTable()
	need := (h.size + span - 1) / span
	if int64(h.l1Size) < need {
		return fmt.Errorf("corrupt qcow2: L1 table of %d entries for a virtual size of %d bytes, which needs %d", h.l1Size, h.size, need)
	}
	if int64(h.l1Size)*8 > maxL1 {
		return fmt.Errorf("qcow2 L1 table of %d entries is too large (at most %d)", h.l1Size, maxL1/8)
	}
	if l1%uint64(h.cluster()) != 0 || l1 > uint64(end) || int64(l1) > end-need*8 {
		return fmt.Errorf("corrupt qcow2: L1 table at offset %d does not lie in the file of %d bytes", l1, end)
	}
	h.l1Offset = int64(l1)
	counts, clusters := be.Uint64(b[48:]), int64(be.Uint32(b[56:]))
	if counts == 0 || counts%uint64(h.cluster()) != 0 || counts > uint64(end) || clusters == 0 || clusters > maxCounts/h.cluster() {
		return fmt.Errorf("corrupt qcow2: table of reference counts of %d clusters at offset %d in a file of %d bytes", clusters, counts, end)
	}
	return nil
}

// readExtensions reads the header extensions after length bytes, and the name
// of the backing file, all of which must lie in the first cluster.
func (h *header) readExtensions(r io.ReaderAt, length int64, nameOff uint64, nameLen uint32) error {
	first := make([]byte, min(h.cluster(), 64<<10))
	n, err := r.ReadAt(first, 0)
	if err != nil && err != io.EOF {
		return err
	}
	first = first[:n]
	stop := int64(n)
	if nameOff != 0 {
		if nameLen > 1023 || nameOff > uint64(n) || nameOff+uint64(nameLen) > uint64(n) {
			return fmt.Errorf("corrupt qcow2: name of the backing file at offset %d, %d bytes", nameOff, nameLen)
		}
		h.backing.Path = string(first[nameOff : nameOff+uint64(nameLen)])
		stop = min(stop, int64(nameOff))
	}
	be := binary.BigEndian
	for at := length; at+8 <= stop; {
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
	switch f := h.features; {
	case f&^known != 0:
		return fmt.Errorf("qcow2 image needs unknown features (incompatible bits %#x)", f&^uint64(known))
	case f&corrupt != 0:
		return errors.New("qcow2 image is marked as corrupt: repair it with qemu-img check -r all")
	case f&dataFile != 0:
		return fmt.Errorf("qcow2 image keeps its data in another file (%q), which is not supported: convert it with qemu-img first", h.dataFile)
	case f&extendedL2 != 0 && h.clusterBits < 14:
		return fmt.Errorf("corrupt qcow2: extended L2 entries with clusters of %d bytes", h.cluster())
	}
	return nil
}

// Open reads the header and the L1 table. Memory is at most the L1 table's 32 MiB
// and a few MiB of cache; L2 tables are read when they are needed.
func (Format) Open(f *os.File, o image.OpenOptions) (image.Image, error) {
	end, err := mapped.FileSize(f)
	if err != nil {
		return nil, err
	}
	return open(f, end, o)
}

func open(f mapped.Source, end int64, o image.OpenOptions) (image.Image, error) {
	h, err := readHeader(f, end)
	if err != nil {
		return nil, err
	}
	x, err := newIndex(f, end, h)
	if err != nil {
		return nil, err
	}
	m := x.image(f)
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

// Write makes w a Format with compatibility level 1.1, clusters of 64 KiB, 16-bit
// reference counts and the lazy refcounts feature, without snapshots. A size
// that is no multiple of 512 bytes is rounded up, as QEMU does.
func (Format) Write(ctx context.Context, w *os.File, src image.Image, o image.WriteOptions) error {
	if err := o.Refuse("qcow2", image.Compression, image.BackingFile); err != nil {
		return err
	}
	return write(ctx, w, src, o)
}
