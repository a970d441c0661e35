// Package squashfs makes and reads squashfs 4.0, as the kernel's
// Documentation/filesystems/squashfs.rst and fs/squashfs/squashfs_fs.h describe
// it. It hides compression, the sharing of blocks by the ends of files, and the
// tables of metadata. It makes zstd and gzip only, and no export table; what is
// compressed otherwise is read through go-diskfs, with the limits told at other.
//
//	Make, Options   a new file system
//	Probe, Open     a superblock recognised; an image's files read
//
// Inside: writer appends to the file; cutter cuts files into blocks, which are
// compressed in parallel; tables holds inodes, directories and attributes in
// metaWriters. reader reads, and cursor reads metadata on from a reference.
package squashfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
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

const (
	super    = 96      // bytes
	meta     = 8192    // bytes of a block of metadata
	plain    = 1 << 24 // in a data block's size: not compressed
	none     = 1<<32 - 1
	maxID    = 1 << 16
	noXattrs = 0x200 // flag
)

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
	if o.BlockSize < 4096 || o.BlockSize > 1<<20 || o.BlockSize&(o.BlockSize-1) != 0 {
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
	super     [super]byte
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

type fragment struct {
	start int64
	size  uint32
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
	if _, err := w.f.WriteAt(w.super[:], 0); err != nil {
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
			c := newCodec(w.o.Compress)
			for b := range work {
				var err error
				b.out, err = c.compress(b.raw)
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
		c.w.fragments = append(c.w.fragments, fragment{pos, size})
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

// codec compresses blocks, one at a time.
type codec struct {
	z *zlib.Writer
	s *zstd.Encoder
	b bytes.Buffer
}

func newCodec(kind string) *codec {
	c := &codec{}
	if kind == "gzip" {
		c.z, _ = zlib.NewWriterLevel(nil, 6) // fails for a level out of range only
		return c
	}
	c.s, _ = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true),
		zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithWindowSize(1<<20)) // fails for bad options only
	return c
}

// compress returns b itself when it does not get shorter.
func (c *codec) compress(b []byte) ([]byte, error) {
	var out []byte
	if c.s != nil {
		out = c.s.EncodeAll(b, nil)
	} else {
		c.b.Reset()
		c.z.Reset(&c.b)
		if _, err := c.z.Write(b); err != nil {
			return nil, err
		}
		if err := c.z.Close(); err != nil {
			return nil, err
		}
		out = bytes.Clone(c.b.Bytes())
	}
	if len(out) >= len(b) {
		return b, nil
	}
	return out, nil
}

// writeTables appends the tables and fills in the superblock.
func (w *writer) writeTables() error {
	le, t, sb := binary.LittleEndian, &w.tables, w.super[:]
	offset := func(at int) { le.PutUint64(sb[at:], uint64(w.pos)) }
	offset(64)
	if err := w.put(t.inodes.finish()); err != nil {
		return err
	}
	offset(72)
	if err := w.put(t.dirs.finish()); err != nil {
		return err
	}
	fragments := make([]byte, 0, 16*len(w.fragments))
	for _, f := range w.fragments {
		fragments = le.AppendUint64(fragments, uint64(f.start))
		fragments = le.AppendUint64(fragments, uint64(f.size))
	}
	if err := w.indexed(fragments, nil, 80); err != nil {
		return err
	}
	le.PutUint64(sb[88:], 1<<64-1) // no export table
	var ids []byte
	for _, id := range t.ids {
		ids = le.AppendUint32(ids, id)
	}
	if err := w.indexed(ids, nil, 48); err != nil {
		return err
	}
	flags := uint16(0)
	if len(t.xattrList) == 0 {
		le.PutUint64(sb[56:], 1<<64-1)
		flags |= noXattrs
	} else if err := w.writeXattrs(); err != nil {
		return err
	}
	w.header(flags)
	return nil
}

// writeXattrs appends the attributes, and the table of who has which.
func (w *writer) writeXattrs() error {
	le, t := binary.LittleEndian, &w.tables
	start := w.pos
	if err := w.put(t.xattrs.finish()); err != nil {
		return err
	}
	head := le.AppendUint64(nil, uint64(start))
	head = le.AppendUint32(head, uint32(len(t.xattrList)))
	head = le.AppendUint32(head, 0)
	var list []byte
	for _, x := range t.xattrList {
		list = le.AppendUint64(list, x.ref)
		list = le.AppendUint32(list, x.count)
		list = le.AppendUint32(list, x.size)
	}
	return w.indexed(list, head, 56)
}

// indexed appends a table in blocks of metadata, then head and the offsets of
// these blocks; where that begins goes into the superblock at a byte.
func (w *writer) indexed(table, head []byte, at int) error {
	le := binary.LittleEndian
	m := newMetaWriter(w.o.Compress)
	index := head
	base := w.pos
	for len(table) > 0 {
		index = le.AppendUint64(index, uint64(base)+uint64(len(m.out)))
		n := min(meta, len(table))
		m.write(table[:n])
		table = table[n:]
	}
	if err := w.put(m.finish()); err != nil {
		return err
	}
	le.PutUint64(w.super[at:], uint64(w.pos))
	return w.put(index)
}

func (w *writer) header(flags uint16) {
	le, t, sb := binary.LittleEndian, &w.tables, w.super[:]
	copy(sb, "hsqs")
	le.PutUint32(sb[4:], t.count)
	le.PutUint32(sb[8:], unixTime(tree.FixedTime(w.o.Time)))
	le.PutUint32(sb[12:], uint32(w.o.BlockSize))
	le.PutUint32(sb[16:], uint32(len(w.fragments)))
	le.PutUint16(sb[20:], map[string]uint16{"gzip": 1, "zstd": 6}[w.o.Compress])
	log := uint16(0)
	for 1<<log < w.o.BlockSize {
		log++
	}
	le.PutUint16(sb[22:], log)
	le.PutUint16(sb[24:], flags)
	le.PutUint16(sb[26:], uint16(len(t.ids)))
	le.PutUint16(sb[28:], 4)
	le.PutUint64(sb[32:], t.root)
	le.PutUint64(sb[40:], uint64(w.pos))
}

// unixTime clamps a time to the 32 bits that there are for it.
func unixTime(sec int64) uint32 { return uint32(min(max(sec, 0), 1<<32-1)) }

var errSquashIDs = errors.New("more than 65536 different owners and groups")
