// Package backend keeps the files of a repository: in a directory of this
// machine, or in one behind a plain OpenSSH server.
//
// It hides SFTP, lost connections, servers that fall silent, and what a
// server or a mounted share lacks. It knows nothing of what is in the files.
//
//   - [Backend] is what a repository asks for; [NewDir] and [NewSFTP] make one.
//   - [Write], [ReadPart], [ReadFrom] and [Now] are made of it.
//   - [ErrDamaged] and [ErrUnreachable] are what callers branch on, beside
//     fs.ErrNotExist and fs.ErrExist.
package backend

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"
)

// Errors that callers branch on, found with errors.Is.
var (
	// ErrDamaged: a file is short, or there is more than there can be.
	ErrDamaged = errors.New("damaged")
	// ErrUnreachable: the server can't be reached or logged in to, or the
	// connection ended.
	ErrUnreachable = errors.New("server not reachable")
)

// Backend is the directory that holds a repository, wherever it is. Names are
// relative to it, with slashes. Errors for what does not exist wrap
// fs.ErrNotExist; every error names the file. Methods may be called by
// several goroutines.
type Backend interface {
	// Open opens a file for reading. The reader does not outlive ctx.
	Open(ctx context.Context, name string) (Reader, error)
	// Rename gives a file its final name, which no file has had before.
	Rename(ctx context.Context, from, to string) error
	// Append adds data to the end of a file, which must exist, whoever else
	// does so at the same time, and flushes it.
	Append(ctx context.Context, name string, data []byte) error
	// Create makes a file with this content, and flushes it, unless it
	// exists, which is an error that wraps fs.ErrExist.
	Create(ctx context.Context, name string, data []byte) error
	// SyncDir flushes a directory, so that the names in it survive a loss of
	// power, where that is possible.
	SyncDir(ctx context.Context, dir string) error
	// List lists a directory. One with some 400,000 names or more is damaged.
	List(ctx context.Context, dir string) ([]fs.FileInfo, error)
	Stat(ctx context.Context, name string) (fs.FileInfo, error)
	Remove(ctx context.Context, name string) error
	// Mkdir makes a directory, and its parents, unless it exists.
	Mkdir(ctx context.Context, dir string) error
	// Widen prepares for many bytes, which are about to be moved.
	Widen()
	// Traffic returns the bytes sent and received so far.
	Traffic() (sent, received int64)
	Close() error
}

// Reader is an open file. ReadAt may be called by several goroutines at once.
type Reader interface {
	io.ReaderAt
	io.Closer
}

// marked is an error that also is one of those that callers branch on, without
// the text of that one.
type marked struct {
	error
	as error
}

// Unwrap implements the interface of package errors.
func (m marked) Unwrap() []error { return []error{m.error, m.as} }

// Mark makes err, unless it is nil, also the error as: errors.Is finds both,
// and the text stays that of err.
func Mark(err, as error) error {
	if err == nil {
		return nil
	}
	return marked{err, as}
}

// TempName returns a name in the repository's tmp directory. It begins with
// what it is for, so that a leftover can be understood.
func TempName(name string) string {
	var b [8]byte
	rand.Read(b[:])
	return fmt.Sprintf("tmp/%s.%x", path.Base(name), b)
}

// Write makes a file that appears under its name in whole and flushed, or not at
// all. No file ever had the name.
func Write(ctx context.Context, b Backend, name string, data []byte) error {
	return retry(func() error {
		temp := TempName(name)
		if err := b.Create(ctx, temp, data); err != nil {
			if ctx.Err() != nil {
				tidy(ctx, b, temp)
			}
			return err
		}
		err := b.Rename(ctx, temp, name)
		if err != nil {
			b.Remove(ctx, temp)
		}
		return err
	})
}

// retry calls fn again, at most twice, while a file is missing: a collection
// without grace may delete the temporary file that fn has made.
func retry(fn func() error) (err error) {
	for range 3 {
		if err = fn(); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return err
}

// tidy removes what a cancelled call left, if that does not take long. A later
// collection deletes what stays.
func tidy(ctx context.Context, b Backend, name string) {
	const patience = 3 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	b.Remove(ctx, name)
}

// ReadPart returns length bytes of a file from off on. A file that is
// shorter is damaged.
func ReadPart(ctx context.Context, b Backend, name string, off, length int64) ([]byte, error) {
	f, err := b.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := make([]byte, length)
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		return p, nil
	}
	if err == io.EOF {
		return nil, fmt.Errorf("%s: %w: it ends at %d, before %d", name, ErrDamaged, off+int64(n), off+length)
	}
	return nil, fmt.Errorf("read %s: %w", name, err)
}

// ReadFrom calls fn with what follows in a file from off on, piece by piece,
// asking for first bytes at once because that is most likely all. fn may keep
// the piece. A file longer than limit is an error, so that the server does not
// decide how much is read.
func ReadFrom(ctx context.Context, b Backend, name string, off int64, first int, limit int64, fn func([]byte) error) error {
	f, err := b.Open(ctx, name)
	if err != nil {
		return err
	}
	defer f.Close()
	for ask := first; ; ask = 1 << 20 {
		p := make([]byte, ask)
		n, err := f.ReadAt(p, off)
		off += int64(n)
		if err != nil && err != io.EOF {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if off > limit {
			return fmt.Errorf("%s: %w: it is longer than %d bytes", name, ErrDamaged, limit)
		}
		if ferr := fn(p[:n]); ferr != nil || err == io.EOF {
			return ferr
		}
	}
}

// Now returns the time by the clock that gives the files their times: the
// server's, over SFTP. It makes a file and removes it.
func Now(ctx context.Context, b Backend) (now time.Time, err error) {
	err = retry(func() error {
		name := TempName("clock")
		if err := b.Create(ctx, name, []byte("b9")); err != nil {
			return err
		}
		defer b.Remove(ctx, name)
		info, err := b.Stat(ctx, name)
		if err == nil {
			now = info.ModTime()
		}
		return err
	})
	return now, err
}
