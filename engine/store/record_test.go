package store

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRecordRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, dir)
	o, tree, log := adopt(t, s, "out"), adoptDir(t, s, map[string]string{"a": "1"}), adopt(t, s, "log")
	want := &Record{
		Key: key("k"), Label: "//a:b", Kind: "resize/1",
		Parts:   []Part{{"salt", "1"}, {"size", "4 GiB"}},
		Outputs: []Output{{"/", o}, {"/data", tree}},
		Log:     &log, Started: time.Unix(1e9, 5).UTC(), Duration: time.Second,
	}
	check(t, s.Commit(want))
	for _, s := range []*Store{s, open(t, dir)} {
		got := must[*Record](t)(s.lookup(want.Key))
		if got == nil || !bytes.Equal(must[[]byte](t)(EncodeRecord(got)), must[[]byte](t)(EncodeRecord(want))) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		outputs, ok := s.LookupOutputs(want.Key)
		if !ok || fmt.Sprint(outputs) != fmt.Sprint(want.Outputs) {
			t.Errorf("outputs %v %v", outputs, ok)
		}
		if got := must[*Record](t)(s.Latest("//a:b")); got == nil || got.Key != want.Key {
			t.Errorf("latest is %v", got)
		}
		if got := must[*Record](t)(s.Latest("//a:c")); got != nil {
			t.Errorf("latest of nothing is %v", got)
		}
		if got := must[*Record](t)(s.lookup(key("other"))); got != nil {
			t.Errorf("lookup of nothing is %v", got)
		}
		if _, ok := s.LookupOutputs(key("other")); ok {
			t.Error("outputs of nothing")
		}
	}
}

func TestLookupMissesWhatIsNotWhole(t *testing.T) {
	for name, harm := range map[string]func(s *Store, file, tree Object){
		"missing file": func(s *Store, file, _ Object) { os.Remove(s.Path(file.Digest)) },
		"truncated file": func(s *Store, file, _ Object) {
			os.Chmod(s.Path(file.Digest), 0o600)
			os.Truncate(s.Path(file.Digest), 1)
		},
		"missing tree": func(s *Store, _, tree Object) { os.Remove(s.treePath(tree.Digest)) },
		"torn record": func(s *Store, _, _ Object) {
			os.Remove(s.index.path)
			os.Chmod(s.recordPath(key("k")), 0o600)
			os.Truncate(s.recordPath(key("k")), 50)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			s := open(t, dir)
			file, tree := adopt(t, s, "out"), adoptDir(t, s, map[string]string{"a": "1"})
			k := commit(t, s, "k", file, tree)
			if _, ok := s.LookupOutputs(k); !ok {
				t.Fatal("a whole record is not found")
			}
			harm(s, file, tree)
			fresh := open(t, dir)
			if r, err := fresh.lookup(k); r != nil || err != nil {
				t.Errorf("lookup: %v %v", r, err)
			}
			if _, ok := fresh.LookupOutputs(k); ok {
				t.Error("outputs are found")
			}
			commit(t, fresh, "k", adopt(t, fresh, "out"), adoptDir(t, fresh, map[string]string{"a": "1"}))
			if r := must[*Record](t)(fresh.lookup(k)); r == nil {
				t.Error("the record is not made good")
			}
		})
	}
}

func TestLogMayGo(t *testing.T) {
	s := newStore(t)
	log := adopt(t, s, "log")
	check(t, s.Commit(&Record{Key: key("k"), Log: &log}))
	check(t, os.Remove(s.Path(log.Digest)))
	if r := must[*Record](t)(s.lookup(key("k"))); r == nil || r.Log != nil {
		t.Errorf("record %+v", r)
	}
}

