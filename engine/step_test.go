package engine_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// feed is a Source that runs: it writes what it stands for now.
type feed struct {
	State *string       `key:"-"`
	Asked *atomic.Int32 `key:"-"` // calls of Fingerprint
}

func (*feed) Kind() string { return "feed/1" }

func (f *feed) Fingerprint(context.Context, *engine.World) (store.Digest, error) {
	f.Asked.Add(1)
	return store.Sum([]byte(*f.State)), nil
}

func (f *feed) Run(_ context.Context, job *engine.Job) error {
	if job.Fingerprint() != store.Sum([]byte(*f.State)) {
		return fmt.Errorf("the key was made of another state than %q", *f.State)
	}
	return os.WriteFile(job.Output(""), []byte(*f.State), 0o600)
}

// movingFeed has moved on to Next when it is asked again.
type movingFeed struct {
	Feed  feed          `key:"-"`
	Next  string        `key:"-"`
	Again *atomic.Int32 `key:"-"` // calls of Refingerprint
}

func (*movingFeed) Kind() string { return "moving/1" }

func (f *movingFeed) Fingerprint(ctx context.Context, w *engine.World) (store.Digest, error) {
	return f.Feed.Fingerprint(ctx, w)
}

func (f *movingFeed) Run(ctx context.Context, job *engine.Job) error { return f.Feed.Run(ctx, job) }

func (f *movingFeed) Refingerprint(_ context.Context, _ *engine.World, before store.Digest) (store.Digest, error) {
	f.Again.Add(1)
	if before != store.Sum([]byte(*f.Feed.State)) {
		return before, fmt.Errorf("the first answer is not handed over")
	}
	*f.Feed.State = f.Next
	return store.Sum([]byte(f.Next)), nil
}

// empty is an engine.Cache that has nothing and counts the questions by key.
type empty struct{ asked []store.Digest }

func (e *empty) Lookup(_ context.Context, key store.Digest) ([]byte, bool) {
	e.asked = append(e.asked, key)
	return nil, false
}
func (*empty) Fetch(context.Context, store.Digest, string) bool                   { return false }
func (*empty) Publish(context.Context, store.Digest, []byte, []engine.CachedFile) {}

func TestASourceIsAskedOnceABuild(t *testing.T) {
	for name, cache := range map[string]engine.Cache{"no cache": nil, "cache": &empty{}} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			state, asked := "one", new(atomic.Int32)
			src := node(t, "//:src", &feed{State: &state, Asked: asked})
			top := node(t, "//:top", &join{Text: " top"}, src)
			want := int32(0)
			for _, c := range []struct {
				state            string
				executed, cached int
			}{{"one", 2, 0}, {"one", 0, 2}, {"two", 2, 0}, {"two", 0, 2}} {
				state = c.state
				b.build(b.engine(engine.Config{Cache: cache}), top, c.executed, c.cached, state+" top")
				if want++; asked.Load() != want {
					t.Errorf("after %d builds the source was asked %d times", want, asked.Load())
				}
			}
		})
	}
}

func TestAMovingSourceIsAskedAgainBeforeItRuns(t *testing.T) {
	b, c := newBench(t), &empty{}
	state, asked, again := "one", new(atomic.Int32), new(atomic.Int32)
	src := node(t, "//:src", &movingFeed{Feed: feed{State: &state, Asked: asked}, Next: "two", Again: again})
	b.build(b.engine(engine.Config{Cache: c}), src, 1, 0, "two")
	if asked.Load() != 1 || again.Load() != 1 {
		t.Errorf("asked %d times and %d times again, want once each", asked.Load(), again.Load())
	}
	r, err := b.store.Latest("//:src")
	if err != nil || r == nil || !slices.Equal(c.asked, []store.Digest{r.Key}) {
		t.Errorf("the cache was asked for %v, want the key of the second answer (%v)", c.asked, err)
	}
	// The record is that of what was made: it is found by the next build, and
	// then the source is not asked again.
	b.build(b.engine(engine.Config{Cache: c}), src, 0, 1, "two")
	if asked.Load() != 2 || again.Load() != 1 {
		t.Errorf("found in the store: asked %d times and %d times again, want twice and once", asked.Load(), again.Load())
	}
}

