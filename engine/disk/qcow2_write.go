package disk

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"

	"b9/engine/internal/sparse"
	"b9/engine/near"
)

// Sizes of what is written: clusters of 64 KiB, so that an L2 table describes
// 512 MiB and a block of 16-bit reference counts 2 GiB of the file.
const (
	qcow2Cluster  = 64 << 10
	qcow2PerL2    = qcow2Cluster / 8
	qcow2PerBlock = qcow2Cluster / 2
)

// qcow2Writer lays out a file in one pass. The parts follow each other in the
// order in which they are needed: header, reference counts, L1, then L2 tables
// each before its first cluster, and the table of reference counts last. Only
// the L1, one L2 table and one block of counts are in memory.
type qcow2Writer struct {
	file *os.File
	size int64
	room reserve

	next   int64    // first cluster never used
	byteAt int64    // end of the packed bytes in cluster next-1; 0 if it is not one of them
	counts []byte   // big endian, of the clusters from block*qcow2PerBlock on
	blocks []uint64 // offsets of blocks of reference counts

	l1       []byte
	l1Offset int64
	l2       []byte // the open table
	l2Index  int64  // its place in the L1; -1: none is open
	l2Offset int64
}

func writeQcow2(ctx context.Context, f *os.File, src Image, o WriteOptions) error {
	pack, err := qcow2Packer(o.Compress)
	if err != nil {
		return err
	}
	p := pump{src: src, out: f, unit: qcow2Cluster, progress: o.Progress, packer: pack}
	if o.Backing != nil {
		under, err := openBeneath(f.Name(), o)
		if err != nil {
			return err
		}
		defer under.Close()
		p.under = under
	}
	w, err := newQcow2Writer(f, src.Size())
	if err != nil {
		return err
	}
	p.place = w.place
	if err := p.run(ctx); err != nil {
		return err
	}
	return w.finish(o)
}

// writeOverlay fills f with a qcow2 of size bytes that holds nothing yet and
// stands on b, which is not opened.
func writeOverlay(ctx context.Context, f *os.File, size int64, b Backing) error {
	w, err := newQcow2Writer(f, size)
	if err != nil {
		return err
	}
	p := pump{src: Blank(size), out: f, unit: qcow2Cluster, place: w.place}
	if err := p.run(ctx); err != nil {
		return err
	}
	return w.finish(WriteOptions{Backing: &b})
}

