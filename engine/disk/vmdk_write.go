package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
)

// What is written has grains of 64 KiB and tables of 512 entries, so that each
// table of four sectors describes 32 MiB.
const (
	vmdkGrain       = 64 << 10
	vmdkPerTable    = 512
	vmdkTable       = vmdkPerTable * 4
	vmdkSpan        = vmdkGrain * vmdkPerTable
	vmdkDescribed   = 20 // sectors kept for the descriptor
	vmdkStreamStart = 128
)

// contentID is a number by which snapshots know their parent. It is the same
// for the same disk, and never one of the reserved values.
func contentID(subformat, name string, capacity int64) uint32 {
	id := crc32.ChecksumIEEE(fmt.Appendf(nil, "%s %q %d", subformat, name, capacity))
	return min(max(id, 1), math.MaxUint32-1)
}

// vmdkTables collects the entries of one grain table at a time. flush is told
// when a table that has an entry is complete.
type vmdkTables struct {
	open    int64 // index of the table; -1: none
	entries [vmdkTable]byte
	flush   func(index int64, table []byte) error
}

// set records where the grain for off lies, in bytes.
func (t *vmdkTables) set(off, at int64) error {
	if at/vmdkSector > math.MaxUint32 {
		return errors.New("a vmdk can't hold more than 2 TiB of data")
	}
	if index := off / vmdkSpan; index != t.open {
		if err := t.close(); err != nil {
			return err
		}
		t.open = index
	}
	binary.LittleEndian.PutUint32(t.entries[off/vmdkGrain%vmdkPerTable*4:], uint32(at/vmdkSector))
	return nil
}

func (t *vmdkTables) close() error {
	if t.open < 0 {
		return nil
	}
	err := t.flush(t.open, t.entries[:])
	t.open = -1
	clear(t.entries[:])
	return err
}

// newVMDKHeader returns the header and descriptor for src.
func newVMDKHeader(subformat string, w *os.File, src Image, o WriteOptions) (*vmdkHeader, []byte, error) {
	h := &vmdkHeader{
		version: 1, flags: vmdkNewlines, capacity: uint64(roundUp(src.Size(), vmdkSector) / vmdkSector),
		grain: vmdkGrain / vmdkSector, perTable: vmdkPerTable, descriptorAt: 1, descriptorSize: vmdkDescribed,
	}
	if h.capacity == 0 {
		return nil, nil, errors.New("an image of 0 bytes can't be a vmdk: give it a size")
	}
	if h.tables()*4 > vmdkMaxDirectory {
		return nil, nil, fmt.Errorf("%d bytes are too large for a vmdk", src.Size())
	}
	text, err := describe(subformat, w.Name(), int64(h.capacity), o)
	if err != nil {
		return nil, nil, err
	}
	descriptor := make([]byte, vmdkDescribed*vmdkSector)
	copy(descriptor, text)
	return h, descriptor, nil
}

// sparseWriter lays out a monolithicSparse file: header, descriptor, both grain
// directories, each followed by its tables, then the grains in order.
type sparseWriter struct {
	vmdkTables
	file          *os.File
	room          reserve
	first, second int64 // offsets of the tables of the two directories
	next          int64 // offset of the next grain
}

func writeSparse(ctx context.Context, f *os.File, src Image, o WriteOptions) error {
	h, descriptor, err := newVMDKHeader("monolithicSparse", f, src, o)
	if err != nil {
		return err
	}
	directory := roundUp(h.tables()*4, vmdkSector) / vmdkSector
	tables := h.tables() * (vmdkTable / vmdkSector)
	h.flags |= vmdkRedundant
	h.redundantAt = 1 + vmdkDescribed
	h.directoryAt = h.redundantAt + uint64(directory+tables)
	h.overhead = uint64(roundUp(int64(h.directoryAt)+directory+tables, vmdkGrain/vmdkSector))

	w := &sparseWriter{file: f, next: int64(h.overhead) * vmdkSector}
	w.room = reserve{file: f, from: w.next}
	w.first = (int64(h.redundantAt) + directory) * vmdkSector
	w.second = (int64(h.directoryAt) + directory) * vmdkSector
	w.vmdkTables = vmdkTables{open: -1, flush: w.writeTable}
	p := pump{src: src, out: f, unit: vmdkGrain, progress: o.Progress, place: w.place}
	if err := p.run(ctx); err != nil {
		return err
	}
	return w.finish(h, descriptor)
}

func (w *sparseWriter) place(units []unit) error {
	for i := range units {
		u := &units[i]
		if u.kind == absent {
			continue
		}
		u.at = w.next
		w.next += vmdkGrain
		if err := w.set(u.off, u.at); err != nil {
			return err
		}
	}
	w.room.upTo(w.next)
	return nil
}

func (w *sparseWriter) writeTable(index int64, table []byte) error {
	for _, start := range []int64{w.first, w.second} {
		if _, err := w.file.WriteAt(table, start+index*vmdkTable); err != nil {
			return err
		}
	}
	return nil
}

