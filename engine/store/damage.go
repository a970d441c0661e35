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
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/layer"
)

// Objects that are damaged
//
// An object is damaged when someone wrote to it, or the disk did not keep it. A
// write shows in its state (checks.go), and the object is hashed before it is
// used again. Of what the disk lost nothing tells: every collection hashes a share
// of the objects, those first that were not looked at for longest, and what
// leaves the machine is hashed each time.
//
// A damaged object goes, with the trees that name it. So do the records of steps
// that read it since it may have been damaged: their keys promise what follows
// from the right bytes. Traces of builds go, since they skip the records. What was
// copied out of the store since then is held suspect (suspects), so that results are
// placed again.

// suspectsFile lists damaged objects: a line for each with the digest and the times,
// in nanoseconds, between which copies of it may be damaged.
const suspectsFile = "suspects"

// hash returns the digest of what an object holds.
func (s *Store) hash(ctx context.Context, o Object) (Digest, error) {
	if o.Kind == Tree {
		data, err := os.ReadFile(s.treePath(o.Digest))
		return blake3.Sum256(data), err
	}
	return s.Rehash(ctx, o.Digest)
}

// sound reports whether the object, of which stat said st, holds what its name says. It
// is read only if it may have been written to since that was last found out. A
// damaged one is removed.
func (s *Store) sound(ctx context.Context, o Object, st *unix.Stat_t) (bool, error) {
	for _, again := range []bool{false, true} {
		if e, ok := s.checks.get(o.Digest, again); ok && e.describes(st) {
			return true, nil
		}
	}
	return s.inspect(ctx, o)
}

// inspect hashes the object, notes its state if it is sound, and removes it else.
func (s *Store) inspect(ctx context.Context, o Object) (bool, error) {
	var before, after unix.Stat_t
	kind, err := s.find(o, &before)
	if err != nil {
		return false, notThere(s.objectPath(o), err)
	}
	found, err := s.hash(ctx, o)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err == nil && found == o.Digest {
		// What changed meanwhile is not noted, unless it was the time of its use.
		if s.lstat(kind, o.Digest, &after) == nil && after.Ino == before.Ino && after.Size == before.Size {
			s.checks.put(map[Digest]proof{o.Digest: proofOf(&after, time.Now().UnixNano())})
		}
		return true, nil
	}
	if err != nil && !errors.Is(err, unix.EIO) && !errors.Is(err, layer.ErrDamaged) {
		return false, err // the object may be sound
	}
	if s.readOnly != nil {
		return false, fmt.Errorf("%s is damaged, and %w", s.objectPath(o), s.ReadOnly())
	}
	return false, s.dropDamaged(ctx, o, &before)
}

// dropDamaged removes a damaged object, and what is not to be believed any more.
func (s *Store) dropDamaged(ctx context.Context, o Object, seen *unix.Stat_t) error {
	since := s.damagedSince(o.Digest, seen)
	err := s.gate.shut(func() error {
		var now unix.Stat_t
		if _, err := s.find(o, &now); err != nil || now.Ino != seen.Ino {
			return notThere(s.objectPath(o), err) // removed, or made again meanwhile
		}
		return removeIfThere(s.objectPath(o))
	})
	if err != nil {
		return err
	}
	records, err := s.distrust(ctx, map[Digest]int64{o.Digest: since}, nil)
	if err != nil {
		return err
	}
	if s.opts.Damaged != nil {
		reason := "its content is not what its name says: it is removed, and made again when it is needed"
		if len(records) > 0 {
			reason += fmt.Sprintf("; what was made of it since %s is forgotten", time.Unix(0, since).Format(time.DateTime))
		}
		s.opts.Damaged(Damage{What: o.Kind.String() + " " + o.Digest.String(), Path: s.objectPath(o), Reason: reason})
	}
	return nil
}

// damagedSince is the earliest moment at which the damage may have come about.
// After a write that is when it was written, as far as its times tell; else
// when the content was last found right. An object of which nothing is known may be
// damaged since ever.
func (s *Store) damagedSince(d Digest, st *unix.Stat_t) int64 {
	e, ok := s.checks.get(d, true)
	switch {
	case !ok:
		return 0
	case e.describes(st):
		return e.hashed
	}
	return max(e.ctime, min(st.Mtim.Nano(), st.Ctim.Nano()))
}

