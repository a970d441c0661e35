package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"b9/engine/near"
)

// vmdk is VMware's format, as its "Virtual Disk Format 5.0" describes it: sparse
// and stream-optimized files, and descriptors of flat and sparse extents.
type vmdk struct{}

func (vmdk) Name() string         { return "vmdk" }
func (vmdk) Extensions() []string { return []string{"vmdk"} }

func (vmdk) Probe(head []byte) bool {
	return bytes.HasPrefix(head, []byte(vmdkMagic)) || isDescriptor(head)
}

const (
	vmdkMagic    = "KDMV"
	vmdkOldMagic = "COWD" // sparse extents of old ESX servers

	vmdkNewlines   = 1 << 0 // flags: the bytes that detect newline conversion are valid
	vmdkRedundant  = 1 << 1 // there is a second grain directory
	vmdkZeroGrains = 1 << 2 // a table entry of 1 is a grain of zeros
	vmdkCompressed = 1 << 16
	vmdkMarkers    = 1 << 17

	vmdkAtEnd  = 1<<64 - 1 // as the directory's offset: the footer has the true one
	vmdkSector = 512

	// A descriptor is text; nobody writes one of this many bytes.
	vmdkMaxDescriptor = 1 << 20
	// The directory in bytes: that of 256 TiB with grains of 64 KiB.
	vmdkMaxDirectory = 32 << 20
	// A grain in bytes. QEMU writes 64 KiB unless it is told otherwise.
	vmdkMaxGrain = 16 << 20
)

// vmdkHeader is the header of a sparse extent. Sizes and offsets are in sectors
// of 512 bytes.
type vmdkHeader struct {
	version, flags                     uint32
	capacity, grain                    uint64
	descriptorAt, descriptorSize       uint64
	perTable                           uint32
	redundantAt, directoryAt, overhead uint64
	compression                        uint16
}

// decode reads the 79 bytes of the packed structure SparseExtentHeader.
func (h *vmdkHeader) decode(b []byte) error {
	if string(b[:4]) != vmdkMagic {
		return errors.New("not a sparse vmdk: it does not begin with the signature KDMV")
	}
	le := binary.LittleEndian
	*h = vmdkHeader{
		version: le.Uint32(b[4:]), flags: le.Uint32(b[8:]),
		capacity: le.Uint64(b[12:]), grain: le.Uint64(b[20:]),
		descriptorAt: le.Uint64(b[28:]), descriptorSize: le.Uint64(b[36:]),
		perTable:    le.Uint32(b[44:]),
		redundantAt: le.Uint64(b[48:]), directoryAt: le.Uint64(b[56:]), overhead: le.Uint64(b[64:]),
		compression: le.Uint16(b[77:]),
	}
	if h.flags&vmdkNewlines != 0 && string(b[73:77]) != "\n \r\n" {
		return errors.New("corrupt vmdk: newlines were converted, as by a transfer as text")
	}
	return nil
}

// encode is the reverse of decode, padded to a sector.
func (h *vmdkHeader) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, vmdkSector)
	copy(b, vmdkMagic)
	le.PutUint32(b[4:], h.version)
	le.PutUint32(b[8:], h.flags)
	le.PutUint64(b[12:], h.capacity)
	le.PutUint64(b[20:], h.grain)
	le.PutUint64(b[28:], h.descriptorAt)
	le.PutUint64(b[36:], h.descriptorSize)
	le.PutUint32(b[44:], h.perTable)
	le.PutUint64(b[48:], h.redundantAt)
	le.PutUint64(b[56:], h.directoryAt)
	le.PutUint64(b[64:], h.overhead)
	copy(b[73:], "\n \r\n")
	le.PutUint16(b[77:], h.compression)
	return b
}

// check refuses what would lead out of the file or to unbounded memory.
func (h *vmdkHeader) check(end int64) error {
	grain := h.grain * vmdkSector
	switch {
	case h.version < 1 || h.version > 3:
		return fmt.Errorf("vmdk version %d is not supported (have 1 to 3)", h.version)
	case h.grain == 0 || h.grain > vmdkMaxGrain/vmdkSector || h.grain&(h.grain-1) != 0:
		return fmt.Errorf("corrupt vmdk: grains of %d sectors", h.grain)
	case h.perTable == 0 || h.perTable > 512:
		return fmt.Errorf("corrupt vmdk: grain tables of %d entries", h.perTable)
	case h.capacity > 1<<53:
		return fmt.Errorf("corrupt vmdk: capacity of %d sectors", h.capacity)
	case h.tables()*4 > vmdkMaxDirectory:
		return fmt.Errorf("corrupt vmdk: capacity of %d sectors with grains of %d bytes", h.capacity, grain)
	case h.directoryAt > uint64(end)/vmdkSector || int64(h.directoryAt)*vmdkSector > end-h.tables()*4:
		return fmt.Errorf("corrupt vmdk: grain directory at sector %d does not lie in the file of %d bytes", h.directoryAt, end)
	case h.flags&vmdkCompressed != 0 && h.compression != 1:
		return fmt.Errorf("vmdk compression %d is not supported (have 1, deflate)", h.compression)
	case h.flags&vmdkCompressed != 0 && h.flags&vmdkMarkers == 0:
		return errors.New("vmdk with compressed grains but no markers is not supported")
	}
	return nil
}

// tables is the number of grain tables.
func (h *vmdkHeader) tables() int64 {
	span := h.grain * uint64(h.perTable)
	return int64((h.capacity + span - 1) / span)
}

