package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"b9/engine/internal/sparse"
)

// dirTree is a repository in a directory: a disk, or a mounted share.
type dirTree struct {
	root           string
	sent, received atomic.Int64
}

func (d *dirTree) path(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }

// dirFile counts what is read.
type dirFile struct {
	*os.File
	d *dirTree
}

func (f dirFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.d.received.Add(int64(n))
	return n, err
}

func (d *dirTree) open(ctx context.Context, name string, _ int64, _ int) (reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, _, err := sparse.Open(d.path(name))
	if err != nil {
		return nil, err
	}
	return dirFile{f, d}, nil
}

func (d *dirTree) rename(_ context.Context, from, to string) error {
	return os.Rename(d.path(from), d.path(to))
}

// create removes what it made when it does not come to its end.
func (d *dirTree) create(ctx context.Context, name string, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := os.OpenFile(d.path(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	if err := d.finish(ctx, f, data); err != nil {
		os.Remove(f.Name())
		return err
	}
	return nil
}

// finish writes and flushes data, and closes f.
func (d *dirTree) finish(ctx context.Context, f *os.File, data []byte) error {
	const piece = 4 << 20 // so that cancelling does not wait for a whole pack
	var err error
	for len(data) > 0 && err == nil {
		n := 0
		n, err = f.Write(data[:min(piece, len(data))])
		d.sent.Add(int64(n))
		data = data[n:]
		if err == nil {
			err = ctx.Err()
		}
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// append holds a lock, because a share may not append in one piece for
// several machines. A share that has no locks does without.
func (d *dirTree) append(ctx context.Context, name string, data []byte) error {
	f, err := os.OpenFile(d.path(name), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	if err := lockFile(ctx, f); err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.ENOLCK) && !errors.Is(err, unix.ENOSYS) {
		f.Close()
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return d.finish(ctx, f, data)
}

// lockFile waits for the exclusive lock on f, which ends with f.
func lockFile(ctx context.Context, f *os.File) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

func (d *dirTree) flush(_ context.Context, dir string) error {
	f, err := os.Open(d.path(dir))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	return nil
}

func (d *dirTree) list(_ context.Context, dir string) ([]fs.FileInfo, error) {
	f, err := os.Open(d.path(dir))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const most = 1 << 19
	infos, err := f.Readdir(most + 1)
	if len(infos) > most {
		return nil, fmt.Errorf("%s: %w: it has more than %d names", f.Name(), ErrDamaged, most)
	}
	if err == io.EOF {
		err = nil
	}
	return infos, err
}

func (d *dirTree) stat(_ context.Context, name string) (fs.FileInfo, error) {
	return os.Stat(d.path(name))
}

func (d *dirTree) remove(_ context.Context, name string) error { return os.Remove(d.path(name)) }

func (d *dirTree) mkdir(_ context.Context, dir string) error {
	return os.MkdirAll(d.path(dir), 0o777)
}

func (d *dirTree) widen() {}

func (d *dirTree) traffic() (sent, received int64) { return d.sent.Load(), d.received.Load() }

func (d *dirTree) close() error { return nil }