// distrust forgets what was made of damaged objects since the given times, and
// returns the keys of the records that it removed. Trees that name such an object are
// removed: they can't be read any more, unless the object was mended.
func (s *Store) distrust(ctx context.Context, since map[Digest]int64, mended map[Digest]bool) ([]Digest, error) {
	if err := s.suspect(since); err != nil {
		return nil, err
	}
	if err := s.dropTreesOf(ctx, since, mended); err != nil {
		return nil, err
	}
	keys, err := s.dropRecordsOf(ctx, since)
	if err != nil {
		return keys, err
	}
	err = eachIn(filepath.Join(s.dir, notesDir), func(path string, _ fs.FileInfo) error { return removeIfThere(path) })
	return keys, err
}

// dropTreesOf removes the trees that name one of the objects, and adds them to those.
func (s *Store) dropTreesOf(ctx context.Context, since map[Digest]int64, mended map[Digest]bool) error {
	return s.eachStored(treesDir, func(path string, d Digest, _ fs.FileInfo) error {
		m, err := readManifest(path, d)
		if err != nil {
			return ctx.Err()
		}
		at, broken := int64(0), false
		for _, f := range fileDigests(m) {
			if t, ok := since[f]; ok && !mended[f] {
				at, broken = max(at, t), true
			}
		}
		if !broken {
			return ctx.Err()
		}
		since[d] = at
		return s.gate.shut(func() error { return removeIfThere(path) })
	})
}

// dropRecordsOf removes the records of steps that ended after one of their inputs
// may have been damaged. Where an input counts by the key of its step, and not by its
// content, a record that goes takes along those that rest on it.
func (s *Store) dropRecordsOf(ctx context.Context, since map[Digest]int64) (dropped []Digest, err error) {
	type made struct {
		key   Digest
		path  string
		ended int64
		of    []Digest
	}
	var all []made
	bad := map[Digest]int64{} // contents, and keys of steps
	for d, at := range since {
		bad[d] = at
	}
	err = s.eachRecord(func(path string, _ fs.FileInfo, r *Record, err error) error {
		if err != nil {
			return ctx.Err()
		}
		for _, o := range r.Outputs {
			if at, ok := since[o.Object.Digest]; ok {
				bad[r.Key] = at
			}
		}
		all = append(all, made{r.Key, path, r.Started.Add(r.Duration).UnixNano(), inputsOf(r)})
		return ctx.Err()
	})
	for again := true; again && err == nil; {
		again = false
		all = slices.DeleteFunc(all, func(m made) bool {
			from := func(d Digest) bool { at, ok := bad[d]; return ok && m.ended >= at }
			if err != nil || !slices.ContainsFunc(m.of, from) {
				return false
			}
			err = removeIfThere(m.path)
			dropped, again, bad[m.key] = append(dropped, m.key), true, 0
			return true
		})
	}
	if err != nil || len(dropped) == 0 {
		return dropped, err
	}
	s.index.forget(dropped)
	return dropped, removeIfThere(s.index.path)
}

// inputsOf are the digests that a record's key was made of as inputs: of contents,
// or of the keys of steps.
func inputsOf(r *Record) []Digest {
	var of []Digest
	for _, p := range r.Parts {
		if !strings.HasPrefix(p.Name, "input ") {
			continue
		}
		if fields := strings.Fields(p.Value); len(fields) > 1 {
			if d, err := ParseDigest(fields[1]); err == nil {
				of = append(of, d)
			}
		}
	}
	return of
}

// suspect notes that copies of the objects made between the given times and now may be
// damaged.
func (s *Store) suspect(since map[Digest]int64) error {
	path := filepath.Join(s.dir, suspectsFile)
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	const most = 1 << 20 // bytes: what is older was placed again, or is gone
	data = data[max(0, len(data)-most):]
	now := time.Now().UnixNano()
	for d, at := range since {
		data = appendSuspect(data, d, at, now)
	}
	return s.writeDurably(path, data, 0o600)
}

// Suspects are the objects that were found damaged, with the times, Unix time in
// nanoseconds, between which copies of them may be damaged.
type Suspects map[Digest][][2]int64

