// Package pump moves the data of an image into a file, whatever its format.
//
// It hides how many workers there are, how holes are left out, how neighbouring
// writes become one, and how blocks are shared with the source where the file
// system can. It knows no format and writes no tables: a format says where in the
// file each unit goes, and writes its tables after [Job.Run].
//
//   - [Job] is one such move, a [Unit] what it moves; [Walk] finds the data
//   - [Copy] moves an image to the same offsets, and shares blocks
//   - [Growth] and [Runs] reserve room in the file before it is written
//   - [Identity] derives UUIDs from what was moved
//   - [Finish] writes the tables of a new file
package pump

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/mapped"
	"b9.build/b9/engine/internal/sparse"
)

// Job moves the data of an image into a file.
//
// One goroutine walks the extents of the source and cuts what may hold data into
// pieces of about 1 MiB. Several workers take pieces, read them, leave out units
// that are zero (or equal to the image under it), and compress the others. Then
// the pieces queue: in the order of the image, one at a time, their units get
// their offsets in the file. Last, all workers write at once. So the file is the
// same for the same input, however the workers run, no worker waits for another
// while it reads or compresses, and memory is bounded by the number of workers.
type Job struct {
	Src      image.Image
	Out      *os.File
	Unit     int64 // bytes a unit: the granularity of the format written
	Progress func(done, total int64)

	// Under, if not nil, is the image below the one written: what is equal
	// there is left out, and zeros over its data are recorded as zero.
	Under image.Image

	// Packer, if not nil, makes the function by which one worker compresses.
	Packer func() (PackFunc, error)

	// Place sets the offset (At) of a unit that has a body, and records where
	// the unit is. It is called for each unit that is no hole, never
	// concurrently, and with ascending offsets.
	Place func(u *Unit) error

	// Reserve, if not nil, is called with units that have their offsets, before
	// they are written: see Growth and Runs.
	Reserve func(units []Unit)

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
	At   int64  // offset in the file, set by Job.Place
	Body []byte // what to write there; empty: nothing
	// Kind says how the unit is stored: a Hole not at all, it reads as zero or as the
	// image under it; Zero is recorded as zero; Body is Plain or Packed.
	Kind mapped.Kind
}

// Bytes a piece: large enough for few system calls, small enough for sixteen
// workers to stay far below 64 MiB. Packing needs a second buffer and the
// compressor's own memory, so its pieces are smaller.
const (
	plainPiece  = 1 << 20
	packedPiece = 256 << 10
)

// piece is a run of whole units of the source that holds data, the last one cut
// at the end of the image. Its turn for a place comes when turn is closed.
type piece struct {
	off, length int64
	turn, next  chan struct{}
}

func (j *Job) pieceSize() int64 {
	if j.Packer != nil {
		return max(packedPiece, j.Unit)
	}
	return max(plainPiece, j.Unit)
}

