package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"b9.build/b9/engine/internal/sparse"
)

// Pump moves the data of an image into a file, in three steps for each piece:
// several workers read and pack pieces, one at a time in the order of the image
// gets its place in the file, and then all write concurrently. So the file is
// the same for the same input, however the workers run.
type Pump struct {
	Src      Image
	Out      *os.File
	Unit     int64 // bytes a unit: the granularity of the format written
	Progress func(done, total int64)

	// under, if not nil, is the image below the one written: what is equal
	// there is left out, and zeros over its data are said to be zero.
	Under Image

	// packer, if not nil, makes the function by which one worker compresses.
	Packer func() (PackFunc, error)

	// place sets the offset (at) of each unit that has a body. It is never
	// called concurrently, and with ascending offsets.
	Place func(units []Unit) error

	// writing is held by the worker that writes bodies as they are. The kernel
	// lets one write to a file at a time, and those that wait in it spin, on
	// processors that could read.
	writing sync.Mutex
}

// PackFunc appends the packed form of the unit at off to dst. It returns dst
// itself if the unit should be stored as it is.
type PackFunc func(dst []byte, off int64, unit []byte) ([]byte, error)

// Unit is a cluster, grain or block of the image on its way into the file.
type Unit struct {
	Off  int64  // offset in the image
	At   int64  // offset in the file, set by place
	Body []byte // what to write there; empty: nothing
	Kind unitKind
}

type unitKind uint8

const (
	Absent unitKind = iota // reads as zero, or as the image under it, without a word
	Zeroed                 // must be recorded as zero
	plain                  // body is the unit as it is
	Packed                 // body is compressed
)

// Bytes a piece: large enough for few system calls, small enough for sixteen
// workers to stay far below 64 MiB. Packing needs a second buffer and the
// compressor's own memory, so its pieces are smaller.
const (
	PlainPiece  = 1 << 20
	packedPiece = 256 << 10
)

// piece is a run of whole units of the source that holds data, the last one cut
// at the end of the image. Its turn for a place comes when turn is closed.
type piece struct {
	off, length int64
	turn, next  chan struct{}
}

func (p *Pump) pieceSize() int64 {
	if p.Packer != nil {
		return max(packedPiece, p.Unit)
	}
	return max(PlainPiece, p.Unit)
}

