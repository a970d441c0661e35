package repo

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

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
// when it is done. The queue is short, so that a fast reader waits for a slow
// caller.

// segment is a stretch of a file that has data, from a multiple of
// segmentSize on.
type segment struct {
	start  int64
	data   []byte    // padded with zeros to whole blocks
	ids    []blockID // of data's blocks; the zero blockID for zeros
	leaves []digest.Leaf
	err    error // in reading it
	done   chan struct{}
}

// scanOptions say what a scan reads and computes.
type scanOptions struct {
	workers int
	leaves  bool // what the file's digest takes, beside the blocks' names

	// from and to bound the segments: those that have a part between. to is
	// at most the file's size.
	from, to int64

	// skip, unless nil, reports of a segment that nobody needs it.
	skip func(start, end int64) bool
}

// namedSource is what is scanned: a file, or something that is read like one.
type namedSource interface {
	digest.Source
	Name() string
}

// scan reads the data of f, size bytes long, by several goroutines, and calls
// fn for each segment in the file's order. The segment is used again when fn
// returns.
func scan(ctx context.Context, f namedSource, size int64, o scanOptions, fn func(*segment) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2 + o.workers)
	order := make(chan *segment, 4*o.workers)
	used := sync.Pool{New: func() any { return &segment{data: make([]byte, segmentSize)} }}
	g.Go(func() error {
		defer close(order)
		return cut(f, size, o, func(start, end int64) error {
			s := used.Get().(*segment)
			s.start, s.data, s.done = start, s.data[:blocksIn(end-start)*blockSize], make(chan struct{})
			select {
			case order <- s:
			case <-ctx.Done():
				return ctx.Err()
			}
			g.Go(func() error {
				defer close(s.done)
				s.err = s.fill(f, size, o.leaves)
				return s.err
			})
			return nil
		})
	})
	g.Go(func() error {
		for s := range order {
			<-s.done
			if err := cmp.Or(s.err, ctx.Err()); err != nil {
				return err
			}
			if err := fn(s); err != nil {
				return err
			}
			used.Put(s)
		}
		return ctx.Err()
	})
	return g.Wait()
}

// cut calls begin with the bounds of every segment that has data.
func cut(f namedSource, size int64, o scanOptions, begin func(start, end int64) error) error {
	for pos := o.from; pos < o.to; {
		start, _, err := sparse.Run(f, pos, size)
		if err != nil || start >= o.to {
			return err
		}
		start -= start % segmentSize
		pos = min(start+segmentSize, size)
		if o.skip != nil && o.skip(start, pos) {
			continue
		}
		if err := begin(start, pos); err != nil {
			return err
		}
	}
	return nil
}

// fill reads the segment and hashes its blocks, and with leaves those as well.
func (s *segment) fill(f namedSource, size int64, leaves bool) error {
	n := min(int64(len(s.data)), size-s.start)
	if err := readData(f, s.data[:n], s.start, size); err != nil {
		return err
	}
	clear(s.data[n:])
	if s.leaves = s.leaves[:0]; leaves {
		s.leaves = digest.Leaves(s.leaves, s.data[:n], s.start/leafSize)
	}
	s.ids = s.ids[:0]
	for block := range slices.Chunk(s.data, blockSize) {
		var id blockID
		if !sparse.IsZero(block) {
			id = idOf(block)
		}
		s.ids = append(s.ids, id)
	}
	return nil
}

// readData fills p from off on, and reads nothing where there are holes.
func readData(f namedSource, p []byte, off, size int64) error {
	stop := off + int64(len(p))
	for at := off; at < stop; {
		start, end, err := sparse.Run(f, at, size)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
		start, end = min(start, stop), min(end, stop)
		clear(p[at-off : start-off])
		if start == end {
			return nil // only a hole is left
		}
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
