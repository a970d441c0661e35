package fsys

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of Linux that no file system here lifts, in bytes.
const (
	maxName = 255
	maxPath = 4095
)

// Content is what goes into a new file system: FromDir, FromTar or FromFiles.
// A Content is used once.
type Content interface {
	// load reads names and attributes. Sources stay valid until close.
	load(ctx context.Context, scratch string) (*tree, error)
	close() error
}

// source gives a regular file's bytes.
type source interface {
	open() (io.ReadCloser, error)
}

// holeSkipper is a source's reader that knows where its holes end. nextData
// returns the first offset at or after off that may hold data (the size when
// there is none) and moves the reader there.
type holeSkipper interface {
	nextData(off int64) (int64, error)
}

// xattr is one extended attribute under its full name ("security.capability").
type xattr struct {
	name  string
	value []byte
}

// inode is an object of a tree; hard links are several entries with one inode.
type inode struct {
	mode         uint32 // file type and permissions as in struct stat
	uid, gid     uint32
	major, minor uint32 // devices
	links        uint32 // names, and for a directory "." and its subdirectories' ".."
	num          uint32 // the file system's number, set by the writer
	nsec         uint32
	sec          int64 // modification time
	size         int64
	target       string // symbolic links
	xattrs       []xattr
	src          source // regular files with size > 0
	origin       string // for messages
	entries      []entry
	index        map[string]*inode // while the tree grows
}

type entry struct {
	name string
	ino  *inode
}

func (n *inode) kind() uint32    { return n.mode & unix.S_IFMT }
func (n *inode) isDir() bool     { return n.kind() == unix.S_IFDIR }
func (n *inode) isRegular() bool { return n.kind() == unix.S_IFREG }
func (n *inode) isLink() bool    { return n.kind() == unix.S_IFLNK }

// tree is a whole content in memory, without the files' data.
type tree struct {
	root *inode
	// implied are the attributes of directories that nobody listed.
	implied time.Time
}

func newTree(implied time.Time) *tree {
	return &tree{root: newDir(implied), implied: implied}
}

func newDir(t time.Time) *inode {
	return &inode{mode: unix.S_IFDIR | 0o755, sec: fixedTime(t)}
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
		if len(part) > maxName {
			return "", fmt.Errorf("%q: a name is longer than %d bytes", name, maxName)
		}
	}
	p := strings.TrimPrefix(path.Clean("/"+name), "/")
	if len(p) > maxPath {
		return "", fmt.Errorf("%.60q...: the path is longer than %d bytes", name, maxPath)
	}
	return p, nil
}

// lookup finds the inode at a clean path, nil when there is none.
func (t *tree) lookup(p string) *inode {
	n := t.root
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
func (t *tree) parent(p string) (*inode, string, error) {
	n := t.root
	for {
		part, rest, more := strings.Cut(p, "/")
		if !more {
			return n, part, nil
		}
		child := n.index[part]
		if child == nil {
			child = newDir(t.implied)
			n.put(part, child)
		}
		if !child.isDir() {
			return nil, "", fmt.Errorf("%q is not a directory, but another entry lies below it", part)
		}
		n, p = child, rest
	}
}

func (n *inode) put(name string, child *inode) {
	if n.index == nil {
		n.index = make(map[string]*inode)
	}
	n.index[name] = child
}

// add puts n at a clean path. What was there before is replaced, as in an
// archive unpacked twice; a directory keeps its entries and takes n's
// attributes.
func (t *tree) add(p string, n *inode) error {
	if p == "" {
		if !n.isDir() {
			return errors.New("the root must be a directory")
		}
		n.index, t.root = t.root.index, n
		return nil
	}
	dir, name, err := t.parent(p)
	if err != nil {
		return err
	}
	if old := dir.index[name]; old != nil && old.isDir() {
		if !n.isDir() && len(old.index) > 0 {
			return fmt.Errorf("%q is a directory with entries and cannot be replaced by a file", p)
		}
		if n.isDir() {
			n.index = old.index
		}
	}
	dir.put(name, n)
	return nil
}

// link gives the file at target one more name.
func (t *tree) link(p, target string) error {
	n := t.lookup(target)
	if n == nil {
		return fmt.Errorf("hard link %q: its target %q is not there", p, target)
	}
	if n.isDir() {
		return fmt.Errorf("hard link %q: its target %q is a directory", p, target)
	}
	if p == target {
		return nil
	}
	return t.add(p, n)
}

// seal sorts every directory by name and counts links. The tree grows no more.
func (t *tree) seal() {
	t.root.links = 1 // the root's ".." is counted here
	seal(t.root)
}

func seal(dir *inode) {
	if dir.index != nil {
		dir.entries = make([]entry, 0, len(dir.index))
		for name, n := range dir.index {
			dir.entries = append(dir.entries, entry{name, n})
		}
		dir.index = nil
	}
	sort.Slice(dir.entries, func(i, j int) bool { return dir.entries[i].name < dir.entries[j].name })
	dir.links++ // its "."
	for _, e := range dir.entries {
		e.ino.links++
		if e.ino.isDir() {
			dir.links++
			seal(e.ino)
		}
	}
}

// walk calls fn once for every inode, the root first, a directory before what
// is in it, names in order. A hard-linked inode comes at its first name.
func (t *tree) walk(fn func(p string, n *inode) error) error {
	seen := make(map[*inode]bool)
	var visit func(p string, n *inode) error
	visit = func(p string, n *inode) error {
		if !n.isDir() && n.links > 1 {
			if seen[n] {
				return nil
			}
			seen[n] = true
		}
		if err := fn(p, n); err != nil {
			return err
		}
		for _, e := range n.entries {
			if err := visit(p+"/"+e.name, e.ino); err != nil {
				return err
			}
		}
		return nil
	}
	return visit("", t.root)
}

// clamp replaces every time later than limit by limit.
func (t *tree) clamp(limit int64) {
	_ = t.walk(func(_ string, n *inode) error {
		if n.sec >= limit {
			n.sec, n.nsec = limit, 0
		}
		return nil
	})
}

// digest names the tree by everything but the files' data.
func (t *tree) digest() [sha256.Size]byte {
	h := sha256.New()
	_ = t.walk(func(p string, n *inode) error {
		hashString(h, p)
		hashNumbers(h, uint64(n.mode), uint64(n.uid), uint64(n.gid), uint64(n.major), uint64(n.minor),
			uint64(n.links), uint64(n.sec), uint64(n.nsec), uint64(n.size))
		hashString(h, n.target)
		for _, x := range n.xattrs {
			hashString(h, x.name)
			hashString(h, string(x.value))
		}
		return nil
	})
	return [sha256.Size]byte(h.Sum(nil))
}

func hashString(h hash.Hash, s string) {
	hashNumbers(h, uint64(len(s)))
	io.WriteString(h, s)
}

func hashNumbers(h hash.Hash, numbers ...uint64) {
	var b [8]byte
	for _, n := range numbers {
		binary.LittleEndian.PutUint64(b[:], n)
		h.Write(b[:])
	}
}