// openBeneath opens the backing file of an image that is written to path.
func openBeneath(path string, o WriteOptions) (Image, error) {
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

// newQcow2Writer reserves the header's cluster and the L1 table.
func newQcow2Writer(f *os.File, size int64) (*qcow2Writer, error) {
	w := &qcow2Writer{file: f, size: roundUp(size, 512), counts: make([]byte, qcow2Cluster), l2Index: -1}
	w.room = reserve{file: f}
	tables := max(1, roundUp(w.size, qcow2Cluster*qcow2PerL2)/(qcow2Cluster*qcow2PerL2))
	if tables*8 > qcow2MaxL1 {
		return nil, fmt.Errorf("%d bytes are too large for a qcow2 (at most %d)", size, int64(qcow2MaxL1/8*qcow2Cluster*qcow2PerL2))
	}
	w.l1 = make([]byte, tables*8)
	w.next = 1 // cluster 0 is the header
	w.count(0)
	w.blocks = []uint64{uint64(w.cluster0())}
	w.l1Offset = w.next * qcow2Cluster
	for range roundUp(tables*8, qcow2Cluster) / qcow2Cluster {
		w.cluster0()
	}
	return w, nil
}

// cluster0 takes the next cluster, which must not begin a new block of counts.
func (w *qcow2Writer) cluster0() int64 {
	w.count(w.next)
	w.next++
	return (w.next - 1) * qcow2Cluster
}

// cluster takes the next cluster and returns its offset. The first cluster of
// each 2 GiB holds the reference counts of these 2 GiB.
func (w *qcow2Writer) cluster() (int64, error) {
	w.byteAt = 0
	if w.next%qcow2PerBlock == 0 {
		if err := w.flushCounts(); err != nil {
			return 0, err
		}
		w.blocks = append(w.blocks, uint64(w.cluster0()))
	}
	return w.cluster0(), nil
}

// count adds a reference to a cluster of the open block.
func (w *qcow2Writer) count(cluster int64) {
	b := w.counts[cluster%qcow2PerBlock*2:]
	binary.BigEndian.PutUint16(b, binary.BigEndian.Uint16(b)+1)
}

// flushCounts writes the open block of reference counts and begins another.
func (w *qcow2Writer) flushCounts() error {
	_, err := w.file.WriteAt(w.counts, int64(w.blocks[len(w.blocks)-1]))
	clear(w.counts)
	return err
}

// packedBytes takes n bytes, at most a cluster, right after the packed bytes
// before them, so that several compressed clusters share a cluster. Only where
// that would cross into another block of counts, a new cluster begins.
func (w *qcow2Writer) packedBytes(n int64) (int64, error) {
	at := w.byteAt
	if at == 0 || at+n > w.next*qcow2Cluster && w.next%qcow2PerBlock == 0 {
		start, err := w.cluster()
		if err != nil {
			return 0, err
		}
		w.byteAt = start + n
		return start, nil
	}
	if at < w.next*qcow2Cluster {
		w.count(w.next - 1)
	}
	if at+n > w.next*qcow2Cluster {
		w.cluster0()
	}
	w.byteAt = at + n
	return at, nil
}

// place gives each unit its offset and writes its L2 entry.
func (w *qcow2Writer) place(units []unit) error {
	for i := range units {
		u := &units[i]
		if u.kind == absent {
			continue
		}
		if err := w.openTable(u.off / (qcow2Cluster * qcow2PerL2)); err != nil {
			return err
		}
		entry, err := w.entry(u)
		if err != nil {
			return err
		}
		binary.BigEndian.PutUint64(w.l2[u.off/qcow2Cluster%qcow2PerL2*8:], entry)
	}
	w.room.upTo(w.next * qcow2Cluster)
	return nil
}

// entry places a unit and returns its L2 entry.
func (w *qcow2Writer) entry(u *unit) (uint64, error) {
	var err error
	switch u.kind {
	case zeroed:
		return qcow2Zero, nil
	case packed:
		n := int64(len(u.body))
		if u.at, err = w.packedBytes(n); err != nil {
			return 0, err
		}
		const shift = 62 - (16 - 8)
		sectors := (u.at+n-1)/512 - u.at/512
		return qcow2Packed | uint64(sectors)<<shift | uint64(u.at), nil
	}
	u.at, err = w.cluster()
	return qcow2Copied | uint64(u.at), err
}

// openTable makes the L2 table with the given place in the L1 the open one.
func (w *qcow2Writer) openTable(index int64) error {
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
		w.l2 = make([]byte, qcow2Cluster)
	}
	clear(w.l2)
	w.l2Index, w.l2Offset = index, at
	binary.BigEndian.PutUint64(w.l1[index*8:], qcow2Copied|uint64(at))
	return nil
}

func (w *qcow2Writer) closeTable() error {
	if w.l2Index < 0 {
		return nil
	}
	_, err := w.file.WriteAt(w.l2, w.l2Offset)
	w.l2Index = -1
	return err
}

// finish writes the tables that are still in memory and, last, the header.
func (w *qcow2Writer) finish(o WriteOptions) error {
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
	if err := w.file.Truncate(w.next * qcow2Cluster); err != nil {
		return err
	}
	if !sparse.IsZero(w.l1) {
		if _, err := w.file.WriteAt(w.l1, w.l1Offset); err != nil {
			return err
		}
	}
	_, err = w.file.WriteAt(w.header(o, tableAt, clusters), 0)
	return err
}

