package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/internal/seedtest"
)

// everything is the policy that keeps only what is needed.
var everything = Policy{MaxSize: -1}

// collectAll runs a collection in a Store of its own.
func collectAll(t testing.TB, dir string, p Policy) CollectReport {
	t.Helper()
	s := must[*Store](t)(Open(dir, Options{}))
	defer s.Close()
	return must[CollectReport](t)(s.Collect(t.Context(), p))
}

// later gives what fn makes a Store that is closed before later returns.
func later(t testing.TB, dir string, fn func(s *Store)) {
	t.Helper()
	s := must[*Store](t)(Open(dir, Options{}))
	fn(s)
	check(t, s.Close())
}

func TestCollectTakesTheLeastRecentlyUsed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	var objs []Object
	var keys []Digest
	later(t, dir, func(s *Store) {
		for i := range 4 {
			objs = append(objs, adopt(t, s, strings.Repeat(fmt.Sprint(i), 100_000)))
			keys = append(keys, commit(t, s, fmt.Sprint(i), objs[i]))
			then := time.Now().Add(-time.Duration(10-i) * time.Hour)
			check(t, os.Chtimes(s.Path(objs[i].Digest), then, then))
		}
	})
	later(t, dir, func(s *Store) { s.LookupOutputs(keys[0]) }) // the oldest becomes the newest
	dry := collectAll(t, dir, Policy{MaxSize: 250_000, DryRun: true})
	r := collectAll(t, dir, Policy{MaxSize: 250_000})
	if dry.Objects != 2 || r.Objects != 2 || r.Records+dry.Records != 0 || r.Freed < 200_000 || r.Freed != dry.Freed || r.Kept > 250_000 {
		t.Errorf("report %+v, dry run %+v", r, dry)
	}
	s := open(t, dir)
	for i, want := range []bool{true, false, false, true} {
		if _, ok := s.LookupOutputs(keys[i]); ok != want {
			t.Errorf("outputs %d are there: %v, want %v", i, ok, want)
		}
		if outputs, ok := s.Recorded(keys[i]); !ok || outputs[0].Object != objs[i] {
			t.Errorf("record %d says %v %v", i, outputs, ok)
		}
	}
	if r := sound(t, s); r.Collected != 2 || r.Records != 4 {
		t.Errorf("verify: %+v", r)
	}
}

func TestCollectByAge(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	later(t, dir, func(s *Store) {
		commit(t, s, "old", adopt(t, s, "old"))
		commit(t, s, "nothing")
		makeOld(t, s, 48*time.Hour)
		commit(t, s, "new", adopt(t, s, "new"))
		check(t, s.Commit(&Record{Key: key("empty and new")}))
	})
	r := collectAll(t, dir, Policy{MaxAge: 24 * time.Hour})
	if r.Objects != 1 || r.Records != 2 {
		t.Errorf("report %+v", r)
	}
	s := open(t, dir)
	for name, want := range map[string]bool{"old": false, "nothing": false, "new": true, "empty and new": true} {
		if _, ok := s.LookupOutputs(key(name)); ok != want {
			t.Errorf("%s is there: %v", name, ok)
		}
	}
	if r := must[*Record](t)(s.Latest("//t:old")); r != nil {
		t.Errorf("latest is %v", r)
	}
	if r := collectAll(t, dir, Policy{}); r.Objects+r.Records != 0 {
		t.Errorf("no policy, and yet %+v", r)
	}
}

func TestCollectSparesNamedResults(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	workspace, gone := t.TempDir(), filepath.Join(t.TempDir(), "gone")
	var file, tree, other, lost Object
	later(t, dir, func(s *Store) {
		file, tree = adopt(t, s, "file"), adoptDir(t, s, map[string]string{"a": "1", "b/c": "2"})
		other, lost = adopt(t, s, "other"), adopt(t, s, "lost")
		check(t, s.NameResults(workspace, map[string][]Object{"//a": {file}, "//b c\n": {tree}, "//d": {other}}))
		check(t, s.NameResult(workspace, "//d", nil))
		check(t, s.NameResult(gone, "//a", []Object{lost}))
		makeOld(t, s, 48*time.Hour)
	})
	r := collectAll(t, dir, everything)
	if r.Objects != 2 {
		t.Errorf("report %+v", r)
	}
	s := open(t, dir)
	if !s.Has(file) || !s.Has(tree) || s.Has(other) || s.Has(lost) {
		t.Error("the wrong objects are left")
	}
	sound(t, s)
	check(t, s.Extract(t.Context(), tree.Digest, t.TempDir()))
	if lists := must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(dir, resultsDir))); len(lists) != 1 {
		t.Errorf("%d lists of results are left", len(lists))
	}
}

