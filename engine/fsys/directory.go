package fsys

import (
	"context"
	"errors"
	"io"

	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
)

// NewDirReader reads the files below a directory of the host as those of an image: links
// lead nowhere else, owners are as in tree.FromDir. Names and attributes are read at
// once, data when it is asked for.
func NewDirReader(ctx context.Context, dir string) (tree.Reader, error) {
	t, err := tree.FromDir(dir).Load(ctx, "")
	if err != nil {
		return nil, err
	}
	return volume.New(&directory{root: t.Root, nodes: map[*tree.Inode]*volume.Node{}}, "directory"), nil
}

// directory is a volume that is a tree of the host.
type directory struct {
	root  *tree.Inode
	nodes map[*tree.Inode]*volume.Node // those that were asked for
}

// node is an object; its number follows from when it was first asked for.
func (d *directory) node(n *tree.Inode) *volume.Node {
	if v := d.nodes[n]; v != nil {
		return v
	}
	v := &volume.Node{
		Attr: tree.Attr{Inode: uint64(len(d.nodes) + 1), Links: n.Links, UID: n.UID, GID: n.GID, Major: n.Major, Minor: n.Minor},
		Mode: n.Mode, Size: n.Size, Sec: n.Sec, Nsec: n.Nsec, Private: n,
	}
	d.nodes[n] = v
	return v
}

// Fold implements volume.Volume.
func (d *directory) Fold(name string) string { return name }

// Root implements volume.Volume.
func (d *directory) Root() (*volume.Node, error) { return d.node(d.root), nil }

// List implements volume.Volume.
func (d *directory) List(n *volume.Node) ([]volume.Entry, error) {
	entries := n.Private.(*tree.Inode).Entries
	list := make([]volume.Entry, len(entries))
	for i, e := range entries {
		list[i] = volume.Entry{Name: e.Name, Kind: e.Inode.Kind(), Node: d.node(e.Inode)}
	}
	return list, nil
}

// Load implements volume.Volume; every entry has its node.
func (d *directory) Load(e *volume.Entry) (*volume.Node, error) { return e.Node, nil }

// ReadLink implements volume.Volume.
func (d *directory) ReadLink(n *volume.Node) (string, error) {
	return n.Private.(*tree.Inode).Target, nil
}

// Xattrs implements volume.Volume.
func (d *directory) Xattrs(n *volume.Node) ([]tree.Xattr, error) {
	return n.Private.(*tree.Inode).Xattrs, nil
}

// Data implements volume.Volume.
func (d *directory) Data(n *volume.Node) (io.ReaderAt, error) {
	return hostData{n.Private.(*tree.Inode)}, nil
}

// hostData is the bytes of a file of the host. It is open only while it is read, since
// what reads an image is not told when a file is no longer needed.
type hostData struct{ inode *tree.Inode }

// ReadAt implements io.ReaderAt.
func (h hostData) ReadAt(b []byte, off int64) (n int, err error) {
	f, err := h.inode.Open()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.(io.Seeker).Seek(off, io.SeekStart); err != nil {
		return 0, err
	}
	n, err = io.ReadFull(f, b)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

// NextData implements tree.HoleSkipper.
func (h hostData) NextData(off int64) (at int64, err error) {
	f, err := h.inode.Open()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return f.(tree.HoleSkipper).NextData(off)
}
