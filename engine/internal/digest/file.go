package digest

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"b9.build/b9/engine/internal/sparse"
)

// BlockSize is the unit of a file's digest in bytes, and part of its definition.
// It was measured: smaller blocks leave BLAKE3's vector units idle, larger ones
// fall out of the processor's cache between being read and being hashed.
const BlockSize = 64 << 10

const (
	// hashSegment is what a hashing goroutine takes at a time.
	hashSegment = 64 * BlockSize
	fileTag     = "b9 file 1\n"
)

// Path returns the digest of the content of a regular file and its size. A
// symbolic link is followed. So many goroutines hash it, with under 1 MiB each;
// 0 stands for the number of processors, from 2 to 8. A file whose size or
// modification time changes meanwhile gives [sparse.ErrChanged].
func Path(ctx context.Context, path string, workers int) (Digest, int64, error) {
	if workers == 0 {
		workers = min(max(runtime.GOMAXPROCS(0), 2), 8)
	}
	f, _, err := sparse.Open(path)
	if err != nil {
		return Digest{}, 0, err
	}
	defer f.Close()
	d, info, err := File(ctx, f, workers)
	if err != nil {
		return Digest{}, 0, fmt.Errorf("hash %s: %w", path, err)
	}
	return d, info.Size(), nil
}

// File is [Path] of an open file. It returns what Stat said of the file before
// and after.
func File(ctx context.Context, f *os.File, workers int) (Digest, fs.FileInfo, error) {
	before, err := f.Stat()
	if err != nil {
		return Digest{}, nil, err
	}
	d, err := Content(ctx, f, before.Size(), workers)
	if err != nil {
		return Digest{}, nil, err
	}
	after, err := f.Stat()
	if err != nil {
		return Digest{}, nil, err
	}
	if after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return Digest{}, nil, sparse.ErrChanged
	}
	return d, after, nil
}

// Content returns the digest of the first size bytes of f. It does not notice a
// change that leaves them there.
func Content(ctx context.Context, f Source, size int64, workers int) (Digest, error) {
	sum := New(size)
	if err := hashRuns(ctx, f, size, [][2]int64{{0, size}}, workers, sum); err != nil {
		return Digest{}, err
	}
	return sum.Digest(), nil
}

// Source is what is hashed: a file, or whatever has an offset for each byte and hands
// SEEK_DATA and SEEK_HOLE of Seek to the kernel, or answers as that does. It is used
// concurrently.
type Source interface {
	io.ReaderAt
	io.Seeker
}

// leafSink takes the leaves of a file in their order: a [Hash], or a [Table].
type leafSink interface{ Add([]Leaf) }

// hashRuns adds the leaves of the blocks of f, size bytes long, in the given runs, in
// order, each of which begins at a block and ends at one or at the end.
func hashRuns(ctx context.Context, f Source, size int64, runs [][2]int64, workers int, into leafSink) error {
	var total int64
	for _, r := range runs {
		total += r[1] - r[0]
	}
	if total > hashSegment {
		return hashParallel(ctx, f, size, runs, workers, into)
	}
	b := newBlockReader(f, size)
	for _, r := range runs {
		seg := &segment{start: r[0], end: r[1]}
		if err := b.hash(ctx, seg); err != nil {
			return err
		}
		into.Add(seg.leaves)
	}
	return nil
}

// Leaf is the hash of one block that is not all zero.
type Leaf struct {
	Index int64 // of the block in the file
	Sum   [32]byte
}

// Leaves appends the leaves of the blocks in data, which begins at block first
// of its file. Only the file's last block may be shorter than [BlockSize].
func Leaves(leaves []Leaf, data []byte, first int64) []Leaf {
	for off := 0; off < len(data); off += BlockSize {
		block := data[off:min(off+BlockSize, len(data))]
		if !sparse.IsZero(block) {
			leaves = append(leaves, Leaf{first + int64(off/BlockSize), blake3.Sum256(block)})
		}
	}
	return leaves
}

// Hash combines the leaves of a file to its digest.
type Hash struct{ *combined }

// combined is what was added: as text, for a hasher takes more room than most files
// have leaves, and then in a hasher.
type combined struct {
	text   []byte
	hasher *blake3.Hasher
}

// longText is the size in bytes from which a hasher is made: that of a hasher.
const longText = 8 << 10

// New begins the digest of a file of size bytes.
func New(size int64) Hash {
	return Hash{&combined{text: appendHead(make([]byte, 0, 2*entrySize), size)}}
}

// Add takes the next leaves, in the order of the file.
func (s Hash) Add(leaves []Leaf) {
	for _, l := range leaves {
		s.text = l.append(s.text)
		if len(s.text) >= longText {
			s.spill()
		}
	}
}

func (c *combined) spill() {
	if c.hasher == nil {
		c.hasher = blake3.New()
	}
	c.hasher.Write(c.text)
	c.text = c.text[:0]
}

// Digest is the digest of a file that has no leaves but those added.
func (s Hash) Digest() (d Digest) {
	if s.hasher == nil {
		return blake3.Sum256(s.text)
	}
	s.spill()
	s.hasher.Sum(d[:0])
	return d
}

// segment is a stretch of a file from a block's start, and what was found.
type segment struct {
	start, end int64
	leaves     []Leaf
	done       chan struct{}
}

// hashParallel lets workers hash segments and combines them in order. At
// most four segments for each worker are under way.
func hashParallel(ctx context.Context, f Source, size int64, runs [][2]int64, workers int, sum leafSink) error {
	g, ctx := errgroup.WithContext(ctx)
	work := make(chan *segment)
	order := make(chan *segment, 4*workers)
	g.Go(func() error {
		defer close(work)
		defer close(order)
		for _, r := range runs {
			if err := cutSegments(ctx, f, r, work, order); err != nil {
				return err
			}
		}
		return nil
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
				sum.Add(seg.leaves)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return g.Wait()
}

// cutSegments sends every segment of a run that has data, first to order and then
// to work, so that the combining side sees them in the file's order.
func cutSegments(ctx context.Context, f Source, run [2]int64, work, order chan<- *segment) error {
	for pos := run[0]; pos < run[1]; {
		start, _, err := sparse.Run(f, pos, run[1])
		if err != nil {
			return err
		}
		if start >= run[1] {
			return nil
		}
		start = max(start-start%hashSegment, run[0])
		seg := &segment{start: start, end: min(start-start%hashSegment+hashSegment, run[1]), done: make(chan struct{})}
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
	f          Source
	size       int64
	buf        []byte
	start, end int64 // the run of data last seen
}

func newBlockReader(f Source, size int64) *blockReader {
	return &blockReader{f: f, size: size, buf: make([]byte, min(size, BlockSize))}
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
			pos = b.start - b.start%BlockSize
		}
		block, err := b.read(pos)
		if err != nil {
			return err
		}
		seg.leaves = Leaves(seg.leaves, block, pos/BlockSize)
		pos += BlockSize
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
	block := b.buf[:min(BlockSize, b.size-pos)]
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
		return sparse.ErrChanged
	}
	return err
}