// finish writes the last table, the directories and, last, the header.
func (w *sparseWriter) finish(h *vmdkHeader, descriptor []byte) error {
	if err := w.close(); err != nil {
		return err
	}
	if err := w.file.Truncate(w.next); err != nil {
		return err
	}
	for _, d := range []struct {
		at     uint64
		tables int64
	}{{h.redundantAt, w.first}, {h.directoryAt, w.second}} {
		if err := writeDirectory(w.file, int64(d.at)*vmdkSector, h.tables(), d.tables); err != nil {
			return err
		}
	}
	if _, err := w.file.WriteAt(descriptor, vmdkSector); err != nil {
		return err
	}
	_, err := w.file.WriteAt(h.encode(), 0)
	return err
}

// writeDirectory writes a directory of n tables that follow each other from
// offset first on.
func writeDirectory(f *os.File, at, n, first int64) error {
	b := make([]byte, n*4)
	for i := range n {
		binary.LittleEndian.PutUint32(b[i*4:], uint32((first+i*vmdkTable)/vmdkSector))
	}
	_, err := f.WriteAt(b, at)
	return err
}

// The kinds of markers in a stream-optimized file.
const (
	markerEnd = iota
	markerTable
	markerDirectory
	markerFooter
)

// streamWriter lays out a streamOptimized file: header, descriptor, then
// compressed grains in order, after those of each table the table itself, then
// the directory, a footer that tells where it is, and an end marker.
type streamWriter struct {
	vmdkTables
	file      *os.File
	next      int64
	directory []byte
}

func writeStream(ctx context.Context, f *os.File, src Image, o WriteOptions) error {
	h, descriptor, err := newVMDKHeader("streamOptimized", f, src, o)
	if err != nil {
		return err
	}
	h.version = 3
	h.flags |= vmdkCompressed | vmdkMarkers
	h.compression = 1
	h.directoryAt = vmdkAtEnd
	h.overhead = vmdkStreamStart

	w := &streamWriter{file: f, next: vmdkStreamStart * vmdkSector, directory: make([]byte, h.tables()*4)}
	w.vmdkTables = vmdkTables{open: -1, flush: w.writeTable}
	p := pump{src: src, out: f, unit: vmdkGrain, progress: o.Progress, place: w.place, packer: grainPacker}
	if err := p.run(ctx); err != nil {
		return err
	}
	if err := w.finish(h); err != nil {
		return err
	}
	if _, err := f.WriteAt(descriptor, vmdkSector); err != nil {
		return err
	}
	h.directoryAt = vmdkAtEnd
	_, err = f.WriteAt(h.encode(), 0)
	return err
}

func (w *streamWriter) place(units []unit) error {
	for i := range units {
		u := &units[i]
		if u.kind == absent {
			continue
		}
		if w.open >= 0 && u.off/vmdkSpan != w.open { // its marker comes before this grain
			if err := w.close(); err != nil {
				return err
			}
		}
		u.at = w.next
		w.next += int64(len(u.body))
		if err := w.set(u.off, u.at); err != nil {
			return err
		}
	}
	return nil
}

// writeTable appends a marker and a grain table.
func (w *streamWriter) writeTable(index int64, table []byte) error {
	at := w.next + vmdkSector
	binary.LittleEndian.PutUint32(w.directory[index*4:], uint32(at/vmdkSector))
	return w.append(markerTable, table)
}

// append writes a marker and what it announces, padded to whole sectors.
func (w *streamWriter) append(kind uint32, body []byte) error {
	b := make([]byte, vmdkSector+roundUp(int64(len(body)), vmdkSector))
	binary.LittleEndian.PutUint64(b, uint64(len(b)/vmdkSector-1))
	binary.LittleEndian.PutUint32(b[12:], kind)
	copy(b[vmdkSector:], body)
	_, err := w.file.WriteAt(b, w.next)
	w.next += int64(len(b))
	return err
}

// finish appends the last table, the directory, the footer and the end marker.
func (w *streamWriter) finish(h *vmdkHeader) error {
	if err := w.close(); err != nil {
		return err
	}
	h.directoryAt = uint64(w.next/vmdkSector) + 1
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
func grainPacker() (packFunc, error) {
	d, err := newDeflater(vmdkLevel)
	if err != nil {
		return nil, err
	}
	return func(dst []byte, off int64, unit []byte) ([]byte, error) {
		start := len(dst)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(off/vmdkSector))
		dst = d.zlib(append(dst, 0, 0, 0, 0), unit)
		binary.LittleEndian.PutUint32(dst[start+8:], uint32(len(dst)-start-vmdkGrainMarker))
		return append(dst, make([]byte, -(len(dst)-start)&(vmdkSector-1))...), nil
	}, nil
}

// vmdkLevel is the deflate level of grains: the fastest whose files are not
// larger than qemu-img's by three percent or more.
const vmdkLevel = 7
