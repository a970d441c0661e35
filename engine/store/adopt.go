package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/newfile"
	"b9.build/b9/engine/internal/sparse"
)

// Adopt moves a regular file or a directory tree from a [Scratch] of this
// store into the store: no data is copied, and holes stay. A tree keeps its
// full metadata. A fork is stored as what it has become. The path is gone afterwards; if
// the store has the object already, the new one is dropped. When Adopt fails, a file may have become
// read-only, and a tree may have lost files.
//
// A file that is a fork of one of the objects named by of, or has parts of them, is read only
// where it does not share their blocks.
//
// Nobody else may have the file open for writing.
func (s *Store) Adopt(ctx context.Context, path string, of ...Digest) (_ Object, err error) {
	defer s.annotate(&err, s.dir, "adopt %s", path)
	real, err := s.insideScratch(path)
	if err != nil {
		return Object{}, err
	}
	if f := s.forkAt(real); f != nil {
		return s.adopt(ctx, f, real)
	}
	n, err := statNode(real, ".")
	if err != nil {
		return Object{}, err
	}
	switch n.Type {
	case typeFile:
		return s.adoptFile(ctx, n, of...)
	case typeDir:
		return s.adoptTree(ctx, real)
	}
	return Object{}, fmt.Errorf("it is neither a regular file nor a directory")
}

// insideScratch resolves the links on the way to path, which an action may
// have laid, and checks that it still lies in a scratch directory.
func (s *Store) insideScratch(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	dir := filepath.Dir(abs)
	if st, err := os.Lstat(dir); err != nil || !st.IsDir() || filepath.Dir(dir) != filepath.Join(s.dir, scratchDir) {
		if dir, err = filepath.EvalSymlinks(dir); err != nil {
			return "", err
		}
	}
	real := filepath.Join(dir, filepath.Base(abs))
	rest, ok := strings.CutPrefix(real, filepath.Join(s.dir, scratchDir)+"/")
	if !ok || !strings.Contains(rest, "/") {
		return "", fmt.Errorf("it does not lie in a scratch directory of the store %s", s.dir)
	}
	return real, nil
}

func (s *Store) adoptFile(ctx context.Context, n node, of ...Digest) (Object, error) {
	if n.stat.Nlink > 1 {
		if err := s.detach(ctx, &n); err != nil {
			return Object{}, err
		}
	}
	h, err := s.seal(ctx, n.file, s.opts.Workers, true, of...)
	if err != nil {
		return Object{}, err
	}
	moved, err := s.place(n.file, objectsDir, h.digest, h.size, true)
	if err != nil {
		return Object{}, err
	}
	if moved {
		s.checked(objectsDir, h.digest, h.at)
	}
	// Commit flushes the name. Without it the object may be gone after a
	// power loss, but is never there with other bytes.
	return Object{File, h.digest, h.size}, nil
}

// detach replaces the file of n by a copy that has no other name, through
// which the object could be written to.
func (s *Store) detach(ctx context.Context, n *node) error {
	dir, err := s.tempDir()
	if err != nil {
		return err
	}
	temp := filepath.Join(dir, "name-"+rand.Text())
	if err := copyFile(ctx, n.file, temp, copying{mode: 0o600, workers: s.opts.Workers}); err != nil {
		return err
	}
	return os.Rename(temp, n.file)
}

// seal makes the file read-only, stamps it as used, hashes it, and flushes
// it if asked to. The flush runs beside the hashing: one needs the disk, the
// other the processor.
func (s *Store) seal(ctx context.Context, file string, workers int, flush bool, of ...Digest) (hashed, error) {
	f, err := s.openSealed(file)
	if err != nil {
		return hashed{}, err
	}
	defer f.Close()
	var flushing errgroup.Group
	if flush {
		flushing.Go(func() error { return s.syncFile(f) })
	}
	h, err := s.hashNew(ctx, f, workers, of)
	return h, errors.Join(err, flushing.Wait())
}

