package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/seedtest"
)

// oldFamily is a store with differences, each to one of those before it by chance, that
// nobody has used for two hours.
func oldFamily(t *testing.T, dir string) (family []Object) {
	t.Helper()
	random := seedtest.Random(t)
	s := must[*Store](t)(Open(dir, Options{}))
	base, _ := full(t, s, random, leavesFrom)
	family = []Object{base}
	for i := range int64(24) {
		family = append(family, different(t, s, random, family[random.IntN(len(family))], i))
	}
	old := time.Now().Add(-2 * time.Hour)
	for _, o := range family {
		check(t, os.Chtimes(s.objectPath(o), old, old))
	}
	check(t, s.Close())
	return family
}

// forkOnce forks an object that a collection may take meanwhile, writes to it and stores it.
// What it has stored hashes to its digest. It is the zero Object where of was not there.
func forkOnce(s *Store, r *rand.Rand, of Object) (o Object, err error) {
	ctx := context.Background()
	c, err := s.Scratch("beside")
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	path := filepath.Join(c.Dir(), "fork")
	if err := s.Fork(ctx, of.Digest, path); errors.Is(err, ErrNotInStore) {
		return o, nil // it went before it was used
	} else if err != nil {
		return o, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return o, err
	}
	for range 1 + r.IntN(3) {
		if err := randomBlock(f, r, r.Int64N(leavesFrom/digest.BlockSize)); err != nil {
			return o, errors.Join(err, f.Close())
		}
	}
	if err := f.Close(); err != nil {
		return o, err
	}
	if o, err = s.Adopt(ctx, path); err != nil {
		return o, err
	}
	if got, err := s.Rehash(ctx, o.Digest); err != nil || got != o.Digest {
		return o, fmt.Errorf("%s hashes to %s: %w", o.Digest, got, err)
	}
	return o, nil
}

// Builds fork old objects, and what they have made of others, while another process collects
// all that it may: each gets all of an object or is told that it is not there, and keeps what
// it has begun with.
func TestCollectionBesideForksThatAreWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	family := oldFamily(t, dir)
	builder := must[*Store](t)(Open(dir, Options{ForkAbove: 1}))
	collector := open(t, dir)
	if !builder.Has(family[5]) {
		t.Fatal("an object is not there")
	}
	family = family[:20] // of the rest there is something to collect
	seed := seedtest.Seed()
	ctx, stop := context.WithCancel(t.Context())
	removed, collected := 0, make(chan error, 1)
	go func() {
		for first := true; first || ctx.Err() == nil; first = false {
			r, err := collector.Collect(context.Background(), everything)
			if removed += r.Objects; err != nil {
				collected <- err
				return
			}
		}
		collected <- nil
	}()
	var wg sync.WaitGroup
	var done [3]int
	var errs [3]error
	for i := range done {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			mine := slices.Clone(family)
			for n := range 12 {
				of := family[5] // which is in use from the beginning
				if n > 0 {
					of = mine[r.IntN(len(mine))]
				}
				o, err := forkOnce(builder, r, of)
				if errs[i] = errors.Join(errs[i], err); err == nil && o.Size > 0 {
					mine = append(mine, o, o, o)
					done[i]++
				}
			}
		})
	}
	wg.Wait()
	stop()
	check(t, errors.Join(append(errs[:], <-collected)...))
	t.Logf("%v forks were written, %d objects collected", done, removed)
	if removed == 0 || done[0]+done[1]+done[2] == 0 {
		t.Error("nothing was collected, or nothing written")
	}
	sound(t, builder)
	check(t, builder.Close())
}
