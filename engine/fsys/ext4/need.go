package ext4

import (
	"context"
	"errors"
	"fmt"
	"io"

	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/internal/sparse"
)

// needs is how much of an empty ext4 file system a content uses.
type needs struct {
	blocks int64
	inodes int64
}

// scanFrom is the length in bytes from which a file is searched for zeros
// before a file system is fitted to the content. Below it every block counts.
const scanFrom = 16 << 20

// inodesOf counts the objects of the tree.
func inodesOf(t *tree.Tree) int64 {
	var n int64
	_ = t.Walk(func(string, *tree.Inode) error { n++; return nil })
	return n
}

// needsOf computes an upper bound that depends on the content alone, not on how
// the host stores it.
func needsOf(ctx context.Context, t *tree.Tree, bs int64) (needs, error) {
	n := needs{blocks: 16}
	err := t.Walk(func(p string, ino *tree.Inode) error {
		n.inodes++
		blocks, err := blocksOf(ctx, ino, bs)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		n.blocks += blocks
		return nil
	})
	n.blocks += n.blocks / 1024
	return n, err
}

// blocksOf bounds the blocks of bs bytes that one object uses.
func blocksOf(ctx context.Context, n *tree.Inode, bs int64) (int64, error) {
	var blocks int64
	if len(n.Xattrs) > 0 {
		blocks++
	}
	switch {
	case n.IsDir():
		return blocks + dirBlocks(n, bs), nil
	case n.IsLink() && n.Size >= 60:
		return blocks + 1, nil
	case n.IsRegular() && (n.Size < scanFrom || isSwap(n)):
		data := (n.Size + bs - 1) / bs
		return blocks + data + data/64, nil
	case n.IsRegular():
		data, runs, err := scanData(ctx, n, bs)
		return blocks + data + data/(bs/4) + 4 + runs*12/(bs-12), err
	}
	return blocks, nil
}

// dirBlocks is the length of a directory's own data.
func dirBlocks(n *tree.Inode, bs int64) int64 {
	room := bs - 12 // the checksum's place
	blocks, used := int64(1), int64(24)
	for _, e := range n.Entries {
		size := int64(direntSize(len(e.Name)))
		if used+size > room {
			blocks, used = blocks+1, 0
		}
		used += size
	}
	return blocks
}

// scanData counts a file's blocks that are not zero and the runs they form.
func scanData(ctx context.Context, n *tree.Inode, bs int64) (blocks, runs int64, err error) {
	r, err := n.Open()
	if err != nil {
		return 0, 0, err
	}
	defer r.Close()
	buf := make([]byte, 256<<10)
	inRun := false
	for off := int64(0); off < n.Size; {
		if err := context.Cause(ctx); err != nil {
			return 0, 0, err
		}
		next, err := skipHole(r, off, bs)
		if err != nil {
			return 0, 0, err
		}
		inRun = inRun && next == off
		off = next
		k, err := io.ReadFull(r, buf[:min(int64(len(buf)), n.Size-off)])
		if err != nil && !(errors.Is(err, io.EOF) && k == 0 && off == n.Size) {
			return 0, 0, n.Short(err)
		}
		ended := inRun // with data
		inRun = false
		for from, to := range sparse.Runs(buf[:k], int(bs)) {
			blocks += (int64(to-from) + bs - 1) / bs
			if from > 0 || !ended {
				runs++
			}
			inRun = to == k
		}
		off += int64(k)
	}
	return blocks, runs, nil
}

// skipHole moves a reader over a hole at off, to the begin of a block, and
// returns the new offset.
func skipHole(r io.ReadCloser, off, bs int64) (int64, error) {
	h, ok := r.(tree.HoleSkipper)
	if !ok {
		return off, nil
	}
	next, err := h.NextData(off)
	if err != nil {
		return 0, err
	}
	aligned := max(off, next/bs*bs)
	if s, ok := r.(io.Seeker); ok && aligned != next {
		_, err = s.Seek(aligned, io.SeekStart)
	}
	return aligned, err
}
