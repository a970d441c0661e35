package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"b9/engine/internal/sparse"
)

const (
	// hashBlock is part of the definition of a file's digest. It was measured:
	// smaller blocks leave BLAKE3's vector units idle, larger ones fall out
	// of the processor's cache between being read and being hashed.
	hashBlock = 64 << 10
	// hashSegment is what a hashing goroutine takes at a time.
	hashSegment = 64 * hashBlock
	fileTag     = "b9 file 1\n"
)

// zeros is what a hole reads as. It is never written to.
var zeros [hashBlock]byte

// ErrChanged is returned when a file changed while it was read.
var ErrChanged = sparse.ErrChanged

// HashFile returns the digest of the content of a regular file and its size.
// A symbolic link is followed.
//
// The digest does not depend on which zeros are holes. It is the BLAKE3 hash
// of the ten bytes "b9 file 1\n", the size (64 bits, little-endian), and,
// for each block of 64 KiB (the last may be shorter) that has a non-zero
// byte, in order: its index (64 bits, little-endian) and its BLAKE3 hash.
//
// Holes are not read, and a large file is hashed by several goroutines with
// under 1 MiB each. A file whose size or modification time changes meanwhile
// gives an error with [ErrChanged].
func HashFile(ctx context.Context, path string) (Digest, int64, error) {
	return hashPath(ctx, path, min(max(runtime.GOMAXPROCS(0), 2), 8))
}

func hashPath(ctx context.Context, path string, workers int) (Digest, int64, error) {
	f, _, err := sparse.Open(path)
	if err != nil {
		return Digest{}, 0, err
	}
	defer f.Close()
	d, info, err := hashOpen(ctx, f, workers)
	if err != nil {
		return Digest{}, 0, fmt.Errorf("hash %s: %w", path, err)
	}
	return d, info.Size(), nil
}

// hashOpen hashes f and returns what Stat said of it before and after.
func hashOpen(ctx context.Context, f *os.File, workers int) (Digest, fs.FileInfo, error) {
	before, err := f.Stat()
	if err != nil {
		return Digest{}, nil, err
	}
	d, err := hashContent(ctx, f, before.Size(), workers)
	if err != nil {
		return Digest{}, nil, err
	}
	after, err := f.Stat()
	if err != nil {
		return Digest{}, nil, err
	}
	if after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return Digest{}, nil, ErrChanged
	}
	return d, after, nil
}

func hashContent(ctx context.Context, f *os.File, size int64, workers int) (Digest, error) {
	sum := newFileSum(size)
	if size > hashSegment {
		if err := hashParallel(ctx, f, size, workers, sum); err != nil {
			return Digest{}, err
		}
		return sum.digest(), nil
	}
	seg := &segment{end: size}
	b := newBlockReader(f, size)
	if err := b.hash(ctx, seg); err != nil {
		return Digest{}, err
	}
	sum.add(seg.leaves)
	return sum.digest(), nil
}

// fileSum combines the hashes of blocks.
type fileSum struct{ h *blake3.Hasher }

func newFileSum(size int64) fileSum {
	h := blake3.New()
	h.Write(binary.LittleEndian.AppendUint64([]byte(fileTag), uint64(size)))
	return fileSum{h}
}

func (s fileSum) add(leaves []leaf) {
	var index [8]byte
	for _, l := range leaves {
		binary.LittleEndian.PutUint64(index[:], uint64(l.index))
		s.h.Write(index[:])
		s.h.Write(l.sum[:])
	}
}

func (s fileSum) digest() (d Digest) {
	s.h.Sum(d[:0])
	return d
}

// leaf is the hash of one block that is not all zero.
type leaf struct {
	index int64
	sum   [32]byte
}

// segment is a stretch of a file from a block's start, and what was found.
type segment struct {
	start, end int64
	leaves     []leaf
	done       chan struct{}
}

// hashParallel lets workers hash segments and combines them in order. At
// most four segments for each worker are under way.
func hashParallel(ctx context.Context, f *os.File, size int64, workers int, sum fileSum) error {
	g, ctx := errgroup.WithContext(ctx)
	work := make(chan *segment)
	order := make(chan *segment, 4*workers)
	g.Go(func() error {
		defer close(work)
		defer close(order)
		return cutSegments(ctx, f, size, work, order)
	})
	for range workers {
		g.Go(func() error {
			b := newBlockReader(f, size)
			for seg := range work {
				if err := b.hash(ctx, seg); err != nil {
					return err
				}
				close(seg.done)
			}
			return nil
		})
	}
	g.Go(func() error {
		for seg := range order {
			select {
			case <-seg.done:
				sum.add(seg.leaves)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return g.Wait()
}

// cutSegments sends every segment that has data, first to order and then to
// work, so that the combining side sees them in the file's order.
func cutSegments(ctx context.Context, f *os.File, size int64, work, order chan<- *segment) error {
	for pos := int64(0); pos < size; {
		start, _, err := sparse.Run(f, pos, size)
		if err != nil {
			return err
		}
		if start >= size {
			return nil
		}
		start -= start % hashSegment
		seg := &segment{start: start, end: min(start+hashSegment, size), done: make(chan struct{})}
		for _, to := range []chan<- *segment{order, work} {
			select {
			case to <- seg:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		pos = seg.end
	}
	return nil
}

// blockReader hashes segments of one file with one buffer.
type blockReader struct {
	f          *os.File
	size       int64
	buf        []byte
	start, end int64 // the run of data last seen
}

func newBlockReader(f *os.File, size int64) *blockReader {
	return &blockReader{f: f, size: size, buf: make([]byte, min(size, hashBlock))}
}

func (b *blockReader) hash(ctx context.Context, seg *segment) error {
	for pos := seg.start; pos < seg.end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := b.seek(pos); err != nil {
			return err
		}
		if b.start >= seg.end {
			return nil
		}
		if b.start > pos {
			pos = b.start - b.start%hashBlock
		}
		block, err := b.read(pos)
		if err != nil {
			return err
		}
		if !bytes.Equal(block, zeros[:len(block)]) {
			seg.leaves = append(seg.leaves, leaf{pos / hashBlock, blake3.Sum256(block)})
		}
		pos += hashBlock
	}
	return nil
}

// seek makes [b.start, b.end) the first run of data that ends after pos.
func (b *blockReader) seek(pos int64) (err error) {
	if b.start <= pos && pos < b.end {
		return nil
	}
	b.start, b.end, err = sparse.Run(b.f, pos, b.size)
	return err
}

// read returns the block at pos, with zeros for the holes in it.
func (b *blockReader) read(pos int64) ([]byte, error) {
	block := b.buf[:min(hashBlock, b.size-pos)]
	stop := pos + int64(len(block))
	if b.start <= pos && b.end >= stop {
		return block, b.fill(block, pos)
	}
	clear(block)
	for at := pos; at < stop; at = b.end {
		if err := b.seek(at); err != nil {
			return nil, err
		}
		from, to := max(b.start, at), min(b.end, stop)
		if from >= to {
			break
		}
		if err := b.fill(block[from-pos:to-pos], from); err != nil {
			return nil, err
		}
	}
	return block, nil
}

// fill reads exactly len(p) bytes at off.
func (b *blockReader) fill(p []byte, off int64) error {
	_, err := b.f.ReadAt(p, off)
	if err == io.EOF {
		return ErrChanged
	}
	return err
}