func TestNameResultsWritesOnlyChanges(t *testing.T) {
	s := newStore(t)
	results := map[string][]Object{"//a": {{File, Digest{1}, 1}}, "//b": {{Tree, Digest{2}, 1}}}
	check(t, s.NameResults("/w", results))
	path := s.resultsPath("/w")
	before := must[os.FileInfo](t)(os.Stat(path))
	check(t, s.NameResults("/w", results))
	if after := must[os.FileInfo](t)(os.Stat(path)); !os.SameFile(before, after) {
		t.Error("the same results are written again")
	}
	check(t, s.NameResult("/w", "//a", []Object{{File, Digest{3}, 1}}))
	text := string(must[[]byte](t)(os.ReadFile(path)))
	if strings.Count(text, "\n") != 3 || !strings.Contains(text, Digest{3}.String()) || strings.Contains(text, Digest{1}.String()) {
		t.Errorf("results are\n%s", text)
	}
}

func TestCollectSparesWhatLiveBuildsUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	var old, treeOld, unused Object
	var k Digest
	later(t, dir, func(s *Store) {
		old, unused = adopt(t, s, "old"), adopt(t, s, "unused")
		treeOld = adoptDir(t, s, map[string]string{"a": "in the tree"})
		k = commit(t, s, "k", old, treeOld)
		makeOld(t, s, 48*time.Hour)
	})
	build := open(t, dir)
	if _, ok := build.LookupOutputs(k); !ok {
		t.Fatal("not found")
	}
	fresh := adopt(t, build, "fresh")
	r := collectAll(t, dir, everything)
	if r.Objects != 1 || r.InUse == 0 {
		t.Errorf("report %+v", r)
	}
	for _, o := range []Object{old, treeOld, fresh} {
		if !build.Has(o) {
			t.Errorf("%v is gone", o)
		}
	}
	if build.Has(unused) {
		t.Error("what nobody uses is left")
	}
	check(t, build.Extract(t.Context(), treeOld.Digest, t.TempDir()))
	// The build's own collection spares the same.
	if r := must[CollectReport](t)(build.Collect(t.Context(), everything)); r.Objects != 0 {
		t.Errorf("own collection: %+v", r)
	}
	check(t, build.Close())
	if r := collectAll(t, dir, everything); r.Kept != 0 || r.Objects != 4 {
		t.Errorf("after the build: %+v", r)
	}
}

func TestCollectFailedSteps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	later(t, dir, func(s *Store) {
		for _, name := range []string{"open", "old"} {
			c := must[*Scratch](t)(s.Scratch("x"))
			write(t, filepath.Join(c.Dir(), "image"), strings.Repeat("x", 50_000))
			d := must[string](t)(c.Keep(name))
			then := time.Now().Add(-48 * time.Hour)
			check(t, os.Chtimes(d, then, then))
		}
	})
	s := open(t, dir)
	unlock, err := s.LockFailed("open")
	check(t, err)
	defer unlock()
	if r := collectAll(t, dir, Policy{MaxAge: time.Hour}); r.Failed != 1 || r.Freed < 50_000 {
		t.Errorf("report %+v", r)
	}
	if steps := must[[]FailedStep](t)(s.Failed()); len(steps) != 1 || steps[0].Name != "open" {
		t.Errorf("left: %v", steps)
	}
}

// The windows of a collection in which a build can come in between: the
// plan is made, and then somebody uses what is in it.
func TestUseBetweenPlanAndRemoval(t *testing.T) {
	for name, use := range map[string]func(t *testing.T, s *Store, file, tree Object){
		"lookup": func(t *testing.T, s *Store, file, tree Object) { s.LookupOutputs(key("k")) },
		"a new tree with the same file, by a build that has ended": func(t *testing.T, s *Store, file, tree Object) {
			adoptDir(t, s, map[string]string{"other name": "shared", "x": "new"})
			check(t, s.Close())
		},
		"named by a build that has ended": func(t *testing.T, s *Store, file, tree Object) {
			check(t, s.NameResult("/", "//x", []Object{file, tree}))
			check(t, s.Close())
		},
	} {
		for _, recent := range []bool{false, true} {
			for _, pass := range []int{1, 2} {
				t.Run(fmt.Sprint(name, recent, pass), func(t *testing.T) {
					dir := filepath.Join(t.TempDir(), "store")
					var file, tree Object
					later(t, dir, func(s *Store) {
						file, tree = adopt(t, s, "shared"), adoptDir(t, s, map[string]string{"a": "shared", "b": "own"})
						commit(t, s, "k", file, tree)
						if !recent {
							makeOld(t, s, time.Hour)
						}
					})
					gc := open(t, dir)
					c := &collector{s: gc, policy: everything}
					check(t, c.inventory.scan(t.Context(), gc))
					check(t, c.refresh())
					chosen := must[[]*item](t)(c.choose(time.Now().UnixNano()))
					records := c.chooseRecords(time.Now().UnixNano())
					s := open(t, dir)
					if pass == 1 {
						use(t, s, file, tree)
					}
					check(t, inBatches(t.Context(), c, chosen, c.dropTree))
					if pass == 2 {
						use(t, s, file, tree)
					}
					check(t, inBatches(t.Context(), c, chosen, c.dropFile))
					check(t, inBatches(t.Context(), c, records, c.dropRecord))
					check(t, c.tidy())
					after := open(t, dir)
					r := must[VerifyReport](t)(after.Verify(t.Context(), false))
					for _, d := range r.Missing {
						if strings.HasPrefix(d.What, "tree") {
							t.Errorf("a tree without its files: %v", d)
						}
					}
					if _, ok := after.LookupOutputs(key("k")); ok {
						check(t, after.Extract(t.Context(), tree.Digest, t.TempDir()))
						if r := must[*Record](t)(after.lookup(key("k"))); r == nil {
							t.Error("the record of what was used is gone")
						}
					} else if pass == 1 && name != "a new tree with the same file, by a build that has ended" {
						t.Error("what was used is gone")
					}
				})
			}
		}
	}
}

