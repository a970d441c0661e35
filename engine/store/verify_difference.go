package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/layer"
)

// differences hashes the objects that are differences, after what they rest on. What is
// the base's, which was looked at before, is not read again.
func (v *verifier) differences(ctx context.Context) error {
	var all inventory
	all.byDigest, all.files = map[Digest]*item{}, map[Digest][]Digest{}
	if err := errors.Join(all.scanFiles(ctx, v.s), all.scanDifferences(ctx, v.s)); err != nil {
		return err
	}
	list := slices.DeleteFunc(all.items, func(it *item) bool { return it.kind != itemDifference })
	slices.SortStableFunc(list, func(a, b *item) int { return cmp.Compare(len(all.files[a.digest]), len(all.files[b.digest])) })
	for _, it := range list {
		for _, d := range all.files[it.digest] {
			v.named[d] = true
		}
		if err := v.difference(ctx, it); err != nil {
			return err
		}
	}
	return nil
}

// difference hashes one.
func (v *verifier) difference(ctx context.Context, it *item) error {
	d := it.digest
	var st unix.Stat_t
	_ = unix.Lstat(it.path, &st)
	t, err := readTrailer(it.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	v.report.Files++
	v.report.Bytes += it.alloc
	if err != nil {
		v.corrupt(1, "file", d, it.path, err.Error(), &st)
		return ctx.Err()
	}
	if base := (Object{Kind: File, Digest: t.Base}); !v.there(base) {
		v.bad[d] = true
		v.note(&v.report.Missing, 1, Damage{What: "file " + d.String(), Path: it.path, Reason: fmt.Sprintf("what it is a difference to, %s, is missing or damaged", t.Base)})
		return ctx.Err()
	}
	table, _, err := v.s.rehashDifference(ctx, d)
	if ctx.Err() != nil || errors.Is(err, fs.ErrNotExist) {
		return ctx.Err()
	}
	want, known := v.s.Leaves(d)
	switch {
	case err != nil:
		v.corrupt(1, "file", d, it.path, err.Error(), &st)
	case table.Digest() == d:
		v.s.checks.put(map[Digest]proof{d: proofOf(&st, time.Now().UnixNano())})
		if !known {
			v.s.keepLeaves(d, table)
		}
	case known:
		v.broken = append(v.broken, &broken{digest: d, got: table.Digest(), path: it.path, st: st, size: want.Size(), blocks: want.Since(table), difference: t})
	default:
		v.corrupt(1, "file", d, it.path, "its content has the digest "+table.Digest().String(), &st)
	}
	return nil
}

// there reports whether an object is there, and sound as far as was seen.
func (v *verifier) there(o Object) bool {
	var st unix.Stat_t
	_, err := v.s.find(o, &st)
	return err == nil && !v.bad[o.Digest]
}

// ownBlock returns what tells of a block whether the object has it in a file of its own, and not
// from what it rests on; false for an object that is not there.
func (s *Store) ownBlock(d Digest) (own func(index int64) bool, ok bool) {
	var st unix.Stat_t
	kind, err := s.find(Object{Kind: File, Digest: d}, &st)
	if err != nil || kind == objectsDir {
		return func(int64) bool { return true }, err == nil
	}
	t, err := readTrailer(s.shard(differencesDir, d))
	if err != nil {
		return nil, false
	}
	return func(index int64) bool { return hasBlock(t, index) }, true
}

// hasBlock reports whether the difference has the block.
func hasBlock(t *layer.Trailer, index int64) bool {
	i, _ := slices.BinarySearchFunc(t.Runs, index, func(r layer.Run, at int64) int { return cmp.Compare(r.End(), at+1) })
	return i < len(t.Runs) && t.Runs[i].Start <= index && t.Runs[i].Kind == layer.Here
}

// rehashMended returns the digest of an object that was mended.
func (v *verifier) rehashMended(ctx context.Context, f *os.File, b *broken) (Digest, error) {
	if b.difference != nil {
		t, _, err := v.s.rehashDifference(ctx, b.digest)
		if err != nil {
			return Digest{}, err
		}
		return t.Digest(), nil
	}
	return digest.Content(ctx, f, b.size, v.s.opts.Workers)
}