func TestCommitRefuses(t *testing.T) {
	s := newStore(t)
	o := adopt(t, s, "x")
	for want, r := range map[string]*Record{
		"no key":           {},
		"used twice":       {Key: key("k"), Outputs: []Output{{"a", o}, {"a", o}}},
		"not UTF-8":        {Key: key("k"), Outputs: []Output{{"\xff", o}}},
		"not in the store": {Key: key("k"), Outputs: []Output{{"a", Object{File, Digest{1}, 1}}}},
	} {
		if err := s.Commit(r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	err := s.Commit(&Record{Key: key("k"), Log: &Object{File, Digest{1}, 1}})
	if !errors.Is(err, ErrNotInStore) {
		t.Errorf("missing log: %v", err)
	}
}

func TestIndexIsDisposable(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"gone":      os.Remove,
		"empty":     func(p string) error { return os.Truncate(p, 0) },
		"torn":      func(p string) error { return os.Truncate(p, 100) },
		"garbage":   func(p string) error { return os.WriteFile(p, make([]byte, 5000), 0o600) },
		"directory": func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			s := open(t, dir)
			s.LookupOutputs(key("begin the index"))
			o := adopt(t, s, "out")
			var keys []Digest
			for i := range 5 {
				keys = append(keys, commit(t, s, fmt.Sprint(i), o))
			}
			check(t, harm(s.index.path))
			for range 2 {
				fresh := open(t, dir)
				for _, k := range keys {
					if _, ok := fresh.LookupOutputs(k); !ok {
						t.Errorf("%s is not found", k)
					}
				}
				keys = append(keys, commit(t, fresh, fmt.Sprint(len(keys)), o))
			}
		})
	}
}

func TestIndexServesWithoutRecords(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, dir)
	s.LookupOutputs(key("begin the index"))
	k := commit(t, s, "k", adopt(t, s, "out"))
	check(t, os.Remove(s.recordPath(k)))
	if _, ok := open(t, dir).LookupOutputs(k); !ok {
		t.Error("the index does not serve")
	}
}

func TestOtherProcessesCommitsAreSeen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	a, b := open(t, dir), open(t, dir)
	if _, ok := a.LookupOutputs(key("k")); ok {
		t.Error("found too early")
	}
	commit(t, b, "k", adopt(t, b, "out"))
	if _, ok := a.LookupOutputs(key("k")); !ok {
		t.Error("not found")
	}
}

func TestLatest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, dir)
	commit := func(s *Store, name string, at int64) {
		t.Helper()
		check(t, s.Commit(&Record{Key: key(name), Label: "//a", Started: time.Unix(at, 0)}))
	}
	latest := func(s *Store, want string) {
		t.Helper()
		r := must[*Record](t)(s.Latest("//a"))
		if r == nil || r.Key != key(want) || s.LatestKey("//a") != r.Key {
			t.Errorf("latest is %v and by its key %s, want %s", r, s.LatestKey("//a"), want)
		}
	}
	s.LookupOutputs(key("begin the index"))
	commit(s, "0", 99)
	latest(s, "0")
	commit(s, "1", 100)
	latest(s, "1")
	commit(s, "2", 99)
	check(t, s.Commit(&Record{Key: key("other"), Label: "//b", Started: time.Unix(101, 0)}))
	latest(s, "2") // the one that was committed last
	latest(open(t, dir), "2")
	if r := must[*Record](t)(s.Latest("//c")); r != nil || !s.LatestKey("//c").IsZero() {
		t.Errorf("of a label that there is not: %v", r)
	}
	check(t, os.Remove(s.index.path))
	latest(open(t, dir), "1") // the one that began last
}

