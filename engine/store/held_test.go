package store

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/internal/seedtest"
)

// TestHolds: what takes room is told once, with the steps that made it and the names that
// keep it; files of trees and logs count with what needs them.
func TestHolds(t *testing.T) {
	dir, out := filepath.Join(t.TempDir(), "store"), t.TempDir()
	link := filepath.Join(out, "a")
	var linked, tree, cached, log Object
	later(t, dir, func(s *Store) {
		linked, cached = adopt(t, s, strings.Repeat("l", 100_000)), adopt(t, s, "cached")
		tree, log = adoptDir(t, s, map[string]string{"a": strings.Repeat("t", 300_000)}), adopt(t, s, "log")
		commit(t, s, "linked", linked)
		commit(t, s, "tree", tree)
		check(t, s.Commit(&Record{Key: key("cached"), Label: "//t:cached", Kind: "test/1", Outputs: []Output{{"", cached}}, Log: &log}))
		check(t, s.NameResult(out, "//t:tree", []Object{tree}))
		check(t, s.NameLinks(out, map[string]Object{link: linked}))
		check(t, os.Symlink(s.Path(linked.Digest), link))
		makeOld(t, s, 2*time.Hour)
	})
	s := open(t, dir)
	holds := must[[]Held](t)(s.Holds(t.Context()))
	if len(holds) != 3 {
		t.Fatalf("%d things are held: %+v", len(holds), holds)
	}
	var sum int64
	for i, want := range []struct {
		o     Object
		label string
		name  Name
	}{{tree, "//t:tree", Name{out, "//t:tree"}}, {linked, "//t:linked", Name{out, link}}, {cached, "//t:cached", Name{}}} {
		h := holds[i]
		if h.Object == nil || h.Object.Digest != want.o.Digest || len(h.Steps) != 1 || h.Steps[0].Label != want.label || h.Steps[0].Kind != "test/1" || h.InUse {
			t.Errorf("%d: %+v, want %s", i, h, want.label)
		}
		if want.name != (Name{}) && !slices.Equal(h.Names, []Name{want.name}) || want.name == (Name{}) && h.Names != nil {
			t.Errorf("%s is kept by %v, want %v", want.label, h.Names, want.name)
		}
		if age := time.Since(h.Used); age < time.Hour || age > 3*time.Hour {
			t.Errorf("%s was used %v ago", want.label, age)
		}
		sum += h.Bytes
	}
	if u := must[Usage](t)(s.Usage(t.Context())); sum != u.Allocated {
		t.Errorf("what is held takes %d bytes, the store %d", sum, u.Allocated)
	}
	check(t, s.ForgetResults(out))
	check(t, s.Close())
	if r := collectAll(t, dir, everything); r.Freed != sum {
		t.Errorf("%d bytes were to be freed: %+v", sum, r)
	}
	if holds := must[[]Held](t)(open(t, dir).Holds(t.Context())); len(holds) != 0 {
		t.Errorf("an empty store holds %+v", holds)
	}
}

// TestHoldsInUse: what another live Store may need is told so.
func TestHoldsInUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, dir)
	commit(t, s, "k", adopt(t, s, "used"))
	for _, h := range must[[]Held](t)(open(t, dir).Holds(t.Context())) {
		if !h.InUse {
			t.Errorf("%+v is not in use", h)
		}
	}
}

// What rests on others is told with what it takes itself, and they with what keeps it.
func TestHoldsOfDifferences(t *testing.T) {
	random := seedtest.Random(t)
	dir, out := filepath.Join(t.TempDir(), "store"), t.TempDir()
	var base, middle, o Object
	later(t, dir, func(s *Store) {
		base, _ = full(t, s, random, leavesFrom)
		middle = different(t, s, random, base, 3)
		o = different(t, s, random, middle, 5)
		commit(t, s, "o", o)
		check(t, s.NameResult(out, "//t:o", []Object{o}))
	})
	s := open(t, dir)
	sizes := map[Digest]int64{}
	var sum int64
	for _, h := range must[[]Held](t)(s.Holds(t.Context())) {
		if len(h.Names) != 1 || h.Names[0] != (Name{out, "//t:o"}) {
			t.Errorf("%v is kept by %v", h.Object, h.Names)
		}
		sizes[h.Object.Digest] = h.Bytes
		sum += h.Bytes
	}
	if u := must[Usage](t)(s.Usage(t.Context())); len(sizes) != 3 || sum != u.Allocated {
		t.Errorf("held are %v, %d bytes in all, and the store takes %d", sizes, sum, u.Allocated)
	}
	if sizes[base.Digest] < leavesFrom || sizes[middle.Digest] > 200_000 || sizes[o.Digest] > 200_000 {
		t.Errorf("they take %v", sizes)
	}
	if n := s.LastSize("//t:o"); n == 0 || n > 200_000 {
		t.Errorf("the next run of the step is expected to take %d bytes", n)
	}
	if n := s.Data(o); n < leavesFrom {
		t.Errorf("a copy of it is expected to take %d bytes", n)
	}
}
