package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

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
	return copyFile(ctx, src, dst, 0o666, 2)
}

// copyFile does what CopySparse says, with so many goroutines.
func copyFile(ctx context.Context, src, dst string, mode os.FileMode, workers int) error {
	in, _, err := sparse.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if err = errors.Join(copyContent(ctx, out, in, workers), out.Close()); err != nil {
		os.Remove(dst)
		return fmt.Errorf("copy %s to %s: %w", src, dst, err)
	}
	return nil
}

// copyContent makes the empty file out equal to in.
func copyContent(ctx context.Context, out, in *os.File, workers int) error {
	info, err := in.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if size <= smallFile {
		return copySmall(out, in, size)
	}
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil {
		return nil
	}
	if err := out.Truncate(size); err != nil {
		return err
	}
	return copyRuns(ctx, out, in, size, workers)
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
func copyRuns(ctx context.Context, out, in *os.File, size int64, workers int) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	err := dataChunks(in, size, copyChunk, func(start, end int64) error {
		g.Go(func() error { return copyRange(gctx, out, in, start, end) })
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

// Fork makes dst, which must not exist, a private copy of the file object d
// with mode 0600, in the cheapest way the file system has: sharing the data,
// else copying it without its holes. It is not flushed to the disk. After an
// error there is no dst.
func (s *Store) Fork(ctx context.Context, d Digest, dst string) error {
	if err := s.need(Object{Kind: File, Digest: d}); err != nil {
		return fmt.Errorf("fork %s: %w", d, err)
	}
	if err := copyFile(ctx, s.Path(d), dst, 0o600, s.opts.Workers); err != nil {
		return spaceError(s.dir, dst, err)
	}
	return nil
}
