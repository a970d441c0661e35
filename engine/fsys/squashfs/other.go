package squashfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/filesystem/squashfs"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
)

// cache bounds what go-diskfs keeps of decompressed blocks, in bytes.
const cache = 16 << 20

// other reads squashfs in the compressions that are rarely met (xz, lzma,
// lzo, lz4) through go-diskfs, by path. How much a damaged image makes it
// allocate is not bounded; setuid, setgid and sticky bits, device numbers and
// link counts are not known.
type other struct{ in *squashfs.FileSystem }

func openOther(r *io.SectionReader) (v *other, err error) {
	defer guard(&err)
	in, err := squashfs.Read(readOnly{r}, r.Size(), 0, 0)
	if err != nil {
		return nil, err
	}
	in.SetCacheSize(cache)
	return &other{in}, nil
}

// guard turns a panic of the parser into an error about the image.
func guard(err *error) {
	if p := recover(); p != nil {
		*err = volume.Damaged("%v", p)
	}
}

// readOnly is an image as go-diskfs wants it.
type readOnly struct{ *io.SectionReader }

func (r readOnly) Stat() (fs.FileInfo, error) { return nil, fs.ErrInvalid }

func (r readOnly) Close() error { return nil }

func (r readOnly) Path() string { return "" }

func (r readOnly) Sys() (*os.File, error) { return nil, backend.ErrNotSuitable }

func (r readOnly) Writable() (backend.WritableFile, error) { return nil, backend.ErrIncorrectOpenMode }

// otherNode is an object's path and, of a link, its target.
type otherNode struct {
	path, target string
	xattrs       map[string]string
}

func (v *other) Type() string { return "squashfs" }

func (v *other) Fold(name string) string { return name }

func (v *other) Load(e *volume.Entry) (*volume.Node, error) { return e.Node, nil }

func (v *other) ReadLink(n *volume.Node) (string, error) { return n.Private.(otherNode).target, nil }

func (v *other) Root() (n *volume.Node, err error) {
	defer guard(&err)
	info, err := v.in.Stat(".")
	if err != nil {
		return nil, err
	}
	return otherObject(info, ".")
}

func otherObject(info fs.FileInfo, p string) (*volume.Node, error) {
	st, ok := info.Sys().(*squashfs.StatT)
	if !ok {
		return nil, fmt.Errorf("%s: nothing is known of it", p)
	}
	mode, err := tree.UnixMode(info.Mode().Type())
	if err != nil {
		return nil, err
	}
	mode = mode&unix.S_IFMT | uint32(info.Mode().Perm())
	n := &volume.Node{Mode: mode, Size: info.Size(), Sec: info.ModTime().Unix(), Private: otherNode{p, st.LinkTarget, st.Xattrs}}
	n.Inode, n.Links, n.UID, n.GID = uint64(st.Inode), 1, st.UID, st.GID
	if mode&unix.S_IFMT == unix.S_IFLNK {
		n.Size = int64(len(st.LinkTarget))
	}
	return n, nil
}

func (v *other) List(n *volume.Node) (out []volume.Entry, err error) {
	defer guard(&err)
	dir := n.Private.(otherNode).path
	entries, err := v.in.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		child, err := otherObject(info, path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		out = append(out, volume.Entry{Name: e.Name(), Kind: child.Kind(), Node: child})
	}
	return out, nil
}

func (v *other) Data(n *volume.Node) (r io.ReaderAt, err error) {
	defer guard(&err)
	f, err := v.in.OpenFile(n.Private.(otherNode).path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return &otherFile{f: f}, nil
}

func (v *other) Xattrs(n *volume.Node) ([]tree.Xattr, error) {
	var out []tree.Xattr
	for name, value := range n.Private.(otherNode).xattrs {
		out = append(out, tree.Xattr{Name: name, Value: []byte(value)})
	}
	return out, nil
}

// otherFile reads at an offset by going there.
type otherFile struct{ f io.ReadSeeker }

func (s *otherFile) ReadAt(b []byte, off int64) (n int, err error) {
	defer guard(&err)
	if _, err := s.f.Seek(off, io.SeekStart); err != nil {
		return 0, err
	}
	n, err = io.ReadFull(s.f, b)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}