// Open reads a sparse file, or a descriptor and, if o allows, its extents. Only
// the grain directory and a few MiB of grain tables are held in memory.
func (vmdk) Open(f *os.File, o OpenOptions) (Image, error) {
	end, err := regularSize(f)
	if err != nil {
		return nil, err
	}
	head := make([]byte, 512)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch head = head[:n]; {
	case bytes.HasPrefix(head, []byte(vmdkMagic)):
		return openMonolithic(f, end)
	case bytes.HasPrefix(head, []byte(vmdkOldMagic)):
		return nil, errors.New("vmdk sparse extents of old ESX servers (COWD) are not supported: convert it with qemu-img first")
	case isDescriptor(head):
		return openDescriptor(f, end, o)
	}
	return nil, errors.New("not a vmdk: it begins neither with the signature KDMV nor with a descriptor")
}

// openMonolithic opens a sparse file that has its descriptor inside.
func openMonolithic(f source, end int64) (Image, error) {
	x, err := openSparse(f, end)
	if err != nil {
		return nil, err
	}
	h := x.index.(*vmdkIndex).vmdkHeader
	if h.descriptorAt == 0 || h.descriptorSize == 0 {
		return x, nil
	}
	if h.descriptorSize > vmdkMaxDescriptor/vmdkSector || h.descriptorAt > uint64(end)/vmdkSector {
		return nil, fmt.Errorf("corrupt vmdk: descriptor at sector %d, %d sectors", h.descriptorAt, h.descriptorSize)
	}
	text := make([]byte, h.descriptorSize*vmdkSector)
	if err := readSparse(f, text, int64(h.descriptorAt)*vmdkSector); err != nil {
		return nil, err
	}
	d, err := parseDescriptor(text)
	if err != nil {
		return nil, err
	}
	if d.kind == "" && len(d.extents) == 0 {
		return nil, fmt.Errorf("corrupt vmdk: there is no descriptor at sector %d, where the header says it is", h.descriptorAt)
	}
	return x, d.refuseParent()
}

// openDescriptor opens the extents that a descriptor names.
func openDescriptor(f *os.File, end int64, o OpenOptions) (Image, error) {
	if end > vmdkMaxDescriptor {
		return nil, fmt.Errorf("corrupt vmdk: descriptor of %d bytes", end)
	}
	text := make([]byte, end)
	if _, err := f.ReadAt(text, 0); err != nil {
		return nil, err
	}
	d, err := parseDescriptor(text)
	if err == nil {
		err = d.refuseParent()
	}
	if err != nil {
		return nil, err
	}
	if d.needsFiles() && !o.Extents && o.Extent == nil {
		return nil, fmt.Errorf("vmdk keeps its data in other files (%q), which may not be opened: allow it where the image is opened (OpenOptions.Extents)", d.extents[0].name)
	}
	root, err := os.OpenRoot(filepath.Dir(f.Name()))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	open := func(name string) (*os.File, error) { return root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) }
	if o.Extent != nil {
		open = func(name string) (*os.File, error) {
			path, err := o.Extent(name)
			if err != nil {
				return nil, err
			}
			return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		}
	}
	j := &joined{closers: []io.Closer{f}, kind: d.kind}
	for _, e := range d.extents {
		if err := addExtent(j, open, e); err != nil {
			j.closers = j.closers[1:] // the caller closes f
			j.Close()
			return nil, err
		}
	}
	return j, nil
}

// addExtent appends an extent to a joined image.
func addExtent(j *joined, open func(name string) (*os.File, error), e vmdkExtent) error {
	start := j.size
	j.size += e.length
	if e.kind == "ZERO" {
		return nil
	}
	img, err := openExtent(open, e)
	if err != nil {
		return fmt.Errorf("vmdk extent %q: %w", e.name, err)
	}
	j.closers = append(j.closers, img)
	j.parts = append(j.parts, part{start: start, length: e.length, img: img, off: e.offset})
	if img.Size() < e.offset+e.length {
		return fmt.Errorf("vmdk extent %q: the file has %d bytes, the descriptor wants %d at %d", e.name, img.Size(), e.length, e.offset)
	}
	return nil
}

// openExtent opens an extent, which must be a regular file. Beneath the root of
// the descriptor symbolic links may not lead out.
func openExtent(open func(name string) (*os.File, error), e vmdkExtent) (Image, error) {
	f, err := open(e.name)
	if err != nil {
		return nil, err
	}
	end, err := regularSize(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	if e.kind == "FLAT" {
		return &rawImage{file: f, size: end}, nil
	}
	img, err := openSparse(f, end)
	if err != nil {
		f.Close()
		return nil, err
	}
	return img, nil
}

// Write makes w one file: monolithicSparse, or streamOptimized with deflated
// grains, for hosted products and for OVF. The size is rounded up to 512 bytes.
func (vmdk) Write(ctx context.Context, w *os.File, src Image, o WriteOptions) error {
	if err := refuseOptions("vmdk", o.Compress != "", false, o.Backing != nil); err != nil {
		return err
	}
	switch o.Subformat {
	case "", "monolithicSparse":
		return writeSparse(ctx, w, src, o)
	case "streamOptimized":
		return writeStream(ctx, w, src, o)
	}
	have := []string{"monolithicSparse", "streamOptimized"}
	return fmt.Errorf("unknown vmdk subformat %q (have %s, %s)%s", o.Subformat, have[0], have[1], near.Hint(o.Subformat, have))
}
