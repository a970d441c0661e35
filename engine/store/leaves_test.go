package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/seedtest"
	"b9.build/b9/engine/internal/sparse"
)

// bigSize is enough for a table of leaves, and no whole number of blocks.
const bigSize = leavesFrom + 3*digest.BlockSize + 4096

// randomBlock writes a block of random bytes.
func randomBlock(f *os.File, random *rand.Rand, index int64) error {
	b := make([]byte, digest.BlockSize)
	for i := range 8 {
		b[random.IntN(len(b))] = byte(i + 1)
	}
	_, err := f.WriteAt(b, index*digest.BlockSize)
	return err
}

// sparseBig makes a sparse file of bigSize bytes with so many random blocks.
func sparseBig(path string, random *rand.Rand, blocks int) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for range blocks {
		if err := randomBlock(f, random, random.Int64N(leavesFrom/digest.BlockSize)); err != nil {
			return err
		}
	}
	return f.Truncate(bigSize)
}

// adoptBig takes a new sparse file into the store.
func adoptBig(t testing.TB, s *Store, random *rand.Rand) Object {
	t.Helper()
	c := must[*Scratch](t)(s.Scratch("big"))
	defer c.Close()
	path := filepath.Join(c.Dir(), "f")
	check(t, sparseBig(path, random, 20))
	return must[Object](t)(s.Adopt(t.Context(), path))
}

// adoptChanged takes a fork of the object into the store, of which one block is another.
func adoptChanged(t testing.TB, s *Store, random *rand.Rand, base Object) Object {
	t.Helper()
	c := must[*Scratch](t)(s.Scratch("big"))
	defer c.Close()
	path := filepath.Join(c.Dir(), "f")
	check(t, s.Fork(t.Context(), base.Digest, path))
	f := must[*os.File](t)(os.OpenFile(path, os.O_RDWR, 0))
	check(t, randomBlock(f, random, random.Int64N(leavesFrom/digest.BlockSize)))
	check(t, f.Close())
	return must[Object](t)(s.Adopt(t.Context(), path, base.Digest))
}