func TestVerifyAndRepair(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, dir)
	good, bad, lost := adopt(t, s, "good"), adopt(t, s, "bad"), adopt(t, s, "lost")
	tree := adoptDir(t, s, map[string]string{"a": "lost"})
	adopt(t, s, "orphan")
	for name, o := range map[string]Object{"good": good, "bad": bad, "lost": lost, "tree": tree} {
		commit(t, s, name, o)
	}
	if r := sound(t, s); r.Files != 4 || r.Trees != 1 || r.Records != 4 || r.Orphans != 1 || r.Bytes != 17 {
		t.Errorf("sound store: %+v", r)
	}
	check(t, os.Chmod(s.Path(bad.Digest), 0o600))
	write(t, s.Path(bad.Digest), "BAD")
	check(t, os.Remove(s.Path(lost.Digest)))
	write(t, s.recordPath(key("torn")), "b9 record 1 ")
	r := must[VerifyReport](t)(s.Verify(t.Context(), false))
	if len(r.Corrupt) != 2 || len(r.Missing) != 1 || r.Collected != 1 || r.Removed != 0 {
		t.Errorf("corrupt %v, missing %v", r.Corrupt, r.Missing)
	}
	if text := fmt.Sprint(r.Corrupt[0]); !strings.Contains(text, "its content has the digest b3:") {
		t.Errorf("damage reads %q", text)
	}
	if r := must[VerifyReport](t)(s.Verify(t.Context(), true)); r.Removed != 3 {
		t.Errorf("removed %d", r.Removed)
	}
	if r := sound(t, s); r.Records != 4 || r.Collected != 3 {
		t.Errorf("after the repair: %+v", r)
	}
	for name, want := range map[string]bool{"good": true, "bad": false, "lost": false, "tree": false} {
		if _, ok := open(t, dir).LookupOutputs(key(name)); ok != want {
			t.Errorf("%s is there: %v", name, ok)
		}
		if _, ok := open(t, dir).Recorded(key(name)); !ok {
			t.Errorf("the record %s is gone", name)
		}
	}
}

func TestUsage(t *testing.T) {
	s := newStore(t)
	commit(t, s, "k", adopt(t, s, "12345"), adoptDir(t, s, map[string]string{"a": "1"}))
	c := must[*Scratch](t)(s.Scratch("x"))
	write(t, filepath.Join(c.Dir(), "f"), strings.Repeat("x", 10_000))
	must[string](t)(c.Keep("k"))
	u := must[Usage](t)(s.Usage(t.Context()))
	if u.Files != 2 || u.Trees != 1 || u.Records != 1 || u.Failed != 1 || u.Scratch != 1 || u.Apparent < 6 || u.Allocated < 8192 || u.FailedBytes < 10_000 {
		t.Errorf("usage %+v", u)
	}
}

func TestVerifyWhileObjectsAreUsed(t *testing.T) {
	s := newStore(t)
	c := must[*Scratch](t)(s.Scratch("x"))
	defer c.Close()
	o := must[Object](t)(s.Adopt(t.Context(), sparseFile(t, filepath.Join(c.Dir(), "f"), 64<<20, 300)))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				now := time.Now()
				_ = os.Chtimes(s.Path(o.Digest), now, now)
			}
		}
	}()
	sound(t, s)
	close(stop)
	<-stopped
}