// Run moves everything. It returns when all its goroutines have ended.
func (j *Job) Run(ctx context.Context) error {
	g, inner := errgroup.WithContext(ctx)
	work := make(chan piece)
	g.Go(func() error {
		defer close(work)
		return j.feed(inner, work)
	})
	for range j.workers() {
		g.Go(func() error { return j.work(inner, work) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if j.Progress != nil {
		j.Progress(j.Src.Size(), j.Src.Size())
	}
	return ctx.Err()
}

// workers is how many pieces are under way at once. Compressors hold up to 4 MiB
// each, which allows fewer of them.
func (j *Job) workers() int {
	most := 16
	if j.Packer != nil {
		most = 12
	}
	return min(max(2*runtime.GOMAXPROCS(0), 4), most)
}

// feed cuts the data of the source into pieces.
func (j *Job) feed(ctx context.Context, work chan<- piece) error {
	turn := make(chan struct{})
	close(turn)
	for e, err := range Walk(ctx, j.source(), j.Unit, j.pieceSize()) {
		if err != nil {
			return err
		}
		next := make(chan struct{})
		select {
		case work <- piece{e.Start, e.Length, turn, next}:
			turn = next
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// source is the image whose extents say what must be looked at.
func (j *Job) source() image.Image {
	if j.Under != nil {
		return Overlaid{j.Src, j.Under}
	}
	return j.Src
}

// Walk goes through the data in src, in ascending order, as runs that start at a
// multiple of unit, end at one or at the end of src, and lie within one multiple
// of piece. It ends at the first error.
func Walk(ctx context.Context, src image.Image, unit, piece int64) iter.Seq2[image.Extent, error] {
	return func(yield func(image.Extent, error) bool) {
		size := src.Size()
		for off := int64(0); off < size; {
			e, err := extent(ctx, src, off)
			if err != nil {
				yield(e, err)
				return
			}
			off = min(e.End(), size)
			if e.State != image.Data {
				continue
			}
			start := e.Start / unit * unit // never before the end of the last run, which e begins at or after
			for end := min(image.RoundUp(off, unit), size); start < end; {
				n := min(end, (start/piece+1)*piece) - start
				if !yield(image.Extent{Start: start, Length: n}, nil) {
					return
				}
				start += n
			}
			off = max(off, start)
		}
	}
}

// extent asks src for the extent at off, unless ctx has ended.
func extent(ctx context.Context, src image.Image, off int64) (image.Extent, error) {
	if err := ctx.Err(); err != nil {
		return image.Extent{}, err
	}
	e, err := src.Extent(off)
	if err == nil && (e.Start != off || e.Length <= 0) {
		err = fmt.Errorf("internal error: extent %+v at offset %d", e, off)
	}
	return e, err
}

// work is one worker: it owns its buffers and takes pieces until there are none.
func (j *Job) work(ctx context.Context, work <-chan piece) error {
	w := worker{Job: j, in: make([]byte, j.pieceSize())}
	if j.Under != nil {
		w.below = make([]byte, j.pieceSize())
	}
	if j.Packer != nil {
		var err error
		if w.pack, err = j.Packer(); err != nil {
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
	*Job
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
	for i := range w.units {
		if u := &w.units[i]; u.Kind != mapped.Hole {
			if err := w.Place(u); err != nil {
				return err
			}
		}
	}
	if w.Reserve != nil {
		w.Reserve(w.units)
	}
	if w.Progress != nil {
		w.Progress(q.off+q.length, w.Src.Size())
	}
	close(q.next)
	if w.pack == nil {
		w.writing.Lock()
		defer w.writing.Unlock()
	}
	return write(w.Out, w.units)
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
		if u.Kind == mapped.Plain && w.pack != nil {
			if err := w.squeeze(&u); err != nil {
				return err
			}
		}
		if u.Kind == mapped.Hole || u.Kind == mapped.Zero {
			u.Body = nil
		}
		w.units = append(w.units, u)
	}
	return nil
}

// classify says how a unit must be stored; below, unless nil, holds the image
// under it, with the unit's bytes at offset i.
func classify(body, below []byte, i int64) mapped.Kind {
	zero := sparse.IsZero(body)
	switch {
	case below == nil && zero, below != nil && bytes.Equal(body, below[i:][:len(body)]):
		return mapped.Hole
	case zero:
		return mapped.Zero
	}
	return mapped.Plain
}

// squeeze packs u if that makes it smaller.
func (w *worker) squeeze(u *Unit) error {
	start := len(w.packed)
	out, err := w.pack(w.packed, u.Off, u.Body)
	if err != nil {
		return err
	}
	if w.packed = out; len(out) > start {
		u.Body, u.Kind = out[start:], mapped.Packed
	}
	return nil
}

// readPadded reads length bytes at off into buf, followed by zeros up to a
// multiple of unit. What lies after the end of img is zero.
func readPadded(img image.Image, buf []byte, off, length, unit int64) ([]byte, error) {
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
	whole := buf[:image.RoundUp(length, unit)]
	clear(whole[n:])
	return whole, nil
}

// write writes all bodies; neighbours in memory and in the file at once.
func write(f *os.File, units []Unit) error {
	for i := 0; i < len(units); {
		body, at := units[i].Body, units[i].At
		for i++; i < len(units) && len(body) > 0 && units[i].At == at+int64(len(body)) && adjoin(body, units[i].Body); i++ {
			body = body[:len(body)+len(units[i].Body)]
		}
		if len(body) == 0 {
			continue
		}
		if err := writeSparse(f, body, at); err != nil {
			return err
		}
	}
	return nil
}

// adjoin reports whether b follows a in the same array.
func adjoin(a, b []byte) bool {
	return len(b) > 0 && cap(a) >= len(a)+len(b) && &a[:len(a)+1][len(a)] == &b[0]
}
