package volume

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/tree"
)

// New returns a reader of the files of a volume, whose type is as in tree.Info. Where several entries of a directory
// have one name, it finds the first.
func New(v Volume, kind string) tree.Reader { return &reader{v: v, kind: kind} }

// reader adds paths, links, and a memory of the directories that were read
// last to a volume. Each listing that is remembered has an index by name, so that
// a walk over a directory of n entries takes n steps and not n squared.
type reader struct {
	v    Volume
	kind string
	dirs []*listing // the one that was used last comes first
}

// listing is a directory that was read.
type listing struct {
	inode   uint64
	entries []Entry
	byName  map[string]int
}

// Bounds on what is remembered of directories; the last one read is kept
// whatever its size.
const (
	keptEntries     = 100_000
	keptDirectories = 64
)

// maxFollow is how many links a path may lead through, as in Linux.
const maxFollow = 40

func (r *reader) Type() string { return r.kind }

// listing reads a directory, or remembers it.
func (r *reader) listing(n *Node) (*listing, error) {
	for i, l := range r.dirs {
		if l.inode == n.Inode {
			copy(r.dirs[1:i+1], r.dirs[:i])
			r.dirs[0] = l
			return l, nil
		}
	}
	entries, err := r.v.List(n)
	if err != nil {
		return nil, err
	}
	l := &listing{inode: n.Inode, entries: entries, byName: make(map[string]int, len(entries))}
	for i := range entries {
		name := r.v.Fold(entries[i].Name)
		if _, twice := l.byName[name]; !twice {
			l.byName[name] = i
		}
	}
	r.dirs = append([]*listing{l}, r.dirs...)
	kept := 0
	for i, l := range r.dirs {
		if kept += len(l.entries); i > 0 && (kept > keptEntries || i == keptDirectories) {
			r.dirs = r.dirs[:i]
			break
		}
	}
	return l, nil
}

// load returns an entry's object.
func load(v Volume, e *Entry) (*Node, error) {
	if e.Node != nil {
		return e.Node, nil
	}
	return v.Load(e)
}

// child finds a name in a directory.
func (r *reader) child(dir *Node, name string) (*Node, error) {
	if dir.Kind() != unix.S_IFDIR {
		return nil, syscall.ENOTDIR
	}
	l, err := r.listing(dir)
	if err != nil {
		return nil, err
	}
	i, ok := l.byName[r.v.Fold(name)]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return load(r.v, &l.entries[i])
}

// on finds the object called name for do; its errors and do's tell op and name.
// follow says whether a link at the end of the path is followed.
func on[T any](r *reader, op, name string, follow bool, do func(n *Node) (T, error)) (T, error) {
	var out T
	n, err := r.walkPath(name, follow)
	if err == nil {
		out, err = do(n)
	}
	if err != nil {
		return out, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return out, nil
}

// validPath is fs.ValidPath for names that are bytes, as they are on disk.
func validPath(name string) bool { return fs.ValidPath(strings.ToValidUTF8(name, "x")) }

func (r *reader) walkPath(rest string, follow bool) (*Node, error) {
	if !validPath(rest) {
		return nil, fs.ErrInvalid
	}
	root, err := r.v.Root()
	if err != nil {
		return nil, err
	}
	at := []*Node{root} // the root and the directories below it
	for links := 0; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		switch part {
		case "", ".":
			continue
		case "..":
			at = at[:max(1, len(at)-1)]
			continue
		}
		n, err := r.child(at[len(at)-1], part)
		if err != nil {
			return nil, err
		}
		if n.Kind() != unix.S_IFLNK || rest == "" && !follow {
			at = append(at, n)
			continue
		}
		if links++; links > maxFollow {
			return nil, syscall.ELOOP
		}
		target, err := r.v.ReadLink(n)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(target, "/") {
			at = at[:1]
		}
		if rest = target + "/" + rest; len(rest) > 16*tree.MaxPath {
			return nil, syscall.ENAMETOOLONG
		}
	}
	return at[len(at)-1], nil
}

func (r *reader) Stat(name string) (fs.FileInfo, error) { return r.info("stat", name, true) }

func (r *reader) Lstat(name string) (fs.FileInfo, error) { return r.info("lstat", name, false) }

func (r *reader) info(op, name string, follow bool) (fs.FileInfo, error) {
	return on(r, op, name, follow, func(n *Node) (fs.FileInfo, error) { return &nodeInfo{path.Base(name), n}, nil })
}

func (r *reader) ReadLink(name string) (string, error) {
	return on(r, "readlink", name, false, func(n *Node) (string, error) {
		if n.Kind() != unix.S_IFLNK {
			return "", fs.ErrInvalid
		}
		return r.v.ReadLink(n)
	})
}

