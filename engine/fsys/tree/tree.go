// Package tree holds what goes into a new file system before any format sees it:
// a tree of names, attributes and sources of bytes, in the order and with the
// times that make equal content give equal images. It hides where content comes
// from. It knows no format, and reads no image: that is the formats' and
// internal/volume's.
//
//	Content                       FromDir, FromTarFile, FromFiles of File, FromReader: where content comes from
//	Tree, Inode, Entry            what Load makes of it, and what the formats write
//	Make                          the frame of every format's Make: options, content, the file
//	UnixMode, FileMode            modes of struct stat and of io/fs
//	Reader, Attr                  the files inside an image, as fsys.NewReader gives them
//	Info                          what fsys.Probe finds in a superblock
//
// Data stays where it is until a format copies it; names and attributes are in
// memory, some 300 bytes a file. Modes and device numbers are those of Linux
// (inode(7)), tar archives ustar, PAX (POSIX.1-2001) and GNU's.
package tree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/ident"
)

// Limits of Linux that no file system here lifts, in bytes.
const (
	MaxName = 255
	MaxPath = 4095
)

// Content is what goes into a new file system: FromDir, FromTar or FromFiles.
// A Content is used once.
type Content interface {
	// Load reads names and attributes, and may put temporary files into the
	// directory scratch. What Open of an Inode gives is valid until Close.
	Load(ctx context.Context, scratch string) (*Tree, error)
	Close() error
}

// HoleSkipper is a source's reader that knows where its holes end. NextData
// returns the first offset at or after off that may hold data (the size when
// there is none) and moves the reader there.
type HoleSkipper interface {
	NextData(off int64) (int64, error)
}

// Xattr is one extended attribute under its full name ("security.capability").
type Xattr struct {
	Name  string
	Value []byte
}

// The names of the attributes that hold POSIX access control lists.
const (
	ACLAccess  = "system.posix_acl_access"
	ACLDefault = "system.posix_acl_default"
)

func sortXattrs(list []Xattr) {
	slices.SortFunc(list, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
}

// checkOwner refuses numbers that no user or group has.
func checkOwner(uid, gid int) error {
	const most = 1<<32 - 2
	if uid < 0 || gid < 0 || int64(uid) > most || int64(gid) > most {
		return fmt.Errorf("owner %d:%d is out of range", uid, gid)
	}
	return nil
}

// Inode is an object of a tree; hard links are several entries with one Inode.
type Inode struct {
	Mode         uint32 // file type and permissions as in struct stat
	UID, GID     uint32
	Major, Minor uint32 // devices
	Links        uint32 // names, and for a directory "." and its subdirectories' ".."
	Number       uint32 // the file system's, set by the format that writes it
	Nsec         uint32
	Flags        uint32 // as in Attr; only ext4 stores them
	Sec          int64  // modification time
	Size         int64
	Target       string // symbolic links
	Xattrs       []Xattr
	Open         func() (io.ReadCloser, error) // the bytes of regular files with Size > 0
	Origin       string                        // for messages
	Entries      []Entry                       // by name
	index        map[string]*Inode             // while the tree grows
}

// Entry is a name in a directory.
type Entry struct {
	Name  string
	Inode *Inode
}

// Kind is the file type as in struct stat.
func (n *Inode) Kind() uint32 { return n.Mode & unix.S_IFMT }

// IsDir reports whether n is a directory.
func (n *Inode) IsDir() bool { return n.Kind() == unix.S_IFDIR }

// IsRegular reports whether n is a regular file.
func (n *Inode) IsRegular() bool { return n.Kind() == unix.S_IFREG }

// IsLink reports whether n is a symbolic link.
func (n *Inode) IsLink() bool { return n.Kind() == unix.S_IFLNK }

// Tree is a whole content in memory, without the files' data.
type Tree struct {
	Root *Inode
	// implied are the attributes of directories that nobody listed.
	implied time.Time
}

func newTree(implied time.Time) *Tree {
	return &Tree{Root: NewDir(implied), implied: implied}
}

// NewDir returns an empty directory of root with mode 0755.
func NewDir(t time.Time) *Inode {
	return &Inode{Mode: unix.S_IFDIR | 0o755, Sec: FixedTime(t)}
}

// cleanPath makes a relative slash path of a name from an archive or a caller:
// "" is the root. A leading "/" or "./" is dropped; ".." is an error.
func cleanPath(name string) (string, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("%q: a name cannot hold a NUL byte", name)
	}
	for rest := name; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		if part == ".." {
			return "", fmt.Errorf("%q: a path must not contain \"..\"", name)
		}
		if len(part) > MaxName {
			return "", fmt.Errorf("%q: a name is longer than %d bytes", name, MaxName)
		}
	}
	p := strings.TrimPrefix(path.Clean("/"+name), "/")
	if len(p) > MaxPath {
		return "", fmt.Errorf("%.60q...: the path is longer than %d bytes", name, MaxPath)
	}
	return p, nil
}

