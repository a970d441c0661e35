package tree

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
)

// FromReader is everything in an image that is read without a mount: what FromDir
// is of a mounted one, and the flags of chattr(1). The Reader stays in use until
// Close, and is not closed by it.
func FromReader(r Reader) Content { return readerContent{r} }

type readerContent struct{ r Reader }

func (c readerContent) Close() error { return nil }

func (c readerContent) Load(ctx context.Context, _ string) (*Tree, error) {
	w := readerWalker{ctx: ctx, r: c.r, linked: make(map[uint64]*Inode)}
	info, err := c.r.Lstat(".")
	if err != nil {
		return nil, err
	}
	root, err := w.inode(".", info)
	if err != nil {
		return nil, err
	}
	if err := w.fill(root, "."); err != nil {
		return nil, err
	}
	t := &Tree{Root: root}
	t.seal()
	return t, nil
}

type readerWalker struct {
	ctx    context.Context
	r      Reader
	linked map[uint64]*Inode
	depth  int
}

func (w *readerWalker) fill(dir *Inode, name string) error {
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	// A directory that holds itself would be one without an end.
	if w.depth++; w.depth > MaxPath/2 {
		return &fs.PathError{Op: "read", Path: name, Err: errors.New("the directories lie too deep in each other")}
	}
	defer func() { w.depth-- }()
	list, err := w.r.ReadDir(name)
	if err != nil {
		return err
	}
	dir.Entries = make([]Entry, 0, len(list))
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			return err
		}
		child := path.Join(name, e.Name())
		n, err := w.inode(child, info)
		if err != nil {
			return err
		}
		dir.Entries = append(dir.Entries, Entry{e.Name(), n})
		if n.IsDir() {
			if err := w.fill(n, child); err != nil {
				return err
			}
		}
	}
	return nil
}

// inode describes the object called name, or returns the one already described
// when name is another name of it.
func (w *readerWalker) inode(name string, info fs.FileInfo) (*Inode, error) {
	st := info.Sys().(*Attr)
	shared := st.Links > 1 && !info.IsDir()
	if n := w.linked[st.Inode]; shared && n != nil {
		return n, nil
	}
	mode, err := exactMode(info.Mode())
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	at := info.ModTime()
	n := &Inode{Mode: mode, UID: st.UID, GID: st.GID, Major: st.Major, Minor: st.Minor, Flags: st.Flags,
		Sec: at.Unix(), Nsec: uint32(at.Nanosecond()), Origin: name}
	switch {
	case n.IsRegular():
		n.Size, n.Open = info.Size(), func() (io.ReadCloser, error) { return w.r.Open(name) }
	case n.IsLink():
		if n.Target, err = w.r.ReadLink(name); err != nil {
			return nil, err
		}
		n.Size = int64(len(n.Target))
	}
	list, err := w.r.Xattrs(name)
	if err != nil {
		return nil, err
	}
	for key, value := range list {
		n.Xattrs = append(n.Xattrs, Xattr{key, []byte(value)})
	}
	sortXattrs(n.Xattrs)
	if shared {
		w.linked[st.Inode] = n
	}
	return n, nil
}

// exactMode is UnixMode of a mode that was read, in which no permissions are none.
func exactMode(m fs.FileMode) (uint32, error) {
	mode, err := UnixMode(m | 0o400)
	return mode&^0o777 | uint32(m.Perm()), err
}
