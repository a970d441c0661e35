package store

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// flip changes the first byte of a stored file and gives it its times back, as far
// as anyone can.
func flip(t testing.TB, path string) {
	t.Helper()
	info := must[os.FileInfo](t)(os.Stat(path))
	data := must[[]byte](t)(os.ReadFile(path))
	data[0] ^= 1
	check(t, os.Chmod(path, 0o644))
	check(t, os.WriteFile(path, data, 0o644))
	check(t, os.Chmod(path, info.Mode()))
	check(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
}

// rot flips a byte as a disk does: nothing that stat says tells of it.
func rot(t testing.TB, s *Store, o Object) {
	t.Helper()
	e, ok := s.checks.get(o.Digest, true)
	if !ok {
		t.Fatalf("nothing is known of %s", o)
	}
	flip(t, s.objectPath(o))
	var st unix.Stat_t
	must[string](t)(s.find(o, &st))
	s.checks.put(map[Digest]proof{o.Digest: proofOf(&st, e.hashed)})
}

// watched opens the store and collects what it tells of damage.
func watched(t testing.TB, dir string) (*Store, *[]Damage) {
	t.Helper()
	found := new([]Damage)
	s := must[*Store](t)(Open(dir, Options{Damaged: func(d Damage) { *found = append(*found, d) }}))
	t.Cleanup(func() { s.Close() })
	return s, found
}

// made commits a record of a step that read the input until the given time.
func made(t testing.TB, s *Store, name string, input string, ended time.Time, out Object) Digest {
	t.Helper()
	k := key(name)
	check(t, s.Commit(&Record{Key: k, Label: name, Parts: []Part{{"input src", input}}, Outputs: []Output{{"", out}}, Started: ended.Add(-time.Second), Duration: time.Second}))
	return k
}

func TestAWriteToAnObjectIsSeenBeforeItIsUsed(t *testing.T) {
	uses := map[string]func(s *Store, o Object) bool{
		"Has":           func(s *Store, o Object) bool { return s.Has(o) },
		"LookupOutputs": func(s *Store, o Object) bool { _, ok := s.LookupOutputs(key("a")); return ok },
		"Fork": func(s *Store, o Object) bool {
			return s.Fork(t.Context(), o.Digest, filepath.Join(t.TempDir(), "f")) == nil
		},
		"Adopt": func(s *Store, o Object) bool {
			adopt(t, s, "content")
			return must[Digest](t)(s.Rehash(t.Context(), o.Digest)) != o.Digest
		},
	}
	for name, use := range uses {
		dir := filepath.Join(t.TempDir(), "store")
		var o Object
		later(t, dir, func(s *Store) { o = adopt(t, s, "content"); commit(t, s, "a", o) })
		s, found := watched(t, dir)
		flip(t, s.objectPath(o))
		if use(s, o) {
			t.Errorf("%s uses an object that was written to", name)
		}
		if len(*found) != 1 || !strings.Contains((*found)[0].What, o.Digest.String()) {
			t.Errorf("%s: told of %v", name, *found)
		}
		if _, ok := s.Recorded(key("a")); !ok {
			t.Errorf("%s: the record of the step that makes the object is gone", name)
		}
		if again := adopt(t, s, "content"); again != o || !s.Has(o) {
			t.Errorf("%s: the object can't be made again", name)
		}
		check(t, s.Close())
	}
}

// What every use costs is stat: an object that is as it was is not read again, by no
// process, and neither is one whose time the store has renewed.
func TestWhatIsAsItWasIsNotHashedAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	var o, tree Object
	hashed := func(s *Store, o Object) int64 { e, _ := s.checks.get(o.Digest, true); return e.hashed }
	var first, firstTree int64
	later(t, dir, func(s *Store) {
		o, tree = adopt(t, s, "content"), adoptDir(t, s, map[string]string{"a": "in a tree"})
		first, firstTree = hashed(s, o), hashed(s, tree)
	})
	for range 3 {
		later(t, dir, func(s *Store) {
			if !s.Has(o) || !s.Has(tree) {
				t.Error("the objects are gone")
			}
			if hashed(s, o) != first || hashed(s, tree) != firstTree || first == 0 || firstTree == 0 {
				t.Error("an object was hashed again although nobody had touched it")
			}
			// A use in a later build renews the time, and what is remembered.
			old := time.Now().Add(-time.Hour)
			check(t, os.Chtimes(s.Path(o.Digest), old, old))
			s.renewed(objectsDir, o.Digest)
		})
	}
}

