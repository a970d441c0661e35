package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/newfile"
	"b9.build/b9/engine/internal/sparse"
)

const (
	// copyChunk is what one goroutine copies at a time, in bytes.
	copyChunk = 8 << 20
	// smallFile is the size up to which a file is copied by one read and one
	// write: looking for holes and cloning cost more than they save.
	smallFile = 128 << 10
)

// CopySparse copies the regular file src to dst, which must not exist. The
// file system shares the data where it can; else only data is copied, and
// what was a hole stays one. A symbolic link src is followed. dst gets mode
// 0666 less the umask and is not flushed to the disk. After an error there
// is no dst.
func CopySparse(ctx context.Context, src, dst string) error {
	return copyFile(ctx, src, dst, copying{mode: 0o666, workers: 2})
}

// Placing is how a copy is made of which somebody waits for the end.
type Placing struct {
	// Copied, unless nil, is told of bytes of data that were copied or are shared. It may
	// be called by several goroutines.
	Copied func(bytes int64)
	// Flush has the data go to the disk as it is copied, for a flush of the whole that
	// follows.
	Flush bool
}

// copying is how copyFile copies.
type copying struct {
	Placing
	mode    os.FileMode // of the new file, less the umask
	workers int         // goroutines
}

// copied tells of n bytes of data from the offset at on, and has them flushed.
func (c *copying) copied(out *os.File, at, n int64) {
	if c.Flush {
		_ = newfile.Writeback(out, at, n) // only a help
	}
	if c.Copied != nil {
		c.Copied(n)
	}
}

// copyFile does what CopySparse says.
func copyFile(ctx context.Context, src, dst string, c copying) error {
	in, _, err := sparse.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL, c.mode)
	if err != nil {
		return err
	}
	if err = errors.Join(copyContent(ctx, out, in, c), out.Close()); err != nil {
		os.Remove(dst)
		return fmt.Errorf("copy %s to %s: %w", src, dst, err)
	}
	return nil
}

// copyContent makes the empty file out equal to in.
func copyContent(ctx context.Context, out, in *os.File, c copying) error {
	info, err := in.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if size <= smallFile {
		c.Flush = false // many small files are flushed better as one
		if err := copySmall(out, in, size); err != nil {
			return err
		}
		c.copied(out, 0, size)
		return nil
	}
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil {
		c.Flush = false // there is nothing to write
		c.copied(out, 0, min(size, allocated(info)))
		return nil
	}
	if err := out.Truncate(size); err != nil {
		return err
	}
	return copyRuns(ctx, out, in, size, c)
}

func copySmall(out, in *os.File, size int64) error {
	buf := make([]byte, size)
	if _, err := in.ReadAt(buf, 0); err != nil && err != io.EOF {
		return err
	}
	_, err := out.WriteAt(buf, 0)
	return err
}

// copyRuns copies the data of in, in chunks, by several goroutines: copying
// is work of the processor, done in the kernel.
func copyRuns(ctx context.Context, out, in *os.File, size int64, c copying) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.workers)
	err := dataChunks(in, size, copyChunk, func(start, end int64) error {
		g.Go(func() error {
			err := copyRange(gctx, out, in, start, end)
			if err == nil {
				c.copied(out, start, end-start)
			}
			return err
		})
		return gctx.Err()
	})
	if cerr := g.Wait(); cerr != nil {
		return cerr
	}
	return err
}

// dataChunks calls fn for the data of f below size, in order, in pieces of
// at most limit bytes that end at multiples of limit.
func dataChunks(f *os.File, size, limit int64, fn func(start, end int64) error) error {
	for pos := int64(0); pos < size; {
		start, end, err := sparse.Run(f, pos, size)
		if err != nil {
			return err
		}
		for start < end {
			stop := min(end, (start/limit+1)*limit)
			if err := fn(start, stop); err != nil {
				return err
			}
			start = stop
		}
		pos = end
	}
	return nil
}

// copyRange copies in[start:end] to the same place in out, without passing
// the bytes through this process where the kernel can.
func copyRange(ctx context.Context, out, in *os.File, start, end int64) error {
	for start < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		from, to := start, start
		n, err := unix.CopyFileRange(int(in.Fd()), &from, int(out.Fd()), &to, int(end-start), 0)
		switch {
		case err == unix.EINTR:
		case err == unix.EXDEV, err == unix.EINVAL, err == unix.ENOSYS, err == unix.EOPNOTSUPP:
			return copyThrough(out, in, start, end)
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("%s: %w", in.Name(), sparse.ErrChanged)
		default:
			start += int64(n)
		}
	}
	return nil
}

// copyThrough is copyRange with a buffer in this process.
func copyThrough(out, in *os.File, start, end int64) error {
	buf := make([]byte, min(end-start, 256<<10))
	n, err := io.CopyBuffer(io.NewOffsetWriter(out, start), io.NewSectionReader(in, start, end-start), buf)
	if err == nil && n < end-start {
		err = fmt.Errorf("%s: %w", in.Name(), sparse.ErrChanged)
	}
	return err
}

// Whole returns the path of the file object d, all of whose bytes are there, for links
// that people follow. It must not be written to.
func (s *Store) Whole(ctx context.Context, d Digest) (string, error) {
	if err := s.need(Object{Kind: File, Digest: d}); err != nil {
		return "", fmt.Errorf("link to %s: %w", d, err)
	}
	if err := s.makeWhole(ctx, d); err != nil {
		return "", fmt.Errorf("put %s together: %w", d, err)
	}
	return s.shard(objectsDir, d), ctx.Err()
}

// Data is how many bytes of data a copy of the object has, holes not counted; 0 where
// that is not known.
func (s *Store) Data(o Object) int64 {
	if o.Kind == Tree {
		m, err := readManifest(s.treePath(o.Digest), o.Digest)
		if err != nil {
			return 0
		}
		return m.Size()
	}
	var st unix.Stat_t
	if s.lstat(objectsDir, o.Digest, &st) == nil {
		return min(st.Size, st.Blocks*512)
	}
	b, err := s.Open(o.Digest)
	if err != nil {
		return 0
	}
	defer b.Close()
	var data int64
	if dataOf(b, func(start, end int64) error { data += end - start; return nil }) != nil {
		return 0
	}
	return data
}

// Clones reports whether a fork of the file object at dst, which must not exist, would
// share its data. It makes dst, as a file of no use.
func (s *Store) Clones(d Digest, dst string) bool {
	in, err := os.Open(s.Path(d))
	if err != nil {
		return false
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false
	}
	defer out.Close()
	return unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil
}
