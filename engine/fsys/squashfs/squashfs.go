// Package squashfs makes and reads squashfs 4.0, as the kernel's
// Documentation/filesystems/squashfs.rst and fs/squashfs/squashfs_fs.h describe
// it. It hides compression, the sharing of blocks by the ends of files, and the
// tables of metadata. It makes zstd and gzip only, and no export table; it reads
// lzma, lzo, xz (without filters for machine code) and lz4 too.
//
//	Make, Options   a new file system
//	Probe, Open     a superblock recognised; an image's files read
//
// Inside: writer appends to the file; cutter cuts files into blocks, which are
// compressed in parallel; tables holds inodes, directories and attributes in
// metaWriters. reader reads, and cursor reads metadata on from a reference. format.go
// has the structures, codec.go the compressions.
package squashfs

import (
	"context"
	"fmt"
	"io"
	"math/bits"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/internal/sparse"
)

// Options describe a new squashfs.
type Options struct {
	// Compress is zstd (the default) or gzip.
	Compress string
	// BlockSize in bytes: a power of two from 4096 to 1 MiB; 0 is 128 KiB.
	BlockSize int
	// Time of the file system.
	Time time.Time
}

// Make makes a squashfs 4.0 in a new file at path and fills it with
// content: data, owners, modes, times in whole seconds, symbolic and hard links,
// devices, and extended attributes but POSIX access control lists, which squashfs
// does not hold. The same options and content give the same bytes. Blocks are
// compressed in parallel. The file's length is a multiple of 4096. After an
// error path is what it was before.
func Make(ctx context.Context, path string, o Options, content tree.Content) error {
	return tree.Make(ctx, path, "squashfs", content, o.check, func(t *tree.Tree) (func(*os.File) error, error) {
		w := &writer{ctx: ctx, o: o, tree: t, pos: super, files: make(map[*tree.Inode]*fileData)}
		return w.write, nil
	})
}

func (o *Options) check() error {
	if o.BlockSize == 0 {
		o.BlockSize = 128 << 10
	}
	if o.BlockSize < minBlock || o.BlockSize > maxBlock || o.BlockSize&(o.BlockSize-1) != 0 {
		return fmt.Errorf("block size %d is no power of two from 4096 to 1048576", o.BlockSize)
	}
	switch o.Compress {
	case "":
		o.Compress = "zstd"
	case "zstd", "gzip":
	default:
		return fmt.Errorf("unknown compression %q (have gzip, zstd)", o.Compress)
	}
	return nil
}

// writer writes data from front to back, then the tables.
type writer struct {
	ctx       context.Context
	f         *os.File
	o         Options
	tree      *tree.Tree
	pos       int64 // where the next byte goes
	files     map[*tree.Inode]*fileData
	fragments []fragment
	tables    tables
	super     superblock
}

// fileData is where a file's data lies.
type fileData struct {
	start    int64
	started  bool // start is set
	sizes    []uint32
	sparse   int64  // bytes of blocks that are all zeros
	fragment uint32 // number, or none
	offset   uint32 // in the fragment
}

func (w *writer) write(f *os.File) error {
	w.f = f
	if err := w.data(w.tree); err != nil {
		return err
	}
	if err := w.tables.build(w, w.tree); err != nil {
		return err
	}
	if err := w.writeTables(); err != nil {
		return err
	}
	if _, err := w.f.WriteAt(pack(nil, w.super), 0); err != nil {
		return err
	}
	return w.f.Truncate((w.pos + 4095) &^ 4095)
}

// put appends bytes to the file.
func (w *writer) put(b []byte) error {
	_, err := w.f.WriteAt(b, w.pos)
	w.pos += int64(len(b))
	return err
}

// block is a block on its way from the reader through a compressor to
// the file, where blocks arrive in the order in which they were read.
type block struct {
	raw  []byte
	out  []byte // shorter than raw, or raw itself
	done chan error
	// wrote is told where the block went and its size word.
	wrote func(pos int64, size uint32)
}

