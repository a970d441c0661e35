// Package vmdk reads and writes VMware's disk images, as "Virtual Disk Format 5.0"
// (VMware, 2011) describes them.
//
// It hides grains, grain tables and the text of descriptors. It reads no
// snapshots, linked clones or extents of ESX (COWD, SESPARSE), and opens no file
// that a descriptor names unless the caller allows it.
//
//   - vmdk.go: [Format], and the header ("Hosted Sparse Extents")
//   - descriptor.go: the text that names the extents ("Layout Basics")
//   - read.go: grain directory, tables and compressed grains
//   - write.go: monolithicSparse and streamOptimized ("Stream-Optimized Compressed
//     Sparse Extents")
package vmdk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/mapped"
	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/near"
)

// Format is VMware's format, as its "Virtual Disk Format 5.0" describes it: sparse
// and stream-optimized files, and descriptors of flat and sparse extents.
type Format struct{}

// Name implements image.Format.
func (Format) Name() string { return "vmdk" }

// Extensions implements image.Format.
func (Format) Extensions() []string { return []string{"vmdk"} }

// Probe implements image.Format.
func (Format) Probe(head []byte) bool {
	return bytes.HasPrefix(head, []byte(magic)) || bytes.HasPrefix(head, []byte(oldMagic)) || isDescriptor(head)
}

const (
	magic    = "KDMV"
	oldMagic = "COWD" // sparse extents of old ESX servers

	newlines   = 1 << 0 // flags: the bytes that detect newline conversion are valid
	redundant  = 1 << 1 // there is a second grain directory
	zeroGrains = 1 << 2 // a table entry of 1 is a grain of zeros
	compressed = 1 << 16
	markers    = 1 << 17

	atEnd  = 1<<64 - 1 // as the directory's offset: the footer has the true one
	sector = 512

	// A descriptor is text; nobody writes one of this many bytes.
	maxDescriptor = 1 << 20
	// The directory in bytes: that of 256 TiB with grains of 64 KiB.
	maxDirectory = 32 << 20
	// A grain in bytes. QEMU writes 64 KiB unless it is told otherwise.
	maxGrain = 16 << 20
)

// header is the structure SparseExtentHeader, which is packed and little endian.
// Sizes and offsets are in sectors of 512 bytes.
type header struct {
	Magic                        [4]byte
	Version, Flags               uint32
	Capacity, Grain              uint64
	DescriptorAt, DescriptorSize uint64
	PerTable                     uint32 // entries of a grain table
	RedundantAt, DirectoryAt     uint64 // grain directories
	Overhead                     uint64
	Unclean                      uint8
	Newlines                     [4]byte
	Compression                  uint16
}

// newlineTest is what a transfer as text would change.
const newlineTest = "\n \r\n"

// read reads a header at an offset of a file.
func (h *header) read(f io.ReaderAt, at int64) error {
	if err := mapped.Read(f, at, binary.LittleEndian, h); err != nil {
		return err
	}
	if string(h.Magic[:]) != magic {
		return errors.New("not a sparse vmdk: it does not begin with the signature KDMV")
	}
	if h.Flags&newlines != 0 && string(h.Newlines[:]) != newlineTest {
		return errors.New("corrupt vmdk: newlines were converted, as by a transfer as text")
	}
	return nil
}

// encode is the reverse of read, padded to a sector.
func (h *header) encode() []byte {
	copy(h.Magic[:], magic)
	copy(h.Newlines[:], newlineTest)
	b := make([]byte, sector)
	copy(b, image.Encode(binary.LittleEndian, h))
	return b
}

// check refuses what would lead out of the file or to unbounded memory.
func (h *header) check(end int64) error {
	grain := h.Grain * sector
	switch {
	case h.Version < 1 || h.Version > 3:
		return fmt.Errorf("vmdk version %d is not supported (have 1 to 3)", h.Version)
	case h.Grain == 0 || h.Grain > maxGrain/sector || h.Grain&(h.Grain-1) != 0:
		return fmt.Errorf("corrupt vmdk: grains of %d sectors", h.Grain)
	case h.PerTable == 0 || h.PerTable > 512:
		return fmt.Errorf("corrupt vmdk: grain tables of %d entries", h.PerTable)
	case h.Capacity > 1<<53:
		return fmt.Errorf("corrupt vmdk: capacity of %d sectors", h.Capacity)
	case h.tables()*4 > maxDirectory:
		return fmt.Errorf("corrupt vmdk: capacity of %d sectors with grains of %d bytes", h.Capacity, grain)
	case h.DirectoryAt > uint64(end)/sector || int64(h.DirectoryAt)*sector > end-h.tables()*4:
		return fmt.Errorf("corrupt vmdk: grain directory at sector %d does not lie in the file of %d bytes", h.DirectoryAt, end)
	case h.Flags&compressed != 0 && h.Compression != 1:
		return fmt.Errorf("vmdk compression %d is not supported (have 1, deflate)", h.Compression)
	case h.Flags&compressed != 0 && h.Flags&markers == 0:
		return errors.New("vmdk with compressed grains but no markers is not supported")
	}
	return nil
}

// tables is the number of grain tables.
func (h *header) tables() int64 {
	span := h.Grain * uint64(h.PerTable)
	return int64((h.Capacity + span - 1) / span)
}