// TestLatestThatTheIndexCanNotSay: what the index can't take makes no older record the
// latest again.
func TestLatestThatTheIndexCanNotSay(t *testing.T) {
	for name, spoil := range map[string]func(s *Store, r *Record){
		"a full disk": func(s *Store, _ *Record) {
			check(t, os.Remove(s.index.path))
			check(t, os.Symlink("/dev/full", s.index.path))
		},
		"large": func(s *Store, r *Record) {
			for i := range maxIndexEntry / math.MaxUint16 {
				r.Outputs = append(r.Outputs, Output{fmt.Sprintf("%0*d", math.MaxUint16, i), r.Outputs[0].Object})
			}
		},
		"a long name": func(_ *Store, r *Record) { r.Outputs[0].Name = strings.Repeat("x", math.MaxUint16+1) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			s := open(t, dir)
			s.LookupOutputs(key("begin the index"))
			o := adopt(t, s, "out")
			check(t, s.Commit(&Record{Key: key("old"), Label: "//a", Started: time.Unix(1, 0)}))
			r := &Record{Key: key("new"), Label: "//a", Started: time.Unix(2, 0), Outputs: []Output{{"", o}}}
			spoil(s, r)
			check(t, s.Commit(r))
			if st, err := os.Lstat(s.index.path); err == nil && !st.Mode().IsRegular() {
				t.Fatal("an index that lacks a record is left")
			}
			for at, s := range map[string]*Store{"this": s, "another": open(t, dir)} {
				if got := must[*Record](t)(s.Latest("//a")); got == nil || got.Key != r.Key {
					t.Errorf("%s store: the latest is that of %v", at, got)
				}
				if outputs, ok := s.LookupOutputs(r.Key); !ok || len(outputs) != len(r.Outputs) {
					t.Errorf("%s store: %d outputs are found, want %d", at, len(outputs), len(r.Outputs))
				}
			}
			check(t, os.Remove(s.index.path))
			if got := must[*Record](t)(open(t, dir).Latest("//a")); got == nil || got.Key != r.Key {
				t.Errorf("by the records: the latest is that of %v", got)
			}
		})
	}
}

// TestLatestBesideAnotherProcess sees what others commit and find after the index was read,
// and what a collection makes of the index.
func TestLatestBesideAnotherProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, other := open(t, dir), open(t, dir)
	for _, s := range []*Store{s, other} {
		s.index.glance = 0
	}
	latest := func(s *Store, want string) {
		t.Helper()
		if got := s.LatestKey("//a"); got != key(want) {
			t.Errorf("latest is %s, want %s", got, want)
		}
	}
	s.LookupOutputs(key("begin the index"))
	for _, name := range []string{"1", "2", "3"} {
		check(t, s.Commit(&Record{Key: key(name), Label: "//b", Started: time.Now()}))
	}
	s.Found("//a", key("1"))
	latest(s, "1")
	latest(other, "1")
	other.Found("//a", key("2"))
	latest(s, "2")
	s.Found("//a", key("1")) // once more
	s.Found("//a", key("1"))
	latest(other, "1")
	latest(open(t, dir), "1")
	kept, ok := filterIndex(must[[]byte](t)(os.ReadFile(s.index.path)), nil) // as a collection does
	if !ok {
		t.Fatal("the index is damaged")
	}
	check(t, s.writeQuickly(s.index.path, kept))
	other.Found("//a", key("3"))
	latest(s, "3")
	write(t, s.index.path, "damaged")
	latest(s, "3")
	check(t, os.Remove(s.index.path))
	latest(s, "3")
	if outputs, ok := s.Recorded(key("2")); !ok || len(outputs) != 0 {
		t.Errorf("recorded: %v %v", outputs, ok)
	}
}

// TestLatestBesideAnOlderB9: a b9 that keeps a file for each label may use the store, too.
func TestLatestBesideAnOlderB9(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, dir)
	a, b := commit(t, s, "x", adopt(t, s, "a")), key("meanwhile")
	write(t, s.labelPath("//t:x"), a.String()) // by one that begins while s is open
	check(t, s.Commit(&Record{Key: b, Label: "//t:x", Started: time.Now()}))
	if got := open(t, dir).LatestKey("//t:x"); got != b {
		t.Errorf("latest is %s, and not what was committed after the older b9 had begun", got)
	}
	write(t, s.labelPath("//t:x"), b.String())
	s.Found("//t:x", a)
	if got := open(t, dir).LatestKey("//t:x"); got != a {
		t.Errorf("latest is %s, and not what was found after the older b9 had begun", got)
	}
	pointer := s.labelPath("//t:x")
	check(t, s.Commit(&Record{Key: key("older"), Label: "//t:x"}))
	write(t, pointer, a.String())
	fresh := open(t, dir)
	if got := fresh.LatestKey("//t:x"); got != a {
		t.Errorf("latest is %s, and not what the older b9 did", got)
	}
	b = key("new")
	check(t, fresh.Commit(&Record{Key: b, Label: "//t:x", Started: time.Now()}))
	if got := open(t, dir).LatestKey("//t:x"); got != b {
		t.Errorf("latest is %s, and not what was done since", got)
	}
	write(t, pointer, key("gone").String())
	must[CollectReport](t)(fresh.Collect(t.Context(), Policy{}))
	if _, err := os.Stat(filepath.Dir(pointer)); !os.IsNotExist(err) {
		t.Errorf("a pointer to nothing is left: %v", err)
	}
}

