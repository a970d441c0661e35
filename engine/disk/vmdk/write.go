package vmdk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/pump"
	"b9.build/b9/engine/disk/press"
)

// What is written has grains of 64 KiB and tables of 512 entries, so that each
// table of four sectors describes 32 MiB.
const (
	grain       = 64 << 10
	perTable    = 512
	table       = perTable * 4
	span        = grain * perTable
	described   = 20  // sectors kept for the descriptor
	streamStart = 128 // sectors; the first grain begins at a multiple
)

// contentID is a number by which snapshots know their parent. It is the same
// for the same disk, and never one of the reserved values.
func contentID(subformat, name string, capacity int64) uint32 {
	id := crc32.ChecksumIEEE(fmt.Appendf(nil, "%s %q %d", subformat, name, capacity))
	return min(max(id, 1), math.MaxUint32-1)
}

// tables collects the entries of one grain table at a time. flush is told
// when a table that has an entry is complete.
type tables struct {
	open    int64 // index of the table; -1: none
	entries [table]byte
	flush   func(index int64, table []byte) error
}

// set records where the grain for off lies, in bytes.
func (t *tables) set(off, at int64) error {
	if at/sector > math.MaxUint32 {
		return errors.New("a vmdk can't hold more than 2 TiB of data")
	}
	if index := off / span; index != t.open {
		if err := t.close(); err != nil {
			return err
		}
		t.open = index
	}
	binary.LittleEndian.PutUint32(t.entries[off/grain%perTable*4:], uint32(at/sector))
	return nil
}

func (t *tables) close() error {
	if t.open < 0 {
		return nil
	}
	err := t.flush(t.open, t.entries[:])
	t.open = -1
	clear(t.entries[:])
	return err
}

// newHeader returns the header and descriptor for src.
func newHeader(subformat string, w *os.File, src image.Image, o image.WriteOptions) (*header, []byte, error) {
	h := &header{
		Version: 1, Flags: newlines, Capacity: uint64(image.RoundUp(src.Size(), sector) / sector),
		Grain: grain / sector, PerTable: perTable, DescriptorAt: 1, DescriptorSize: described,
	}
	if h.Capacity == 0 {
		return nil, nil, errors.New("an image of 0 bytes can't be a vmdk: give it a size")
	}
	if h.tables()*4 > maxDirectory {
		return nil, nil, fmt.Errorf("%d bytes are too large for a vmdk", src.Size())
	}
	text, err := describe(subformat, w.Name(), int64(h.Capacity), o)
	if err != nil {
		return nil, nil, err
	}
	descriptor := make([]byte, described*sector)
	copy(descriptor, text)
	return h, descriptor, nil
}

// writeDescriptor writes the descriptor of a disk whose bytes are in another file.
func writeDescriptor(w *os.File, src image.Image, o image.WriteOptions) error {
	text, err := describe(Flat, w.Name(), image.RoundUp(src.Size(), sector)/sector, o)
	if err != nil {
		return err
	}
	_, err = w.WriteString(text)
	return err
}

// sparseWriter lays out a monolithicSparse file: header, descriptor, both grain
// directories, each followed by its tables, then the grains in order.
type sparseWriter struct {
	tables
	file          *os.File
	first, second int64 // offsets of the tables of the two directories
	next          int64 // offset of the next grain
}

func writeSparse(ctx context.Context, f *os.File, src image.Image, o image.WriteOptions) error {
	h, descriptor, err := newHeader("monolithicSparse", f, src, o)
	if err != nil {
		return err
	}
	directory := image.RoundUp(h.tables()*4, sector) / sector
	index := h.tables() * (table / sector)
	h.Flags |= redundant
	h.RedundantAt = 1 + described
	h.DirectoryAt = h.RedundantAt + uint64(directory+index)
	h.Overhead = uint64(image.RoundUp(int64(h.DirectoryAt)+directory+index, grain/sector))

	w := &sparseWriter{file: f, next: int64(h.Overhead) * sector}
	w.first = (int64(h.RedundantAt) + directory) * sector
	w.second = (int64(h.DirectoryAt) + directory) * sector
	w.tables = tables{open: -1, flush: w.writeTable}
	j := pump.Job{Src: src, Out: f, Unit: grain, Progress: o.Progress, Place: w.place, Reserve: pump.Growth(f, w.next)}
	if err := j.Run(ctx); err != nil {
		return err
	}
	return w.finish(h, descriptor)
}

func (w *sparseWriter) place(u *pump.Unit) error {
	u.At = w.next
	w.next += grain
	return w.set(u.Off, u.At)
}

func (w *sparseWriter) writeTable(index int64, entries []byte) error {
	for _, start := range []int64{w.first, w.second} {
		if _, err := w.file.WriteAt(entries, start+index*table); err != nil {
			return err
		}
	}
	return nil
}

