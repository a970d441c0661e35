package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/seedtest"
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
