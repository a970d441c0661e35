package qcow2

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/mapped"
	"b9.build/b9/engine/disk/internal/pump"
	"b9.build/b9/engine/disk/press"
	"b9.build/b9/engine/near"
)

// Sizes of what is written: clusters of 64 KiB, so that an L2 table describes
// 512 MiB and a block of 16-bit reference counts 2 GiB of the file.
const (
	cluster  = 64 << 10
	perL2    = cluster / 8
	perBlock = cluster / 2
)

// writer lays out a file in one pass: each cluster gets the next offset, in the
// order in which it is needed, and nothing is written twice but the header.
//
// First come the header, the first block of reference counts and the L1 table,
// then L2 tables, each before its first cluster, and the data. The first cluster
// of each 2 GiB of the file is the block that holds the counts of these 2 GiB
// (docs/interop/qcow2.rst, "Host cluster management"), so a block is always known
// before what it counts. A cluster has the count 1, but for one in which several
// compressed clusters lie, which has one for each (count). Only the L1, one L2
// table and one block of counts are in memory: a table is written when the next
// is begun. Last comes the table that names the blocks (refcountTable), and the
// header at the very end, so that a file that was cut off is no image.
type writer struct {
	file *os.File
	size int64

	next   int64    // first cluster never used
	byteAt int64    // end of the packed bytes in cluster next-1; 0 if it is not one of them
	counts []byte   // big endian, of the clusters from block*perBlock on
	blocks []uint64 // offsets of blocks of reference counts

	l1       []byte
	l1Offset int64
	l2       []byte // the open table
	l2Index  int64  // its place in the L1; -1: none is open
	l2Offset int64
}

// Write makes f an image with compatibility level 1.1, clusters of 64 KiB, 16-bit
// reference counts and the lazy refcounts feature, without snapshots. A size
// that is no multiple of 512 bytes is rounded up, as QEMU does.
func (Format) Write(ctx context.Context, f *os.File, src image.Image, o image.WriteOptions) error {
	if err := o.Refuse("qcow2", image.Compression, image.BackingFile); err != nil {
		return err
	}
	pack, err := packer(o.Compress)
	if err != nil {
		return err
	}
	j := pump.Job{Src: src, Out: f, Unit: cluster, Progress: o.Progress, Packer: pack, Reserve: pump.Growth(f, 0)}
	if o.Backing != nil {
		under, err := openBeneath(f.Name(), o)
		if err != nil {
			return err
		}
		defer under.Close()
		j.Under = under
	}
	w, err := newWriter(f, src.Size())
	if err != nil {
		return err
	}
	j.Place = w.place
	if err := j.Run(ctx); err != nil {
		return err
	}
	return w.finish(o)
}

// WriteOverlay fills f with a qcow2 of size bytes that holds nothing yet and
// stands on b, which is not opened.
func WriteOverlay(f *os.File, size int64, b image.Backing) error {
	w, err := newWriter(f, size)
	if err != nil {
		return err
	}
	return w.finish(image.WriteOptions{Backing: &b})
}

// openBeneath opens the backing file of an image that is written to path.
func openBeneath(path string, o image.WriteOptions) (image.Image, error) {
	if len(o.Backing.Path) > 1023 {
		return nil, fmt.Errorf("backing file %s: the name is longer than 1023 bytes", o.Backing.Path)
	}
	if o.OpenBacking == nil {
		return nil, fmt.Errorf("backing file %s: nothing to open it with was given (WriteOptions.OpenBacking)", o.Backing.Path)
	}
	img, err := o.OpenBacking(path, *o.Backing)
	if err != nil {
		return nil, fmt.Errorf("backing file: %w", err)
	}
	return img, nil
}

// newWriter reserves the header's cluster and the L1 table.
func newWriter(f *os.File, size int64) (*writer, error) {
	w := &writer{file: f, size: image.RoundUp(size, 512), counts: make([]byte, cluster), l2Index: -1}
	tables := max(1, image.RoundUp(w.size, cluster*perL2)/(cluster*perL2))
	if tables*8 > maxL1 {
		return nil, fmt.Errorf("%d bytes are too large for a qcow2 (at most %d)", size, int64(maxL1/8*cluster*perL2))
	}
	w.l1 = make([]byte, tables*8)
	w.next = 1 // cluster 0 is the header
	w.count(0)
	w.blocks = []uint64{uint64(w.cluster0())}
	w.l1Offset = w.next * cluster
	for range image.RoundUp(tables*8, cluster) / cluster {
		w.cluster0()
	}
	return w, nil
}