// TestCollectKeepsWhatLinksLeadTo: an object stays for as long as the link to it is there,
// whatever else that path or the workspace has become.
func TestCollectKeepsWhatLinksLeadTo(t *testing.T) {
	dir, out := filepath.Join(t.TempDir(), "store"), t.TempDir()
	link, elsewhere := filepath.Join(out, "a"), filepath.Join(t.TempDir(), "a")
	var linked, copied Object
	later(t, dir, func(s *Store) {
		linked, copied = adopt(t, s, "linked"), adopt(t, s, "copied")
		check(t, s.NameLinks(out, map[string]Object{link: linked, filepath.Join(out, "b"): copied}))
		check(t, os.Symlink(s.Path(linked.Digest), link))
		check(t, os.WriteFile(filepath.Join(out, "b"), []byte("copied"), 0o600))
		makeOld(t, s, time.Hour)
	})
	has := func(o Object) bool {
		_, err := os.Lstat(filepath.Join(dir, shardName(objectsDir, o.Digest)))
		return err == nil
	}
	collectAll(t, dir, everything)
	if !has(linked) || has(copied) {
		t.Errorf("what a link leads to is there: %v; what was copied: %v", has(linked), has(copied))
	}
	later(t, dir, func(s *Store) { // names that nothing leads to any more go with the next ones
		check(t, s.NameLinks(out, map[string]Object{}))
		if _, lines, err := splitResults(must[[]byte](t)(os.ReadFile(s.resultsPath(out)))); err != nil || len(lines) != 1 {
			t.Errorf("names %v, %v", lines, err)
		}
		makeOld(t, s, time.Hour)
	})
	check(t, os.Rename(link, elsewhere))
	collectAll(t, dir, everything)
	if has(linked) {
		t.Error("an object stays though its link is gone")
	}
}

func TestForgetResults(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	var o Object
	later(t, dir, func(s *Store) {
		o = adopt(t, s, "result")
		check(t, s.NameResult("/", "//:a", []Object{o}))
		makeOld(t, s, time.Hour)
	})
	if r := collectAll(t, dir, everything); r.Objects != 0 {
		t.Errorf("a named result was collected: %+v", r)
	}
	later(t, dir, func(s *Store) { check(t, s.ForgetResults("/")); check(t, s.ForgetResults("/")) })
	if r := collectAll(t, dir, everything); r.Objects != 1 {
		t.Errorf("a result that was forgotten stays: %+v", r)
	}
}

// A base stays while a difference is needed, and the sizes that are told are what is freed.
func TestCollectionKeepsWhatDifferencesRestOn(t *testing.T) {
	random := seedtest.Random(t)
	dir := filepath.Join(t.TempDir(), "store")
	var base, first, second, other, lone Object
	later(t, dir, func(s *Store) {
		base, _ = full(t, s, random, leavesFrom)
		lone, _ = full(t, s, random, leavesFrom)
		first = different(t, s, random, base, 3)
		second = different(t, s, random, first, 5)
		other = different(t, s, random, base, 7)
		commit(t, s, "second", second)
		check(t, s.NameResult("/", "//:second", []Object{second}))
	})
	collect := func(s *Store, want int) {
		t.Helper()
		before := must[Usage](t)(s.Usage(t.Context()))
		dry := must[CollectReport](t)(s.Collect(t.Context(), Policy{MaxSize: -1, DryRun: true}))
		r := must[CollectReport](t)(s.Collect(t.Context(), everything))
		after := must[Usage](t)(s.Usage(t.Context()))
		if freed := before.Allocated - after.Allocated; r.Objects != want || r.Freed != freed || r.Kept != after.Allocated || dry.Freed < freed {
			t.Errorf("collection reports %+v and would have %+v; %d bytes were freed and %d are left", r, dry, freed, after.Allocated)
		}
	}
	later(t, dir, func(s *Store) {
		collect(s, 2) // lone and other
		for name, o := range map[string]Object{"base": base, "first": first, "second": second} {
			if !s.Has(o) {
				t.Errorf("%s is gone", name)
			}
		}
		if s.Has(other) || s.Has(lone) {
			t.Error("what nothing needs is left")
		}
		sound(t, s)
	})
	// A build that uses the difference keeps it all, too.
	later(t, dir, func(s *Store) {
		check(t, s.NameResult("/", "//:second", nil))
		user := open(t, dir)
		if !user.Has(second) {
			t.Error("the difference is gone")
		}
		collect(s, 0)
		check(t, user.Close())
	})
	later(t, dir, func(s *Store) { collect(s, 3) })
}

// Adopting on an old base renews it, also for a collector that has chosen it already.
func TestAdoptingRenewsTheBase(t *testing.T) {
	random := seedtest.Random(t)
	s := newStore(t)
	base, _ := full(t, s, random, leavesFrom)
	first := different(t, s, random, base, 1)
	stamp := func(o Object) int64 { return must[os.FileInfo](t)(os.Stat(s.objectPath(o))).ModTime().UnixNano() }
	was := [2]int64{stamp(base), stamp(first)}
	different(t, s, random, first, 2)
	if stamp(base) <= was[0] || stamp(first) <= was[1] {
		t.Error("what the difference rests on has its old time")
	}
}