// refcountTable writes the table of blocks of reference counts to contiguous
// clusters. The block that counts these comes before them, or is the one of the
// 2 GiB at whose start they would otherwise have been torn apart.
func (w *qcow2Writer) refcountTable() (at, clusters int64, err error) {
	clusters = int64(len(w.blocks))/qcow2PerL2 + 1 // there is room for one block more
	if left := qcow2PerBlock - w.next%qcow2PerBlock; left < clusters {
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
	table := make([]byte, clusters*qcow2Cluster)
	for i, b := range w.blocks {
		binary.BigEndian.PutUint64(table[i*8:], b)
	}
	_, err = w.file.WriteAt(table, at)
	return at, clusters, err
}

// header returns the header with its extensions and the name of the backing file.
func (w *qcow2Writer) header(o WriteOptions, tableAt, tableClusters int64) []byte {
	be := binary.BigEndian
	h := make([]byte, 112)
	copy(h, qcow2Magic)
	be.PutUint32(h[4:], 3)
	be.PutUint32(h[20:], 16)
	be.PutUint64(h[24:], uint64(w.size))
	be.PutUint32(h[36:], uint32(len(w.l1)/8))
	be.PutUint64(h[40:], uint64(w.l1Offset))
	be.PutUint64(h[48:], uint64(tableAt))
	be.PutUint32(h[56:], uint32(tableClusters))
	be.PutUint64(h[80:], qcow2Lazy)
	be.PutUint32(h[96:], 4)
	be.PutUint32(h[100:], uint32(len(h)))
	if o.Compress == "zstd" {
		be.PutUint64(h[72:], qcow2Compressed)
		h[104] = 1
	}
	if o.Backing != nil {
		h = appendExtension(h, qcow2FormatExtension, o.Backing.Format)
	}
	h = append(h, make([]byte, 8)...) // the end of the extensions
	if o.Backing != nil {
		be.PutUint64(h[8:], uint64(len(h)))
		be.PutUint32(h[16:], uint32(len(o.Backing.Path)))
		h = append(h, o.Backing.Path...)
	}
	return h
}

func appendExtension(h []byte, kind uint32, value string) []byte {
	h = binary.BigEndian.AppendUint32(h, kind)
	h = binary.BigEndian.AppendUint32(h, uint32(len(value)))
	h = append(h, value...)
	return append(h, make([]byte, roundUp(int64(len(h)), 8)-int64(len(h)))...)
}

// qcow2Packer returns what makes the compressors of the workers, or nil.
func qcow2Packer(method string) (func() (packFunc, error), error) {
	switch method {
	case "":
		return nil, nil
	case "zlib":
		return deflatePacker, nil
	case "zstd":
		return zstdPacker, nil
	}
	return nil, fmt.Errorf("unknown compression %q (have zlib, zstd)%s", method, near.Hint(method, []string{"zlib", "zstd"}))
}

// deflatePacker packs as raw deflate. Distances reach back up to 32 KiB, as RFC
// 1951 allows. QEMU declares a smaller window when it inflates, but hands over a
// buffer for the whole cluster, so that nothing depends on the window.
func deflatePacker() (packFunc, error) {
	d, err := newDeflater(qcow2Level)
	if err != nil {
		return nil, err
	}
	return packSmaller(d.deflate), nil
}

// qcow2Level is the deflate level of clusters: the fastest whose files are not
// larger than qemu-img's by half a percent or more.
const qcow2Level = 6

func zstdPacker() (packFunc, error) {
	p, err := newZstdPress()
	if err != nil {
		return nil, err
	}
	return packSmaller(p.compress), nil
}

// packSmaller leaves units as they are that pack, which appends the packed form
// of src to dst, would not make smaller.
func packSmaller(pack func(dst, src []byte) []byte) packFunc {
	return func(dst []byte, _ int64, unit []byte) ([]byte, error) {
		if incompressible(unit) {
			return dst, nil
		}
		if out := pack(dst, unit); len(out)-len(dst) < len(unit) {
			return out, nil
		}
		return dst, nil
	}
}
