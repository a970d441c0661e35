package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/flock"
	"b9.build/b9/engine/internal/layer"
	"b9.build/b9/engine/internal/sparse"
)

// Damage is something that Verify found wrong.
type Damage struct {
	What   string `json:"what"` // "file", "tree" or "record", with its name
	Path   string `json:"path"`
	Reason string `json:"reason"`
	// Blocks are the blocks of a file that are damaged, where the store knows what they were.
	Blocks []DamagedBlock `json:"blocks,omitempty"`
}

// DamagedBlock is a block of 64 KiB of a file object that holds other bytes than it should.
type DamagedBlock struct {
	Offset int64   `json:"offset"`         // bytes
	From   *Digest `json:"from,omitempty"` // an object that has what the block held
}

// String returns a line for a person.
func (d Damage) String() string { return d.What + ": " + d.Reason + " (" + d.Path + ")" }

// VerifyReport says what Verify found.
type VerifyReport struct {
	Files     int      `json:"files"`
	Trees     int      `json:"trees"`
	Records   int      `json:"records"`
	Bytes     int64    `json:"bytes"`     // apparent size of the files that were hashed
	Corrupt   []Damage `json:"corrupt"`   // objects and records whose content is wrong
	Missing   []Damage `json:"missing"`   // trees that name what is not there
	Collected int      `json:"collected"` // sound records with an output that is not there, which is no damage
	Orphans   int      `json:"orphans"`   // objects that nothing names: they are harmless, and Collect removes them in time
	Removed   int      `json:"removed"`   // by repair
	Repaired  int      `json:"repaired"`  // objects whose damaged blocks repair has copied from others
}

// Verify hashes every object again and follows every reference. With repair
// it gives damaged objects their blocks back that other objects have; it removes
// those of which a block is lost, damaged records, and the trees that refer to them,
// so that they are made anew. The records of damaged objects are true all
// the same, and stay; those of steps that read such an object since it may have been
// damaged go. Only a failure to look is an error; damage is in the
// report.
func (s *Store) Verify(ctx context.Context, repair bool) (VerifyReport, error) {
	how := flock.Shared
	if repair {
		if err := s.ReadOnly(); err != nil {
			return VerifyReport{}, err
		}
		how = flock.Exclusive
	}
	lock, err := s.lockCollect(ctx, how)
	if err != nil {
		return VerifyReport{}, err
	}
	defer lock.Close()
	v := &verifier{s: s, mending: repair, bad: map[Digest]bool{}, since: map[Digest]int64{}, named: map[Digest]bool{}, mended: map[Digest]bool{}}
	err = v.run(ctx)
	if err == nil && repair {
		err = v.repair(ctx)
	}
	if err != nil {
		return v.report, fmt.Errorf("verify %s: %w", s.dir, err)
	}
	return v.report, nil
}

type verifier struct {
	s       *Store
	mending bool // damaged blocks are copied from where they are sound
	report  VerifyReport
	mu      sync.Mutex // guards report, bad and broken while files are hashed
	bad     map[Digest]bool
	broken  []*broken
	since   map[Digest]int64 // of damaged objects: see damagedSince
	mended  map[Digest]bool
	named   map[Digest]bool
	drop    [3][]string // records, trees, files, in the order of removal
}

