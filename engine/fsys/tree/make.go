package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"b9.build/b9/engine/internal/newfile"
	"b9.build/b9/engine/internal/sparse"
)

// Coarsest is the grain of the times that programs keep: archives and copies have whole
// seconds, zip and vfat every other one. Such a time can lie that much before what
// it is the time of.
const Coarsest = 2 * time.Second

// Epoch is the earliest time b9 writes into a file system it makes. It is one
// second after 1970 because e2fsprogs takes 0 for "use the clock".
const Epoch = 1

// FixedTime returns t in seconds, at least the epoch. The zero Time is the epoch.
func FixedTime(t time.Time) int64 {
	if t.IsZero() || t.Unix() < Epoch {
		return Epoch
	}
	return t.Unix()
}

// Plan decides where everything in t goes, or refuses it, before there is a file.
// write then writes that into an empty file.
type Plan func(t *Tree) (write func(f *os.File) error, err error)

// Make checks the options of a new file system, loads its content (nil: none),
// plans, and only then touches the file at path; plan gets nil without content.
// Errors begin with the file system's kind. After one, path is what it was before,
// unless it is a device. The content is closed in any case.
func Make(ctx context.Context, path, kind string, content Content, check func() error, plan Plan) error {
	write, err := planned(ctx, path, content, check, plan)
	if content != nil {
		defer content.Close()
	}
	if err == nil {
		err = makeFile(path, write)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	return nil
}

func planned(ctx context.Context, path string, content Content, check func() error, plan Plan) (func(f *os.File) error, error) {
	if err := check(); err != nil {
		return nil, err
	}
	if content == nil {
		return plan(nil)
	}
	t, err := content.Load(ctx, filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	return plan(t)
}

// makeFile lets write fill a new file and then gives it the name path, with the
// permissions of the file that is there. What is there and is no regular file, such
// as a device, is written in place.
func makeFile(path string, write func(*os.File) error) error {
	old, err := os.Stat(path)
	if err == nil && !old.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	return newfile.Write(path, 0o644, false, func(f *os.File) error {
		if err := write(f); err != nil || old == nil {
			return err
		}
		return f.Chmod(old.Mode().Perm())
	})
}

// CopyTo writes a regular file's bytes into f from off on, and leaves holes for
// zeros. A file that has another length than n.Size by now is an error. Errors
// begin with n.Origin.
func (n *Inode) CopyTo(ctx context.Context, f *os.File, off int64) error {
	in, err := n.Open()
	if err == nil {
		err = errors.Join(n.copy(ctx, in, f, off), in.Close())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", n.Origin, err)
	}
	return nil
}

func (n *Inode) copy(ctx context.Context, in io.Reader, f *os.File, off int64) error {
	if err := copyData(ctx, in, f, off, n.Size); err != nil {
		return n.Short(err)
	}
	return n.CheckEnd(in)
}

// copyData writes size bytes of in into f from off on, and leaves holes for zeros.
func copyData(ctx context.Context, in io.Reader, f *os.File, off, size int64) error {
	buf := make([]byte, min(256<<10, size))
	for end := off + size; off < end; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		b := buf[:min(int64(len(buf)), end-off)]
		if _, err := io.ReadFull(in, b); err != nil {
			return err
		}
		if !sparse.IsZero(b) {
			if _, err := f.WriteAt(b, off); err != nil {
				return err
			}
		}
		off += int64(len(b))
	}
	return nil
}

// CheckEnd returns an error when in, of which n.Size bytes were read, has more.
func (n *Inode) CheckEnd(in io.Reader) error {
	var b [1]byte
	k, err := in.Read(b[:])
	if k > 0 {
		return fmt.Errorf("is longer than its %d bytes: it was changed while it was read", n.Size)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Short returns err, in words where it says that the file ended too early.
func (n *Inode) Short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("ended before its %d bytes: it was changed while it was read", n.Size)
	}
	return err
}
