package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// node is an entry of a directory tree on the disk.
type node struct {
	entry
	file string // where it is on the disk
	stat unix.Stat_t
}

// contentFunc gives the digest and size of a regular file.
type contentFunc func(context.Context, *node) (Digest, int64, error)

// sourceTree is [Store.TreeDigest] with any way to the files' digests.
func sourceTree(ctx context.Context, root string, skip func(string, bool) bool, workers int, content contentFunc) (Digest, *manifest, error) {
	nodes, err := walk(ctx, root, skip)
	if err != nil {
		return Digest{}, nil, fmt.Errorf("hash tree %s: %w", root, err)
	}
	if err := fillContents(ctx, nodes, workers, content); err != nil {
		return Digest{}, nil, err
	}
	m := newManifest(nodes, false)
	return m.Digest(), m, nil
}

// fillContents sets size and digest of every file in nodes.
func fillContents(ctx context.Context, nodes []node, workers int, content contentFunc) error {
	return eachFile(ctx, nodes, workers, func(ctx context.Context, n *node) (err error) {
		n.Digest, n.Size, err = content(ctx, n)
		return err
	})
}

// eachFile calls fn for the regular files in nodes, from several goroutines.
func eachFile(ctx context.Context, nodes []node, workers int, fn func(context.Context, *node) error) error {
	const batch = 32 // files are often tiny, and a goroutine costs too
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for part := range slices.Chunk(nodes, batch) {
		g.Go(func() error {
			for i := range part {
				if part[i].Type != typeFile {
					continue
				}
				if err := gctx.Err(); err != nil {
					return err
				}
				if err := fn(gctx, &part[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// newManifest lists the nodes. Of a tree that is not full it keeps what a source
// tree records.
func newManifest(nodes []node, full bool) *manifest {
	m := &manifest{Full: full, Entries: make([]entry, len(nodes))}
	for i := range nodes {
		e := nodes[i].entry
		if !full {
			e.Mode = sourceMode(e.Type, e.Mode)
			e.UID, e.GID, e.MTime, e.Xattrs = 0, 0, 0, nil
		}
		m.Entries[i] = e
	}
	return m
}

// sourceMode is what a source tree keeps of permissions: whether a file is a
// program, which its owner may run. The rest is the umask of whoever checked it
// out.
func sourceMode(t entryType, mode uint32) uint32 {
	switch {
	case t == typeSymlink:
		return 0o777
	case t == typeDir || t == typeFile && mode&0o100 != 0:
		return 0o755
	}
	return 0o644
}

// walker collects the nodes of a tree.
type walker struct {
	ctx    context.Context
	skip   func(rel string, dir bool) bool // nil to skip nothing
	unlock bool                            // make unreadable directories readable, as the owner may
	adopt  bool                            // the files will be moved away
	nodes  []node
}

// walk returns the tree's nodes in the order of a manifest.
func walk(ctx context.Context, root string, skip func(string, bool) bool) ([]node, error) {
	real, err := filepath.EvalSymlinks(root)
	if err != nil {
		return nil, err
	}
	w := &walker{ctx: ctx, skip: skip}
	return w.run(real)
}

func (w *walker) run(root string) ([]node, error) {
	n, err := statNode(root, ".")
	if err != nil {
		return nil, err
	}
	if n.Type != typeDir {
		return nil, fmt.Errorf("%s is not a directory", root)
	}
	if err := w.add(n); err != nil {
		return nil, err
	}
	slices.SortFunc(w.nodes, func(a, b node) int { return comparePaths(a.Path, b.Path) })
	return w.nodes, nil
}

func (w *walker) add(n node) error {
	w.nodes = append(w.nodes, n)
	if n.Type != typeDir {
		return nil
	}
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if w.unlock && n.Mode&0o700 != 0o700 {
		if err := os.Chmod(n.file, 0o700); err != nil {
			return err
		}
	}
	dir, err := os.Open(n.file)
	if err != nil {
		return err
	}
	if w.adopt {
		clearFlags(int(dir.Fd())) // else no file could be moved out of it
	}
	names, err := dir.Readdirnames(-1)
	dir.Close()
	if err != nil {
		return err
	}
	prefix := n.Path + "/"
	if n.Path == "." {
		prefix = ""
	}
	for _, name := range names {
		if err := w.child(n.file+"/"+name, prefix+name); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) child(file, rel string) error {
	n, err := statNode(file, rel)
	if err != nil {
		return err
	}
	if w.skip != nil && w.skip(rel, n.Type == typeDir) {
		return nil
	}
	return w.add(n)
}

// statNode describes the file at path, without following a link.
func statNode(file, rel string) (node, error) {
	n := node{file: file}
	if err := ignoringEINTR(func() error { return unix.Lstat(file, &n.stat) }); err != nil {
		return n, &fs.PathError{Op: "lstat", Path: file, Err: err}
	}
	st := &n.stat
	n.entry = entry{Path: rel, Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, MTime: st.Mtim.Nano()}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		n.Type = typeDir
	case unix.S_IFREG:
		n.Type, n.Size = typeFile, st.Size
	case unix.S_IFLNK:
		target, err := os.Readlink(file)
		if err != nil {
			return n, err
		}
		n.Type, n.Mode, n.Target = typeSymlink, 0o777, target
	case unix.S_IFCHR:
		n.Type, n.Major, n.Minor = typeChar, unix.Major(st.Rdev), unix.Minor(st.Rdev)
	case unix.S_IFBLK:
		n.Type, n.Major, n.Minor = typeBlock, unix.Major(st.Rdev), unix.Minor(st.Rdev)
	case unix.S_IFIFO:
		n.Type = typeFIFO
	case unix.S_IFSOCK:
		n.Type = typeSocket
	default:
		return n, fmt.Errorf("%s has an unknown type (mode %o)", file, st.Mode)
	}
	return n, nil
}

// linkHard turns every further name of a file into a hard link to the first,
// and returns the files that have names outside the tree, too.
func linkHard(nodes []node) (outside map[string]bool) {
	type inode struct{ dev, ino uint64 }
	first := map[inode]string{}
	left := map[string]uint64{}
	for i := range nodes {
		n := &nodes[i]
		if n.Type != typeFile || n.stat.Nlink < 2 {
			continue
		}
		id := inode{n.stat.Dev, n.stat.Ino}
		name, seen := first[id]
		if !seen {
			name = n.Path
			first[id], left[name] = name, uint64(n.stat.Nlink)
		} else {
			n.entry = entry{Path: n.Path, Type: typeHardLink, Target: name}
		}
		left[name]--
	}
	outside = map[string]bool{}
	for name, n := range left {
		if n > 0 {
			outside[name] = true
		}
	}
	return outside
}

// readXattrs fills in the extended attributes of the nodes. What belongs to
// the machine's own security policy is not the tree's.
func readXattrs(nodes []node) error {
	for i := range nodes {
		n := &nodes[i]
		if n.Type == typeHardLink {
			continue
		}
		attrs, err := xattrsOf(n.file)
		if err != nil {
			return fmt.Errorf("read the extended attributes of %s: %w", n.file, err)
		}
		n.Xattrs = attrs
	}
	return nil
}

func xattrsOf(file string) ([]xattr, error) {
	names, err := sized(func(buf []byte) (int, error) { return unix.Llistxattr(file, buf) })
	if errors.Is(err, unix.EOPNOTSUPP) || err == nil && len(names) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var attrs []xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if name == "security.selinux" {
			continue
		}
		value, err := sized(func(buf []byte) (int, error) { return unix.Lgetxattr(file, name, buf) })
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, err
		}
		attrs = append(attrs, xattr{name, string(value)})
	}
	slices.SortFunc(attrs, func(a, b xattr) int { return cmp.Compare(a.Name, b.Name) })
	return attrs, nil
}

// sized calls get with no buffer to learn the size, and again with one.
func sized(get func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := get(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		buf := make([]byte, n)
		n, err = get(buf)
		if err == unix.ERANGE {
			continue // it grew meanwhile
		}
		if err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}
