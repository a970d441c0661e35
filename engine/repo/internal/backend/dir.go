package backend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/flock"
	"b9.build/b9/engine/internal/sparse"
)

// Dir is a directory of this machine: on a disk, or on a mounted share.
type Dir struct {
	root           string
	patience       flock.Patience
	sent, received atomic.Int64
}

// NewDir returns the directory at root, which need not exist. Tell, if it is not nil,
// is given a text about a process that keeps a file locked for seconds.
func NewDir(root string, tell func(holder string)) *Dir {
	return &Dir{root: root, patience: flock.Patience{Tell: tell, Most: flock.Moments}}
}

func (d *Dir) path(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }

// countedFile counts what is read.
type countedFile struct {
	*os.File
	d *Dir
}

func (f countedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.d.received.Add(int64(n))
	return n, err
}

// Open implements Backend.
func (d *Dir) Open(ctx context.Context, name string) (Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, _, err := sparse.Open(d.path(name))
	if err != nil {
		return nil, err
	}
	return countedFile{f, d}, nil
}

// Rename implements Backend.
func (d *Dir) Rename(_ context.Context, from, to string) error {
	return os.Rename(d.path(from), d.path(to))
}

// Create removes what it made when it does not come to its end.
func (d *Dir) Create(ctx context.Context, name string, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := os.OpenFile(d.path(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	if err = d.finish(ctx, f, data); err != nil {
		os.Remove(f.Name())
	}
	return err
}

// finish writes and flushes data, and closes f.
func (d *Dir) finish(ctx context.Context, f *os.File, data []byte) error {
	const piece = 4 << 20 // so that cancelling does not wait for a whole pack
	for part := range slices.Chunk(data, piece) {
		n, err := f.Write(part)
		d.sent.Add(int64(n))
		if err = cmp.Or(err, ctx.Err()); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(f.Sync(), f.Close())
}

// Append holds a lock, because a share may not append in one piece for
// several machines. A share that has no locks does without.
func (d *Dir) Append(ctx context.Context, name string, data []byte) error {
	f, err := os.OpenFile(d.path(name), os.O_WRONLY|os.O_APPEND|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return errors.Join(err, fmt.Errorf("%s: %w: it is no regular file", f.Name(), ErrDamaged))
	}
	if err := d.patience.Wait(ctx, f, flock.Exclusive); err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.ENOLCK) && !errors.Is(err, unix.ENOSYS) {
		f.Close()
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return d.finish(ctx, f, data)
}

// SyncDir implements Backend.
func (d *Dir) SyncDir(_ context.Context, dir string) error {
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

// List implements Backend.
func (d *Dir) List(_ context.Context, dir string) ([]fs.FileInfo, error) {
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

// Stat implements Backend.
func (d *Dir) Stat(_ context.Context, name string) (fs.FileInfo, error) {
	return os.Stat(d.path(name))
}

// Remove implements Backend.
func (d *Dir) Remove(_ context.Context, name string) error { return os.Remove(d.path(name)) }

// Mkdir implements Backend.
func (d *Dir) Mkdir(_ context.Context, dir string) error {
	return os.MkdirAll(d.path(dir), 0o777)
}

// Widen does nothing.
func (d *Dir) Widen() {}

// Traffic implements Backend: what was written and read.
func (d *Dir) Traffic() (sent, received int64) { return d.sent.Load(), d.received.Load() }

// Close does nothing.
func (d *Dir) Close() error { return nil }