// Open reads a sparse file, or a descriptor and, if o allows, its extents. Only
// the grain directory and a few MiB of grain tables are held in memory.
func (Format) Open(src image.Image, path string, o image.OpenOptions) (image.Image, error) {
	head := make([]byte, 512)
	n, err := src.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch head = head[:n]; {
	case bytes.HasPrefix(head, []byte(magic)):
		return openMonolithic(src)
	case bytes.HasPrefix(head, []byte(oldMagic)):
		return nil, errors.New("vmdk sparse extents of old ESX servers (COWD) are not supported: convert it with qemu-img first")
	case isDescriptor(head):
		return openDescriptor(src, path, o)
	}
	return nil, errors.New("not a vmdk: it begins neither with the signature KDMV nor with a descriptor")
}

// openMonolithic opens a sparse file that has its descriptor inside.
func openMonolithic(src image.Image) (image.Image, error) {
	x, h, err := openSparse(src)
	if err != nil {
		return nil, err
	}
	if h.DescriptorAt == 0 || h.DescriptorSize == 0 {
		return x, nil
	}
	if h.DescriptorSize > maxDescriptor/sector || h.DescriptorAt > uint64(src.Size())/sector {
		return nil, fmt.Errorf("corrupt vmdk: descriptor at sector %d, %d sectors", h.DescriptorAt, h.DescriptorSize)
	}
	text := make([]byte, h.DescriptorSize*sector)
	if err := image.ReadPadded(src, text, int64(h.DescriptorAt)*sector); err != nil {
		return nil, err
	}
	d, err := parseDescriptor(text)
	if err != nil {
		return nil, err
	}
	if d.kind == "" && len(d.extents) == 0 {
		return nil, fmt.Errorf("corrupt vmdk: there is no descriptor at sector %d, where the header says it is", h.DescriptorAt)
	}
	return x, d.refuseParent()
}

// openDescriptor opens the extents that a descriptor names.
func openDescriptor(src image.Image, path string, o image.OpenOptions) (image.Image, error) {
	if src.Size() > maxDescriptor {
		return nil, fmt.Errorf("corrupt vmdk: descriptor of %d bytes", src.Size())
	}
	text := make([]byte, src.Size())
	if _, err := src.ReadAt(text, 0); err != nil {
		return nil, err
	}
	d, err := parseDescriptor(text)
	if err == nil {
		err = d.refuseParent()
	}
	if err == nil && len(d.extents) == 0 {
		err = errors.New("vmdk descriptor without an extent (RW ...): there is no disk in it")
	}
	if err != nil {
		return nil, err
	}
	if d.needsFiles() && !o.Extents && o.Extent == nil {
		return nil, fmt.Errorf("vmdk keeps its data in other files (%q), which may not be opened: allow it where the image is opened (OpenOptions.Extents)", d.extents[0].name)
	}
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	open := func(name string) (*os.File, error) {
		const flags = os.O_RDONLY | syscall.O_NONBLOCK
		if o.Extent == nil {
			return root.OpenFile(name, flags, 0)
		}
		path, err := o.Extent(name)
		if err != nil {
			return nil, err
		}
		return os.OpenFile(path, flags, 0)
	}
	j := &image.Joined{Closers: []io.Closer{src}, Subformat: d.kind}
	for _, e := range d.extents {
		if err := addExtent(j, open, e); err != nil {
			j.Closers = j.Closers[1:] // the caller closes src
			j.Close()
			return nil, err
		}
	}
	return j, nil
}

// addExtent appends an extent to a joined image.
func addExtent(j *image.Joined, open func(name string) (*os.File, error), e extent) error {
	start := j.Length
	j.Length += e.length
	if e.kind == "ZERO" {
		return nil
	}
	img, err := openExtent(open, e)
	if err != nil {
		return fmt.Errorf("vmdk extent %q: %w", e.name, err)
	}
	j.Closers = append(j.Closers, img)
	j.Parts = append(j.Parts, image.Part{Start: start, Length: e.length, Img: img, Off: e.offset})
	if img.Size() < e.offset+e.length {
		return fmt.Errorf("vmdk extent %q: the file has %d bytes, the descriptor wants %d at %d", e.name, img.Size(), e.length, e.offset)
	}
	return nil
}

// openExtent opens an extent, which must be a regular file. Beneath the root of
// the descriptor symbolic links may not lead out.
func openExtent(open func(name string) (*os.File, error), e extent) (image.Image, error) {
	f, err := open(e.name)
	if err != nil {
		return nil, err
	}
	img, err := regular(f)
	if err == nil && !e.flat() {
		img, _, err = openSparse(img)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return img, nil
}

// regular returns the content of f, which must be a regular file.
func regular(f *os.File) (image.Image, error) {
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("not a regular file (%s)", info.Mode().Type())
	}
	if err != nil {
		return nil, err
	}
	return blob.FromFile(f)
}

// Flat is the subformat of a descriptor with the bytes of the disk in another file.
const Flat = "monolithicFlat"

// Write makes w one file: monolithicSparse, or streamOptimized with deflated
// grains, for hosted products and for OVF. The size is rounded up to 512 bytes. Of the
// subformat Flat it writes the descriptor alone, in which o.Name is the file with the data.
func (Format) Write(ctx context.Context, w *os.File, src image.Image, o image.WriteOptions) error {
	if err := o.Refuse("vmdk", image.Subformat); err != nil {
		return err
	}
	switch o.Subformat {
	case "", "monolithicSparse":
		return writeSparse(ctx, w, src, o)
	case "streamOptimized":
		return writeStream(ctx, w, src, o)
	case Flat:
		return writeDescriptor(w, src, o)
	}
	have := []string{"monolithicSparse", "streamOptimized", Flat}
	return fmt.Errorf("unknown vmdk subformat %q (have %s)%s", o.Subformat, strings.Join(have, ", "), near.Hint(o.Subformat, have))
}
