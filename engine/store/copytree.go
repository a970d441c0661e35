package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/sparse"
)

// CopyTree makes the directory dst, which must be absent or empty, a copy of
// the source tree src, with what [Store.TreeDigest] counts and nothing else:
// relative paths, types, contents, the texts of symbolic links, and 0755 for
// what is a directory or a program and 0644 for what is not. Every file has one
// name, no extended attribute, the time at, and belongs to root if this process
// runs as root, else to its user. So the copy is the same whoever checked src
// out, where and when. skip is as for [Store.TreeDigest].
//
// It returns the digest of what was copied, which is that of src unless
// somebody changes src meanwhile; a file that changes while it is copied gives
// an error with [sparse.ErrChanged]. The copy is not flushed to the disk; after
// an error it is incomplete.
func (s *Store) CopyTree(ctx context.Context, src, dst string, at time.Time, skip func(rel string, dir bool) bool) (Digest, error) {
	abs, err := filepath.Abs(src)
	if err != nil {
		return Digest{}, err
	}
	nodes, err := walk(ctx, abs, skip)
	if err != nil {
		return Digest{}, fmt.Errorf("copy tree %s: %w", src, err)
	}
	d, err := s.copyNodes(ctx, nodes, dst, at)
	if err != nil {
		return Digest{}, SpaceError(dst, fmt.Errorf("copy tree %s to %s: %w", src, dst, err))
	}
	return d, nil
}

func (s *Store) copyNodes(ctx context.Context, nodes []node, dst string, at time.Time) (Digest, error) {
	for i, e := range newManifest(nodes, false).Entries {
		nodes[i].entry = e
		nodes[i].MTime = at.UnixNano()
	}
	copy := func(ctx context.Context, n *node, to string) error {
		return copyFile(ctx, n.file, to, copying{mode: 0o600, workers: 1})
	}
	x := extractor{nodes: nodes, full: os.Geteuid() == 0, dst: dst, workers: s.opts.Workers, copy: copy, copied: s.copied}
	if err := x.run(ctx); err != nil {
		return Digest{}, err
	}
	return newManifest(nodes, false).Digest(), nil
}

// copied notes the digest and the size of the copy of a source file. What the
// cache knows of the source is true of the copy, too, if stat says the same
// before and after the file was copied; else the copy is hashed.
func (s *Store) copied(ctx context.Context, n *node, to string) error {
	var after unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Lstat(n.file, &after) }); err != nil {
		return fmt.Errorf("%s: %w", n.file, errors.Join(sparse.ErrChanged, err))
	}
	if keyOf(&after) != keyOf(&n.stat) {
		return fmt.Errorf("%s: %w", n.file, sparse.ErrChanged)
	}
	var err error
	n.Size = n.stat.Size
	if d, ok := s.stats.get(n.file, keyOf(&n.stat)); ok {
		n.Digest = d
		return nil
	}
	n.Digest, n.Size, err = digest.Path(ctx, to, 1)
	return err
}
