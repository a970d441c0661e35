package engine_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"b9.build/b9/engine"
	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/store"
)

// keeper is an engine.Cache that has nothing. It looks at what it is given
// twice: at once, and when everything was given.
type keeper struct {
	came chan struct{}  // a call of Publish has begun
	wait sync.WaitGroup // for all of them

	mu      sync.Mutex
	right   map[string]bool // the digest that was named is that of the file
	touched int             // files that got another time
}

func (k *keeper) Lookup(context.Context, store.Digest) ([]byte, bool)      { return nil, false }
func (k *keeper) Fetch(context.Context, store.Digest, string) (found bool) { return false }

func (k *keeper) Publish(ctx context.Context, _ store.Digest, _ []byte, files []engine.CachedFile) {
	before := times(files)
	k.came <- struct{}{}
	k.wait.Done()
	k.wait.Wait()
	after := times(files)
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, f := range files {
		d, _, err := digest.Path(ctx, placeOf(f), 0)
		k.right[placeOf(f)] = err == nil && d == f.Digest
		if before[i] != after[i] {
			k.touched++
		}
	}
}

// placeOf is where the bytes of a file lie, which is no difference here.
func placeOf(f engine.CachedFile) string {
	if f.Store != nil {
		return f.Store.Path(f.Digest)
	}
	return f.Path
}

// times returns the time of each file, 0 for one that is not there.
func times(files []engine.CachedFile) []int64 {
	list := make([]int64, len(files))
	for i, f := range files {
		if info, err := os.Stat(placeOf(f)); err == nil {
			list[i] = info.ModTime().UnixNano()
		}
	}
	return list
}

// TestPublishedWhileStamped publishes steps with the same output and log. Each
// gives the shared objects another time while the others are published, so
// that a cache has to be told what is in them: by its time a file changed.
func TestPublishedWhileStamped(t *testing.T) {
	b := newBench(t)
	k := &keeper{right: map[string]bool{}, came: make(chan struct{}, 5)}
	var all []engine.Ref
	for _, name := range []string{"a", "b", "c", "d"} {
		all = append(all, node(t, "//:same", &join{Text: "same", Cut: true}, b.source(t, name, name)))
	}
	await := func(context.Context) {
		for range all {
			<-k.came
		}
	}
	last := node(t, "//:last", &join{Text: "last", Cut: true, Await: await}, all...)
	k.wait.Add(len(all) + 1)
	if _, err := b.engine(engine.Config{Cache: k}).Build(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	for path, right := range k.right {
		if !right {
			t.Errorf("%s was published with a digest that is not its own", path)
		}
	}
	if len(k.right) != 3 || k.touched == 0 { // two outputs, one log
		t.Errorf("%d files were published, %d of them touched meanwhile", len(k.right), k.touched)
	}
}

// shelf is an engine.Cache that has what was published, and counts questions.
type shelf struct {
	mu               sync.Mutex
	dir              string
	records          map[store.Digest][]byte
	lookups, fetches map[store.Digest]int
}

func newShelf(t *testing.T) *shelf {
	return &shelf{dir: t.TempDir(), records: map[store.Digest][]byte{}, lookups: map[store.Digest]int{}, fetches: map[store.Digest]int{}}
}

func (s *shelf) Lookup(_ context.Context, key store.Digest) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookups[key]++
	r, ok := s.records[key]
	return r, ok
}

func (s *shelf) Fetch(ctx context.Context, key store.Digest, dir string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetches[key]++
	for _, name := range []string{"output-0", "log"} {
		if err := store.CopySparse(ctx, filepath.Join(s.dir, key.String(), name), filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

func (s *shelf) Publish(ctx context.Context, key store.Digest, record []byte, files []engine.CachedFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := filepath.Join(s.dir, key.String())
	if os.Mkdir(dir, 0o700) != nil {
		return
	}
	for _, f := range files {
		if store.CopySparse(ctx, placeOf(f), filepath.Join(dir, f.Name)) != nil {
			return
		}
	}
	s.records[key] = record
}

// asked returns how often each of the keys of the shelf was looked up and
// fetched, and forgets it.
func (s *shelf) asked() (lookups, fetches []int) {
	for key := range s.records {
		lookups, fetches = append(lookups, s.lookups[key]), append(fetches, s.fetches[key])
	}
	clear(s.lookups)
	clear(s.fetches)
	slices.Sort(lookups)
	slices.Sort(fetches)
	return lookups, fetches
}

// A step on the way to what was asked for comes by its record; its content is
// fetched when a step reads it. The cache is asked once for each.
func TestOnlyWhatIsNeededIsFetched(t *testing.T) {
	s := newShelf(t)
	graph := func() (mid, top engine.Ref) {
		mid = node(t, "//:mid", &join{Text: "mid "})
		return mid, node(t, "//:top", &join{Text: "top"}, mid)
	}
	_, top := graph()
	maker := newBench(t)
	maker.build(maker.engine(engine.Config{Cache: s}), top, 2, 0, "mid top")
	s.asked()

	b := newBench(t)
	mid, top := graph()
	b.build(b.engine(engine.Config{Cache: s}), top, 0, 2, "mid top")
	if lookups, fetches := s.asked(); !slices.Equal(lookups, []int{1, 1}) || !slices.Equal(fetches, []int{0, 1}) {
		t.Errorf("looked up %v and fetched %v times, want each once and the last one alone", lookups, fetches)
	}
	next := node(t, "//:next", &join{Text: "next"}, mid)
	b.build(b.engine(engine.Config{Cache: s}), next, 1, 1, "mid next")
	if _, fetches := s.asked(); !slices.Equal(fetches, []int{0, 0, 1}) {
		t.Errorf("fetched %v times, want what is read alone", fetches)
	}
}

// TestTextsStayHere: the record that the store has of a step holds the texts of its sources,
// and the one that is published, for all who read the repository, does not. Who has the step
// from there has the texts from its own sources.
func TestTextsStayHere(t *testing.T) {
	s, told := newShelf(t), func(b *bench) engine.Ref {
		return node(t, "//:told", &join{Text: "told "}, b.source(t, "secret", "not for all"))
	}
	maker, fetcher, learner := newBench(t), newBench(t), newBench(t)
	e := maker.engine(engine.Config{Cache: s})
	maker.build(e, told(maker), 1, 0, "not for alltold ")
	e.Close() // when all is published
	fetcher.build(fetcher.engine(engine.Config{Cache: s}), told(fetcher), 0, 1, "not for alltold ")
	top := node(t, "//:top", &join{Text: "top "}, told(maker))
	maker.build(maker.engine(engine.Config{Cache: s}), top, 1, 1, "not for alltold top ")
	learner.build(learner.engine(engine.Config{Cache: s}), node(t, "//:top", &join{Text: "top "}, told(learner)), 0, 2, "not for alltold top ")
	keys := 0
	for key, data := range s.records {
		there, err := store.DecodeRecord(key, data)
		if err != nil || len(there.Texts) != 0 {
			t.Errorf("%v is published: %v", there.Texts, err)
		}
		if there.Label != "//:told" {
			continue
		}
		keys++
		for name, b := range map[string]*bench{"made": maker, "fetched": fetcher, "learned": learner} {
			if here, err := b.store.Record(key); err != nil || here == nil || here.Texts["input 0"] != "not for all" {
				t.Errorf("the store that has %s it has no text: %+v, %v", name, here, err)
			}
		}
	}
	if keys != 1 {
		t.Errorf("%d such steps are published, want one", keys)
	}
}
