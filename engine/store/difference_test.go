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
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/layer"
	"b9.build/b9/engine/internal/seedtest"
)

// differ takes a difference to the object base into the store.
func differ(ctx context.Context, s *Store, dir string, base Object, change func(f *layer.Fork) error) (Object, error) {
	b, err := s.Open(base.Digest)
	if err != nil {
		return Object{}, err
	}
	file, err := os.CreateTemp(dir, "difference")
	if err != nil {
		return Object{}, errors.Join(err, b.Close())
	}
	f, err := layer.New(b, base.Digest, file)
	if err != nil {
		return Object{}, errors.Join(err, b.Close(), file.Close())
	}
	err = change(f)
	t, ferr := f.Finish()
	if err = errors.Join(err, ferr, f.Close()); err != nil {
		return Object{}, err
	}
	return s.adoptFork(ctx, base.Digest, file.Name(), t)
}

// different is differ with one block of random bytes.
func different(t testing.TB, s *Store, random *rand.Rand, base Object, index int64) Object {
	t.Helper()
	c := must[*Scratch](t)(s.Scratch("difference"))
	defer c.Close()
	return must[Object](t)(differ(t.Context(), s, c.Dir(), base, func(f *layer.Fork) error {
		b := make([]byte, digest.BlockSize)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		_, err := f.WriteAt(b, index*digest.BlockSize)
		return err
	}))
}

// full takes a file of so many bytes, all random, into the store.
func full(t testing.TB, s *Store, random *rand.Rand, size int) (Object, []byte) {
	t.Helper()
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(random.Uint32()), byte(random.Uint32())}).Read(data)
	return adopt(t, s, string(data)), data
}

// changeModel changes an image in one way, in both of its forms.
func changeModel(f *layer.Fork, model []byte, random *rand.Rand) ([]byte, error) {
	at := random.Int64N(int64(len(model)))
	n := min(1+random.Int64N(150_000), int64(len(model))-at)
	switch random.IntN(6) {
	case 0:
		clear(model[at : at+n])
		return model, f.Zero(at, n)
	case 1:
		size := int64(len(model)) - random.Int64N(200_000)
		return model[:size], f.Truncate(size)
	case 2:
		more := random.Int64N(200_000)
		return append(model, make([]byte, more)...), f.Truncate(int64(len(model)) + more)
	}
	data := bytes.Repeat([]byte{byte(random.Uint32())}, int(n))
	copy(model[at:], data)
	_, err := f.WriteAt(data, at)
	return model, err
}

// contentOf reads an object through Open.
func contentOf(t testing.TB, s *Store, o Object) []byte {
	t.Helper()
	b := must[blob.Blob](t)(s.Open(o.Digest))
	defer b.Close()
	return must[[]byte](t)(blob.ReadAll(b, 1<<30))
}

func depthOf(t testing.TB, s *Store, o Object) int {
	t.Helper()
	c := must[*chain](t)(s.openChain(o.Digest))
	defer c.Close()
	return c.depth()
}

// 50 steps on one another are the objects that whole files with the same bytes would be,
// whatever is written, discarded, cut and grown; each costs what it changes; and what reads
// one reads all its bytes, before and after it was flattened.
func TestAChainOf50Steps(t *testing.T) {
	random := seedtest.Random(t)
	s := newStore(t)
	c := must[*Scratch](t)(s.Scratch("chain"))
	defer c.Close()
	o, model := full(t, s, random, 3*leavesFrom+777)
	objects := []Object{o}
	for i := range 50 {
		before := readSoFar()
		written := len(model) / 10
		next, err := differ(t.Context(), s, c.Dir(), o, func(f *layer.Fork) (err error) {
			for range random.IntN(4) {
				model, err = changeModel(f, model, random)
			}
			return err
		})
		check(t, err)
		if read := readSoFar() - before; read > int64(written)+2<<20 {
			t.Errorf("step %d has read %d bytes of %d", i, read, len(model))
		}
		if want := definitionOf(model); next.Digest != want || next.Size != int64(len(model)) {
			t.Fatalf("step %d gives %v, a file with the same bytes %v", i, next, want)
		}
		if !s.Has(next) {
			t.Fatalf("step %d: %v is not there", i, next)
		}
		if i%9 == 8 {
			if !bytes.Equal(contentOf(t, s, next), model) {
				t.Errorf("step %d: the content is another", i)
			}
			dst := filepath.Join(t.TempDir(), "fork")
			check(t, s.Fork(t.Context(), next.Digest, dst))
			if d, _, err := digest.Path(t.Context(), dst, 2); err != nil || d != next.Digest {
				t.Errorf("step %d: the fork is %v, %v", i, d, err)
			}
		}
		if i%20 == 19 {
			flattenAll(t, s)
			if n := depthOf(t, s, next); n > maxDepth {
				t.Errorf("after flattening %d differences lie over one another", n)
			}
		}
		o = next
		objects = append(objects, o)
	}
	flattenAll(t, s)
	for i, o := range objects {
		if !s.Has(o) || definitionOf(contentOf(t, s, o)) != o.Digest {
			t.Errorf("object %d is another after flattening", i)
		}
	}
	sound(t, s)
}

