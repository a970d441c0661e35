package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"
)

// manifest returns the entries of a tree object. What is on the disk is held
// against the digest.
func (s *Store) manifest(d Digest) (*manifest, error) {
	if _, ok, err := s.use(Object{Kind: Tree, Digest: d}); err != nil {
		return nil, err
	} else if !ok {
		return nil, fmt.Errorf("tree %s: %w", d, ErrNotInStore)
	}
	return readManifest(s.treePath(d), d)
}

func readManifest(path string, d Digest) (*manifest, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if Digest(blake3.Sum256(data)) != d {
		return nil, fmt.Errorf("the manifest of tree %s is damaged: run `b9 cache verify --repair`", d)
	}
	return decodeManifest(data)
}

// Extract makes the directory dst, which must be absent or empty, a copy of
// the tree object d: modes, and for a tree with full metadata owners, times,
// extended attributes, hard links and device nodes, which needs root. In a
// source tree everything belongs to the caller and has the time 0. The copy
// is not flushed to the disk; after an error it is incomplete.
func (s *Store) Extract(ctx context.Context, d Digest, dst string) error {
	m, err := s.manifest(d)
	if err != nil {
		return fmt.Errorf("extract: %w", err)
	}
	x := extractor{m: m, dst: dst, workers: s.opts.Workers, content: func(n *node) string { return s.Path(n.Digest) }}
	if err := x.run(ctx); err != nil {
		return spaceError(s.dir, fmt.Errorf("extract tree %s to %s: %w", d, dst, err))
	}
	return nil
}

type extractor struct {
	m       *manifest
	dst     string
	workers int
	content func(*node) string // where the bytes of a file are
}

// run makes directories first and gives them their metadata last, so that
// filling them neither fails nor changes their times.
func (x *extractor) run(ctx context.Context) error {
	if err := x.start(); err != nil {
		return err
	}
	nodes := make([]node, len(x.m.Entries))
	for i, e := range x.m.Entries {
		nodes[i] = node{entry: e, file: filepath.Join(x.dst, e.Path)}
		if e.Type == typeDir && i > 0 {
			if err := os.Mkdir(nodes[i].file, 0o700); err != nil {
				return err
			}
		}
	}
	if err := eachFile(ctx, nodes, x.workers, x.file); err != nil {
		return err
	}
	for i := range nodes {
		if err := x.special(&nodes[i]); err != nil {
			return err
		}
	}
	for i := range slices.Backward(nodes) {
		if n := &nodes[i]; n.Type == typeDir {
			if err := x.metadata(n); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *extractor) start() error {
	err := os.Mkdir(x.dst, 0o700)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	entries, err := os.ReadDir(x.dst)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("the directory is not empty")
	}
	return nil
}

func (x *extractor) file(ctx context.Context, n *node) error {
	if err := copyFile(ctx, x.content(n), n.file, 0o600, 1); err != nil {
		return err
	}
	return x.metadata(n)
}

// special makes what is neither a directory nor a file.
func (x *extractor) special(n *node) error {
	var err error
	switch n.Type {
	case typeDir, typeFile:
		return nil
	case typeHardLink:
		return os.Link(filepath.Join(x.dst, n.Target), n.file)
	case typeSymlink:
		err = os.Symlink(n.Target, n.file)
	case typeChar:
		err = mknod(n, unix.S_IFCHR)
	case typeBlock:
		err = mknod(n, unix.S_IFBLK)
	case typeFIFO:
		err = mknod(n, unix.S_IFIFO)
	case typeSocket:
		err = mknod(n, unix.S_IFSOCK)
	}
	if err != nil {
		return err
	}
	return x.metadata(n)
}

func mknod(n *node, mode uint32) error {
	if err := unix.Mknod(n.file, mode|0o600, int(unix.Mkdev(n.Major, n.Minor))); err != nil {
		return &fs.PathError{Op: "mknod", Path: n.file, Err: err}
	}
	return nil
}

// metadata sets owner, mode, attributes and time, in the only order in which
// none undoes another.
func (x *extractor) metadata(n *node) error {
	if x.m.Full {
		if err := os.Lchown(n.file, int(n.UID), int(n.GID)); err != nil {
			return err
		}
	}
	if n.Type != typeSymlink {
		if err := unix.Chmod(n.file, n.Mode); err != nil {
			return &fs.PathError{Op: "chmod", Path: n.file, Err: err}
		}
	}
	for _, a := range n.Xattrs {
		if err := unix.Lsetxattr(n.file, a.Name, []byte(a.Value), 0); err != nil {
			return fmt.Errorf("set attribute %s of %s: %w", a.Name, n.file, err)
		}
	}
	t := unix.NsecToTimespec(n.MTime)
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, n.file, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "utimensat", Path: n.file, Err: err}
	}
	return nil
}