func TestStateOfObjectsIsDisposable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	var o Object
	later(t, dir, func(s *Store) { o = adopt(t, s, "content") })
	file := filepath.Join(dir, checksDir, o.Digest.Hex()[:1])
	for name, spoil := range map[string]func(){
		"gone":      func() { check(t, os.Remove(file)) },
		"torn":      func() { check(t, os.Truncate(file, checkSize-1)) },
		"garbage":   func() { write(t, file, strings.Repeat("x", 3*checkSize+5)) },
		"directory": func() { check(t, os.RemoveAll(filepath.Join(dir, checksDir))) },
	} {
		spoil()
		for range 2 {
			later(t, dir, func(s *Store) {
				if !s.Has(o) {
					t.Errorf("%s: the object is not there", name)
				}
			})
		}
		later(t, dir, func(s *Store) {
			if e, ok := s.checks.get(o.Digest, false); !ok || e.hashed == 0 {
				t.Errorf("%s: the state of the object is not remembered again", name)
			}
		})
	}
}

func TestATreeWithADamagedFileIsMadeAgain(t *testing.T) {
	for name, harm := range map[string]func(s *Store, tree, file Object){
		"file written to":     func(s *Store, _, file Object) { flip(t, s.objectPath(file)) },
		"file gone":           func(s *Store, _, file Object) { check(t, os.Remove(s.objectPath(file))) },
		"manifest written to": func(s *Store, tree, _ Object) { flip(t, s.objectPath(tree)) },
	} {
		dir := filepath.Join(t.TempDir(), "store")
		var tree, file Object
		later(t, dir, func(s *Store) {
			tree, file = adoptDir(t, s, map[string]string{"a": "content"}), adopt(t, s, "content")
			commit(t, s, "tree", tree)
		})
		s, _ := watched(t, dir)
		harm(s, tree, file)
		if s.Has(tree) {
			t.Errorf("%s: the tree is used", name)
		}
		if _, ok := s.LookupOutputs(key("tree")); ok {
			t.Errorf("%s: the tree is found again", name)
		}
		if again := adoptDir(t, s, map[string]string{"a": "content"}); !s.Has(again) || s.Extract(t.Context(), again.Digest, filepath.Join(t.TempDir(), "x")) != nil {
			t.Errorf("%s: the tree can't be made again", name)
		}
		sound(t, s)
		check(t, s.Close())
	}
}

// What a disk lost tells nobody. A collection finds it, and so does verify; what was made of
// the object since it was last found right is forgotten, and nothing else.
func TestRotIsFoundAndWhatWasMadeOfItIsForgotten(t *testing.T) {
	finders := map[string]func(s *Store) int{
		"collection": func(s *Store) int { return must[CollectReport](t)(s.Collect(t.Context(), Policy{})).Damaged },
		"verify":     func(s *Store) int { return len(must[VerifyReport](t)(s.Verify(t.Context(), true)).Corrupt) },
	}
	for name, find := range finders {
		s, _ := watched(t, filepath.Join(t.TempDir(), "store"))
		o := adopt(t, s, "content")
		tree := adoptDir(t, s, map[string]string{"a": "content"})
		commit(t, s, "maker", o)
		e, _ := s.checks.get(o.Digest, false)
		right, later := time.Unix(0, e.hashed).Add(-time.Minute), time.Now().Add(time.Minute)
		out := adopt(t, s, "output")
		gone := []Digest{
			made(t, s, "of the file", o.Kind.String()+" "+o.Digest.String(), later, out),
			made(t, s, "of the tree", "tree "+tree.Digest.String(), later, out),
			made(t, s, "by the key", "file "+key("maker").String()+" ", later, out),
			made(t, s, "by the key of what goes", "file "+key("of the file").String()+" ", later, out),
		}
		stay := []Digest{
			made(t, s, "before", "file "+o.Digest.String(), right, out),
			made(t, s, "of others", "file "+out.Digest.String(), later, out),
			key("maker"),
		}
		check(t, s.WriteNote(key("trace"), []byte("it skips the records")))
		rot(t, s, o)
		if !s.Has(o) {
			t.Fatalf("%s: the damage shows", name)
		}
		copied := time.Now()
		if n := find(s); n != 1 {
			t.Errorf("%s finds %d damaged objects, want 1", name, n)
		}
		if s.Has(o) || s.Has(tree) {
			t.Errorf("%s: the damaged object is still there", name)
		}
		for _, look := range []*Store{s, open(t, s.Dir())} {
			known := func(k Digest) bool { _, ok := look.Recorded(k); return ok }
			if slices.ContainsFunc(gone, known) || slices.IndexFunc(stay, func(k Digest) bool { return !known(k) }) >= 0 {
				t.Errorf("%s: known are still %v of %v, and %v of %v", name, slices.IndexFunc(gone, known), gone, stay, stay)
			}
		}
		if _, ok := s.ReadNote(key("trace")); ok {
			t.Errorf("%s: the trace of a build is still there", name)
		}
		damaged := s.Suspects()
		if !damaged.Copy(o, copied.UnixNano()) || damaged.Copy(o, right.UnixNano()) || damaged.Copy(o, later.UnixNano()) || damaged.Copy(out, time.Now().UnixNano()) {
			t.Errorf("%s: copies of another time, or of another object, are held suspect", name)
		}
		check(t, s.Close())
	}
}