// noise makes something else each time.
type noise struct {
	Runs *atomic.Int32 `key:"-"`
}

func (*noise) Kind() string { return "noise/1" }

func (n *noise) Run(_ context.Context, job *engine.Job) error {
	return os.WriteFile(job.Output(""), fmt.Appendf(nil, "noise %d ", n.Runs.Add(1)), 0o600)
}

// collect removes the content of a ref from the store, as collection does.
func (b *bench) collect(r *engine.Result, ref engine.Ref) {
	b.t.Helper()
	if err := os.Remove(b.store.Path(r.Artifact(ref).Digest())); err != nil {
		b.t.Fatal(err)
	}
}

func TestAnInputThatCountsByItsKey(t *testing.T) {
	for byKey, cached := range map[bool]int{true: 1, false: 0} {
		b := newBench(t)
		e := b.engine(engine.Config{})
		ref := noiseRef(t, byKey)
		top := node(t, "//:top", &join{Text: "top"}, ref)
		b.build(e, top, 2, 0, "noise 1 top")
		b.collect(b.build(e, ref, 0, 1, "noise 1 "), ref)
		b.build(e, ref, 1, 0, "noise 2 ") // the same key, another content
		want := "noise 1 top"             // made of the first, and as good
		if !byKey {
			want = "noise 2 top"
		}
		b.build(e, top, 1-cached, 1+cached, want)
	}
}