// cluster0 takes the next cluster, which must not begin a new block of counts.
func (w *writer) cluster0() int64 {
	w.count(w.next)
	w.next++
	return (w.next - 1) * cluster
}

// cluster takes the next cluster and returns its offset. The first cluster of
// each 2 GiB holds the reference counts of these 2 GiB.
func (w *writer) cluster() (int64, error) {
	w.byteAt = 0
	if w.next%perBlock == 0 {
		if err := w.flushCounts(); err != nil {
			return 0, err
		}
		w.blocks = append(w.blocks, uint64(w.cluster0()))
	}
	return w.cluster0(), nil
}

// count adds a reference to a cluster of the open block.
func (w *writer) count(cluster int64) {
	b := w.counts[cluster%perBlock*2:]
	binary.BigEndian.PutUint16(b, binary.BigEndian.Uint16(b)+1)
}

// flushCounts writes the open block of reference counts and begins another.
func (w *writer) flushCounts() error {
	_, err := w.file.WriteAt(w.counts, int64(w.blocks[len(w.blocks)-1]))
	clear(w.counts)
	return err
}

// packedBytes takes n bytes, at most a cluster, right after the packed bytes
// before them, so that several compressed clusters share a cluster. Only where
// that would cross into another block of counts, a new cluster begins.
func (w *writer) packedBytes(n int64) (int64, error) {
	at := w.byteAt
	if at == 0 || at+n > w.next*cluster && w.next%perBlock == 0 {
		start, err := w.cluster()
		if err != nil {
			return 0, err
		}
		w.byteAt = start + n
		return start, nil
	}
	if at < w.next*cluster {
		w.count(w.next - 1)
	}
	if at+n > w.next*cluster {
		w.cluster0()
	}
	w.byteAt = at + n
	return at, nil
}

// place gives a unit its offset and writes its L2 entry.
func (w *writer) place(u *pump.Unit) error {
	if err := w.openTable(u.Off / (cluster * perL2)); err != nil {
		return err
	}
	entry, err := w.entry(u)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint64(w.l2[u.Off/cluster%perL2*8:], entry)
	return nil
}

// entry places a unit and returns its L2 entry.
func (w *writer) entry(u *pump.Unit) (uint64, error) {
	var err error
	switch u.Kind {
	case mapped.Zero:
		return zero, nil
	case mapped.Packed:
		n := int64(len(u.Body))
		if u.At, err = w.packedBytes(n); err != nil {
			return 0, err
		}
		const shift = 62 - (16 - 8)
		sectors := (u.At+n-1)/512 - u.At/512
		return packed | uint64(sectors)<<shift | uint64(u.At), nil
	}
	u.At, err = w.cluster()
	return copied | uint64(u.At), err
}

// openTable makes the L2 table with the given place in the L1 the open one.
func (w *writer) openTable(index int64) error {
	if w.l2Index == index {
		return nil
	}
	if err := w.closeTable(); err != nil {
		return err
	}
	at, err := w.cluster()
	if err != nil {
		return err
	}
	if w.l2 == nil {
		w.l2 = make([]byte, cluster)
	}
	clear(w.l2)
	w.l2Index, w.l2Offset = index, at
	binary.BigEndian.PutUint64(w.l1[index*8:], copied|uint64(at))
	return nil
}

func (w *writer) closeTable() error {
	if w.l2Index < 0 {
		return nil
	}
	_, err := w.file.WriteAt(w.l2, w.l2Offset)
	w.l2Index = -1
	return err
}

// finish writes the tables that are still in memory and, last, the header.
func (w *writer) finish(o image.WriteOptions) error {
	if err := w.closeTable(); err != nil {
		return err
	}
	tableAt, clusters, err := w.refcountTable()
	if err != nil {
		return err
	}
	if err := w.flushCounts(); err != nil {
		return err
	}
	header := image.Chunk{Bytes: w.header(o, tableAt, clusters)}
	return pump.Finish(w.file, w.next*cluster, image.Chunk{At: w.l1Offset, Bytes: w.l1}, header)
}

