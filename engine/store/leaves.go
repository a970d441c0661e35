package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/sparse"
)

// Tables of leaves
//
// Of every file object from leavesFrom bytes on, leaves/ has the hashes of its blocks, under
// the object's digest. With them the digest of a file that shares blocks with the object
// costs reading what it does not share; they say which block of an object is damaged, and
// where two objects differ.
//
// A table is disposable, and proves itself: what it stands for hashes to its name. So it is
// written without a flush, and one that is damaged is as good as none. It is either whole
// (see package digest) or the difference to a whole one, the root: then it has
// the ten bytes "b9 diff 1\n", the root's digest, the size of the object (64 bits), and
// for each block that is another than the root's its index (64 bits) and its hash, zeros
// for a block of zeros; little-endian. So an object that differs little from another one
// takes little room, and no table needs more than one other.

const (
	// leavesFrom is the size in bytes from which on an object has a table. Less is hashed
	// in the time that a few files take to open.
	leavesFrom = 16 << 20
	diffTag    = "b9 diff 1\n"
	diffHead   = len(diffTag) + len(Digest{}) + 8
	diffEntry  = 8 + len(Digest{})
	// diffShare says that a table is kept as a difference if that has at most one in so
	// many of the root's leaves.
	diffShare = 4
)

// leaves is the table of an object, and the whole one that its file rests on.
type leaves struct {
	*digest.Table
	root     *digest.Table
	rootName Digest
}

// loadLeaves reads the table of an object. None, and one that is not to be believed, is an
// error.
func (s *Store) loadLeaves(d Digest) (leaves, error) {
	data, err := os.ReadFile(s.shard(leavesDir, d))
	if err != nil {
		return leaves{}, err
	}
	if !bytes.HasPrefix(data, []byte(diffTag)) {
		t, err := digest.ParseTable(data, d)
		return leaves{t, t, d}, err
	}
	root, size, changed, err := parseDiff(data)
	if err != nil {
		return leaves{}, err
	}
	whole, err := os.ReadFile(s.shard(leavesDir, root))
	if err != nil {
		return leaves{}, err
	}
	base, err := digest.ParseTable(whole, root)
	if err != nil {
		return leaves{}, err
	}
	t := base.With(size, changed)
	if t.Digest() != d {
		return leaves{}, fmt.Errorf("it is not the table of the leaves of %s", d)
	}
	return leaves{t, base, root}, nil
}

// Leaves returns the hashes of the blocks of a file object, if the store keeps them and
// they are sound.
func (s *Store) Leaves(d Digest) (*digest.Table, bool) {
	l, err := s.loadLeaves(d)
	return l.Table, err == nil
}

// Differences lists the parts [from, to), in order, in which two file objects, which must be
// there, may differ, as their tables say; the shorter one counts as if zeros followed it. ok is
// false where an object has no table.
func (s *Store) Differences(a, b Digest) (parts [][2]int64, ok bool, err error) {
	for _, d := range []Digest{a, b} {
		if err := s.need(Object{Kind: File, Digest: d}); err != nil {
			return nil, false, err
		}
	}
	if a == b {
		return nil, true, nil
	}
	x, hasX := s.Leaves(a)
	y, hasY := s.Leaves(b)
	if !hasX || !hasY {
		return nil, false, nil
	}
	if x.Size() < y.Size() {
		x, y = y, x
	}
	for _, l := range x.Since(y) {
		at := l.Index * digest.BlockSize
		if n := len(parts); n > 0 && parts[n-1][1] == at {
			parts[n-1][1] += digest.BlockSize
			continue
		}
		parts = append(parts, [2]int64{at, at + digest.BlockSize})
	}
	return parts, true, nil
}

// ObjectAt returns the digest of the file object that path leads to, through symbolic links.
func (s *Store) ObjectAt(path string) (d Digest, ok bool) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return d, false
	}
	if d, err = digest.ParseHex(filepath.Base(real)); err != nil {
		return d, false
	}
	var st, own unix.Stat_t
	ok = unix.Lstat(real, &st) == nil && s.lstat(objectsDir, d, &own) == nil && st.Dev == own.Dev && st.Ino == own.Ino
	return d, ok
}