// definitionOf is the digest of a file with these bytes.
func definitionOf(data []byte) Digest {
	h := digest.New(int64(len(data)))
	h.Add(digest.Leaves(nil, data, 0))
	return h.Digest()
}

func TestParallelStepsOnOneBase(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, dir)
	base, data := full(t, s, seedtest.Random(t), leavesFrom+12345)
	var g errgroup.Group
	for i := range int64(12) {
		g.Go(func() error {
			other, err := Open(dir, Options{})
			if err != nil {
				return err
			}
			defer other.Close()
			c, err := other.Scratch("p")
			if err != nil {
				return err
			}
			defer c.Close()
			text := fmt.Sprint("step ", i%6) // two of each are the same
			o, err := differ(t.Context(), other, c.Dir(), base, func(f *layer.Fork) error {
				_, err := f.WriteAt([]byte(text), 100_000*(i%6))
				return err
			})
			if err != nil {
				return err
			}
			mine := bytes.Clone(data)
			copy(mine[100_000*(i%6):], text)
			if o.Digest != definitionOf(mine) || !other.Has(o) {
				return fmt.Errorf("step %d made %v", i, o)
			}
			return nil
		})
	}
	check(t, g.Wait())
	sound(t, s)
}

// A difference that changes nothing is its base; one that is an object already is dropped.
func TestDifferencesThatAreThere(t *testing.T) {
	random := seedtest.Random(t)
	s := newStore(t)
	base, data := full(t, s, random, leavesFrom)
	c := must[*Scratch](t)(s.Scratch("t"))
	defer c.Close()
	same := must[Object](t)(differ(t.Context(), s, c.Dir(), base, func(f *layer.Fork) error {
		_, err := f.WriteAt(data[100:300], 100)
		return err
	}))
	if same != base {
		t.Errorf("a write of what was there gives %v, not %v", same, base)
	}
	copy(data[5:], "other")
	whole := adopt(t, s, string(data))
	again := must[Object](t)(differ(t.Context(), s, c.Dir(), base, func(f *layer.Fork) error {
		_, err := f.WriteAt([]byte("other"), 5)
		return err
	}))
	if again != whole || !s.isWhole(whole.Digest) {
		t.Errorf("a difference that is there as a whole gives %v, not %v", again, whole)
	}
	if left := must[[]os.DirEntry](t)(os.ReadDir(c.Dir())); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
	// And the other way round.
	o := different(t, s, random, base, 3)
	if got := adopt(t, s, string(contentOf(t, s, o))); got != o || s.isWhole(o.Digest) {
		t.Errorf("a whole file that is there as a difference gives %v, whole %v", got, s.isWhole(o.Digest))
	}
	sound(t, s)
}

// Trees take a file that is there as a difference, and give it back.
func TestTreesOfDifferences(t *testing.T) {
	random := seedtest.Random(t)
	dir := filepath.Join(t.TempDir(), "store")
	var tree, o Object
	var want []byte
	later(t, dir, func(s *Store) {
		base, _ := full(t, s, random, leavesFrom)
		o = different(t, s, random, base, 3)
		want = contentOf(t, s, o)
		tree = adoptDir(t, s, map[string]string{"a/image": string(want), "b": "small"})
		if s.isWhole(o.Digest) {
			t.Error("the file is there twice")
		}
		check(t, s.NameResult("/", "//:tree", []Object{tree}))
	})
	later(t, dir, func(s *Store) {
		must[CollectReport](t)(s.Collect(t.Context(), everything))
		dst := filepath.Join(t.TempDir(), "tree")
		check(t, s.Extract(t.Context(), tree.Digest, dst))
		if got := must[[]byte](t)(os.ReadFile(filepath.Join(dst, "a/image"))); !bytes.Equal(got, want) {
			t.Error("the file in the tree is another")
		}
		bundle := filepath.Join(t.TempDir(), "bundle")
		check(t, s.Bundle(t.Context(), tree.Digest, bundle))
		if back := must[Object](t)(newStore(t).AdoptBundle(t.Context(), bundle)); back != tree {
			t.Errorf("the bundle holds %v, not %v", back, tree)
		}
		sound(t, s)
	})
}

