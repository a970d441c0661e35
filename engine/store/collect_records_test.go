package store

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"b9.build/b9/engine/internal/flock"
)

// recordTime is the time of a record's last use.
func recordTime(t testing.TB, s *Store, k Digest) time.Time {
	t.Helper()
	return must[os.FileInfo](t)(os.Stat(s.recordPath(k))).ModTime()
}

func setTime(t testing.TB, path string, age time.Duration) {
	t.Helper()
	then := time.Now().Add(-age)
	check(t, os.Chtimes(path, then, then))
}

const day = 24 * time.Hour

// A record that is as old as its step, but whose object was used lately,
// stays for as long as the object would have.
func TestRecordsOutliveTheirObjects(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	var used, unused, part, gone Digest
	later(t, dir, func(s *Store) {
		o, other := adopt(t, s, "used"), adopt(t, s, "part")
		used, unused = commit(t, s, "used", o), commit(t, s, "unused", adopt(t, s, "unused"))
		part, gone = commit(t, s, "part", other, o), commit(t, s, "gone", adopt(t, s, "gone"))
		makeOld(t, s, 40*day)
		setTime(t, s.Path(o.Digest), 5*day)
		setTime(t, s.Path(other.Digest), 35*day)
		check(t, os.Remove(s.Path(must[*Record](t)(s.readRecord(gone)).Outputs[0].Object.Digest)))
	})
	// By size all objects go, and no record.
	if r := collectAll(t, dir, Policy{MaxSize: 1}); r.Objects != 3 || r.Records != 0 || r.Kept != 0 {
		t.Errorf("by size: %+v", r)
	}
	s := open(t, dir)
	for k, want := range map[Digest]time.Duration{used: 5 * day, part: 5 * day, unused: 40 * day, gone: 40 * day} {
		if age := time.Since(recordTime(t, s, k)); (age - want).Abs() > time.Hour {
			t.Errorf("a record was last used %v ago, want %v", age, want)
		}
		if _, ok := s.Recorded(k); !ok {
			t.Error("a record is not found")
		}
	}
	// By age those go that nobody used.
	check(t, s.Close())
	dry := collectAll(t, dir, Policy{MaxAge: 30 * day, DryRun: true})
	if r := collectAll(t, dir, Policy{MaxAge: 30 * day}); r.Records != 2 || r != dry {
		t.Errorf("by age: %+v, dry run %+v", r, dry)
	}
	s = open(t, dir)
	for k, want := range map[Digest]bool{used: true, part: true, unused: false, gone: false} {
		if _, ok := s.Recorded(k); ok != want {
			t.Errorf("a record is there: %v, want %v", ok, want)
		}
	}
	check(t, s.Close())
	if r := collectAll(t, dir, everything); r.Records != 2 {
		t.Errorf("everything: %+v", r)
	}
}

func TestRecordStaysWithItsOutputs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	workspace := t.TempDir()
	var k Digest
	later(t, dir, func(s *Store) {
		named := adopt(t, s, "named")
		k = commit(t, s, "k", named, adopt(t, s, "other"))
		check(t, s.NameResult(workspace, "//k", []Object{named}))
		makeOld(t, s, 40*day)
	})
	for _, p := range []Policy{{MaxAge: day}, everything} {
		dry := p
		dry.DryRun = true
		plan := collectAll(t, dir, dry)
		r := collectAll(t, dir, p)
		if r.Checked = 0; r != plan || r.Records != 0 { // a dry run hashes nothing
			t.Errorf("%+v: planned %+v, did %+v", p, plan, r)
		}
		s := open(t, dir)
		if _, ok := s.Recorded(k); !ok {
			t.Errorf("%+v: the record of a named result is gone", p)
		}
		if _, ok := s.LookupOutputs(k); ok {
			t.Errorf("%+v: the other output is still there", p)
		}
	}
}

func TestDamagedRecordsAreCollected(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	var k Digest
	later(t, dir, func(s *Store) {
		k = commit(t, s, "k", adopt(t, s, "x"))
		check(t, os.Chmod(s.recordPath(k), 0o600))
		check(t, os.Truncate(s.recordPath(k), 70))
	})
	for range 2 {
		r := collectAll(t, dir, Policy{DryRun: true})
		if r.Records != 1 || r.Objects != 0 {
			t.Errorf("dry run: %+v", r)
		}
	}
	if r := collectAll(t, dir, Policy{}); r.Records != 1 || r.Objects != 0 {
		t.Errorf("report %+v", r)
	}
	if _, err := os.Stat(open(t, dir).recordPath(k)); err == nil {
		t.Error("it is still there")
	}
}

// Asking for an object that was collected keeps its record.
func TestMissedObjectsRenewTheirRecords(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	var objs []Object
	later(t, dir, func(s *Store) {
		for i := range 40 {
			o := adopt(t, s, fmt.Sprint(i))
			objs = append(objs, o)
			commit(t, s, fmt.Sprint(i), o)
		}
		makeOld(t, s, 40*day)
	})
	collectAll(t, dir, Policy{MaxSize: 1})
	later(t, dir, func(s *Store) {
		for i, o := range objs {
			if i%2 == 0 {
				continue
			}
			if _, ok := s.Recorded(key(fmt.Sprint(i))); !ok || s.Has(o) {
				t.Errorf("%d is not recorded, or still there", i)
			}
		}
	})
	if r := collectAll(t, dir, Policy{MaxAge: 30 * day}); r.Records != 20 {
		t.Errorf("report %+v", r)
	}
	s := open(t, dir)
	for i := range objs {
		if _, ok := s.Recorded(key(fmt.Sprint(i))); ok != (i%2 == 1) {
			t.Errorf("record %d is there: %v", i, ok)
		}
	}
	// Within the grain nothing is written.
	before := recordTime(t, s, key("1"))
	s.Has(objs[1])
	s.renewMissed()
	if after := recordTime(t, s, key("1")); !after.Equal(before) {
		t.Errorf("renewed at %v and %v", before, after)
	}
}

