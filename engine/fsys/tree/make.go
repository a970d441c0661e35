package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"b9.build/b9/engine/internal/sparse"
)

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

// Make checks the options of a new file system, loads its content (nil: none),
// creates or truncates the file at path and lets fill write it; t is nil without
// content. Errors begin with the file system's kind. After one the file is
// removed, unless it was there before. The content is closed in any case.
func Make(ctx context.Context, path, kind string, content Content, check func() error, fill func(f *os.File, t *Tree) error) error {
	err := check()
	var t *Tree
	if content != nil {
		defer content.Close()
		if err == nil {
			t, err = content.Load(ctx, filepath.Dir(path))
		}
	}
	if err == nil {
		err = makeFile(path, func(f *os.File) error { return fill(f, t) })
	}
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	return nil
}

func makeFile(path string, fill func(*os.File) error) (err error) {
	_, statErr := os.Lstat(path)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil && errors.Is(statErr, fs.ErrNotExist) {
			os.Remove(path)
		}
	}()
	return fill(f)
}

// CopyTo writes a regular file's bytes into f from off on, and leaves holes for
// zeros. A file that has another length than n.Size by now is an error.
func (n *Inode) CopyTo(ctx context.Context, f *os.File, off int64) error {
	in, err := n.Open()
	if err != nil {
		return err
	}
	defer in.Close()
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