// Stores of before have no differences and no tables, and are used as they are.
func TestAStoreOfBefore(t *testing.T) {
	random := seedtest.Random(t)
	dir := filepath.Join(t.TempDir(), "store")
	var base Object
	later(t, dir, func(s *Store) { base, _ = full(t, s, random, leavesFrom); commit(t, s, "a", base) })
	check(t, os.RemoveAll(filepath.Join(dir, leavesDir)))
	check(t, os.RemoveAll(filepath.Join(dir, differencesDir)))
	later(t, dir, func(s *Store) {
		if _, ok := s.LookupOutputs(key("a")); !ok {
			t.Error("the record is not there")
		}
		o := different(t, s, random, base, 3)
		for _, d := range []Digest{base.Digest, o.Digest} {
			if l, ok := s.Leaves(d); !ok || l.Digest() != d {
				t.Errorf("%s has no table", d)
			}
		}
		sound(t, s)
	})
}

// An object in both forms, as a flattening leaves it that was killed, is one object.
func TestAnObjectInBothForms(t *testing.T) {
	random := seedtest.Random(t)
	dir := filepath.Join(t.TempDir(), "store")
	var o Object
	later(t, dir, func(s *Store) {
		base, _ := full(t, s, random, leavesFrom)
		o = different(t, s, random, base, 3)
		whole := s.shard(objectsDir, o.Digest)
		check(t, os.MkdirAll(filepath.Dir(whole), 0o700))
		check(t, os.WriteFile(whole, contentOf(t, s, o), 0o444))
		sound(t, s)
		check(t, s.NameResult("/", "//:o", []Object{o}))
	})
	later(t, dir, func(s *Store) {
		r := must[CollectReport](t)(s.Collect(t.Context(), everything))
		u := must[Usage](t)(s.Usage(t.Context()))
		if !s.Has(o) || u.Files != 1 || r.Kept != u.Allocated {
			t.Errorf("collection leaves %+v and reports %+v", u, r)
		}
	})
}

// changeByDifference takes in an object, two differences that rest on it, and flattens one.
func changeByDifference(ctx context.Context, s *Store, dir string, base Object, n uint64) ([]Output, error) {
	outputs := []Output{{"base", base}}
	random := rand.New(rand.NewPCG(n, 6))
	o := base
	for i := range 3 {
		var err error
		o, err = differ(ctx, s, dir, o, func(f *layer.Fork) error {
			_, err := io.CopyN(io.NewOffsetWriter(f, random.Int64N(leavesFrom/2)), rand.NewChaCha8([32]byte{byte(n), byte(i)}), int64(i*i)*100_000+5)
			return err
		})
		if err != nil {
			return nil, err
		}
		outputs = append(outputs, Output{fmt.Sprint("difference", i), o})
	}
	if err := s.flatten(ctx, o.Digest); err != nil {
		return nil, err
	}
	return outputs, nil
}

func TestFullDiskOfDifferences(t *testing.T) {
	inOwnMounts(t, "differing", 48<<20, "mkfs.ext4", "-q", "-F")
}

// fillDiskWithDifferences adopts differences until the disk is full, flattens there, and
// collects.
func fillDiskWithDifferences(args []string) error {
	if err := mountImage(args[0], args[1]); err != nil {
		return err
	}
	ctx, dir := context.Background(), filepath.Join(args[1], "store")
	s, err := Open(dir, Options{})
	if err != nil {
		return err
	}
	c, err := s.Scratch("t")
	if err != nil {
		return err
	}
	path := filepath.Join(c.Dir(), "base")
	if err := os.WriteFile(path, bytes.Repeat([]byte("data"), leavesFrom/4), 0o600); err != nil {
		return err
	}
	base, err := s.Adopt(ctx, path)
	if err != nil {
		return err
	}
	made := []Object{base}
	for n := byte(0); err == nil; n++ {
		var o Object
		o, err = differ(ctx, s, c.Dir(), made[len(made)-1], func(f *layer.Fork) error {
			_, err := io.CopyN(io.NewOffsetWriter(f, int64(n)*100_000), rand.NewChaCha8([32]byte{n}), 3<<20)
			return err
		})
		if err == nil {
			made = append(made, o)
		}
	}
	if !errors.Is(err, unix.ENOSPC) || len(made) < 3 {
		return fmt.Errorf("after %d differences: %w", len(made), err)
	}
	last := made[len(made)-1]
	if err := s.makeWhole(ctx, last.Digest); !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("a whole image on a full disk: %w", err)
	}
	for _, o := range made {
		if d, err := s.Rehash(ctx, o.Digest); err != nil || d != o.Digest || !s.Has(o) {
			return fmt.Errorf("on the full disk %s is %s, %w", o, d, err)
		}
	}
	if err := errors.Join(c.Close(), s.Close()); err != nil {
		return err
	}
	if s, err = Open(dir, Options{}); err != nil {
		return err
	}
	defer s.Close()
	r, err := s.Verify(ctx, false)
	if err != nil || len(r.Corrupt)+len(r.Missing) > 0 {
		return fmt.Errorf("verification: %+v, %w", r, err)
	}
	if r, err := s.Collect(ctx, everything); err != nil || r.Objects != len(made) || r.Kept != 0 {
		return fmt.Errorf("collection: %+v, %w", r, err)
	}
	return nil
}
