package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// join is an action that writes its inputs, its text and its name one after
// the other. With Cut it writes only the text.
type join struct {
	Text string
	Cut  bool

	Runs  *atomic.Int32           `key:"-"`
	Hook  func(*engine.Job) error `key:"-"`
	Await func(context.Context)   `key:"-"`
}

func (j *join) Kind() string { return "join/1" }

func (j *join) Run(ctx context.Context, job *engine.Job) error {
	if j.Runs != nil {
		j.Runs.Add(1)
	}
	if j.Await != nil {
		j.Await(ctx)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var text strings.Builder
	for i := 0; !j.Cut && job.Has(fmt.Sprint(i)); i++ {
		data, err := job.Input(fmt.Sprint(i)).ReadAll(1 << 20)
		if err != nil {
			return err
		}
		text.Write(data)
	}
	text.WriteString(j.Text)
	fmt.Fprintf(job.Log(), "joined %d bytes\n", text.Len())
	if j.Hook != nil {
		if err := j.Hook(job); err != nil {
			return err
		}
	}
	return os.WriteFile(job.Output(""), []byte(text.String()), 0o600)
}

type bench struct {
	t     testing.TB
	store *store.Store
	dir   string
}

func newBench(t testing.TB) *bench {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(filepath.Join(dir, "store"), store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return &bench{t: t, store: st, dir: dir}
}

func (b *bench) engine(c engine.Config) *engine.Engine {
	c.Store = b.store
	e := engine.New(c)
	b.t.Cleanup(func() { e.Close() })
	return e
}

func node(t testing.TB, label string, a engine.Action, inputs ...engine.Ref) engine.Ref {
	t.Helper()
	o := engine.NodeOptions{
		Label: label, Builtin: "join", Outputs: []engine.Output{{Kind: store.File}},
		Stack: []engine.Position{{File: "B9BUILD.star", Line: 3, Col: 5}},
	}
	for i, in := range inputs {
		o.Inputs = append(o.Inputs, engine.Input{Role: fmt.Sprint(i), Ref: in})
	}
	n, err := engine.NewNode(a, o)
	if err != nil {
		t.Fatal(err)
	}
	return n.Ref("")
}

func (b *bench) source(t testing.TB, name, text string) engine.Ref {
	t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return node(t, "//:"+name, &engine.FileSource{Path: path, Rel: name})
}

// build builds one ref and checks what ran and what came out.
func (b *bench) build(e *engine.Engine, ref engine.Ref, executed, cached int, want string) *engine.Result {
	b.t.Helper()
	r, err := e.Build(context.Background(), ref)
	if err != nil {
		b.t.Fatal(err)
	}
	if r.Executed != executed || r.Cached != cached {
		b.t.Errorf("executed %d and cached %d, want %d and %d", r.Executed, r.Cached, executed, cached)
	}
	data, err := r.Artifact(ref).ReadAll(1 << 20)
	if err != nil || string(data) != want {
		b.t.Errorf("result %q (%v), want %q", data, err, want)
	}
	return r
}

func TestNothingRunsTwice(t *testing.T) {
	b := newBench(t)
	e := b.engine(engine.Config{})
	src := b.source(t, "a", "one ")
	mid := node(t, "//:mid", &join{Text: "two "}, src)
	top := node(t, "//:top", &join{Text: "three"}, mid)
	b.build(e, top, 2, 0, "one two three")
	b.build(e, top, 0, 2, "one two three")
	b.build(b.engine(engine.Config{}), top, 0, 2, "one two three")
}

func TestTouchRunsNothingAndAByteRunsWhatDepends(t *testing.T) {
	b := newBench(t)
	e := b.engine(engine.Config{})
	src, other := b.source(t, "a", "one "), b.source(t, "b", "b ")
	side := node(t, "//:side", &join{Text: "side "}, other)
	top := node(t, "//:top", &join{Text: "top"}, node(t, "//:mid", &join{Text: "two "}, src), side)
	b.build(e, top, 3, 0, "one two b side top")
	later := time.Now().Add(3 * time.Second)
	if err := os.Chtimes(filepath.Join(b.dir, "a"), later, later); err != nil {
		t.Fatal(err)
	}
	b.build(e, top, 0, 3, "one two b side top")
	b.source(t, "a", "0ne ")
	b.build(e, top, 2, 1, "0ne two b side top")
	b.source(t, "a", "one ")
	b.build(e, top, 0, 3, "one two b side top")
}

func TestEqualOutputStopsTheRebuild(t *testing.T) {
	b := newBench(t)
	e := b.engine(engine.Config{})
	src := b.source(t, "a", "one ")
	top := node(t, "//:top", &join{Text: "top"}, node(t, "//:cut", &join{Text: "same ", Cut: true}, src))
	b.build(e, top, 2, 0, "same top")
	b.source(t, "a", "other ")
	b.build(e, top, 1, 1, "same top")
}

func TestEqualStepsRunOnce(t *testing.T) {
	b := newBench(t)
	const builds, steps = 2, 3
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var runs atomic.Int32
	// A step that runs goes on only when every other one runs as well, or
	// has found no result and waits for the one that runs.
	overlap := func(ctx context.Context) {
		for int(runs.Load())+goroutinesIn("store.(*Store).LockKey") < builds*steps && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
	}
	same := func(label string) engine.Ref { return node(t, label, &join{Text: "x", Runs: &runs, Await: overlap}) }
	refs := []engine.Ref{same("//:a"), same("//:b"), same("//:c")}
	done := make(chan error)
	for range builds {
		e := b.engine(engine.Config{Jobs: steps})
		go func() {
			_, err := e.Build(ctx, refs...)
			done <- err
		}()
	}
	if err := errors.Join(<-done, <-done); err != nil {
		t.Fatal(err)
	}
	if n := runs.Load(); n != 1 {
		t.Errorf("ran %d times, want once", n)
	}
}

// goroutinesIn counts the goroutines that are in a call of a function.
func goroutinesIn(function string) (n int) {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range bytes.SplitSeq(stacks, []byte("\n\n")) {
		if bytes.Contains(stack, []byte(function+"(")) {
			n++
		}
	}
	return n
}

func TestIndependentStepsRunTogether(t *testing.T) {
	b := newBench(t)
	const width = 4
	var inside atomic.Int32
	full := make(chan struct{})
	meet := func(ctx context.Context) {
		if inside.Add(1) == width {
			close(full)
		}
		select {
		case <-full:
		case <-ctx.Done():
		}
	}
	var refs []engine.Ref
	for i := range width {
		refs = append(refs, node(t, fmt.Sprintf("//:n%d", i), &join{Text: fmt.Sprint(i), Await: meet}))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := b.engine(engine.Config{Jobs: width}).Build(ctx, refs...); err != nil {
		t.Fatalf("the %d steps did not run at the same time: %v", width, err)
	}
}

func TestFailureKeepsTheStepAndTheStepsBefore(t *testing.T) {
	b := newBench(t)
	broken := errors.New("the script ended with exit status 3")
	fail := func(job *engine.Job) error {
		return errors.Join(os.WriteFile(filepath.Join(job.Dir(), "evidence"), []byte("here"), 0o600), broken)
	}
	mid := node(t, "//:mid", &join{Text: "mid "})
	bad := node(t, "//:bad", &join{Text: "bad", Hook: fail}, mid)
	top := node(t, "//:top", &join{Text: "top"}, bad)
	r, err := b.engine(engine.Config{}).Build(context.Background(), top)
	var step *engine.StepError
	if !errors.As(err, &step) || !errors.Is(err, broken) {
		t.Fatalf("error %v, want a StepError for the broken script", err)
	}
	if got, want := step.Error(), "B9BUILD.star:3:5: join(): the script ended with exit status 3"; got != want {
		t.Errorf("error %q, want %q", got, want)
	}
	if data, err := os.ReadFile(filepath.Join(step.Kept, "evidence")); err != nil || string(data) != "here" {
		t.Errorf("kept state: %q, %v", data, err)
	}
	if data, err := os.ReadFile(step.Log); err != nil || !strings.Contains(string(data), "joined 7 bytes") {
		t.Errorf("kept log: %q, %v", data, err)
	}
	if r.Executed != 1 {
		t.Errorf("executed %d, want 1", r.Executed)
	}
	mended := node(t, "//:bad", &join{Text: "bad"}, mid)
	b.build(b.engine(engine.Config{}), mended, 1, 1, "mid bad")
	if kept, err := b.store.Failed(); err != nil || len(kept) != 0 {
		t.Errorf("after success %d failed steps are kept (%v), want none", len(kept), err)
	}
}

func TestKeepGoing(t *testing.T) {
	b := newBench(t)
	bad := node(t, "//:bad", &join{Text: "bad", Hook: func(*engine.Job) error { return errors.New("no") }})
	refs := []engine.Ref{bad, node(t, "//:after", &join{Text: "z"}, bad)}
	for i := range 6 {
		refs = append(refs, node(t, fmt.Sprintf("//:n%d", i), &join{Text: fmt.Sprint(i)}))
	}
	r, err := b.engine(engine.Config{Jobs: 1, KeepGoing: true}).Build(context.Background(), refs...)
	if err == nil || r.Executed != 6 {
		t.Errorf("executed %d (%v), want 6 and an error", r.Executed, err)
	}
	for i, ref := range refs {
		if has := r.Artifact(ref) != nil; has != (i > 1) {
			t.Errorf("%s has an artifact: %v", ref, has)
		}
	}
	if by := r.Blockers(); by[refs[1].Node] != bad.Node || by[bad.Node] != bad.Node || len(by) != 2 {
		t.Errorf("blockers %v", by)
	}
}

// gate is a source of the world that answers when it may.
type gate struct {
	Text  string
	Asked func() error `key:"-"`
}

func (g *gate) Kind() string { return "gate/1" }

func (g *gate) Fingerprint(context.Context, *engine.World) (store.Digest, error) {
	return store.Sum([]byte(g.Text)), g.Asked()
}

func (g *gate) Run(_ context.Context, job *engine.Job) error {
	return os.WriteFile(job.Output(""), []byte(g.Text), 0o600)
}

// What the store has is found, whenever the failure came; what would have to run, or to
// ask the world, is not begun.
func TestFailureLeavesWhatWasThere(t *testing.T) {
	b := newBench(t)
	asked, failed, later := make(chan struct{}), make(chan struct{}), 0
	graph := func(first, bad, second func() error) []engine.Ref {
		slow := node(t, "//:slow", &gate{"slow", first})
		known := node(t, "//:known", &join{Text: "known"}, slow)
		other := node(t, "//:other", &gate{"other", second}, known)
		return []engine.Ref{slow, known, node(t, "//:bad", &gate{"bad", bad}), other, node(t, "//:new", &join{Text: "new"}, known)}
	}
	nothing := func() error { return nil }
	if _, err := b.engine(engine.Config{}).Build(t.Context(), graph(nothing, nothing, nothing)[1]); err != nil {
		t.Fatal(err)
	}
	refs := graph(
		func() error { close(asked); <-failed; return nil },
		func() error { <-asked; return errors.New("no") },
		func() error { later++; return nil },
	)
	events := func(e engine.Event) {
		if e.Type == engine.StepFailed {
			close(failed)
		}
	}
	r, err := b.engine(engine.Config{Events: events}).Build(t.Context(), refs...)
	if err == nil || r.Executed != 0 || later != 0 {
		t.Errorf("executed %d, asked the world %d times (%v), want an error alone", r.Executed, later, err)
	}
	for i, ref := range refs {
		if has := r.Artifact(ref) != nil; has != (i < 2) {
			t.Errorf("%s has an artifact: %v", ref, has)
		}
	}
}

func TestSourceChangedWhileUsed(t *testing.T) {
	b := newBench(t)
	src := b.source(t, "a", "one ")
	edit := func(*engine.Job) error { return os.WriteFile(filepath.Join(b.dir, "a"), []byte("two "), 0o644) }
	top := node(t, "//:top", &join{Text: "top", Hook: edit}, src)
	_, err := b.engine(engine.Config{}).Build(context.Background(), top)
	if err == nil || !strings.Contains(err.Error(), "was changed while the step used it") {
		t.Errorf("error %v, want one that says the source was changed", err)
	}
}

func TestCancelStoresNothing(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(context.Background())
	wait := func(ctx context.Context) { cancel(); <-ctx.Done() }
	top := node(t, "//:top", &join{Text: "top", Await: wait})
	if _, err := b.engine(engine.Config{}).Build(ctx, top); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want canceled", err)
	}
	u, err := b.store.Usage(context.Background())
	if err != nil || u.Records != 0 {
		t.Errorf("%d records after a cancel (%v), want 0", u.Records, err)
	}
	left, err := filepath.Glob(filepath.Join(b.store.Dir(), "scratch", "*top*"))
	if err != nil || len(left) != 0 {
		t.Errorf("scratch directories after a cancel: %v (%v)", left, err)
	}
}

// An intermediate result that collection took is only made again when
// something needs its content.
func TestCollectedIntermediate(t *testing.T) {
	b := newBench(t)
	e := b.engine(engine.Config{})
	mid := node(t, "//:mid", &join{Text: "mid "})
	top := node(t, "//:top", &join{Text: "top"}, mid)
	b.build(e, top, 2, 0, "mid top")
	r := b.build(e, mid, 0, 1, "mid ")
	if err := os.Remove(b.store.Path(r.Artifact(mid).Digest())); err != nil {
		t.Fatal(err)
	}
	b.build(e, top, 0, 2, "mid top")
	next := node(t, "//:next", &join{Text: "next"}, mid)
	b.build(e, next, 2, 0, "mid next")
}

func TestExplain(t *testing.T) {
	b := newBench(t)
	e := b.engine(engine.Config{})
	src := b.source(t, "a", "one ")
	graph := func(text string) engine.Ref {
		return node(t, "//:top", &join{Text: "top"}, node(t, "//:mid", &join{Text: text}, src))
	}
	b.build(e, graph("two "), 2, 0, "one two top")
	reasons, err := e.Explain(context.Background(), graph("2 "))
	if err != nil || len(reasons) != 3 {
		t.Fatalf("%d reasons, %v", len(reasons), err)
	}
	mid := reasons[1]
	if want := (engine.Change{Part: "Text", Old: "two ", New: "2 "}); !mid.Runs || len(mid.Changes) != 1 || mid.Changes[0] != want {
		t.Errorf("mid: %+v, want the change %+v", mid, want)
	}
	if !reasons[2].Runs || reasons[2].Note == "" {
		t.Errorf("top: %+v, want a note", reasons[2])
	}
	b.source(t, "a", "1 ")
	reasons, err = e.Explain(context.Background(), graph("two "))
	if err != nil || len(reasons[1].Changes) != 1 || reasons[1].Changes[0].Part != "input 0" {
		t.Errorf("%+v, %v: want a change of input 0", reasons, err)
	}
}

func BenchmarkNoOp(b *testing.B) {
	w := newBench(b)
	e := w.engine(engine.Config{})
	var refs []engine.Ref
	for range 100 {
		last := node(b, "//:first", &join{Text: "x"})
		for i := range 99 {
			last = node(b, fmt.Sprintf("//:n%d", i), &join{Text: fmt.Sprint(i, len(refs))}, last)
		}
		refs = append(refs, last)
	}
	if _, err := e.Build(context.Background(), refs...); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for b.Loop() {
		if r, err := e.Build(context.Background(), refs...); err != nil || r.Executed != 0 {
			b.Fatal(r.Executed, err)
		}
	}
}