func (s *Store) openSealed(file string) (*os.File, error) {
	// The owner may change and read a file without read permission only after
	// the change of mode, hence the path and not the open file.
	err := unix.Fchmodat(unix.AT_FDCWD, file, 0o444, 0)
	if errors.Is(err, unix.EPERM) {
		// A script may have made it immutable, which an object is anyway.
		_ = clearFileFlags(unix.AT_FDCWD, file)
		err = unix.Fchmodat(unix.AT_FDCWD, file, 0o444, 0)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "chmod", Path: file, Err: err}
	}
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err = newfile.InheritFrom(f, s.owner); err == nil {
		err = setMTime(file, s.now())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// place renames a sealed file to its object's name in the directory kind, unless the object is there,
// undamaged, and reports whether it did.
//
// An object that is there always gets a new time, so that a collector which
// has chosen it already sees that something new may refer to it.
func (s *Store) place(file, kind string, d Digest, size int64, sync bool) (moved bool, err error) {
	path := s.shard(kind, d)
	have, ok, err := s.use(Object{Kind: File, Digest: d})
	if err != nil {
		return false, err
	}
	if !ok || have != size {
		return true, s.moveInto(file, path, sync)
	}
	err = s.touch([]Digest{d})
	if errors.Is(err, fs.ErrNotExist) {
		return true, s.moveInto(file, path, sync)
	}
	if err != nil {
		return false, err
	}
	return false, os.Remove(file)
}

func (s *Store) adoptTree(ctx context.Context, root string) (Object, error) {
	if mount, err := mountedBelow(root); err != nil {
		return Object{}, err
	} else if mount != "" {
		return Object{}, fmt.Errorf("%s is mounted", mount)
	}
	w := &walker{ctx: ctx, unlock: os.Geteuid() != 0, adopt: true}
	nodes, err := w.run(root)
	if err != nil {
		return Object{}, err
	}
	outside := linkHard(nodes)
	if err := readXattrs(nodes); err != nil {
		return Object{}, err
	}
	for i := range nodes {
		if n := &nodes[i]; outside[n.Path] {
			if err := s.detach(ctx, n); err != nil {
				return Object{}, err
			}
		}
	}
	o, err := s.storeTree(ctx, nodes, true)
	if err != nil {
		return Object{}, err
	}
	return o, RemoveTree(root)
}

// storeTree moves the files of nodes into the store and writes their manifest.
// Everything that the manifest names is durable before it has its name.
func (s *Store) storeTree(ctx context.Context, nodes []node, full bool) (Object, error) {
	files := 0
	for i := range nodes {
		if nodes[i].Type == typeFile {
			files++
		}
	}
	many := files > manyFiles
	err := fillContents(ctx, nodes, s.opts.Workers, func(ctx context.Context, n *node) (Digest, int64, error) {
		h, err := s.seal(ctx, n.file, 1, !many)
		return h.digest, h.size, err
	})
	if err != nil {
		return Object{}, err
	}
	if many {
		if err := s.syncAll(); err != nil {
			return Object{}, err
		}
	}
	if err := s.placeFiles(nodes, !many); err != nil {
		return Object{}, err
	}
	return s.storeManifest(newManifest(nodes, full))
}

// placeFiles gives the sealed files of nodes their names, and flushes those.
func (s *Store) placeFiles(nodes []node, sync bool) error {
	var placed []string
	found := map[Digest]proof{}
	for i := range nodes {
		n := &nodes[i]
		if n.Type != typeFile {
			continue
		}
		moved, err := s.place(n.file, objectsDir, n.Digest, n.Size, sync)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if moved && s.lstat(objectsDir, n.Digest, &st) == nil {
			found[n.Digest] = proofOf(&st, time.Now().UnixNano())
		}
		placed = append(placed, s.pathsOf(Object{Kind: File, Digest: n.Digest})...)
	}
	s.checks.put(found)
	return s.syncParents(placed)
}

func (s *Store) storeManifest(m *manifest) (Object, error) {
	if err := m.check(); err != nil {
		return Object{}, err
	}
	o := Object{Tree, m.Digest(), m.Size()}
	if _, ok, err := s.use(o); err != nil {
		return Object{}, err
	} else if ok {
		return o, nil
	}
	// As with files, Commit flushes the name.
	if err := s.replaceFile(s.treePath(o.Digest), m.Encode(), 0o444, s.syncFile); err != nil {
		return Object{}, err
	}
	s.checked(treesDir, o.Digest, 0)
	s.wholeTrees.add(o.Digest)
	return o, nil
}

// Import copies a file or a directory tree of the host into the store,
// sharing or copying its data without its holes. A tree is recorded as a
// source tree: its digest is the one [Store.TreeDigest] gives. A symbolic link path
// is followed. A file that changes meanwhile gives an error with
// [sparse.ErrChanged].
func (s *Store) Import(ctx context.Context, path string) (_ Object, err error) {
	defer s.annotate(&err, s.dir, "import %s", path)
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return Object{}, err
	}
	n, err := statNode(real, ".")
	if err != nil {
		return Object{}, err
	}
	work, err := s.Scratch("import")
	if err != nil {
		return Object{}, err
	}
	o, err := s.importInto(ctx, work.Dir(), n)
	return o, errors.Join(err, work.Close())
}

func (s *Store) importInto(ctx context.Context, dir string, n node) (Object, error) {
	switch n.Type {
	case typeFile:
		if err := s.copyIn(ctx, &n, filepath.Join(dir, "0"), s.opts.Workers); err != nil {
			return Object{}, err
		}
		n.stat.Nlink = 1
		return s.adoptFile(ctx, n)
	case typeDir:
		return s.importTree(ctx, dir, n.file)
	}
	return Object{}, fmt.Errorf("it is neither a regular file nor a directory")
}

func (s *Store) importTree(ctx context.Context, dir, root string) (Object, error) {
	nodes, err := walk(ctx, root, nil)
	if err != nil {
		return Object{}, err
	}
	var copied atomic.Int64
	err = eachFile(ctx, nodes, s.opts.Workers, func(ctx context.Context, n *node) error {
		return s.copyIn(ctx, n, filepath.Join(dir, fmt.Sprint(copied.Add(1))), 1)
	})
	if err != nil {
		return Object{}, err
	}
	return s.storeTree(ctx, nodes, false)
}

// copyIn copies the file of n to temp, which n stands for from then on.
func (s *Store) copyIn(ctx context.Context, n *node, temp string, workers int) error {
	if err := copyFile(ctx, n.file, temp, copying{mode: 0o600, workers: workers}); err != nil {
		return err
	}
	after, err := statNode(n.file, n.Path)
	if err != nil {
		return err
	}
	if after.Type != typeFile || after.Size != n.Size || after.MTime != n.MTime || after.stat.Ino != n.stat.Ino {
		return fmt.Errorf("%s: %w", n.file, sparse.ErrChanged)
	}
	n.file = temp
	return nil
}

// Has reports whether the store has the object, undamaged, with all its files if it is
// a tree, and keeps it from being collected until the Store is closed. It hashes
// what was written to since its content was last known to be right.
func (s *Store) Has(o Object) bool {
	size, ok, err := s.use(o)
	if ok && err == nil {
		ok, err = s.whole(context.Background(), o)
	}
	if err == nil && !ok {
		s.missed.add(o.Digest)
	}
	return err == nil && ok && (o.Kind == Tree || size == o.Size)
}