// data compresses the files' blocks and the ends of files, which share blocks.
// One goroutine cuts files into blocks and sends each to the compressors and, in
// order, to the writer, which waits for a block's compression before it appends
// it. So blocks are compressed in parallel and lie in the file in the order in
// which they were read; two blocks a compressor are under way at most.
func (w *writer) data(t *tree.Tree) error {
	g, ctx := errgroup.WithContext(w.ctx)
	workers := min(runtime.GOMAXPROCS(0), 16)
	order, work := make(chan *block, 2*workers), make(chan *block, 2*workers)
	for range workers {
		g.Go(func() error {
			encode := newEncoder(w.o.Compress)
			for b := range work {
				var err error
				b.out, err = encode.compress(b.raw)
				b.done <- err
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(order)
		defer close(work)
		c := &cutter{w: w, ctx: ctx, order: order, work: work}
		return c.cut(t)
	})
	g.Go(func() error { return w.drain(order) })
	return g.Wait()
}

// drain writes blocks in their order.
func (w *writer) drain(order <-chan *block) error {
	for b := range order {
		if err := <-b.done; err != nil {
			return err
		}
		size := uint32(len(b.out))
		if len(b.out) == len(b.raw) {
			size |= plain
		}
		b.wrote(w.pos, size)
		if err := w.put(b.out); err != nil {
			return err
		}
	}
	return nil
}

// cutter cuts files into blocks.
type cutter struct {
	w     *writer
	ctx   context.Context
	order chan<- *block
	work  chan<- *block
	tail  []byte // ends of files
	tails uint32 // number of the block that tail becomes
}

func (c *cutter) cut(t *tree.Tree) error {
	c.w.tables.count = 0
	err := t.Walk(func(p string, n *tree.Inode) error {
		c.w.tables.count++
		n.Number = c.w.tables.count
		if !n.IsRegular() {
			return nil
		}
		if err := c.file(n); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.flush()
}

func (c *cutter) file(n *tree.Inode) error {
	d := &fileData{fragment: none}
	c.w.files[n] = d
	if n.Size == 0 {
		return nil
	}
	in, err := n.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	bs := int64(c.w.o.BlockSize)
	d.sizes = make([]uint32, n.Size/bs)
	for i := range d.sizes {
		b := make([]byte, bs)
		if _, err := io.ReadFull(in, b); err != nil {
			return n.Short(err)
		}
		if sparse.IsZero(b) {
			d.sparse += bs
			continue
		}
		if err := c.send(b, func(pos int64, size uint32) { d.put(i, pos, size) }); err != nil {
			return err
		}
	}
	if rest := n.Size % bs; rest > 0 {
		if err := c.end(in, n, d, int(rest)); err != nil {
			return err
		}
	}
	return n.CheckEnd(in)
}

func (d *fileData) put(i int, pos int64, size uint32) {
	if d.sizes[i] = size; !d.started {
		d.start, d.started = pos, true
	}
}

// end adds the last, short part of a file to the block that such parts share.
func (c *cutter) end(in io.Reader, n *tree.Inode, d *fileData, rest int) error {
	if len(c.tail)+rest > c.w.o.BlockSize {
		if err := c.flush(); err != nil {
			return err
		}
	}
	at := len(c.tail)
	c.tail = append(c.tail, make([]byte, rest)...)
	if _, err := io.ReadFull(in, c.tail[at:]); err != nil {
		return n.Short(err)
	}
	d.fragment, d.offset = c.tails, uint32(at)
	return nil
}

func (c *cutter) flush() error {
	if len(c.tail) == 0 {
		return nil
	}
	b := c.tail
	c.tail, c.tails = nil, c.tails+1
	return c.send(b, func(pos int64, size uint32) {
		c.w.fragments = append(c.w.fragments, fragment{Start: uint64(pos), Size: size})
	})
}

func (c *cutter) send(raw []byte, wrote func(int64, uint32)) error {
	b := &block{raw: raw, done: make(chan error, 1), wrote: wrote}
	for _, to := range []chan<- *block{c.work, c.order} {
		select {
		case to <- b:
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		}
	}
	return nil
}

// writeTables appends the tables and fills in the superblock.
func (w *writer) writeTables() error {
	t, sb := &w.tables, &w.super
	sb.InodeTable = uint64(w.pos)
	if err := w.put(t.inodes.finish()); err != nil {
		return err
	}
	sb.DirTable = uint64(w.pos)
	if err := w.put(t.dirs.finish()); err != nil {
		return err
	}
	var err error
	if sb.FragmentTable, err = w.indexed(pack(nil, w.fragments), nil); err != nil {
		return err
	}
	if sb.IDTable, err = w.indexed(pack(nil, t.ids), nil); err != nil {
		return err
	}
	sb.ExportTable, sb.XattrTable, sb.Flags = noTable, noTable, noXattrs
	if len(t.xattrList) > 0 {
		head := xattrTable{Start: uint64(w.pos), Count: uint32(len(t.xattrList))}
		if err := w.put(t.xattrs.finish()); err != nil {
			return err
		}
		if sb.XattrTable, err = w.indexed(pack(nil, t.xattrList), pack(nil, head)); err != nil {
			return err
		}
		sb.Flags = 0
	}
	w.describe()
	return nil
}

// indexed appends a table in blocks of metadata, then head and the offsets of
// these blocks, and returns where that begins.
func (w *writer) indexed(table, head []byte) (uint64, error) {
	m := newMetaWriter(w.o.Compress)
	index, base := head, uint64(w.pos)
	for part := range slices.Chunk(table, meta) {
		index = pack(index, base+uint64(len(m.out)))
		m.write(part)
	}
	if err := w.put(m.finish()); err != nil {
		return 0, err
	}
	at := uint64(w.pos)
	return at, w.put(index)
}

// describe fills in what of the superblock is no place of a table.
func (w *writer) describe() {
	t, sb := &w.tables, &w.super
	sb.Magic, sb.Version = magic, 4
	sb.Inodes, sb.Fragments, sb.IDs = t.count, uint32(len(w.fragments)), uint16(len(t.ids))
	sb.Time = unixTime(tree.FixedTime(w.o.Time))
	sb.BlockSize, sb.BlockLog = uint32(w.o.BlockSize), uint16(bits.TrailingZeros(uint(w.o.BlockSize)))
	sb.Compression = zstdCoded
	if w.o.Compress == "gzip" {
		sb.Compression = gzipCoded
	}
	sb.Root, sb.Used = t.root, uint64(w.pos)
}

// unixTime clamps a time to the 32 bits that there are for it.
func unixTime(sec int64) uint32 { return uint32(min(max(sec, 0), 1<<32-1)) }