func TestFileDigestBelievesTheTimes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	path := write(t, filepath.Join(t.TempDir(), "f"), "one")
	s := must[*Store](t)(Open(dir, Options{Grain: time.Hour}))
	first, size, err := s.FileDigest(t.Context(), path)
	check(t, err)
	if size != 3 || len(s.stats.entries) != 0 {
		t.Errorf("size %d; a file changed just now is remembered: %v", size, s.stats.entries)
	}
	// Same size, and the same times as far as a coarse clock tells.
	write(t, path, "two")
	if d, _, _ := s.FileDigest(t.Context(), path); d == first {
		t.Error("a change is missed")
	}
	check(t, s.Close())

	s = must[*Store](t)(Open(dir, Options{Grain: 1}))
	second, _, err := s.FileDigest(t.Context(), path)
	check(t, err)
	if len(s.stats.entries) != 1 {
		t.Error("a settled file is not remembered")
	}
	check(t, s.Close())

	s = must[*Store](t)(Open(dir, Options{Grain: 1}))
	defer s.Close()
	if d, _, _ := s.FileDigest(t.Context(), path); d != second || len(s.stats.entries) != 1 {
		t.Errorf("digest %v, want %v", d, second)
	}
	// The proof that it was not read: a false entry is believed.
	e := s.stats.entries[path]
	e.digest = Digest{42}
	s.stats.entries[path] = e
	if d, _, _ := s.FileDigest(t.Context(), path); d != (Digest{42}) {
		t.Error("the file was read again")
	}
	check(t, os.Chtimes(path, time.Now(), time.Now()))
	if d, _, _ := s.FileDigest(t.Context(), path); d != second {
		t.Error("a touched file is not read again")
	}
	if _, _, err := s.FileDigest(t.Context(), path+"x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	link := filepath.Join(t.TempDir(), "l")
	check(t, os.Symlink(path, link))
	if d, _, _ := s.FileDigest(t.Context(), link); d != second {
		t.Error("a link is not followed")
	}
	if _, _, err := s.FileDigest(t.Context(), filepath.Dir(path)); err == nil {
		t.Error("a directory has a digest")
	}
}

func TestTimesVouchAfterTwoSeconds(t *testing.T) {
	if s := newStore(t); s.opts.Grain != 2*time.Second {
		t.Errorf("the grain is %v, want 2s", s.opts.Grain)
	}
}

func TestStatCacheIsDisposable(t *testing.T) {
	s := newStore(t)
	old := statEntry{statKey{1, 2, 3, 4, 5}, int64(time.Hour), Digest{1}}
	young := statEntry{statKey{1, 2, 3, 4, 5}, int64(time.Second), Digest{2}}
	c := s.stats
	c.put("/old", old)
	c.put("/young", young)
	c.flush()
	c.put("/late", old)
	c.flush()
	data := must[[]byte](t)(os.ReadFile(c.path))
	for name, tc := range map[string]struct {
		data string
		want int
	}{
		"whole":        {string(data), 3},
		"torn":         {string(data[:len(data)-1]), 2},
		"empty":        {"", 0},
		"garbage":      {strings.Repeat("\x00", 1000), 0},
		"another boot": {strings.Replace(string(data), statHeader(), statTag+"other\n", 1), 2},
	} {
		check(t, os.WriteFile(c.path, []byte(tc.data), 0o600))
		again := newStatCache(c.path, c.write)
		again.load()
		if len(again.entries) != tc.want {
			t.Errorf("%s: %d entries, want %d", name, len(again.entries), tc.want)
		}
		again.put("/new", old)
		again.flush()
		third := newStatCache(c.path, c.write)
		third.load()
		if len(third.entries) != tc.want+1 || third.rewrite {
			t.Errorf("%s: %d entries after another flush, want %d", name, len(third.entries), tc.want+1)
		}
	}
}

