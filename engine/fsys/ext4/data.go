package ext4

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/sync/errgroup"

	"b9.build/b9/engine/internal/sparse"
)

// batchSize is how much file data travels at once, in bytes. Three batches are
// in memory: one being read, one waiting, one being written.
const batchSize = 1 << 20

// batch is a buffer with pieces of one large file or of many small ones, each
// padded to whole blocks.
type batch struct {
	buf    []byte
	used   int
	pieces []piece
}

type piece struct {
	o       *object
	logical uint64 // first file block
	off     int    // in the batch
	size    int    // in the batch, whole blocks; 0 for an end without data
	last    bool   // nothing of the file follows
}

// data writes the files' contents. One goroutine reads the files, in the order of
// their inodes, into batches of 1 MiB: small files share one, large files fill
// several. Another searches each batch for blocks of zeros, which become holes,
// allocates blocks for the rest, and writes runs of neighbouring blocks at once.
// Three batches go round between the two, so that reading and writing overlap and
// memory stays bounded. Blocks are allocated in the order of reading alone, so the
// layout does not depend on how fast either goroutine is.
func (x *fill) data() error {
	g, ctx := errgroup.WithContext(x.ctx)
	full, free := make(chan *batch, 1), make(chan *batch, 3)
	for range 3 {
		free <- &batch{buf: make([]byte, batchSize)}
	}
	g.Go(func() error {
		defer close(full)
		r := batchReader{x: x, ctx: ctx, full: full, free: free}
		return r.run()
	})
	g.Go(func() error {
		p := dataWriter{x: x}
		for b := range full {
			if err := p.batch(b); err != nil {
				return err
			}
			free <- b
		}
		return nil
	})
	return g.Wait()
}

type batchReader struct {
	x          *fill
	ctx        context.Context
	full, free chan *batch
	b          *batch
}

func (r *batchReader) run() error {
	for _, o := range r.x.order {
		if !o.IsRegular() {
			continue
		}
		if err := r.file(o); err != nil {
			return r.x.named(o, err)
		}
	}
	if r.b != nil {
		return r.send()
	}
	return nil
}

func (r *batchReader) send() error {
	select {
	case r.full <- r.b:
		r.b = nil
		return nil
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}

// space makes sure that the current batch has room for a block.
func (r *batchReader) space() error {
	if r.b != nil && r.b.used+r.x.l.blockSize <= len(r.b.buf) {
		return nil
	}
	if r.b != nil {
		if err := r.send(); err != nil {
			return err
		}
	}
	select {
	case r.b = <-r.free:
		r.b.used, r.b.pieces = 0, r.b.pieces[:0]
		return nil
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}

func (r *batchReader) file(o *object) error {
	if o.Size == 0 {
		if err := r.space(); err != nil {
			return err
		}
		r.b.pieces = append(r.b.pieces, piece{o: o, last: true})
		return nil
	}
	if limit := r.x.l.maxFile(); o.Size > limit {
		return fmt.Errorf("is %d bytes long, the file system holds files of %d", o.Size, limit)
	}
	in, err := o.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	bs := int64(r.x.l.blockSize)
	for off := int64(0); off < o.Size; {
		if !o.solid {
			if off, err = skipHole(in, off, bs); err != nil {
				return err
			}
		}
		if off, err = r.chunk(in, o, off); err != nil {
			return err
		}
	}
	return o.CheckEnd(in)
}

// chunk reads the next bytes of a file into the batch.
func (r *batchReader) chunk(in io.Reader, o *object, off int64) (int64, error) {
	bs := r.x.l.blockSize
	if err := r.space(); err != nil {
		return 0, err
	}
	room := (len(r.b.buf) - r.b.used) / bs * bs
	want := int(min(int64(room), o.Size-off))
	dst := r.b.buf[r.b.used:]
	if _, err := io.ReadFull(in, dst[:want]); err != nil && want > 0 {
		return 0, o.Short(err)
	}
	padded := (want + bs - 1) / bs * bs
	clear(dst[want:padded])
	p := piece{o: o, logical: uint64(off) / uint64(bs), off: r.b.used, size: padded, last: off+int64(want) == o.Size}
	r.b.used, r.b.pieces = r.b.used+padded, append(r.b.pieces, p)
	return off + int64(want), nil
}

// maxFile is the largest file, in bytes.
func (l *layout) maxFile() int64 {
	if l.incompat&incompatExtents != 0 {
		return maxFileBlocks * int64(l.blockSize)
	}
	p := int64(l.blockSize / 4)
	return min((12+p+p*p+p*p*p)*int64(l.blockSize), 1<<41-int64(l.blockSize))
}

// dataWriter allocates blocks for file data and writes it, in as few calls as
// neighbouring blocks allow.
type dataWriter struct {
	x    *fill
	list extentList
	// What is to be written next: bytes [from, to) of the batch at block at.
	from, to int
	at       uint64
}

func (p *dataWriter) batch(b *batch) error {
	if err := context.Cause(p.x.ctx); err != nil {
		return err
	}
	for _, q := range b.pieces {
		if err := p.piece(b, q); err != nil {
			return p.x.named(q.o, err)
		}
	}
	return p.flush(b)
}

func (p *dataWriter) piece(b *batch, q piece) error {
	bs := p.x.l.blockSize
	runs := sparse.Runs(b.buf[q.off:q.off+q.size], bs)
	if q.o.solid && q.size > 0 {
		runs = func(yield func(from, to int) bool) { yield(0, q.size) }
	}
	for from, to := range runs {
		if err := p.put(b, q.logical+uint64(from/bs), q.off+from, q.off+to); err != nil {
			return err
		}
	}
	if !q.last {
		return nil
	}
	err := p.x.setMap(q.o, p.list)
	p.list = p.list[:0]
	return err
}

// put finds blocks for bytes [off, stop) of the batch.
func (p *dataWriter) put(b *batch, logical uint64, off, stop int) error {
	bs := p.x.l.blockSize
	for off < stop {
		at, count, err := p.x.alloc.next(uint32((stop - off) / bs))
		if err != nil {
			return err
		}
		size := int(count) * bs
		if p.to != off || p.at+uint64((p.to-p.from)/bs) != at {
			if err := p.flush(b); err != nil {
				return err
			}
			p.from, p.at = off, at
		}
		p.to = off + size
		p.list.add(logical, at, count)
		logical, off = logical+uint64(count), off+size
	}
	return nil
}

func (p *dataWriter) flush(b *batch) error {
	from, to := p.from, p.to
	p.from, p.to = 0, 0 // block 0 is never free, so nothing continues this
	if from == to {
		return nil
	}
	_, err := p.x.f.WriteAt(b.buf[from:to], int64(p.at)*int64(p.x.l.blockSize))
	return err
}

// blockWriter gathers writes to neighbouring blocks.
type blockWriter struct {
	f    *os.File
	bs   int
	at   uint64
	buf  []byte
	room int
}

func newBlockWriter(f *os.File, bs int) *blockWriter {
	return &blockWriter{f: f, bs: bs, room: 256 << 10}
}

// put writes whole blocks; b may be used again at once.
func (w *blockWriter) put(b []byte, block uint64) error {
	if block != w.at+uint64(len(w.buf)/w.bs) || len(w.buf)+len(b) > w.room {
		if err := w.flush(); err != nil {
			return err
		}
		w.at = block
	}
	w.buf = append(w.buf, b...)
	return nil
}

func (w *blockWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	_, err := w.f.WriteAt(w.buf, int64(w.at)*int64(w.bs))
	w.buf = w.buf[:0]
	return err
}