// Each collection hashes no more than its share, and all objects have their turn.
func TestEveryObjectIsHashedInTime(t *testing.T) {
	s := newStore(t)
	for _, text := range []string{"a", "b", "c"} {
		o := adopt(t, s, text)
		rot(t, s, o)
		if r := must[CollectReport](t)(s.Collect(t.Context(), Policy{})); r.Damaged != 1 || r.Checked == 0 {
			t.Errorf("%s: %+v", text, r)
		}
	}
	var first []Digest
	for _, text := range []string{"d", "e"} {
		first = append(first, adopt(t, s, text).Digest)
	}
	before, _ := s.checks.get(first[0], false)
	must[CollectReport](t)(s.Collect(t.Context(), Policy{}))
	if after, _ := s.checks.get(first[0], false); after.hashed <= before.hashed {
		t.Error("a collection hashed nothing")
	}
	if r := must[CollectReport](t)(s.Collect(context.Background(), Policy{DryRun: true})); r.Checked != 0 {
		t.Errorf("a dry run hashed %d bytes", r.Checked)
	}
}

// What leaves the machine is read in whole.
func TestABundleOfRottenFilesIsRefused(t *testing.T) {
	s := newStore(t)
	tree := adoptDir(t, s, map[string]string{"a": "content"})
	rot(t, s, adopt(t, s, "content"))
	if err := s.Bundle(t.Context(), tree.Digest, filepath.Join(t.TempDir(), "bundle")); err == nil || !strings.Contains(err.Error(), `"a" is damaged`) {
		t.Errorf("bundle: %v", err)
	}
}

// TestACollectionHashesABoundedShare: objects of 200 MiB each are looked at two at a
// time, the one that waits longest first; one that is larger than the share goes alone.
func TestACollectionHashesABoundedShare(t *testing.T) {
	s := newStore(t)
	const mib = 1 << 20
	objects := func(texts string, alloc int64) (items []*item) {
		for _, text := range texts {
			o := adopt(t, s, string(text))
			items = append(items, &item{kind: itemFile, digest: o.Digest, path: s.Path(o.Digest), alloc: alloc})
		}
		return items
	}
	share := func(items []*item) (checked int64, hashed []int) {
		before := map[int]int64{}
		for i, it := range items {
			e, _ := s.checks.get(it.digest, false)
			before[i] = e.hashed
		}
		c := &collector{s: s, inventory: inventory{items: items}}
		check(t, c.scrub(t.Context()))
		for i, it := range items {
			if e, _ := s.checks.get(it.digest, false); e.hashed > before[i] {
				hashed = append(hashed, i)
			}
		}
		return c.report.Checked, hashed
	}
	turns, three := map[int]int{}, objects("abc", 200*mib)
	for range 3 {
		checked, hashed := share(three)
		if checked != 400*mib || len(hashed) != 2 {
			t.Errorf("%d bytes, objects %v", checked, hashed)
		}
		for _, i := range hashed {
			turns[i]++
		}
	}
	if len(turns) != 3 || turns[0] != 2 || turns[1] != 2 || turns[2] != 2 {
		t.Errorf("how often each was hashed: %v", turns)
	}
	if checked, hashed := share(objects("de", 3<<30)); checked != 3<<30 || len(hashed) != 1 {
		t.Errorf("large ones: %d bytes, objects %v", checked, hashed)
	}
}