// finish writes the last table, the directories and, last, the header.
func (w *sparseWriter) finish(h *header, descriptor []byte) error {
	if err := w.close(); err != nil {
		return err
	}
	return pump.Finish(w.file, w.next,
		image.Chunk{At: int64(h.RedundantAt) * sector, Bytes: directory(h.tables(), w.first)},
		image.Chunk{At: int64(h.DirectoryAt) * sector, Bytes: directory(h.tables(), w.second)},
		image.Chunk{At: sector, Bytes: descriptor}, image.Chunk{Bytes: h.encode()})
}

// directory returns the directory of n tables that follow each other from offset
// first on.
func directory(n, first int64) []byte {
	b := make([]byte, n*4)
	for i := range n {
		binary.LittleEndian.PutUint32(b[i*4:], uint32((first+i*table)/sector))
	}
	return b
}

// The kinds of markers in a stream-optimized file.
const (
	markerEnd = iota
	markerTable
	markerDirectory
	markerFooter
)

// streamWriter lays out a streamOptimized file: header, descriptor and directory,
// then compressed grains in order, after those of each table the table itself, then
// the directory once more, a footer that tells where it is, and an end marker. Who
// reads it as a stream goes by the markers and the footer; who does not, such as
// OpenStack's inspectors, which refuse a header that sends them to a footer, finds
// the directory in front.
type streamWriter struct {
	tables
	file      *os.File
	next      int64
	directory []byte
}

func writeStream(ctx context.Context, f *os.File, src image.Image, o image.WriteOptions) error {
	h, descriptor, err := newHeader("streamOptimized", f, src, o)
	if err != nil {
		return err
	}
	h.Version = 3
	h.Flags |= compressed | markers
	h.Compression = 1
	front := uint64(1 + described)
	h.Overhead = uint64(image.RoundUp(int64(front)*sector+h.tables()*4, streamStart*sector) / sector)

	w := &streamWriter{file: f, next: int64(h.Overhead) * sector, directory: make([]byte, h.tables()*4)}
	w.tables = tables{open: -1, flush: w.writeTable}
	j := pump.Job{Src: src, Out: f, Unit: grain, Progress: o.Progress, Place: w.place, Packer: grainPacker}
	if err := j.Run(ctx); err != nil {
		return err
	}
	if err := w.finish(h); err != nil {
		return err
	}
	h.DirectoryAt = front
	return pump.Finish(f, w.next, image.Chunk{At: sector, Bytes: descriptor},
		image.Chunk{At: int64(front) * sector, Bytes: w.directory}, image.Chunk{Bytes: h.encode()})
}

func (w *streamWriter) place(u *pump.Unit) error {
	if w.open >= 0 && u.Off/span != w.open { // its marker comes before this grain
		if err := w.close(); err != nil {
			return err
		}
	}
	u.At = w.next
	w.next += int64(len(u.Body))
	return w.set(u.Off, u.At)
}

// writeTable appends a marker and a grain table.
func (w *streamWriter) writeTable(index int64, table []byte) error {
	at := w.next + sector
	binary.LittleEndian.PutUint32(w.directory[index*4:], uint32(at/sector))
	return w.append(markerTable, table)
}

// append writes a marker and what it announces, padded to whole sectors.
func (w *streamWriter) append(kind uint32, body []byte) error {
	b := make([]byte, sector+image.RoundUp(int64(len(body)), sector))
	binary.LittleEndian.PutUint64(b, uint64(len(b)/sector-1))
	binary.LittleEndian.PutUint32(b[12:], kind)
	copy(b[sector:], body)
	_, err := w.file.WriteAt(b, w.next)
	w.next += int64(len(b))
	return err
}

// finish appends the last table, the directory, the footer and the end marker.
func (w *streamWriter) finish(h *header) error {
	if err := w.close(); err != nil {
		return err
	}
	h.DirectoryAt = uint64(w.next/sector) + 1
	if err := w.append(markerDirectory, w.directory); err != nil {
		return err
	}
	if err := w.append(markerFooter, h.encode()); err != nil {
		return err
	}
	return w.append(markerEnd, nil)
}

// grainPacker deflates grains, with the marker before and padding after them. A
// stream-optimized file has only compressed grains, so one that grows stays so.
func grainPacker() (pump.PackFunc, error) {
	d, err := press.NewDeflater(level)
	if err != nil {
		return nil, err
	}
	return func(dst []byte, off int64, unit []byte) ([]byte, error) {
		start := len(dst)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(off/sector))
		dst = d.Zlib(append(dst, 0, 0, 0, 0), unit)
		binary.LittleEndian.PutUint32(dst[start+8:], uint32(len(dst)-start-grainMarker))
		return append(dst, make([]byte, -(len(dst)-start)&(sector-1))...), nil
	}, nil
}

// level is the deflate level of grains: the fastest whose files are not
// larger than qemu-img's by three percent or more.
const level = 7