func (v *verifier) run(ctx context.Context) error {
	for _, part := range []func(context.Context) error{v.files, v.blocks, v.differences, v.blocks} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	slices.SortFunc(v.report.Corrupt, func(a, b Damage) int { return slices.Compare([]byte(a.Path), []byte(b.Path)) })
	for _, part := range []func(context.Context) error{v.trees, v.records, v.orphans} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// files hashes the file objects, several at a time.
func (v *verifier) files(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(v.s.opts.Workers)
	err := v.s.eachStored(objectsDir, func(path string, d Digest, _ fs.FileInfo) error {
		g.Go(func() error { return v.file(gctx, path, d) })
		return gctx.Err()
	})
	return errors.Join(g.Wait(), err)
}

func (v *verifier) file(ctx context.Context, path string, d Digest) error {
	var st unix.Stat_t
	_ = unix.Lstat(path, &st)
	got, size, table, err := v.read(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	want, known := v.s.Leaves(d)
	if err == nil && got == d && table != nil && !known {
		v.s.keepLeaves(d, table)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Files++
	v.report.Bytes += size
	switch {
	case err != nil:
		v.corrupt(2, "file", d, path, err.Error(), &st)
	case got == d:
		v.s.checks.put(map[Digest]proof{d: proofOf(&st, time.Now().UnixNano())})
	case table != nil && known:
		v.broken = append(v.broken, &broken{digest: d, got: got, path: path, st: st, size: want.Size(), blocks: want.Since(table)})
	default:
		v.corrupt(2, "file", d, path, "its content has the digest "+got.String(), &st)
	}
	return nil
}

// read hashes an object as rehash does; of one that has a table of leaves it makes that.
func (v *verifier) read(ctx context.Context, path string) (Digest, int64, *digest.Table, error) {
	f, info, err := sparse.Open(path)
	if err != nil {
		return Digest{}, 0, nil, err
	}
	defer f.Close()
	if info.Size() < leavesFrom {
		d, err := digest.Content(ctx, f, info.Size(), 2)
		return d, info.Size(), nil, err
	}
	t, err := digest.Update(ctx, f, info.Size(), 2)
	if err != nil {
		return Digest{}, 0, nil, err
	}
	return t.Digest(), info.Size(), t, nil
}

// Rehash returns the digest of what a file object holds, which is d unless the
// object is damaged. Others may use it meanwhile.
func (s *Store) Rehash(ctx context.Context, d Digest) (Digest, error) {
	got, _, err := rehash(ctx, s.shard(objectsDir, d))
	if !errors.Is(err, fs.ErrNotExist) {
		return got, err
	}
	t, _, err := s.rehashDifference(ctx, d)
	if err != nil {
		return Digest{}, err
	}
	return t.Digest(), nil
}

// rehashDifference makes the table of an object that is a difference anew. What is the
// base's, which is another object, counts as right.
func (s *Store) rehashDifference(ctx context.Context, d Digest) (*digest.Table, *layer.Trailer, error) {
	c, err := s.openChain(d)
	if err != nil {
		return nil, nil, err
	}
	image, err := c.image()
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	defer image.Close()
	if c.depth() == 0 { // it has become whole meanwhile
		t, err := digest.Update(ctx, blob.Seeker(image), image.Size(), s.opts.Workers)
		return t, nil, err
	}
	top := c.trailers[c.depth()-1]
	t, _, err := s.leavesOf(ctx, top.Base, top, image)
	return t, top, err
}

// rehash hashes an object, whose time may change meanwhile: somebody uses it.
func rehash(ctx context.Context, path string) (Digest, int64, error) {
	f, _, err := sparse.Open(path)
	if err != nil {
		return Digest{}, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Digest{}, 0, err
	}
	d, err := digest.Content(ctx, f, info.Size(), 2)
	return d, info.Size(), err
}

// note adds damage to a list of the report, and its file to what is removed for it.
func (v *verifier) note(list *[]Damage, rank int, damage Damage) {
	*list = append(*list, damage)
	v.drop[rank] = append(v.drop[rank], damage.Path)
}

// corrupt notes that an object is damaged.
func (v *verifier) corrupt(rank int, what string, d Digest, path, reason string, st *unix.Stat_t) {
	v.bad[d], v.since[d] = true, v.s.damagedSince(d, st)
	v.note(&v.report.Corrupt, rank, Damage{What: what + " " + d.String(), Path: path, Reason: reason})
}

func (v *verifier) trees(ctx context.Context) error {
	return v.s.eachStored(treesDir, func(path string, d Digest, _ fs.FileInfo) error {
		v.report.Trees++
		m, err := readManifest(path, d)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			var st unix.Stat_t
			_ = unix.Lstat(path, &st)
			v.corrupt(1, "tree", d, path, err.Error(), &st)
			return nil
		}
		v.tree(m, d, path)
		return ctx.Err()
	})
}

func (v *verifier) tree(m *manifest, d Digest, path string) {
	broken := ""
	for i := range m.Entries {
		e := &m.Entries[i]
		if e.Type != typeFile {
			continue
		}
		v.named[e.Digest] = true
		if broken == "" && !v.whole(Object{File, e.Digest, e.Size}) {
			broken = e.Path
		}
	}
	if broken != "" {
		v.bad[d] = true
		v.note(&v.report.Missing, 1, Damage{What: "tree " + d.String(), Path: path, Reason: fmt.Sprintf("the content of %q is missing or damaged", broken)})
	}
}

// whole reports whether the object is there, and sound as far as was seen.
func (v *verifier) whole(o Object) bool {
	if o.Kind == Tree || !v.s.isWhole(o.Digest) {
		return v.there(o)
	}
	info, err := os.Lstat(v.s.objectPath(o))
	return err == nil && !v.bad[o.Digest] && info.Size() == o.Size
}

func (v *verifier) records(ctx context.Context) error {
	return v.s.eachRecord(func(path string, _ fs.FileInfo, r *Record, err error) error {
		v.report.Records++
		if err == nil {
			v.record(r)
		} else {
			v.note(&v.report.Corrupt, 0, Damage{What: "record", Path: path, Reason: err.Error()})
		}
		return ctx.Err()
	})
}

func (v *verifier) record(r *Record) {
	if r.Log != nil {
		v.named[r.Log.Digest] = true
	}
	collected := false
	for _, o := range r.Outputs {
		v.named[o.Object.Digest] = true
		_, err := os.Lstat(v.s.objectPath(o.Object))
		collected = collected || errors.Is(err, fs.ErrNotExist)
	}
	if collected {
		v.report.Collected++
	}
}

func (v *verifier) orphans(ctx context.Context) error {
	objs, _, err := v.s.roots()
	if err != nil {
		return err
	}
	for _, o := range objs {
		v.named[o.Digest] = true
	}
	count := func(_ string, d Digest, _ fs.FileInfo) error {
		if !v.named[d] {
			v.report.Orphans++
		}
		return ctx.Err()
	}
	return errors.Join(v.s.eachStored(objectsDir, count), v.s.eachStored(differencesDir, count), v.s.eachStored(treesDir, count))
}

// repair removes what was found wrong: what refers before what it refers to.
func (v *verifier) repair(ctx context.Context) error {
	if len(v.since) > 0 { // while the trees are there that name the damaged files
		dropped, err := v.s.distrust(ctx, v.since, v.mended)
		if err != nil {
			return err
		}
		v.report.Removed += len(dropped)
	}
	for _, paths := range v.drop {
		for _, p := range paths {
			if err := removeIfThere(p); err != nil {
				return err
			}
			v.report.Removed++
		}
		if len(paths) > 0 {
			if err := v.s.syncAll(); err != nil {
				return err
			}
		}
	}
	return removeIfThere(v.s.index.path)
}