// refcountTable writes the table of blocks of reference counts to contiguous
// clusters. The block that counts these comes before them, or is the one of the
// 2 GiB at whose start they would otherwise have been torn apart.
func (w *writer) refcountTable() (at, clusters int64, err error) {
	clusters = int64(len(w.blocks))/perL2 + 1 // there is room for one block more
	if left := perBlock - w.next%perBlock; left < clusters {
		w.next += left
	}
	for i := range clusters {
		c, err := w.cluster()
		if err != nil {
			return 0, 0, err
		}
		if i == 0 {
			at = c
		}
	}
	table := make([]byte, clusters*cluster)
	for i, b := range w.blocks {
		binary.BigEndian.PutUint64(table[i*8:], b)
	}
	_, err = w.file.WriteAt(table, at)
	return at, clusters, err
}

// header returns the header with its extensions and the name of the backing file.
func (w *writer) header(o image.WriteOptions, tableAt, tableClusters int64) []byte {
	h := fields{
		Magic: [4]byte([]byte(magic)), Version: 3, ClusterBits: 16, Size: uint64(w.size),
		L1Size: uint32(len(w.l1) / 8), L1At: uint64(w.l1Offset), CountsAt: uint64(tableAt), CountsClusters: uint32(tableClusters),
		Compatible: lazy, CountOrder: 4, Length: fullLength,
	}
	if o.Compress == "zstd" {
		h.Incompatible, h.Compression = compressed, zstdType
	}
	var more []byte
	if o.Backing != nil {
		more = appendExtension(more, formatExtension, o.Backing.Format)
	}
	more = append(more, make([]byte, 8)...) // the end of the extensions
	if o.Backing != nil {
		h.BackingAt, h.BackingLength = fullLength+uint64(len(more)), uint32(len(o.Backing.Path))
		more = append(more, o.Backing.Path...)
	}
	return append(image.Encode(binary.BigEndian, h), more...)
}

func appendExtension(h []byte, kind uint32, value string) []byte {
	h = binary.BigEndian.AppendUint32(h, kind)
	h = binary.BigEndian.AppendUint32(h, uint32(len(value)))
	h = append(h, value...)
	return append(h, make([]byte, image.RoundUp(int64(len(h)), 8)-int64(len(h)))...)
}

// packer returns what makes the compressors of the workers, or nil.
func packer(method string) (func() (pump.PackFunc, error), error) {
	switch method {
	case "":
		return nil, nil
	case "zlib":
		return smaller(newDeflate), nil
	case "zstd":
		return smaller(newZstd), nil
	}
	return nil, fmt.Errorf("unknown compression %q (have zlib, zstd)%s", method, near.Hint(method, []string{"zlib", "zstd"}))
}

// level is the deflate level of clusters: the fastest whose files are not
// larger than qemu-img's by half a percent or more.
const level = 6

// appendFunc appends the packed form of src to dst.
type appendFunc func(dst, src []byte) []byte

// newDeflate makes a coder for raw deflate. Distances reach back up to 32 KiB, as RFC
// 1951 allows. QEMU declares a smaller window when it inflates, but hands over a
// buffer for the whole cluster, so that nothing depends on the window.
func newDeflate() (appendFunc, error) {
	d, err := press.NewDeflater(level)
	return d.Deflate, err
}

func newZstd() (appendFunc, error) {
	p, err := press.NewZstd()
	return p.Compress, err
}

// smaller makes compressors that leave units as they are which the coder would not
// make smaller.
func smaller(newCoder func() (appendFunc, error)) func() (pump.PackFunc, error) {
	return func() (pump.PackFunc, error) {
		code, err := newCoder()
		return func(dst []byte, _ int64, unit []byte) ([]byte, error) {
			if press.Incompressible(unit) {
				return dst, nil
			}
			if out := code(dst, unit); len(out)-len(dst) < len(unit) {
				return out, nil
			}
			return dst, nil
		}, err
	}
}