// changeBig takes in a file that has a table, and a fork of it that differs in a block.
func changeBig(ctx context.Context, s *Store, dir string, n uint64) ([]Output, error) {
	random := rand.New(rand.NewPCG(n, 5))
	path := filepath.Join(dir, "big")
	if err := sparseBig(path, random, 5); err != nil {
		return nil, err
	}
	o, err := s.Adopt(ctx, path)
	if err != nil {
		return nil, err
	}
	if err := s.Fork(ctx, o.Digest, path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(randomBlock(f, random, 7), f.Close()); err != nil {
		return nil, err
	}
	changed, err := s.Adopt(ctx, path, o.Digest)
	if err != nil {
		return nil, err
	}
	outputs, err := changeByDifference(ctx, s, dir, o, n)
	return append(outputs, Output{"changed", changed}), err
}

func TestLeavesAreDisposable(t *testing.T) {
	random := seedtest.Random(t)
	s := newStore(t)
	o, other, small := adoptBig(t, s, random), adoptBig(t, s, random), adopt(t, s, "small")
	if _, ok := s.Leaves(small.Digest); ok {
		t.Error("a small object has a table of leaves")
	}
	file := s.shard(leavesDir, o.Digest)
	whole := must[[]byte](t)(os.ReadFile(file))
	for name, text := range map[string][]byte{
		"cut":              whole[:len(whole)-1],
		"half":             whole[:len(whole)/2],
		"empty":            {},
		"zeros":            make([]byte, len(whole)),
		"of another":       must[[]byte](t)(os.ReadFile(s.shard(leavesDir, other.Digest))),
		"no difference":    []byte(diffTag),
		"of nothing":       encodeDiff(key("gone"), o.Size, nil),
		"of itself":        encodeDiff(o.Digest, o.Size, nil),
		"wrong difference": encodeDiff(other.Digest, o.Size, []digest.Leaf{{Index: 1}}),
		"disorder":         encodeDiff(other.Digest, o.Size, []digest.Leaf{{Index: 2}, {Index: 1}}),
		"past the end":     encodeDiff(other.Digest, o.Size, []digest.Leaf{{Index: 1 << 40}}),
		"below zero":       encodeDiff(other.Digest, -1, nil),
	} {
		if l, ok := s.Leaves(o.Digest); !ok || l.Digest() != o.Digest || l.Size() != o.Size {
			t.Fatalf("before %q there is no table", name)
		}
		check(t, os.WriteFile(file, text, 0o600))
		if _, ok := s.Leaves(o.Digest); ok {
			t.Errorf("%s: the table is believed", name)
		}
		if !s.Has(o) {
			t.Errorf("%s: the object is gone", name)
		}
		sound(t, s) // verification makes tables
	}
	check(t, os.Remove(file))
	sound(t, s)
	if got := must[[]byte](t)(os.ReadFile(file)); !bytes.Equal(got, whole) {
		t.Error("verification makes another table")
	}
}

// Tables go with their objects, but for one that another table needs, and are counted.
func TestLeavesAreCollected(t *testing.T) {
	random := seedtest.Random(t)
	dir := filepath.Join(t.TempDir(), "store")
	var root, changed, other Object
	later(t, dir, func(s *Store) {
		root, other = adoptBig(t, s, random), adoptBig(t, s, random)
		c := must[*Scratch](t)(s.Scratch("t"))
		path := filepath.Join(c.Dir(), "f")
		check(t, s.Fork(t.Context(), root.Digest, path))
		f := must[*os.File](t)(os.OpenFile(path, os.O_RDWR, 0))
		check(t, randomBlock(f, random, 3))
		table := must[*digest.Table](t)(digest.Scan(t.Context(), f, bigSize, 2))
		check(t, f.Close())
		s.keepLeaves(table.Digest(), table, must[leaves](t)(s.loadLeaves(root.Digest)))
		changed = must[Object](t)(s.Adopt(t.Context(), path))
		check(t, c.Close())
		check(t, s.NameResult("/", "//:x", []Object{changed}))
	})
	later(t, dir, func(s *Store) {
		before := must[Usage](t)(s.Usage(t.Context()))
		r := must[CollectReport](t)(s.Collect(t.Context(), everything))
		after := must[Usage](t)(s.Usage(t.Context()))
		if freed := before.Allocated - after.Allocated; r.Objects != 2 || r.Freed != freed || r.Kept != after.Allocated {
			t.Errorf("collection reports %+v; %d bytes were freed and %d are left", r, freed, after.Allocated)
		}
		if s.hasLeaves(other.Digest) {
			t.Error("the table of a collected object is left")
		}
		if l, ok := s.Leaves(changed.Digest); !ok || l.Digest() != changed.Digest {
			t.Error("a table is of no use any more, since the one that it rests on was collected")
		}
	})
	later(t, dir, func(s *Store) {
		check(t, os.RemoveAll(filepath.Join(dir, resultsDir)))
		check(t, os.Mkdir(filepath.Join(dir, resultsDir), 0o700))
		r := must[CollectReport](t)(s.Collect(t.Context(), everything))
		if u := must[Usage](t)(s.Usage(t.Context())); u.Allocated != 0 || r.Kept != 0 {
			t.Errorf("tables are left after all objects: %+v, %+v", u, r)
		}
	})
}

// damageBlock writes other bytes into a block of an object.
func damageBlock(t testing.TB, s *Store, o Object, index int64) {
	t.Helper()
	check(t, os.Chmod(s.Path(o.Digest), 0o600))
	f := must[*os.File](t)(os.OpenFile(s.Path(o.Digest), os.O_RDWR, 0))
	defer f.Close()
	must[int](t)(f.WriteAt([]byte("damage"), index*digest.BlockSize+100))
}

// Verification says which blocks are damaged, and who has them; repair copies them.
func TestVerificationNamesAndMendsBlocks(t *testing.T) {
	random := seedtest.Random(t)
	s := newStore(t)
	o := adoptBig(t, s, random)
	changed := adoptChanged(t, s, random, o)
	named := adoptDir(t, s, map[string]string{"a": "in a tree"})
	l, _ := s.Leaves(o.Digest)
	mine, _ := s.Leaves(changed.Digest)
	var shared, zero, own int64 = -1, -1, -1
	for i := range digest.Blocks(bigSize) {
		switch sum, theirs := l.At(i), mine.At(i); {
		case theirs == Digest{}:
			zero = i
		case sum == theirs:
			shared = i
		default:
			own = i
		}
	}
	damageBlock(t, s, changed, shared)
	damageBlock(t, s, changed, zero)
	r := must[VerifyReport](t)(s.Verify(t.Context(), false))
	want := fmt.Sprintf("of its blocks of 64 KiB 2 are damaged, which begin at byte %d, %d; %s have what was there",
		min(shared, zero)*digest.BlockSize, max(shared, zero)*digest.BlockSize, o.Digest)
	if len(r.Corrupt) != 1 || !strings.Contains(r.Corrupt[0].Reason, want) || len(r.Corrupt[0].Blocks) != 2 {
		t.Fatalf("verification says %v, want %s", r.Corrupt, want)
	}
	if r := must[VerifyReport](t)(s.Verify(t.Context(), true)); r.Repaired != 1 || r.Removed != 0 || len(r.Corrupt) != 1 {
		t.Errorf("repair reports %+v", r)
	}
	sound(t, s)
	if !s.Has(changed) || !s.Has(named) || must[Digest](t)(s.Rehash(t.Context(), changed.Digest)) != changed.Digest {
		t.Error("the object was not mended")
	}
	// What nobody has can't be mended.
	damageBlock(t, s, changed, own)
	damageBlock(t, s, changed, shared)
	r = must[VerifyReport](t)(s.Verify(t.Context(), true))
	if len(r.Corrupt) != 1 || !strings.Contains(r.Corrupt[0].Reason, "; no other object has 1 of them") || r.Repaired != 0 || r.Removed == 0 || s.Has(changed) {
		t.Errorf("a lost block: %+v", r)
	}
	// Neither can what is damaged in both, nor what was collected meanwhile.
	again := adoptChanged(t, s, random, o)
	damageBlock(t, s, again, shared)
	damageBlock(t, s, o, shared)
	r = must[VerifyReport](t)(s.Verify(t.Context(), true))
	if len(r.Corrupt) != 2 || r.Repaired != 0 || !strings.Contains(r.Corrupt[0].Reason, "no other object has them") {
		t.Errorf("the same block damaged twice: %+v", r)
	}
}

// A shorter and a longer file are mended as well.
func TestAnObjectOfTheWrongLengthIsMended(t *testing.T) {
	random := seedtest.Random(t)
	s := newStore(t)
	o := adoptBig(t, s, random)
	for _, size := range []int64{bigSize - 100, bigSize + 1, bigSize + 5*digest.BlockSize} {
		check(t, os.Chmod(s.Path(o.Digest), 0o600))
		check(t, os.Truncate(s.Path(o.Digest), size))
		r := must[VerifyReport](t)(s.Verify(t.Context(), true))
		if len(r.Corrupt) != 1 || r.Repaired != 1 || must[Digest](t)(s.Rehash(t.Context(), o.Digest)) != o.Digest {
			t.Errorf("%d bytes: %+v", size, r)
		}
	}
}

func TestChangedObjectsAreHashedInPartOnXFS(t *testing.T) {
	inOwnMounts(t, "changed", 700<<20, "mkfs.xfs", "-q", "-m", "reflink=1")
}

func TestChangedObjectsAreHashedInPartOnBtrfs(t *testing.T) {
	inOwnMounts(t, "changed", 700<<20, "mkfs.btrfs", "-q")
}

func TestChangedObjectsAreHashedWhereNothingIsShared(t *testing.T) {
	inOwnMounts(t, "changed", 700<<20, "mkfs.ext4", "-q", "-F")
}

// adoptChangedObjects takes in what forks of objects became, by every way to change a file,
// and holds its digest against that of all its bytes.
func adoptChangedObjects(args []string) error {
	if err := mountImage(args[0], args[1]); err != nil {
		return err
	}
	s, err := Open(filepath.Join(args[1], "store"), Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	c, err := s.Scratch("changed")
	if err != nil {
		return err
	}
	defer c.Close()
	seed := seedtest.Seed()
	fmt.Printf("%s=%d\n", seedtest.Variable, seed)
	w := &changer{s: s, dir: c.Dir(), random: rand.New(rand.NewPCG(seed, 4))}
	if err := w.begin(); err != nil {
		return err
	}
	rounds := longer(20, 200)
	if !w.shares {
		rounds = 10 // what the disk has room for
	}
	for n := range rounds {
		if err := w.round(n); err != nil {
			return fmt.Errorf("round %d: %w", n, err)
		}
	}
	r, err := s.Verify(context.Background(), false)
	if err != nil || len(r.Corrupt) > 0 {
		return fmt.Errorf("verification finds %v, %v", r.Corrupt, err)
	}
	return nil
}

// changer changes forks of objects.
type changer struct {
	s      *Store
	dir    string
	random *rand.Rand
	shares bool // the file system shares blocks
	bases  []Object
}

// begin makes the first objects: full of data, so that what is read shows.
func (w *changer) begin() error {
	for range 2 {
		path := filepath.Join(w.dir, "base")
		data := make([]byte, 2*leavesFrom+5000)
		rand.NewChaCha8([32]byte{byte(w.random.Uint32())}).Read(data)
		clear(data[1<<20 : 3<<20])
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
		o, err := w.s.Adopt(context.Background(), path)
		if err != nil {
			return err
		}
		w.bases = append(w.bases, o)
	}
	var space unix.Statfs_t
	err := unix.Statfs(w.dir, &space)
	w.shares = space.Type != unix.EXT4_SUPER_MAGIC
	return err
}

// round forks an object, changes the fork and takes it in.
func (w *changer) round(n int) error {
	base := w.bases[w.random.IntN(len(w.bases))]
	path := filepath.Join(w.dir, "fork")
	if err := w.s.Fork(context.Background(), base.Digest, path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	var written int64
	for range w.random.IntN(6) {
		n, err := w.change(f)
		if err != nil {
			return errors.Join(err, f.Close())
		}
		written += n
	}
	if err := f.Close(); err != nil {
		return err
	}
	if n%5 == 4 { // as a store of old has none
		if err := os.RemoveAll(filepath.Join(w.s.Dir(), leavesDir)); err != nil {
			return err
		}
		if err := os.Mkdir(filepath.Join(w.s.Dir(), leavesDir), 0o700); err != nil {
			return err
		}
	}
	of := []Digest{w.bases[0].Digest, w.bases[1].Digest, base.Digest}
	cheap := w.shares && !slices.ContainsFunc(of, func(d Digest) bool { return !w.s.hasLeaves(d) })
	want, _, err := digest.Path(context.Background(), path, 2)
	if err != nil {
		return err
	}
	before := readSoFar()
	o, err := w.s.Adopt(context.Background(), path, of...)
	if err != nil {
		return err
	}
	read := readSoFar() - before
	if o.Digest != want {
		return fmt.Errorf("the digest is %s, want %s", o.Digest, want)
	}
	// The tables, the blocks that were written to, and what lies at their edges.
	if most := written + 1<<20; cheap && read > most {
		return fmt.Errorf("%d bytes were read where %d were written", read, written)
	}
	if l, ok := w.s.Leaves(o.Digest); ok && l.Digest() != want || !ok && o.Size >= leavesFrom {
		return fmt.Errorf("the table of %s is not its own", o)
	}
	if _, ok := w.s.Leaves(base.Digest); !ok && w.shares {
		return fmt.Errorf("the object that was forked has no table")
	}
	if w.bases = append(w.bases, o); len(w.bases) > 6 {
		w.bases = slices.Delete(w.bases, 2, 3)
	}
	return nil
}

// change changes a file in one way, and returns how many bytes have to be read for that.
func (w *changer) change(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	size := info.Size()
	at := w.random.Int64N(size)
	n := min(1+w.random.Int64N(200_000), size-at)
	data := bytes.Repeat([]byte{byte(w.random.Uint32())}, int(n))
	touched := n + 2*digest.BlockSize
	switch w.random.IntN(8) {
	case 0:
		_, err = f.WriteAt(data, at)
	case 1:
		err = writeMapped(f, at, data)
	case 2:
		err = sparse.Punch(f, at, n) // what a discard in the guest becomes
	case 3:
		err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, at, n)
		if errors.Is(err, unix.EOPNOTSUPP) {
			err = nil
		}
	case 4: // the same bytes again: the digest does not change by that
		if _, err = f.ReadAt(data, at); err == nil {
			_, err = f.WriteAt(data, at)
		}
	case 5:
		err = f.Truncate(size + w.random.Int64N(1<<20))
	case 6:
		err = f.Truncate(max(leavesFrom, size-w.random.Int64N(1<<20)))
	case 7: // a part of another object, at another place, as a disk is put together
		touched, err = w.graft(f, size)
	}
	return touched, err
}

// graft clones a part of an object into f.
func (w *changer) graft(f *os.File, size int64) (int64, error) {
	in, err := os.Open(w.s.Path(w.bases[1].Digest))
	if err != nil {
		return 0, err
	}
	defer in.Close()
	unit := []int64{digest.BlockSize, 4096}[w.random.IntN(2)]
	n := int64(1 << 20)
	from, to := w.random.Int64N(leavesFrom/unit)*unit, w.random.Int64N((size-n)/unit)*unit
	err = unix.IoctlFileCloneRange(int(f.Fd()), &unix.FileCloneRange{Src_fd: int64(in.Fd()), Src_offset: uint64(from), Src_length: uint64(n), Dest_offset: uint64(to)})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return 0, nil
	}
	if unit == 4096 {
		return n + 2*digest.BlockSize, err // at such a distance no block is another's
	}
	return 2 * digest.BlockSize, err
}

// writeMapped writes through a mapping, and does not flush it.
func writeMapped(f *os.File, at int64, data []byte) error {
	page := int64(os.Getpagesize())
	start := at / page * page
	m, err := unix.Mmap(int(f.Fd()), start, int(at-start)+len(data), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(m[at-start:], data)
	return unix.Munmap(m)
}

// readSoFar is how many bytes this process has read by system calls.
func readSoFar() (n int64) {
	data, _ := os.ReadFile("/proc/self/io")
	_, _ = fmt.Sscanf(string(data), "rchar: %d", &n)
	return n
}

// An object that shares blocks with another one was last read when that was.
func TestWhatWasNotReadIsAsOldAsItsBase(t *testing.T) {
	inOwnMounts(t, "age", 400<<20, "mkfs.xfs", "-q", "-m", "reflink=1")
}

func ageOfForks(args []string) error {
	if err := mountImage(args[0], args[1]); err != nil {
		return err
	}
	s, err := Open(filepath.Join(args[1], "store"), Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	c, err := s.Scratch("age")
	if err != nil {
		return err
	}
	defer c.Close()
	path, random, ctx := filepath.Join(c.Dir(), "f"), rand.New(rand.NewPCG(1, 1)), context.Background()
	if err := sparseBig(path, random, 50); err != nil {
		return err
	}
	o, err := s.Adopt(ctx, path)
	if err != nil {
		return err
	}
	if err := s.Fork(ctx, o.Digest, path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(randomBlock(f, random, 9), f.Close()); err != nil {
		return err
	}
	changed, err := s.Adopt(ctx, path, o.Digest)
	if err != nil {
		return err
	}
	first, _ := s.checks.get(o.Digest, true)
	second, ok := s.checks.get(changed.Digest, true)
	if !ok || first.hashed == 0 || second.hashed != first.hashed || changed == o {
		return fmt.Errorf("the fork was hashed at %d, its base at %d", second.hashed, first.hashed)
	}
	info, err := os.Stat(s.shard(leavesDir, changed.Digest))
	if err != nil || info.Size() > int64(diffHead+2*diffEntry) {
		return fmt.Errorf("the table of a fork with one other block takes %v, %w", info, err)
	}
	if _, err := os.Stat(s.shard(leavesDir, key("x"))); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// What tables say two objects may differ in is all in which they do, and little more; an
// object without a table, and one that is not there, are told.
func TestDifferencesByTables(t *testing.T) {
	s, random := forkingStore(t), seedtest.Random(t)
	a := adoptBig(t, s, random)
	for range 3 {
		c := must[*Scratch](t)(s.Scratch("fork"))
		path := filepath.Join(c.Dir(), "f")
		check(t, s.Fork(t.Context(), a.Digest, path))
		f := must[*os.File](t)(os.OpenFile(path, os.O_RDWR, 0))
		for range 1 + random.IntN(4) {
			check(t, randomBlock(f, random, random.Int64N(leavesFrom/digest.BlockSize)))
		}
		check(t, errors.Join(f.Truncate(bigSize-random.Int64N(1<<20)), f.Close()))
		b := must[Object](t)(s.Adopt(t.Context(), path))
		check(t, c.Close())
		for _, pair := range [][2]Object{{a, b}, {b, a}} {
			parts, ok, err := s.Differences(pair[0].Digest, pair[1].Digest)
			if err != nil || !ok {
				t.Fatalf("%v, %v", ok, err)
			}
			inside := func(at int64) bool {
				return slices.ContainsFunc(parts, func(p [2]int64) bool { return p[0] <= at && at < p[1] })
			}
			for at := int64(0); at < bigSize; at += digest.BlockSize {
				x, y := blockAt(t, s, pair[0].Digest, at), blockAt(t, s, pair[1].Digest, at)
				if !bytes.Equal(x, y) && !inside(at) {
					t.Errorf("at %d they differ, and %v does not say so", at, parts)
				}
			}
			if n := len(parts); n > 8 {
				t.Errorf("%d parts: %v", n, parts)
			}
		}
	}
	if parts, ok, err := s.Differences(a.Digest, a.Digest); len(parts) > 0 || !ok || err != nil {
		t.Errorf("one object: %v, %v, %v", parts, ok, err)
	}
	small := adopt(t, s, "small")
	if _, ok, err := s.Differences(a.Digest, small.Digest); ok || err != nil {
		t.Errorf("an object without a table: %v, %v", ok, err)
	}
	if _, _, err := s.Differences(a.Digest, Digest{1}); !errors.Is(err, ErrNotInStore) {
		t.Errorf("an object that is not there: %v", err)
	}
}

// blockAt reads a block of an object, with zeros behind the end.
func blockAt(t *testing.T, s *Store, d Digest, at int64) []byte {
	t.Helper()
	b := must[blob.Blob](t)(s.Open(d))
	defer b.Close()
	block := make([]byte, digest.BlockSize)
	if n, err := b.ReadAt(block, at); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	} else {
		clear(block[n:])
	}
	return block
}

// The path of an object, and a link to it, tell which one it is; others tell nothing.
func TestObjectAt(t *testing.T) {
	s := forkingStore(t)
	o := adopt(t, s, "hello")
	link, copied := filepath.Join(t.TempDir(), "link"), filepath.Join(t.TempDir(), o.Digest.Hex())
	check(t, errors.Join(os.Symlink(s.Path(o.Digest), link), os.WriteFile(copied, []byte("hello"), 0o600)))
	for path, want := range map[string]bool{s.Path(o.Digest): true, link: true, copied: false, s.Dir(): false, link + "x": false} {
		if d, ok := s.ObjectAt(path); ok != want || ok && d != o.Digest {
			t.Errorf("%s: %v, %v", path, d, ok)
		}
	}
}
