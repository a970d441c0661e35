package fsys

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/compare"
	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/internal/sparse"
)

// Revert gives the image in the file at path, which is a copy of before that
// was mounted meanwhile, the bytes of before again if it holds the same file system
// to those who use it: type, size, label, UUID, and for each file what a mount shows
// of it but for access and change times. It reports whether it did. Of an xfs or
// btrfs that was written to at all it tells nothing, and leaves it, even if what was written
// is gone again.
//
// Only what differs is looked at closely: reflinks, and what does not lie in written, are
// not even read. Space that was a hole and is zeros now may become one again.
func Revert(ctx context.Context, before blob.Blob, path string, written Parts) (same bool, err error) {
	return revert(ctx, before, path, written, (*pair).same)
}

// Parts are the parts [from, to) of an image, in order, that may have been written to since
// it was copied. Nil says that this is not known.
type Parts [][2]int64

// runs are the same for what compares.
func (p Parts) runs() (r compare.Runs) {
	for _, x := range p {
		r.Add(compare.Run{From: x[0], To: x[1]})
	}
	return r
}

// Restore is Revert for an image of xfs or btrfs in which every file is known to be what
// it was. What is not in files is compared here: type, size, label, UUID, subvolumes.
func Restore(ctx context.Context, before blob.Blob, path string, written Parts) (same bool, err error) {
	return revert(ctx, before, path, written, (*pair).sameFrame)
}

func revert(ctx context.Context, before blob.Blob, path string, written Parts, holds func(*pair, context.Context) (bool, error)) (same bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	after, err := blob.FromFile(f)
	if err != nil {
		return false, errors.Join(err, f.Close())
	}
	defer func() { err = errors.Join(err, after.Close()) }()
	p := newPair(before, after, written)
	if same, err := holds(p, ctx); err != nil || !same {
		return false, err
	}
	return true, p.copyBack(ctx, f)
}

// pair is an image and what has become of a copy of it.
type pair struct {
	a, b     blob.Blob
	sections [2]*io.SectionReader
	equal    compare.Runs // which need no look
	differ   compare.Runs
	from     int64 // up to here differ is complete
}

// mostRuns bounds the memory that differ takes. What lies behind so many differences
// counts as one.
const mostRuns = 1 << 16

func newPair(a, b blob.Blob, written Parts) *pair {
	equal := compare.Shared(a, b)
	if written != nil {
		equal = written.runs().Between(min(a.Size(), b.Size()))
	}
	return &pair{a: a, b: b, equal: equal, sections: [2]*io.SectionReader{io.NewSectionReader(a, 0, a.Size()), io.NewSectionReader(b, 0, b.Size())}}
}

// same compares what mounts show. The cheap question comes first: whether there
// are differences where mounts of an unchanged file system do not write.
func (p *pair) same(ctx context.Context) (bool, error) {
	if p.a.Size() != p.b.Size() {
		return false, nil
	}
	info, same, err := p.infos()
	if err != nil || !same {
		return false, err
	}
	traces, ok, err := p.traces(info.Type)
	if err != nil {
		return false, err
	}
	if ok {
		ok, err = p.only(ctx, traces)
	}
	if err != nil || ok {
		return ok, err
	}
	switch info.Type {
	case "xfs", "swap", "":
		return false, nil
	case "btrfs":
		if err := p.complete(ctx); err != nil {
			return false, err
		}
		return compare.Btrfs(p.a, p.b, p.differ)
	}
	return p.sameFiles(ctx, info.Type)
}

// sameFrame compares what is no file's.
func (p *pair) sameFrame(context.Context) (bool, error) {
	if p.a.Size() != p.b.Size() {
		return false, nil
	}
	info, same, err := p.infos()
	if err != nil || !same {
		return false, err
	}
	if info.Type == "btrfs" {
		return compare.Subvolumes(p.a, p.b)
	}
	return info.Type == "xfs", nil
}

// infos compares what the superblocks say but for free space.
func (p *pair) infos() (tree.Info, bool, error) {
	var infos [2]tree.Info
	for i, r := range p.sections {
		info, err := probe(r)
		if err != nil {
			return info, false, err
		}
		info.Free = 0
		infos[i] = info
	}
	return infos[0], infos[0] == infos[1], nil
}

// traces are where a mount writes although nothing changes; ok is false where
// that can't be told, or the superblocks tell of a change.
func (p *pair) traces(kind string) (traces compare.Runs, ok bool, err error) {
	switch {
	case strings.HasPrefix(kind, "ext"):
		return ext4.Traces(p.sections[0], p.sections[1])
	case kind == "xfs":
		return compare.XFS(p.a, p.b)
	}
	return nil, true, nil
}

// only reports whether the images differ in these runs alone. It stops at the first
// other difference.
func (p *pair) only(ctx context.Context, traces compare.Runs) (bool, error) {
	err := p.differences(ctx, func(r compare.Run) bool { return traces.Cover(r) })
	return err == nil && p.from == p.a.Size(), err
}

// complete makes differ complete.
func (p *pair) complete(ctx context.Context) error {
	return p.differences(ctx, func(compare.Run) bool { return true })
}

// differences goes on with differ until a run is not good.
func (p *pair) differences(ctx context.Context, good func(compare.Run) bool) error {
	for r, err := range compare.Differences(ctx, p.a, p.b, p.equal, p.from) {
		if err != nil {
			return err
		}
		if len(p.differ) >= mostRuns {
			r.To = p.a.Size()
		}
		if !good(r) {
			p.from = r.From
			return nil
		}
		p.differ.Add(r)
		if p.from = r.To; r.To == p.a.Size() {
			return nil
		}
	}
	p.from = p.a.Size()
	return nil
}

// sameFiles compares what the readers of the file systems tell. Bytes of files are read
// only where all the rest is equal, and where the images differ.
func (p *pair) sameFiles(ctx context.Context, kind string) (bool, error) {
	var trees [2]*tree.Tree
	for i, r := range p.sections {
		v, err := open(volume.NewPages(r), kind)
		if err != nil {
			return false, err
		}
		if trees[i], err = tree.FromReader(volume.New(v, kind)).Load(ctx, ""); err != nil {
			return false, fmt.Errorf("compare: %w", err)
		}
	}
	return tree.Equal(ctx, trees[0], trees[1], func(at, n int64) (bool, error) {
		err := p.complete(ctx)
		return err == nil && !p.differ.Touch(compare.Run{From: at, To: at + n}), err
	})
}

// copyBack writes into f, which holds p.b, what differs in p.a.
func (p *pair) copyBack(ctx context.Context, f *os.File) error {
	if err := p.complete(ctx); err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for _, r := range p.differ {
		for r.From < r.To {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			b := buf[:min(int64(len(buf)), r.To-r.From)]
			if n, err := p.a.ReadAt(b, r.From); n < len(b) {
				return err
			}
			if err := putBack(ctx, f, b, r.From); err != nil {
				return err
			}
			r.From += int64(len(b))
		}
	}
	return nil
}

// putBack writes b, or a hole where b is zeros.
func putBack(ctx context.Context, f *os.File, b []byte, at int64) error {
	if sparse.IsZero(b) {
		return sparse.Zero(ctx, f, at, int64(len(b)))
	}
	_, err := f.WriteAt(b, at)
	return err
}
