package repo

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sync/errgroup"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/sparse"
)

// How a file is read:
//
// One goroutine walks the file and cuts what has data, by SEEK_DATA and
// SEEK_HOLE, into segments of a fixed size at fixed offsets, so that equal
// files are cut alike. Workers read the segments and compute the names of
// their blocks (a block of zeros has none) and the leaves of the file's digest.
// The caller gets the segments in the file's order, however the workers finish:
// each stands in a queue from when it was cut, and has a channel that is closed
// when it is done. A fixed number of buffers goes round, so that a fast reader
// waits for a slow caller.

// segment is a stretch of a file that has data, from a multiple of
// segmentSize on.
type segment struct {
	start  int64
	data   []byte    // padded with zeros to whole blocks
	ids    []blockID // of data's blocks; the zero blockID for zeros
	leaves []digest.Leaf
	done   chan struct{}
	free   func()
}

// scanOptions say what a scan computes.
type scanOptions struct {
	workers int
	blocks  bool // the blocks' names
	leaves  bool // what the file's digest takes

	// from and to bound the segments: those that have a part between. Zero
	// for to means the end of the file.
	from, to int64
}

// scan reads the data of f, size bytes long, by several goroutines, and calls
// fn for each segment in the file's order. The segment's buffer is used again
// when fn returns, unless fn takes it over by clearing s.free.
func scan(ctx context.Context, f *os.File, size int64, o scanOptions, fn func(*segment) error) error {
	g, ctx := errgroup.WithContext(ctx)
	window := 4 * o.workers
	work, order := make(chan *segment), make(chan *segment, window)
	buffers := make(chan []byte, window)
	for range window {
		buffers <- nil
	}
	g.Go(func() error {
		defer close(order)
		defer close(work)
		return cut(ctx, f, size, o, buffers, order, work)
	})
	for range o.workers {
		g.Go(func() error {
			for s := range work {
				if err := s.fill(f, size, o); err != nil {
					return err
				}
				close(s.done)
			}
			return nil
		})
	}
	g.Go(func() error { return deliver(ctx, order, fn) })
	return g.Wait()
}

// deliver calls fn for finished segments, in order.
func deliver(ctx context.Context, order <-chan *segment, fn func(*segment) error) error {
	for s := range order {
		select {
		case <-s.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := fn(s); err != nil {
			return err
		}
		if s.free != nil {
			s.free()
		}
	}
	return ctx.Err()
}

// cut sends every segment that has data, first to order and then to work.
func cut(ctx context.Context, f *os.File, size int64, o scanOptions, buffers chan []byte, order, work chan<- *segment) error {
	to := size
	if o.to > 0 {
		to = min(o.to, size)
	}
	for pos := o.from; pos < to; {
		start, _, err := sparse.Run(f, pos, size)
		if err != nil || start >= to {
			return err
		}
		start -= start % segmentSize
		var buf []byte
		select {
		case buf = <-buffers:
		case <-ctx.Done():
			return ctx.Err()
		}
		if buf == nil {
			buf = make([]byte, segmentSize)
		}
		end := min(start+segmentSize, size)
		s := &segment{start: start, data: buf[:blocksIn(end-start)*blockSize], done: make(chan struct{})}
		s.free = func() { buffers <- buf }
		for _, to := range []chan<- *segment{order, work} {
			if err := handOver(ctx, to, s); err != nil {
				return err
			}
		}
		pos = end
	}
	return nil
}

// fill reads the segment and hashes what o asks for.
func (s *segment) fill(f *os.File, size int64, o scanOptions) error {
	n := min(int64(len(s.data)), size-s.start)
	if err := readData(f, s.data[:n], s.start, size); err != nil {
		return err
	}
	clear(s.data[n:])
	if o.leaves {
		s.leaves = digest.Leaves(s.leaves, s.data[:n], s.start/leafSize)
	}
	if o.blocks {
		s.hashBlocks()
	}
	return nil
}

func (s *segment) hashBlocks() {
	s.ids = make([]blockID, len(s.data)/blockSize)
	for i := range s.ids {
		if block := s.data[i*blockSize : (i+1)*blockSize]; !sparse.IsZero(block) {
			s.ids[i] = idOf(block)
		}
	}
}

// readData fills p from off on, and reads nothing where there are holes.
func readData(f *os.File, p []byte, off, size int64) error {
	stop := off + int64(len(p))
	for at := off; at < stop; {
		start, end, err := sparse.Run(f, at, size)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
		start, end = min(start, stop), min(end, stop)
		clear(p[at-off : start-off])
		if _, err := f.ReadAt(p[start-off:end-off], start); err == io.EOF {
			return fmt.Errorf("%s: %w", f.Name(), sparse.ErrChanged)
		} else if err != nil {
			return err
		}
		at = end
	}
	return nil
}

// unchanged returns an error if f is not what before says any more.
func unchanged(f *os.File, before fs.FileInfo) error {
	after, err := f.Stat()
	if err != nil {
		return err
	}
	if after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return fmt.Errorf("%s: %w", f.Name(), sparse.ErrChanged)
	}
	return nil
}