func (r *reader) Xattrs(name string) (map[string]string, error) {
	return on(r, "xattrs", name, false, func(n *Node) (map[string]string, error) {
		list, err := r.v.Xattrs(n)
		if err != nil || len(list) == 0 {
			return nil, err
		}
		out := make(map[string]string, len(list))
		for _, x := range list {
			out[x.Name] = string(x.Value)
		}
		return out, nil
	})
}

func (r *reader) ReadDir(name string) ([]fs.DirEntry, error) {
	return on(r, "readdir", name, true, r.readDir)
}

// readDir lists a directory by name.
func (r *reader) readDir(n *Node) ([]fs.DirEntry, error) {
	if n.Kind() != unix.S_IFDIR {
		return nil, syscall.ENOTDIR
	}
	l, err := r.listing(n)
	if err != nil {
		return nil, err
	}
	out := make([]fs.DirEntry, len(l.entries))
	for i := range l.entries {
		e := &dirEntry{v: r.v, d: &l.entries[i]}
		if e.d.Kind == 0 {
			n, err := load(r.v, e.d)
			if err != nil {
				return nil, err
			}
			e.d.Kind = n.Kind()
		}
		out[i] = e
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out, nil
}

func (r *reader) Open(name string) (fs.File, error) {
	return on(r, "open", name, true, func(n *Node) (fs.File, error) {
		info := &nodeInfo{path.Base(name), n}
		switch n.Kind() {
		case unix.S_IFDIR:
			list, err := r.readDir(n)
			if err != nil {
				return nil, err
			}
			return &openDir{info: info, rest: list}, nil
		case unix.S_IFREG:
			data, err := r.v.Data(n)
			if err != nil {
				return nil, err
			}
			return &openFile{SectionReader: io.NewSectionReader(data, 0, n.Size), info: info, data: data}, nil
		}
		return nil, errors.New("is not a regular file")
	})
}

// openFile is a regular file inside the image.
type openFile struct {
	*io.SectionReader
	info *nodeInfo
	data io.ReaderAt
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }

func (f *openFile) Close() error { return nil }

// NextData returns the first offset at or after off that may hold other than
// zeros, the file's size when there is none, and moves there. Copying need not read
// the rest.
func (f *openFile) NextData(off int64) (int64, error) {
	if s, ok := f.data.(tree.HoleSkipper); ok && off < f.info.n.Size {
		var err error
		if off, err = s.NextData(off); err != nil {
			return 0, err
		}
	}
	return f.Seek(off, io.SeekStart)
}

// Place says where the image holds byte off, if it holds it as it is.
func (f *openFile) Place(off int64) (at, n int64, err error) {
	if e, ok := f.data.(*Extents); ok && !e.Pages.overlaid {
		return e.Run(off, f.Size()-off)
	}
	return Hole, f.Size() - off, nil
}

// openDir is a directory inside the image.
type openDir struct {
	info *nodeInfo
	rest []fs.DirEntry
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }

func (d *openDir) Close() error { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.name, Err: syscall.EISDIR}
}

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 && len(d.rest) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(d.rest) {
		n = len(d.rest)
	}
	out := d.rest[:n]
	d.rest = d.rest[n:]
	return out, nil
}

// dirEntry loads its object when asked for more than name and type.
type dirEntry struct {
	v Volume
	d *Entry
}

func (e *dirEntry) Name() string { return e.d.Name }

func (e *dirEntry) IsDir() bool { return e.d.Kind == unix.S_IFDIR }

func (e *dirEntry) Type() fs.FileMode { return tree.FileMode(e.d.Kind).Type() }

func (e *dirEntry) String() string { return fs.FormatDirEntry(e) }

func (e *dirEntry) Info() (fs.FileInfo, error) {
	n, err := load(e.v, e.d)
	if err != nil {
		return nil, err
	}
	return &nodeInfo{name: e.d.Name, n: n}, nil
}

// nodeInfo is an object's fs.FileInfo.
type nodeInfo struct {
	name string
	n    *Node
}

func (i *nodeInfo) Name() string { return i.name }

func (i *nodeInfo) Size() int64 { return i.n.Size }

func (i *nodeInfo) Mode() fs.FileMode { return tree.FileMode(i.n.Mode) }

func (i *nodeInfo) ModTime() time.Time { return time.Unix(i.n.Sec, int64(i.n.Nsec)) }

func (i *nodeInfo) IsDir() bool { return i.n.Kind() == unix.S_IFDIR }

func (i *nodeInfo) Sys() any { return &i.n.Attr }