func noiseRef(t *testing.T, byKey bool) engine.Ref {
	t.Helper()
	n, err := engine.NewNode(&noise{Runs: new(atomic.Int32)}, engine.NodeOptions{
		Label: "//:noise", Outputs: []engine.Output{{Kind: store.File, ByKey: byKey}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return n.Ref("")
}

// twins makes two equal outputs.
type twins struct{ Text string }

func (*twins) Kind() string { return "twins/1" }

func (w *twins) Run(_ context.Context, job *engine.Job) error {
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(job.Output(name), []byte("twin "), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func TestAKeyStandsForOneOutputOfOneStep(t *testing.T) {
	b := newBench(t)
	e := b.engine(engine.Config{})
	refs := func(text string) (a, b engine.Ref) {
		n, err := engine.NewNode(&twins{text}, engine.NodeOptions{Label: "//:twins", Outputs: []engine.Output{
			{Name: "a", Kind: store.File, ByKey: true}, {Name: "b", Kind: store.File, ByKey: true},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return n.Ref("a"), n.Ref("b")
	}
	one, other := refs("x")
	b.build(e, node(t, "//:top", &join{Text: "top"}, one), 2, 0, "twin top")
	b.build(e, node(t, "//:top", &join{Text: "top"}, other), 1, 1, "twin top")
	changed, _ := refs("y")
	b.build(e, node(t, "//:top", &join{Text: "top"}, changed), 2, 0, "twin top")
	b.build(e, node(t, "//:top", &join{Text: "top"}, one), 0, 2, "twin top")
}

func TestASourceInPlaceHasNoKeyToCountBy(t *testing.T) {
	path := t.TempDir() + "/f"
	src, err := engine.NewNode(&engine.FileSource{Path: path, Rel: "f"}, engine.NodeOptions{Label: "//:f", Outputs: []engine.Output{{Kind: store.File, ByKey: true}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = engine.NewNode(&join{}, engine.NodeOptions{Label: "//:top", Outputs: []engine.Output{{Kind: store.File}}, Inputs: []engine.Input{{Role: "0", Ref: src.Ref("")}}})
	if err == nil || !strings.Contains(err.Error(), "counts by the key of its step") {
		t.Errorf("error %v", err)
	}
}

// An input that was collected is made again when a step needs its content. If
// it comes out otherwise, the step is recorded under what it has read.
func TestWhatAStepReadsIsWhatItsKeySays(t *testing.T) {
	b := newBench(t)
	e := b.engine(engine.Config{})
	ref := noiseRef(t, false)
	b.collect(b.build(e, ref, 1, 0, "noise 1 "), ref)
	next := node(t, "//:next", &join{Text: "next"}, ref)
	b.build(e, next, 2, 0, "noise 2 next")
	r, err := b.store.Latest("//:next")
	if err != nil || r == nil {
		t.Fatal(r, err)
	}
	want := store.Part{Name: "input 0", Value: "file " + b.build(e, ref, 0, 1, "noise 2 ").Artifact(ref).Digest().String()}
	if !slices.Contains(r.Parts, want) {
		t.Errorf("the record names %v, want %v", r.Parts, want)
	}
	b.build(e, next, 0, 2, "noise 2 next")
}

// effect is a Lasting action; gone says that its effect is.
type effect struct {
	Gone  *atomic.Bool  `key:"-"`
	Asked *atomic.Int32 `key:"-"`
}

func (*effect) Kind() string { return "effect/1" }

func (f *effect) Run(_ context.Context, job *engine.Job) error {
	f.Gone.Store(false)
	return os.WriteFile(job.Output(""), []byte("done"), 0o600)
}

func (f *effect) Lasts(context.Context, *engine.World, []*engine.Artifact) bool {
	f.Asked.Add(1)
	return !f.Gone.Load()
}

func (*effect) Stamps(*engine.World) []engine.Stamp { return nil }

// Explain looks at the same things as a build, and does nothing that anyone
// could see: no event, no record, nothing run.
func TestExplainIsSilent(t *testing.T) {
	b := newBench(t)
	var events atomic.Int32
	e := b.engine(engine.Config{Events: func(engine.Event) { events.Add(1) }})
	gone := new(atomic.Bool)
	ref := node(t, "//:effect", &effect{Gone: gone, Asked: new(atomic.Int32)})
	top := node(t, "//:top", &join{Text: " top"}, ref)
	b.build(e, top, 2, 0, "done top")
	events.Store(0)
	runs := func(want ...bool) {
		t.Helper()
		reasons, err := e.Explain(t.Context(), top)
		if err != nil || len(reasons) != len(want) {
			t.Fatalf("%d reasons, %v", len(reasons), err)
		}
		for i, r := range reasons {
			if r.Runs != want[i] {
				t.Errorf("%s runs: %v, want %v", r.Node.Label(), r.Runs, want[i])
			}
		}
	}
	runs(false, false)
	gone.Store(true)
	runs(true, true)
	if !gone.Load() || events.Load() != 0 {
		t.Errorf("explaining ran the step (%v) or told of %d events", !gone.Load(), events.Load())
	}
	b.build(e, top, 1, 1, "done top")
}

func TestAServiceIsFoundByItsType(t *testing.T) {
	type clerk interface{ Name() string }
	w := &engine.World{Services: []any{7, "text", &engine.FileSource{Rel: "f"}}}
	if n, ok := engine.Service[int](w); n != 7 || !ok {
		t.Errorf("int: %v, %v", n, ok)
	}
	if f, ok := engine.Service[engine.Located](w); !ok || f.Kind() != "source-file/1" {
		t.Errorf("an interface: %v, %v", f, ok)
	}
	if _, ok := engine.Service[clerk](w); ok {
		t.Error("a service that nobody gave was found")
	}
}

// TestRerun holds that a step that is to run again runs once, whatever the store
// knows, and that what follows it runs if it comes out otherwise.
func TestRerun(t *testing.T) {
	b := newBench(t)
	n := new(atomic.Int32)
	mid := node(t, "//:mid", &noise{Runs: n})
	side := node(t, "//:side", &join{Text: "side "})
	top := node(t, "//:top", &join{Text: "top"}, side, mid)
	b.build(b.engine(engine.Config{}), top, 3, 0, "side noise 1 top")
	again := func(ref engine.Ref) engine.Config {
		return engine.Config{Rerun: func(n *engine.Node) bool { return n == ref.Node }}
	}
	b.build(b.engine(again(mid)), top, 2, 1, "side noise 2 top")
	b.build(b.engine(engine.Config{}), top, 0, 3, "side noise 2 top")
	b.build(b.engine(again(side)), top, 1, 2, "side noise 2 top")
	b.build(b.engine(again(top)), top, 1, 2, "side noise 2 top")
	reasons, err := b.engine(again(side)).Explain(t.Context(), top)
	if err != nil || len(reasons) != 3 || !reasons[0].Runs || reasons[0].Note != "it is to run again, whatever is cached" {
		t.Errorf("explained as %+v, %v", reasons, err)
	}
	if n.Load() != 2 {
		t.Errorf("it ran %d times, want 2", n.Load())
	}
}
