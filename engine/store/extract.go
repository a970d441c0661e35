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
	if err := s.need(Object{Kind: Tree, Digest: d}); err != nil {
		return nil, fmt.Errorf("tree %s: %w", d, err)
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
func (s *Store) Extract(ctx context.Context, d Digest, dst string) (err error) {
	return s.ExtractPlaced(ctx, d, dst, Placing{})
}

// ExtractPlaced is Extract in the given way.
func (s *Store) ExtractPlaced(ctx context.Context, d Digest, dst string, how Placing) (err error) {
	m, err := s.manifest(d)
	if err != nil {
		return fmt.Errorf("extract: %w", err)
	}
	defer s.annotate(&err, dst, "extract tree %s to %s", d, dst)
	if ok, err := s.whole(ctx, Object{Kind: Tree, Digest: d}); !ok || err != nil {
		return errors.Join(fmt.Errorf("files of it are damaged or gone: build again"), err)
	}
	nodes := make([]node, len(m.Entries))
	for i, e := range m.Entries {
		nodes[i] = node{entry: e}
	}
	x := extractor{nodes: nodes, full: m.Full, dst: dst, workers: s.opts.Workers, copy: func(ctx context.Context, n *node, to string) error {
		return s.copyOut(ctx, n.Digest, to, copying{how, 0o600, 1})
	}}
	return x.run(ctx)
}

// extractor makes a tree of nodes, whose files have their content elsewhere.
type extractor struct {
	nodes   []node
	full    bool // give the owner of each node, too
	dst     string
	workers int
	copy    func(ctx context.Context, n *node, to string) error // of a file
	copied  func(ctx context.Context, n *node, to string) error // called for every file that was copied; may be nil
}

// at is where the node gets its place.
func (x *extractor) at(n *node) string { return filepath.Join(x.dst, n.Path) }

// run makes directories first and gives them their metadata last, so that
// filling them neither fails nor changes their times.
func (x *extractor) run(ctx context.Context) error {
	if err := x.start(); err != nil {
		return err
	}
	for i := range x.nodes {
		if n := &x.nodes[i]; n.Type == typeDir && i > 0 {
			if err := os.Mkdir(x.at(n), 0o700); err != nil {
				return err
			}
		}
	}
	if err := eachFile(ctx, x.nodes, x.workers, x.file); err != nil {
		return err
	}
	for i := range x.nodes {
		if err := x.special(&x.nodes[i]); err != nil {
			return err
		}
	}
	for i := range slices.Backward(x.nodes) {
		if n := &x.nodes[i]; n.Type == typeDir {
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
	if err := x.copy(ctx, n, x.at(n)); err != nil {
		return err
	}
	if x.copied != nil {
		if err := x.copied(ctx, n, x.at(n)); err != nil {
			return err
		}
	}
	return x.metadata(n)
}

// special makes what is neither a directory nor a file.
func (x *extractor) special(n *node) error {
	at := x.at(n)
	switch n.Type {
	case typeDir, typeFile:
		return nil
	case typeHardLink:
		return os.Link(filepath.Join(x.dst, n.Target), at)
	case typeSymlink:
		if err := os.Symlink(n.Target, at); err != nil {
			return err
		}
	default:
		if err := unix.Mknod(at, specialMode(n.Type)|0o600, int(unix.Mkdev(n.Major, n.Minor))); err != nil {
			return &fs.PathError{Op: "mknod", Path: at, Err: err}
		}
	}
	return x.metadata(n)
}

// specialMode is the type of a device, a pipe or a socket as mknod(2) has it.
func specialMode(t entryType) uint32 {
	return map[entryType]uint32{typeChar: unix.S_IFCHR, typeBlock: unix.S_IFBLK, typeFIFO: unix.S_IFIFO, typeSocket: unix.S_IFSOCK}[t]
}

// metadata sets owner, mode, attributes and time, in the only order in which
// none undoes another.
func (x *extractor) metadata(n *node) error {
	at := x.at(n)
	if x.full {
		if err := os.Lchown(at, int(n.UID), int(n.GID)); err != nil {
			return err
		}
	}
	if n.Type != typeSymlink {
		if err := unix.Chmod(at, n.Mode); err != nil {
			return &fs.PathError{Op: "chmod", Path: at, Err: err}
		}
	}
	for _, a := range n.Xattrs {
		if err := unix.Lsetxattr(at, a.Name, []byte(a.Value), 0); err != nil {
			return fmt.Errorf("set attribute %s of %s: %w", a.Name, at, err)
		}
	}
	t := unix.NsecToTimespec(n.MTime)
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, at, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "utimensat", Path: at, Err: err}
	}
	return nil
}