// disk.run pumps everything. It returns when all its goroutines have ended.
func (p *Pump) Run(ctx context.Context) error {
	g, inner := errgroup.WithContext(ctx)
	work := make(chan piece)
	g.Go(func() error {
		defer close(work)
		return p.feed(inner, work)
	})
	for range p.workers() {
		g.Go(func() error { return p.work(inner, work) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if p.Progress != nil {
		p.Progress(p.Src.Size(), p.Src.Size())
	}
	return ctx.Err()
}

// workers is how many pieces are under way at once. Compressors hold up to 4 MiB
// each, which allows fewer of them.
func (p *Pump) workers() int {
	most := 16
	if p.Packer != nil {
		most = 12
	}
	return min(max(2*runtime.GOMAXPROCS(0), 4), most)
}

// feed cuts the data of the source into pieces.
func (p *Pump) feed(ctx context.Context, work chan<- piece) error {
	turn := make(chan struct{})
	close(turn)
	return Walk(ctx, p.source(), p.Unit, p.pieceSize(), func(off, length int64) error {
		next := make(chan struct{})
		select {
		case work <- piece{off, length, turn, next}:
			turn = next
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// Source is the image whose extents say what must be looked at.
func (p *Pump) source() Image {
	if p.Under != nil {
		return Either{p.Src, p.Under}
	}
	return p.Src
}

// Walk calls emit for the data in src, in ascending order, as runs that start at
// a multiple of unit, end at one or at the end of src, and lie within one
// multiple of piece.
func Walk(ctx context.Context, src Image, unit, piece int64, emit func(off, length int64) error) error {
	size := src.Size()
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		e, err := src.Extent(off)
		if err != nil {
			return err
		}
		if e.Start != off || e.Length <= 0 {
			return fmt.Errorf("internal error: extent %+v at offset %d", e, off)
		}
		end := min(e.End(), size)
		if e.State == Data {
			start := off / unit * unit // never before what was emitted: off is at least that
			end = min(RoundUp(end, unit), size)
			for start < end {
				n := min(end, (start/piece+1)*piece) - start
				if err := emit(start, n); err != nil {
					return err
				}
				start += n
			}
		}
		off = end
	}
	return nil
}

// work is one worker: it owns its buffers and takes pieces until there are none.
func (p *Pump) work(ctx context.Context, work <-chan piece) error {
	w := worker{Pump: p, in: make([]byte, p.pieceSize())}
	if p.Under != nil {
		w.below = make([]byte, p.pieceSize())
	}
	if p.Packer != nil {
		var err error
		if w.pack, err = p.Packer(); err != nil {
			return err
		}
	}
	for q := range work {
		if err := w.move(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

type worker struct {
	*Pump
	in, below []byte
	packed    []byte
	units     []Unit
	pack      PackFunc
}

// move takes one piece through all steps.
func (w *worker) move(ctx context.Context, q piece) error {
	if err := w.read(q); err != nil {
		return err
	}
	select {
	case <-q.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := w.Place(w.units); err != nil {
		return err
	}
	if w.Progress != nil {
		w.Progress(q.off+q.length, w.Src.Size())
	}
	close(q.next)
	if w.pack == nil {
		w.writing.Lock()
		defer w.writing.Unlock()
	}
	return store(w.Out, w.units)
}

// read fills units from the source and packs them.
func (w *worker) read(q piece) error {
	in, err := readPadded(w.Src, w.in, q.off, q.length, w.Unit)
	if err != nil {
		return err
	}
	var below []byte
	if w.Under != nil {
		if below, err = readPadded(w.Under, w.below, q.off, q.length, w.Unit); err != nil {
			return err
		}
	}
	w.units, w.packed = w.units[:0], w.packed[:0]
	for i := int64(0); i < int64(len(in)); i += w.Unit {
		u := Unit{Off: q.off + i, Body: in[i : i+w.Unit]}
		u.Kind = classify(u.Body, below, i)
		if u.Kind == plain && w.pack != nil {
			if err := w.squeeze(&u); err != nil {
				return err
			}
		}
		if u.Kind == Absent || u.Kind == Zeroed {
			u.Body = nil
		}
		w.units = append(w.units, u)
	}
	return nil
}

// classify says how a unit must be stored; below, unless nil, holds the image
// under it, with the unit's bytes at offset i.
func classify(body, below []byte, i int64) unitKind {
	if below == nil {
		if sparse.IsZero(body) {
			return Absent
		}
		return plain
	}
	under := below[i : i+int64(len(body))]
	switch {
	case bytes.Equal(body, under):
		return Absent
	case sparse.IsZero(body):
		return Zeroed
	}
	return plain
}

// squeeze packs u if that makes it smaller.
func (w *worker) squeeze(u *Unit) error {
	start := len(w.packed)
	out, err := w.pack(w.packed, u.Off, u.Body)
	if err != nil {
		return err
	}
	if w.packed = out; len(out) > start {
		u.Body, u.Kind = out[start:], Packed
	}
	return nil
}

// readPadded reads length bytes at off into buf, followed by zeros up to a
// multiple of unit. What lies after the end of img is zero.
func readPadded(img Image, buf []byte, off, length, unit int64) ([]byte, error) {
	n := max(min(length, img.Size()-off), 0)
	if n > 0 {
		got, err := img.ReadAt(buf[:n], off)
		if int64(got) < n && (err == nil || err == io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
	}
	whole := buf[:RoundUp(length, unit)]
	clear(whole[n:])
	return whole, nil
}

// store writes all bodies; neighbours in memory and in the file at once.
func store(f *os.File, units []Unit) error {
	for i := 0; i < len(units); {
		body, at := units[i].Body, units[i].At
		for i++; i < len(units) && len(body) > 0 && units[i].At == at+int64(len(body)) && adjoin(body, units[i].Body); i++ {
			body = body[:len(body)+len(units[i].Body)]
		}
		if len(body) == 0 {
			continue
		}
		if err := StoreSparse(f, body, at); err != nil {
			return err
		}
	}
	return nil
}

// StoreSparse writes body but for long runs of zeros, which large blocks have:
// the file is new and reads as zero there.
func StoreSparse(f *os.File, body []byte, at int64) error {
	const run = 64 << 10
	for len(body) > 0 {
		n := 0
		for len(body)-n > run && sparse.IsZero(body[n:n+run]) {
			n += run
		}
		body, at = body[n:], at+int64(n)
		for n = min(run, len(body)); len(body)-n > run && !sparse.IsZero(body[n:n+run]); {
			n += run
		}
		if len(body)-n <= run {
			n = len(body)
		}
		if _, err := f.WriteAt(body[:n], at); err != nil {
			return err
		}
		body, at = body[n:], at+int64(n)
	}
	return nil
}

// adjoin reports whether b follows a in the same array.
func adjoin(a, b []byte) bool {
	return len(b) > 0 && cap(a) >= len(a)+len(b) && &a[:len(a)+1][len(a)] == &b[0]
}

// Either has the size of top, and data where top or under has.
type Either struct{ Top, Under Image }

func (e Either) Size() int64 { return e.Top.Size() }

func (e Either) Close() error { return nil }

func (e Either) ReadAt(p []byte, off int64) (int, error) { return e.Top.ReadAt(p, off) }

func (e Either) Extent(off int64) (Extent, error) {
	a, err := e.Top.Extent(off)
	if err != nil || off >= e.Under.Size() {
		return a, err
	}
	b, err := e.Under.Extent(off)
	if err != nil {
		return a, err
	}
	a.Length = min(a.Length, b.Length)
	a.State = min(a.State, b.State) // Data is the least
	return a, nil
}