// A record that another process collected may still be in the index that
// this one has read, and harms nobody.
func TestRecordedAfterItsRecordWasCollected(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	var o Object
	later(t, dir, func(s *Store) {
		o = adopt(t, s, "x")
		commit(t, s, "k", o)
		makeOld(t, s, 40*day)
	})
	build := open(t, dir)
	build.Recorded(key("read the index"))
	if r := collectAll(t, dir, everything); r.Records != 1 || r.Objects != 1 {
		t.Errorf("report %+v", r)
	}
	outputs, ok := build.Recorded(key("k"))
	if !ok || outputs[0].Object != o || build.Has(o) {
		t.Errorf("recorded: %v %v", outputs, ok)
	}
	if _, ok := build.LookupOutputs(key("k")); ok {
		t.Error("outputs of a collected object are found")
	}
	commit(t, build, "k", adopt(t, build, "x"))
	if r, err := build.lookup(key("k")); r == nil || err != nil {
		t.Errorf("made again: %v %v", r, err)
	}
}

// TestCollectKeepsWhatLabelsStandFor: a collection that drops a record leaves in the index
// what was found for other labels than the record's, and what others append meanwhile.
func TestCollectKeepsWhatLabelsStandFor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	var kept, found Digest
	later(t, dir, func(s *Store) {
		s.LookupOutputs(key("begin the index"))
		commit(t, s, "gone", adopt(t, s, "gone"))
		makeOld(t, s, 40*day)
		kept = commit(t, s, "kept", adopt(t, s, "kept"))
		found = commit(t, s, "found", adopt(t, s, "found"))
		for range 3 { // of which the last says all
			s.Found("//t:kept", found)
			s.Found("//t:kept", kept)
		}
		s.Found("//elsewhere:x", kept)
		s.Found("//t:gone", key("gone"))
	})
	s := open(t, dir)
	before := must[os.FileInfo](t)(os.Stat(s.index.path)).Size()
	c := &collector{s: s, policy: Policy{MaxAge: 30 * day}}
	check(t, c.inventory.scan(t.Context(), s))
	other := open(t, dir)
	check(t, other.Commit(&Record{Key: key("meanwhile"), Label: "//t:found"}))
	for _, r := range c.records {
		if r.key == key("gone") {
			check(t, os.Remove(r.path))
			r.dropped, c.report.Records = true, 1
		}
	}
	check(t, c.tidy())
	for label, want := range map[string]Digest{
		"//elsewhere:x": kept, "//t:kept": kept, "//t:found": key("meanwhile"), "//t:gone": {},
	} {
		if got := open(t, dir).LatestKey(label); got != want {
			t.Errorf("%s stands for %s, want %s", label, got, want)
		}
	}
	if after := must[os.FileInfo](t)(os.Stat(s.index.path)).Size(); after >= before {
		t.Errorf("the index had %d bytes and has %d", before, after)
	}
	check(t, os.Remove(open(t, dir).recordPath(found))) // what the index says of a key is still there
	if _, ok := open(t, dir).LookupOutputs(found); !ok {
		t.Error("an entry of a key is lost")
	}
}

func TestAutoCollect(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	later(t, dir, func(s *Store) {
		for i := range 3 {
			adopt(t, s, fmt.Sprint(i))
		}
	})
	s := open(t, dir)
	collects := func(age time.Duration) bool {
		t.Helper()
		setTime(t, s.lockPath("collect"), age)
		r := must[CollectReport](t)(s.AutoCollect(t.Context(), Policy{DryRun: true}))
		return r.Kept > 0
	}
	for age, want := range map[time.Duration]bool{0: false, 50 * time.Second: false, 61 * time.Minute: true, -time.Hour: true} {
		if got := collects(age); got != want {
			t.Errorf("%v after a collection it collects: %v", age, got)
		}
	}
	setTime(t, s.lockPath("collect"), 2*time.Hour)
	if r := must[CollectReport](t)(s.AutoCollect(t.Context(), Policy{})); r.Kept == 0 {
		t.Error("the first one does nothing")
	}
	if r := must[CollectReport](t)(s.AutoCollect(t.Context(), Policy{})); r.Kept != 0 {
		t.Error("the second one does something")
	}
	setTime(t, s.lockPath("collect"), 2*time.Hour)
	lock := must[*os.File](t)(s.lockCollect(t.Context(), flock.Shared))
	defer lock.Close()
	if r := must[CollectReport](t)(s.AutoCollect(t.Context(), Policy{})); r.Kept != 0 {
		t.Error("it did not yield to a verification")
	}
}

func TestReserve(t *testing.T) {
	for _, c := range []struct{ total, want int64 }{
		{1 << 40, 10 << 30}, {100 << 30, 5 << 30}, {20 << 30, 1 << 30}, {10 << 30, 1 << 30}, {1 << 30, 1 << 30 / 10}, {10 << 20, 1 << 20},
	} {
		if got := (Space{Total: c.total}).Reserve(); got != c.want {
			t.Errorf("of %d bytes %d stay free, want %d", c.total, got, c.want)
		}
	}
}
