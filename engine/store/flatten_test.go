package store

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/layer"
	"b9.build/b9/engine/internal/seedtest"
)

// flattenAll gives all objects the form that is due.
func flattenAll(t testing.TB, s *Store) {
	t.Helper()
	check(t, s.eachStored(differencesDir, func(_ string, d Digest, _ os.FileInfo) error { return s.flatten(t.Context(), d) }))
}

// What is nearly as large as its image becomes whole; what rests on too many becomes one
// difference; neither is done twice.
func TestFlattening(t *testing.T) {
	random := seedtest.Random(t)
	s := newStore(t)
	base, _ := full(t, s, random, 2*leavesFrom)
	o := base
	for i := range int64(maxDepth) {
		o = different(t, s, random, o, i)
	}
	flattenAll(t, s)
	if n := depthOf(t, s, o); n != maxDepth {
		t.Errorf("%d differences became %d", maxDepth, n)
	}
	deep := different(t, s, random, o, 40)
	want := contentOf(t, s, deep)
	check(t, s.flatten(t.Context(), deep.Digest))
	if n := depthOf(t, s, deep); n != 1 || !bytes.Equal(contentOf(t, s, deep), want) || !s.Has(deep) {
		t.Errorf("what rested on %d differences rests on %d", maxDepth+1, n)
	}
	large := must[Object](t)(func() (Object, error) {
		c := must[*Scratch](t)(s.Scratch("t"))
		defer c.Close()
		return differ(t.Context(), s, c.Dir(), base, func(f *layer.Fork) error {
			_, err := f.WriteAt(bytes.Repeat([]byte("x"), leavesFrom+2*digest.BlockSize), 0)
			return err
		})
	}())
	// Several processes, of which one does it.
	var g errgroup.Group
	inodes := map[uint64]bool{}
	for range 4 {
		other := open(t, s.Dir())
		g.Go(func() error { return other.flatten(t.Context(), large.Digest) })
	}
	check(t, g.Wait())
	for range 2 {
		var st unix.Stat_t
		check(t, unix.Stat(s.Path(large.Digest), &st))
		inodes[st.Ino] = true
		check(t, s.flatten(t.Context(), large.Digest))
	}
	if !s.isWhole(large.Digest) || len(inodes) != 1 || !s.Has(large) {
		t.Errorf("the large difference: whole %v, %d files", s.isWhole(large.Digest), len(inodes))
	}
	if _, err := os.Stat(s.shard(differencesDir, large.Digest)); !os.IsNotExist(err) {
		t.Errorf("the difference is left: %v", err)
	}
	sound(t, s)
}

// Flatten works beside a build on what this adopts, and on what was left.
func TestFlattenBesideABuild(t *testing.T) {
	random := seedtest.Random(t)
	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Flatten(ctx) }()
	o, _ := full(t, s, random, leavesFrom)
	for i := range int64(2 * maxDepth) {
		o = different(t, s, random, o, i)
	}
	for depthOf(t, s, o) > maxDepth && t.Context().Err() == nil {
		unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
	}
	cancel()
	<-ended
	sound(t, s)
}