// keepLeaves writes the table of an object, as a difference to one of the others if it
// differs little. What can't be written is missing later, and costs time then.
func (s *Store) keepLeaves(d Digest, t *digest.Table, near ...leaves) {
	if s.readOnly != nil {
		return
	}
	_ = s.writeQuickly(s.shard(leavesDir, d), textOf(d, t, near))
}

// textOf is what the file of a table holds.
func textOf(d Digest, t *digest.Table, near []leaves) []byte {
	for _, l := range near {
		if changed := t.Since(l.root); l.rootName != d && len(changed)*diffShare <= l.root.Len() {
			return encodeDiff(l.rootName, t.Size(), changed)
		}
	}
	return t.Text()
}

// hasLeaves reports whether there is a table, sound or not.
func (s *Store) hasLeaves(d Digest) bool {
	var st unix.Stat_t
	return s.lstat(leavesDir, d, &st) == nil && st.Size > 0
}

func encodeDiff(root Digest, size int64, changed []digest.Leaf) []byte {
	b := append([]byte(diffTag), root[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	for _, l := range changed {
		b = binary.LittleEndian.AppendUint64(b, uint64(l.Index))
		b = append(b, l.Sum[:]...)
	}
	return b
}

func parseDiff(b []byte) (root Digest, size int64, changed []digest.Leaf, err error) {
	if root, size, err = parseDiffHead(b); err != nil {
		return root, size, nil, err
	}
	last := int64(-1)
	for b = b[diffHead:]; len(b) > 0; b = b[diffEntry:] {
		if len(b) < diffEntry {
			return root, size, nil, errors.New("the table of leaves is cut short")
		}
		l := digest.Leaf{Index: int64(binary.LittleEndian.Uint64(b)), Sum: [32]byte(b[8:])}
		if l.Index <= last || l.Index >= digest.Blocks(size) {
			return root, size, nil, errors.New("the table of leaves is in no order")
		}
		last = l.Index
		changed = append(changed, l)
	}
	return root, size, changed, nil
}

func parseDiffHead(b []byte) (root Digest, size int64, err error) {
	if len(b) < diffHead || !bytes.HasPrefix(b, []byte(diffTag)) {
		return root, 0, errors.New("it is no difference between tables of leaves")
	}
	size = int64(binary.LittleEndian.Uint64(b[diffHead-8:]))
	if size < 0 {
		return root, 0, errors.New("the table of leaves is of no file")
	}
	return Digest(b[len(diffTag):]), size, nil
}

// rootOfLeaves is the digest of the table that an object's rests on, which may be its own.
func (s *Store) rootOfLeaves(d Digest) (Digest, error) {
	f, err := os.Open(s.shard(leavesDir, d))
	if err != nil {
		return Digest{}, err
	}
	defer f.Close()
	head := make([]byte, diffHead)
	if _, err := f.ReadAt(head, 0); err != nil || !bytes.HasPrefix(head, []byte(diffTag)) {
		return d, nil
	}
	root, _, err := parseDiffHead(head)
	return root, err
}

// leafCount is about how many blocks of an object are not zeros, as its table says without being
// read; 0 where there is none.
func (s *Store) leafCount(d Digest) int64 {
	root, err := s.rootOfLeaves(d)
	if err != nil {
		return 0
	}
	var st unix.Stat_t
	if s.lstat(leavesDir, root, &st) != nil {
		return 0
	}
	return st.Size / int64(diffEntry)
}

// relative is an object that a new file shares blocks with.
type relative struct {
	digest Digest
	file   *os.File
	size   int64
	runs   []sparse.Same
	proof  proof
}

// relatives returns those of the objects that f shares blocks with, if they are as they were
// when they were last hashed. Their files are open.
func (s *Store) relatives(f *os.File, of []Digest) ([]relative, error) {
	var list []relative
	for _, d := range of {
		r, err := s.relative(f, d)
		if err != nil {
			closeRelatives(list)
			return nil, err
		}
		if r.file != nil {
			list = append(list, r)
		}
	}
	return list, nil
}

func closeRelatives(list []relative) {
	for _, r := range list {
		r.file.Close()
	}
}

// relative looks whether f shares blocks with the object; without a file it does not.
func (s *Store) relative(f *os.File, d Digest) (r relative, err error) {
	file, info, err := sparse.Open(s.shard(objectsDir, d)) // differences share no blocks
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	runs, err := sparse.Clones(f, file)
	if err == nil && len(runs) > 0 && info.Size() >= leavesFrom {
		// What was written to the object before f was forked from it changed its state. What
		// was written later went to other blocks, which are not shared.
		var st unix.Stat_t
		proof, ok := s.checks.get(d, true)
		if err = unix.Fstat(int(file.Fd()), &st); err == nil && ok && proof.describes(&st) {
			return relative{d, file, info.Size(), runs, proof}, nil
		}
	}
	return r, errors.Join(err, file.Close())
}

// hashed is what was found out of a file that is to be an object.
type hashed struct {
	digest Digest
	size   int64
	at     int64 // when all its bytes were last read, Unix time in nanoseconds; 0 for now
}

// hashNew hashes a sealed file, of which only that is read that it does not share with one
// of the objects, and keeps its table.
func (s *Store) hashNew(ctx context.Context, f *os.File, workers int, of []Digest) (h hashed, err error) {
	before, err := f.Stat()
	if err != nil {
		return h, err
	}
	if before.Size() < leavesFrom {
		d, info, err := digest.File(ctx, f, workers)
		if err != nil {
			return h, err
		}
		return hashed{d, info.Size(), 0}, nil
	}
	family, err := s.relatives(f, of)
	if err != nil {
		return h, err
	}
	defer closeRelatives(family)
	k := s.recall(family)
	t, err := digest.Update(ctx, f, before.Size(), workers, k.blocks...)
	if err != nil {
		return h, err
	}
	after, err := f.Stat()
	if err != nil {
		return h, err
	}
	if after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return h, sparse.ErrChanged
	}
	h = hashed{t.Digest(), before.Size(), k.since}
	if !s.hasLeaves(h.digest) {
		s.keepLeaves(h.digest, t, k.tables...)
	}
	return h, s.teach(ctx, t, k.without)
}

// recalled is what the tables of a file's relatives say of it.
type recalled struct {
	blocks  []digest.Known
	tables  []leaves
	since   int64      // when the first of the relatives was hashed; 0 where there are none
	without []relative // those that have no table
}

func (s *Store) recall(family []relative) (k recalled) {
	for _, r := range family {
		l, err := s.loadLeaves(r.digest)
		if err != nil {
			k.without = append(k.without, r)
			continue
		}
		k.blocks, k.tables = append(k.blocks, digest.Known{Table: l.Table, Runs: r.runs}), append(k.tables, l)
		if k.since == 0 || r.proof.hashed < k.since {
			k.since = r.proof.hashed
		}
	}
	return k
}

// teach makes the tables of objects that have none, out of that of a file that shares
// blocks with them: the next file that does is hashed sooner.
func (s *Store) teach(ctx context.Context, t *digest.Table, objects []relative) error {
	for _, r := range objects {
		var back []sparse.Same
		for _, run := range r.runs {
			back = append(back, sparse.Same{From: run.From - run.Shift, To: run.To - run.Shift, Shift: -run.Shift})
		}
		own, err := digest.Update(ctx, r.file, r.size, s.opts.Workers, digest.Known{Table: t, Runs: back})
		if err != nil {
			return err
		}
		if own.Digest() == r.digest {
			s.keepLeaves(r.digest, own)
		}
	}
	return nil
}
