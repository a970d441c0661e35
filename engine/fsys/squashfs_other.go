package fsys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/filesystem/squashfs"
	"golang.org/x/sys/unix"
)

// squashCache bounds what go-diskfs keeps of decompressed blocks, in bytes.
const squashCache = 16 << 20

// otherSquash reads squashfs in the compressions that are rarely met (xz, lzma,
// lzo, lz4) through go-diskfs, by path. How much a damaged image makes it
// allocate is not bounded; setuid, setgid and sticky bits, device numbers and
// link counts are not known.
type otherSquash struct{ in *squashfs.FileSystem }

func openOtherSquash(r *io.SectionReader) (v *otherSquash, err error) {
	defer guard(&err)
	in, err := squashfs.Read(readOnly{r}, r.Size(), 0, 0)
	if err != nil {
		return nil, err
	}
	in.SetCacheSize(squashCache)
	return &otherSquash{in}, nil
}

// guard turns a panic of the parser into an error about the image.
func guard(err *error) {
	if p := recover(); p != nil {
		*err = damaged("%v", p)
	}
}

// readOnly is an image as go-diskfs wants it.
type readOnly struct{ *io.SectionReader }

func (r readOnly) Stat() (fs.FileInfo, error)              { return nil, fs.ErrInvalid }
func (r readOnly) Close() error                            { return nil }
func (r readOnly) Path() string                            { return "" }
func (r readOnly) Sys() (*os.File, error)                  { return nil, backend.ErrNotSuitable }
func (r readOnly) Writable() (backend.WritableFile, error) { return nil, backend.ErrIncorrectOpenMode }

// otherNode is an object's path and, of a link, its target.
type otherNode struct {
	path, target string
	xattrs       map[string]string
}

func (v *otherSquash) kind() string                     { return "squashfs" }
func (v *otherSquash) fold(name string) string          { return name }
func (v *otherSquash) load(d *dirent) (*node, error)    { return d.node, nil }
func (v *otherSquash) readLink(n *node) (string, error) { return n.priv.(otherNode).target, nil }

func (v *otherSquash) root() (n *node, err error) {
	defer guard(&err)
	info, err := v.in.Stat(".")
	if err != nil {
		return nil, err
	}
	return otherObject(info, ".")
}

func otherObject(info fs.FileInfo, p string) (*node, error) {
	st, ok := info.Sys().(*squashfs.StatT)
	if !ok {
		return nil, fmt.Errorf("%s: nothing is known of it", p)
	}
	mode := uint32(info.Mode().Perm())
	switch info.Mode().Type() {
	case 0:
		mode |= unix.S_IFREG
	case fs.ModeDir:
		mode |= unix.S_IFDIR
	default:
		kind, err := unixMode(info.Mode().Type())
		if err != nil {
			return nil, err
		}
		mode |= kind & unix.S_IFMT
	}
	n := &node{mode: mode, size: info.Size(), sec: info.ModTime().Unix(), priv: otherNode{p, st.LinkTarget, st.Xattrs}}
	n.Inode, n.Links, n.UID, n.GID = uint64(st.Inode), 1, st.UID, st.GID
	if mode&unix.S_IFMT == unix.S_IFLNK {
		n.size = int64(len(st.LinkTarget))
	}
	return n, nil
}

func (v *otherSquash) list(n *node) (out []dirent, err error) {
	defer guard(&err)
	dir := n.priv.(otherNode).path
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
		out = append(out, dirent{name: e.Name(), kind: child.mode & unix.S_IFMT, node: child})
	}
	return out, nil
}

func (v *otherSquash) data(n *node) (r io.ReaderAt, err error) {
	defer guard(&err)
	f, err := v.in.OpenFile(n.priv.(otherNode).path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return &otherFile{f: f}, nil
}

func (v *otherSquash) xattrs(n *node) ([]xattr, error) {
	var out []xattr
	for name, value := range n.priv.(otherNode).xattrs {
		out = append(out, xattr{name, []byte(value)})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
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