// Suspects reads which objects were found damaged until now.
func (s *Store) Suspects() Suspects {
	data, err := os.ReadFile(filepath.Join(s.dir, suspectsFile))
	if err != nil {
		return nil
	}
	return parseSuspects(data)
}

// appendSuspect appends a line of the file.
func appendSuspect(b []byte, d Digest, from, to int64) []byte {
	return fmt.Appendf(b, "%s %d %d\n", d, from, to)
}

// parseSuspects passes over what is no line of the file: the first may be cut off.
func parseSuspects(data []byte) Suspects {
	all := Suspects{}
	for line := range strings.Lines(string(data)) {
		var name string
		var times [2]int64
		if n, _ := fmt.Sscan(line, &name, &times[0], &times[1]); n != 3 {
			continue
		}
		if d, err := ParseDigest(name); err == nil {
			all[d] = append(all[d], times)
		}
	}
	return all
}

// Copy reports whether a copy of the object that was made at the time, Unix time in
// nanoseconds, may be one of a damaged object.
func (s Suspects) Copy(o Object, made int64) bool {
	return slices.ContainsFunc(s[o.Digest], func(t [2]int64) bool { return t[0] <= made && made <= t[1] })
}

// whole reports whether a tree's files are all there and sound. Others than trees it
// knows to be.
func (s *Store) whole(ctx context.Context, o Object) (bool, error) {
	if o.Kind != Tree || s.wholeTrees.has(o.Digest) {
		return true, nil
	}
	m, err := readManifest(s.treePath(o.Digest), o.Digest)
	if err != nil {
		return false, err
	}
	for _, d := range fileDigests(m) {
		file := Object{Kind: File, Digest: d}
		ok, err := s.intact(ctx, file)
		if errors.Is(err, fs.ErrNotExist) {
			// A crash can't do this: someone removed it. The tree is of no use.
			_, err = s.distrust(ctx, map[Digest]int64{d: time.Now().UnixNano()}, nil)
		}
		if !ok || err != nil {
			return false, err
		}
	}
	s.wholeTrees.add(o.Digest)
	return true, nil
}

// intact reports whether a file object is there and sound, with all that it rests on. The
// error for one that is not there is that of stat.
func (s *Store) intact(ctx context.Context, o Object) (bool, error) {
	var st unix.Stat_t
	kind, err := s.find(o, &st)
	if err != nil {
		return false, err
	}
	if ok, err := s.sound(ctx, o, &st); !ok || err != nil || kind != differencesDir {
		return ok, err
	}
	t, err := s.trailerOf(o.Digest, &st)
	if err != nil {
		return false, err
	}
	return s.intact(ctx, Object{Kind: File, Digest: t.base})
}

// scrubShare is how many bytes on the disk a collection hashes at most, if not a single
// object has more: some seconds of a slow disk's time. Builds collect once an hour.
const scrubShare = 512 << 20

// scrub hashes some of the objects that are left. What the disk did not keep shows in
// nothing else.
func (c *collector) scrub(ctx context.Context) error {
	type aged struct {
		*item
		hashed int64
	}
	var left []aged
	for _, it := range c.items {
		if it.kind == itemFailed {
			continue
		}
		e, _ := c.s.checks.get(it.digest, false)
		left = append(left, aged{it, e.hashed})
	}
	slices.SortStableFunc(left, func(a, b aged) int { return cmp.Compare(a.hashed, b.hashed) })
	for i, it := range left {
		if i > 0 && c.report.Checked+it.alloc > scrubShare {
			break
		}
		if err := c.scrubOne(ctx, it.item); err != nil {
			return err
		}
	}
	return nil
}

func (c *collector) scrubOne(ctx context.Context, it *item) error {
	o := Object{Kind: File, Digest: it.digest}
	if it.kind == itemTree {
		o.Kind = Tree
	}
	err := fromTheDisk(it.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // collected just now
	}
	if err != nil {
		return err
	}
	c.report.Checked += it.alloc
	ok, err := c.s.inspect(ctx, o)
	if err != nil || ok {
		return err
	}
	if _, err := os.Lstat(it.path); errors.Is(err, fs.ErrNotExist) {
		c.report.Damaged++
		c.report.Kept -= it.alloc
	}
	return nil
}

// fromTheDisk has the file read from the disk again, and not from memory.
func fromTheDisk(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // only a wish
	return nil
}