// lookup finds the inode at a clean path, nil when there is none.
func (t *Tree) lookup(p string) *Inode {
	n := t.Root
	for p != "" {
		var part string
		part, p, _ = strings.Cut(p, "/")
		if n = n.index[part]; n == nil {
			return nil
		}
	}
	return n
}

// parent returns the directory of a clean path and makes the missing ones.
func (t *Tree) parent(p string) (*Inode, string, error) {
	n := t.Root
	for {
		part, rest, more := strings.Cut(p, "/")
		if !more {
			return n, part, nil
		}
		child := n.index[part]
		if child == nil {
			child = NewDir(t.implied)
			n.put(part, child)
		}
		if !child.IsDir() {
			return nil, "", fmt.Errorf("%q is not a directory, but another entry lies below it", part)
		}
		n, p = child, rest
	}
}

func (n *Inode) put(name string, child *Inode) {
	if n.index == nil {
		n.index = make(map[string]*Inode)
	}
	n.index[name] = child
}

// add puts n at a clean path. What was there before is replaced, as in an
// archive unpacked twice; a directory keeps its entries and gets n's
// attributes.
func (t *Tree) add(p string, n *Inode) error {
	if p == "" {
		if !n.IsDir() {
			return errors.New("the root must be a directory")
		}
		n.index, t.Root = t.Root.index, n
		return nil
	}
	dir, name, err := t.parent(p)
	if err != nil {
		return err
	}
	if old := dir.index[name]; old != nil && old.IsDir() {
		if !n.IsDir() && len(old.index) > 0 {
			return fmt.Errorf("%q is a directory with entries and cannot be replaced by a file", p)
		}
		if n.IsDir() {
			n.index = old.index
		}
	}
	dir.put(name, n)
	return nil
}

// link gives the file at target one more name.
func (t *Tree) link(p, target string) error {
	n := t.lookup(target)
	if n == nil {
		return fmt.Errorf("hard link %q: its target %q is not there", p, target)
	}
	if n.IsDir() {
		return fmt.Errorf("hard link %q: its target %q is a directory", p, target)
	}
	if p == target {
		return nil
	}
	return t.add(p, n)
}

// seal sorts every directory by name and counts links. The tree grows no more.
func (t *Tree) seal() {
	t.Root.Links = 1 // the root's ".." is counted here
	seal(t.Root)
}

func seal(dir *Inode) {
	for _, name := range slices.Sorted(maps.Keys(dir.index)) {
		dir.Entries = append(dir.Entries, Entry{name, dir.index[name]})
	}
	dir.index = nil
	dir.Links++ // its "."
	for _, e := range dir.Entries {
		e.Inode.Links++
		if e.Inode.IsDir() {
			dir.Links++
			seal(e.Inode)
		}
	}
}

// Walk calls fn once for every inode, the root first, a directory before what
// is in it, names in order. A hard-linked inode comes at its first name.
func (t *Tree) Walk(fn func(p string, n *Inode) error) error {
	seen := make(map[*Inode]bool)
	var visit func(p string, n *Inode) error
	visit = func(p string, n *Inode) error {
		if !n.IsDir() && n.Links > 1 {
			if seen[n] {
				return nil
			}
			seen[n] = true
		}
		if err := fn(p, n); err != nil {
			return err
		}
		for _, e := range n.Entries {
			if err := visit(p+"/"+e.Name, e.Inode); err != nil {
				return err
			}
		}
		return nil
	}
	return visit("", t.Root)
}

// Clamp replaces every time later than limit by limit.
func (t *Tree) Clamp(limit int64) {
	_ = t.Walk(func(_ string, n *Inode) error {
		if n.Sec >= limit {
			n.Sec, n.Nsec = limit, 0
		}
		return nil
	})
}

// Digest names the tree by everything but the files' data.
func (t *Tree) Digest() [sha256.Size]byte {
	h := ident.NewHash()
	_ = t.Walk(func(p string, n *Inode) error {
		h.Text(p)
		h.Numbers(uint64(n.Mode), uint64(n.UID), uint64(n.GID), uint64(n.Major), uint64(n.Minor),
			uint64(n.Links), uint64(n.Sec), uint64(n.Nsec), uint64(n.Size))
		if n.Flags != 0 { // what no other source has changes no digest
			h.Numbers(uint64(n.Flags))
		}
		h.Text(n.Target)
		for _, x := range n.Xattrs {
			h.Text(x.Name)
			h.Text(string(x.Value))
		}
		return nil
	})
	return [sha256.Size]byte(h.Sum())
}
