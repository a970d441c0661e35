package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMakeRoom: on a disk that gets full what can be made again goes first, then what comes
// from elsewhere, last what the build has, and nothing that is in use.
func TestMakeRoom(t *testing.T) {
	for _, mkfs := range [][]string{{"mkfs.ext4", "-q", "-F"}, {"mkfs.xfs", "-q"}, {"mkfs.btrfs", "-q"}} {
		t.Run(mkfs[0], func(t *testing.T) { inOwnMounts(t, "room", 400<<20, mkfs...) })
	}
}

// roomKinds are the objects of the test in the order in which they go; the last is in use.
var roomKinds = [...]string{"again/1 other", "again/1 other2", "dear/2 other", "dear/2 ours", "again/1 used"}

// makeRoomInOrder is the child of TestMakeRoom.
func makeRoomInOrder(args []string) error {
	if err := mountImage(args[0], args[1]); err != nil {
		return err
	}
	ctx, dir := context.Background(), filepath.Join(args[1], "store")
	s, err := Open(dir, Options{})
	if err != nil {
		return err
	}
	const each = 10 << 20
	objects := make([]Object, len(roomKinds))
	for i, name := range roomKinds {
		path := filepath.Join(args[1], "file")
		data := make([]byte, each)
		rand.NewChaCha8([32]byte{byte(i)}).Read(data)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
		if objects[i], err = s.Import(ctx, path); err != nil {
			return err
		}
		kind, label, _ := strings.Cut(name, " ")
		if err := errors.Join(os.Remove(path), s.Commit(&Record{Key: Digest{byte(i + 1)}, Label: label, Kind: kind, Outputs: []Output{{Object: objects[i]}}})); err != nil {
			return err
		}
		// By age alone the order would be another one.
		hours := [...]time.Duration{2, 1, 10, 20, 30}[i]
		if err := setMTime(s.Path(objects[i].Digest), time.Now().Add(-hours*time.Hour).UnixNano()); err != nil {
			return err
		}
	}
	if err := s.Close(); err != nil {
		return err
	}
	if s, err = Open(dir, Options{}); err != nil {
		return err
	}
	if !s.Has(objects[len(objects)-1]) {
		return errors.New("the object in use is not there")
	}
	return errors.Join(roomByRoom(ctx, s, objects, each), s.Close())
}

// roomByRoom asks for a little more room than there is, again and again.
func roomByRoom(ctx context.Context, s *Store, objects []Object, each int64) error {
	p := Policy{Dear: func(kind string) bool { return strings.HasPrefix(kind, "dear") }, Ours: func(label string) bool { return label == "ours" }}
	if r, err := s.MakeRoom(ctx, 0, p); err != nil || r.Objects != 0 {
		return fmt.Errorf("with room enough: %+v %v", r, err)
	}
	for n := range len(objects) {
		space, err := s.Space()
		if err != nil {
			return err
		}
		r, err := s.MakeRoom(ctx, space.Free-space.Reserve()+each/2, p)
		if want := min(n+1, len(objects)-1); err != nil || r.Objects != want-n {
			return fmt.Errorf("room %d: %+v %v", n, r, err)
		}
		for i, o := range objects {
			_, err := os.Lstat(s.Path(o.Digest))
			if gone := err != nil; gone != (i <= n && i < len(objects)-1) {
				return fmt.Errorf("room %d: %q is gone: %v", n, roomKinds[i], gone)
			}
		}
	}
	return nil
}

// TestShare: the store keeps to its share of what it holds and what is free.
func TestShare(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	later(t, dir, func(s *Store) {
		for i := range 4 {
			adopt(t, s, strings.Repeat(fmt.Sprint(i), 100_000))
		}
		makeOld(t, s, time.Hour)
	})
	if r := collectAll(t, dir, Policy{MaxShare: 100}); r.Objects != 0 {
		t.Errorf("all of the room: %+v", r)
	}
	c := &collector{s: open(t, dir), policy: Policy{MaxShare: 50}, report: CollectReport{Kept: 1000}}
	space := must[Space](t)(c.s.Space())
	got := must[int64](t)(c.limit())
	if want := (space.Free + 1000) / 2; got < want-1<<30 || got > want+1<<30 { // others use the disk meanwhile
		t.Errorf("half of 1000 and %d bytes is %d", space.Free, got)
	}
	if got := shareOf(1000, 33); got != 330 {
		t.Errorf("33%% of 1000 are %d", got)
	}
	c.policy.MaxSize = 7
	if got := must[int64](t)(c.limit()); got != 7 {
		t.Errorf("a size of 7 bytes is a limit of %d", got)
	}
}

// TestRanksOfFiles: a file goes after every tree that has it.
func TestRanksOfFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	var tree Object
	later(t, dir, func(s *Store) {
		tree = adoptDir(t, s, map[string]string{"a": "shared", "b": "own"})
		commit(t, s, "ours", tree, adopt(t, s, "shared"))
		commit(t, s, "other", adopt(t, s, "alone"))
	})
	s := open(t, dir)
	c := &collector{s: s, policy: Policy{Ours: func(label string) bool { return label == "ours" }}}
	check(t, c.inventory.scan(t.Context(), s))
	ranks := c.ranks()
	if n := len(c.files[tree.Digest]); n != 2 {
		t.Fatalf("the tree has %d files", n)
	}
	for _, f := range c.files[tree.Digest] {
		if ranks[c.byDigest[f]] < ranks[c.byDigest[tree.Digest]] {
			t.Errorf("a file would go before its tree")
		}
	}
}

// TestLastSize: a step takes as much as its outputs do on the disk, a difference what differs.
// A link leads to a whole file, as which a difference is put together.
func TestLastSize(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	s := open(t, filepath.Join(t.TempDir(), "store"))
	data := make([]byte, 2*leavesFrom)
	rand.NewChaCha8([32]byte{}).Read(data)
	base := adopt(t, s, string(data))
	changed := different(t, s, random, base, 1)
	commit(t, s, "base", base)
	commit(t, s, "changed", changed)
	if s.isWhole(changed.Digest) {
		t.Fatal("it is no difference")
	}
	if got := s.LastSize("//t:base"); got < int64(len(data)) {
		t.Errorf("the base took %d bytes", got)
	}
	if got := s.LastSize("//t:changed"); got == 0 || got > 1<<20 {
		t.Errorf("a change of one block took %d bytes", got)
	}
	if got := s.LastSize("//t:nothing"); got != 0 {
		t.Errorf("a step that never ran took %d bytes", got)
	}
	if got := s.Data(changed); got < int64(len(data)) {
		t.Errorf("a copy of the changed image has %d bytes", got)
	}
	for _, h := range must[[]Held](t)(s.Holds(t.Context())) {
		if want := map[Digest]int{base.Digest: 1}[h.Object.Digest]; h.Bears != want {
			t.Errorf("%d differences rest on %s, want %d", h.Bears, h.Steps[0].Label, want)
		}
	}
	c := &collector{s: s, policy: Policy{Ours: func(label string) bool { return label == "//t:changed" }}}
	check(t, c.inventory.scan(t.Context(), s))
	if got := c.ranks()[c.byDigest[base.Digest]]; got != rankOurs {
		t.Errorf("what a result of this build rests on has rank %d", got)
	}
	want := contentOf(t, s, changed)
	path := must[string](t)(s.Whole(t.Context(), changed.Digest))
	if got := must[[]byte](t)(os.ReadFile(path)); string(got) != string(want) || !s.isWhole(changed.Digest) {
		t.Error("a link leads to something else than the object")
	}
}
