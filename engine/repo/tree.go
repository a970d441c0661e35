package repo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// tree is the directory that holds a repository, wherever it is. Names are
// relative to it, with slashes. Errors for what does not exist wrap
// fs.ErrNotExist; every error names the file. Methods may be called by
// several goroutines.
type tree interface {
	// open opens a file for reading. off and length say what is going to be
	// read first: where a connection has to be made it comes with it.
	open(ctx context.Context, name string, off int64, length int) (reader, error)
	// rename gives a file its name for good, which no file has had before.
	rename(ctx context.Context, from, to string) error
	// append adds data to the end of a file, which must exist, whoever else
	// does so at the same time, and flushes it.
	append(ctx context.Context, name string, data []byte) error
	// create makes a file with this content, and flushes it, unless it
	// exists, which is an error that wraps fs.ErrExist.
	create(ctx context.Context, name string, data []byte) error
	// flush makes the names in a directory last, where that is possible.
	flush(ctx context.Context, dir string) error
	list(ctx context.Context, dir string) ([]fs.FileInfo, error)
	stat(ctx context.Context, name string) (fs.FileInfo, error)
	remove(ctx context.Context, name string) error
	mkdir(ctx context.Context, dir string) error // with its parents
	// widen says that much is about to be moved.
	widen()
	// traffic returns the bytes sent and received so far.
	traffic() (sent, received int64)
	close() error
}

// reader is an open file of a tree. ReadAt may be called by several
// goroutines at once.
type reader interface {
	io.ReaderAt
	io.Closer
}

// tempName returns a name in the repository's tmp directory. It begins with
// what it is for, so that a leftover can be understood.
func tempName(name string) string {
	var b [8]byte
	rand.Read(b[:])
	return "tmp/" + lastElement(name) + "." + hex.EncodeToString(b[:])
}

// write makes a file that appears under its name in whole and flushed, or not
// at all. Nothing else was ever called so. A collection without grace may take
// the temporary file away: then it is written again.
func write(ctx context.Context, t tree, name string, data []byte) error {
	for try := 1; ; try++ {
		temp := tempName(name)
		if err := t.create(ctx, temp, data); err != nil {
			if ctx.Err() != nil {
				tidy(ctx, t, temp)
			}
			return err
		}
		err := t.rename(ctx, temp, name)
		if err == nil || try == 3 || !errors.Is(err, fs.ErrNotExist) {
			if err != nil {
				t.remove(ctx, temp)
			}
			return err
		}
	}
}

// tidy removes what a cancelled call left, if that does not take long. What
// stays is taken by a later collection.
func tidy(ctx context.Context, t tree, name string) {
	const patience = 3 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	t.remove(ctx, name)
}

func lastElement(name string) string {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '/' {
			return name[i+1:]
		}
	}
	return name
}

// earlyMost bounds what is asked for while connecting.
const earlyMost = 1 << 20

// readPart returns length bytes of a file from off on. A file that is
// shorter is damaged.
func readPart(ctx context.Context, t tree, name string, off, length int64) ([]byte, error) {
	f, err := t.open(ctx, name, off, int(min(length, earlyMost)))
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

// readFrom calls fn with what follows in a file from off on, piece by piece,
// asking for first bytes at once because that is most likely all. fn may keep
// the piece. A file longer than limit is an error, so that nobody who keeps
// files decides how much is read.
func readFrom(ctx context.Context, t tree, name string, off int64, first int, limit int64, fn func([]byte) error) error {
	f, err := t.open(ctx, name, off, first)
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

// clockOf returns what time it is for whoever keeps the files. A collection
// without grace may take the file away that shows it: then it is made again.
func clockOf(ctx context.Context, t tree) (time.Time, error) {
	for try := 1; ; try++ {
		now, err := stamp(ctx, t, tempName("clock"))
		if err == nil || try == 3 || !errors.Is(err, fs.ErrNotExist) {
			return now, err
		}
	}
}

// stamp makes a file, removes it, and returns the time that it got.
func stamp(ctx context.Context, t tree, name string) (time.Time, error) {
	if err := t.create(ctx, name, []byte("b9")); err != nil {
		return time.Time{}, err
	}
	defer t.remove(ctx, name)
	info, err := t.stat(ctx, name)
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}