// TestKeysThatBeginAlike: the index tells keys apart by some of their bytes.
func TestKeysThatBeginAlike(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store"))
	a, b := key("a"), key("a")
	b[31]++
	first, second := adopt(t, s, "first"), adopt(t, s, "second")
	check(t, s.Commit(&Record{Key: a, Outputs: []Output{{"", first}}}))
	check(t, s.Commit(&Record{Key: b, Outputs: []Output{{"", second}}}))
	for range 2 {
		for k, want := range map[Digest]Object{a: first, b: second} {
			for _, ask := range []func(Digest) ([]Output, bool){s.Recorded, s.LookupOutputs} {
				if got, ok := ask(k); !ok || got[0].Object != want {
					t.Errorf("%s: %v, %v", k, got, ok)
				}
			}
		}
		s.index.forget([]Digest{a}) // and not the other's entry
	}
}

// TestWhatIsCommittedIsNotReadAgain holds what is known of the index against its file: what
// this process added to it is in memory once, though it asks for the newest keys meanwhile.
func TestWhatIsCommittedIsNotReadAgain(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.LatestKey("//a") // loads
	s.index.glance = 0
	for i := range 50 {
		label := fmt.Sprint("//a:t", i)
		s.index.add(Sum([]byte(label)), label, nil)
		if s.LatestKey(label) != Sum([]byte(label)) {
			t.Fatalf("%s is not known", label)
		}
	}
	st, err := os.Stat(s.index.path)
	if err != nil {
		t.Fatal(err)
	}
	if known := int64(len(s.index.data)); known != st.Size() {
		t.Errorf("of an index of %d bytes %d are kept", st.Size(), known)
	}
}

// TestWhatIsCommittedStaysKnown: a label leads to what was added last though the index was
// read anew meanwhile, as it is when another process has replaced it.
func TestWhatIsCommittedStaysKnown(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.LatestKey("//a") // loads
	for i := range 1000 {
		k := Sum([]byte(fmt.Sprint(i)))
		var both sync.WaitGroup
		both.Go(func() {
			s.index.mu.Lock()
			defer s.index.mu.Unlock()
			s.index.load()
		})
		both.Go(func() { s.index.add(k, "//a:t", nil) })
		both.Wait()
		s.index.glanced = time.Time{}
		if got := s.LatestKey("//a:t"); got != k {
			t.Fatalf("after %d commits the label leads to %v, want %v", i+1, got, k)
		}
	}
}

// TestCommitsOfSeveralProcesses: entries of others before, behind, and in another file than
// this process's are known in the order in which they lie in the file.
func TestCommitsOfSeveralProcesses(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.LatestKey("//a") // loads
	other := func(key string) {
		if _, _, err := appendFileOnce(s.index.path, appendIndex(nil, Sum([]byte(key)), "//a:t", nil)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(key string) {
		t.Helper()
		s.index.glanced = time.Time{}
		if got := s.LatestKey("//a:t"); got != Sum([]byte(key)) {
			t.Errorf("the label leads to %v, want %s: %v", got, key, Sum([]byte(key)))
		}
	}
	s.index.add(Sum([]byte("first")), "//a:t", nil)
	want("first")
	other("second")
	s.index.add(Sum([]byte("third")), "//a:t", nil) // with a gap before it
	if got := s.LatestKey("//a:t"); got != Sum([]byte("third")) {
		t.Errorf("the label leads to %v before the file is looked at", got)
	}
	want("third")
	s.index.add(Sum([]byte("fourth")), "//a:t", nil)
	other("fifth")
	want("fifth")

	// Another process writes a new file, shorter than what was read.
	check(t, os.WriteFile(s.index.path+"-new", appendIndex(nil, Sum([]byte("x")), "//a:x", nil), 0o600))
	check(t, os.Rename(s.index.path+"-new", s.index.path))
	s.index.add(Sum([]byte("sixth")), "//a:t", nil)
	if got := s.LatestKey("//a:t"); got != Sum([]byte("sixth")) {
		t.Errorf("the label leads to %v before the new file is looked at", got)
	}
	want("sixth")
	if got := s.LatestKey("//a:x"); got != Sum([]byte("x")) {
		t.Errorf("the new file's label leads to %v", got)
	}
}
