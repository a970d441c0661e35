package tree

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
)

// Equal reports whether two trees are the same to whoever reads them: names,
// attributes, modification times, links and the files' bytes. Bytes are read only
// where all the rest is equal, and not where they lie at one place of both images
// of which unchanged says that the n bytes there are equal.
func Equal(ctx context.Context, a, b *Tree, unchanged func(at, n int64) (bool, error)) (bool, error) {
	e := comparison{pairs: make(map[*Inode]*Inode)}
	if !e.same(a.Root, b.Root) {
		return false, nil
	}
	for _, p := range e.files {
		if same, err := sameData(ctx, p[0], p[1], unchanged); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

type comparison struct {
	pairs map[*Inode]*Inode // those of several names, from one tree to the other
	files [][2]*Inode
}

func (e *comparison) same(a, b *Inode) bool {
	if !a.IsDir() && (a.Links > 1 || b.Links > 1) {
		if other, ok := e.pairs[a]; ok {
			return other == b
		}
		e.pairs[a] = b
	}
	if !a.sameAttributes(b) || len(a.Entries) != len(b.Entries) {
		return false
	}
	if a.IsRegular() && a.Size > 0 {
		e.files = append(e.files, [2]*Inode{a, b})
	}
	for i := range a.Entries {
		if a.Entries[i].Name != b.Entries[i].Name || !e.same(a.Entries[i].Inode, b.Entries[i].Inode) {
			return false
		}
	}
	return true
}

// sameAttributes compares all but the entries and the bytes.
func (a *Inode) sameAttributes(b *Inode) bool {
	return a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.Major == b.Major && a.Minor == b.Minor &&
		a.Links == b.Links && a.Flags == b.Flags && a.Sec == b.Sec && a.Nsec == b.Nsec && a.Size == b.Size && a.Target == b.Target &&
		slices.EqualFunc(a.Xattrs, b.Xattrs, func(x, y Xattr) bool { return x.Name == y.Name && bytes.Equal(x.Value, y.Value) })
}

// sameData compares the bytes of two files of one size.
func sameData(ctx context.Context, a, b *Inode, unchanged func(at, n int64) (bool, error)) (bool, error) {
	x, err := a.Open()
	if err != nil {
		return false, err
	}
	defer x.Close()
	y, err := b.Open()
	if err != nil {
		return false, err
	}
	defer y.Close()
	var p, q []byte
	for off := int64(0); ; {
		if err := context.Cause(ctx); err != nil {
			return false, err
		}
		if off, err = skipEqual(x, y, off, a.Size, unchanged); err != nil || off >= a.Size {
			return err == nil, err
		}
		if p == nil {
			p, q = make([]byte, min(256<<10, a.Size)), make([]byte, min(256<<10, a.Size))
		}
		n := min(int64(len(p)), a.Size-off)
		if _, err := io.ReadFull(x, p[:n]); err != nil {
			return false, a.Short(err)
		}
		if _, err := io.ReadFull(y, q[:n]); err != nil {
			return false, b.Short(err)
		}
		if !bytes.Equal(p[:n], q[:n]) {
			return false, nil
		}
		off += n
	}
}

// placed is a reader whose bytes lie in an image as they are. Place says where byte
// off does, and how many bytes follow each other from there; at is negative where
// they lie nowhere.
type placed interface {
	Place(off int64) (at, n int64, err error)
}

// skipEqual moves both readers from off to where they may differ.
func skipEqual(x, y io.ReadCloser, off, size int64, unchanged func(at, n int64) (bool, error)) (int64, error) {
	for off < size {
		var err error
		if off, err = skipHoles(x, y, off); err != nil || off >= size {
			return off, err
		}
		n, err := equalFrom(x, y, off, size, unchanged)
		if err != nil || n == 0 {
			return off, err
		}
		off += n
	}
	return off, nil
}

// equalFrom is how many bytes from off on are equal because of where they lie.
func equalFrom(x, y io.Reader, off, size int64, unchanged func(at, n int64) (bool, error)) (int64, error) {
	p, ok := x.(placed)
	q, both := y.(placed)
	if !ok || !both {
		return 0, nil
	}
	at, n, err := p.Place(off)
	if err != nil {
		return 0, err
	}
	other, m, err := q.Place(off)
	if n = min(n, m, size-off); err != nil || at < 0 || at != other {
		return 0, err
	}
	if same, err := unchanged(at, n); err != nil || !same {
		return 0, err
	}
	return n, nil
}

// skipHoles moves both readers from off to where the first of them may have data.
func skipHoles(x, y io.ReadCloser, off int64) (int64, error) {
	next := int64(-1)
	for _, r := range []io.ReadCloser{x, y} {
		h, ok := r.(HoleSkipper)
		_, seeks := r.(io.Seeker)
		if !ok || !seeks {
			return off, nil
		}
		at, err := h.NextData(off)
		if err != nil {
			return 0, err
		}
		if next < 0 || at < next {
			next = at
		}
	}
	_, xerr := x.(io.Seeker).Seek(next, io.SeekStart)
	_, yerr := y.(io.Seeker).Seek(next, io.SeekStart)
	return next, errors.Join(xerr, yerr)
}
