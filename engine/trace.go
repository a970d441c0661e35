package engine

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/store"
)

// Trace is what a successful build rested on. As long as all of that stands,
// the same build would find every step in the store and every result in its
// place, and can be told so without evaluating a file or computing a key.
//
// It has a part for each build file, so that a file that changed costs its own part and
// those that need it: see [Engine.Standing]. A part of something that had changed within
// the grain of the file system's clock before it was read is left out, and then has to be
// evaluated like one that changed.
type Trace struct {
	Made  time.Time
	Names store.Digest // of the names that results have in the store
	// Shelves are what the store's directories of objects were when the objects of all
	// results were there; nothing for few results, which are asked for one by one.
	Shelves store.Shelves
	Listed  []Stamp  // the directories that were searched for the files
	Files   []string // the parts whose results were asked for, in their order
	Parts   []TracedPart
	Tools   []TracedTool // the host programs in the keys
	Left    []Left       // what lay beside the results and was none any more
}

// Left is something that a build placed and that is no result any more.
type Left struct {
	Label string // of what it was the result of
	Path  string // absolute
	Why   string // a word of the caller's
}

// TracedPart is what one build file had to do with the build.
type TracedPart struct {
	Name    string
	Needs   []string       // the other parts without which it does not stand
	Options []string       // what the file says of options, for evaluation
	Printed string         // what evaluation wrote for the user
	Steps   int            // of the graph, located sources not counted
	Stamps  []Stamp        // what evaluation read
	Sources []TracedSource // what the keys took from outside the graph
	Results []Placed       // in the order in which they were asked for
}

// Steps counts the steps of the graph, located sources not counted.
func (t *Trace) Steps() int {
	n := 0
	for i := range t.Parts {
		n += t.Parts[i].Steps
	}
	return n
}

// Results yields the results in the order in which they were asked for, each once. Parts
// that the trace loses later still count.
func (t *Trace) Results() iter.Seq[*Placed] {
	of := make(map[string][]Placed, len(t.Parts))
	for i := range t.Parts {
		of[t.Parts[i].Name] = t.Parts[i].Results
	}
	lists := make([][]Placed, len(t.Files))
	for i, name := range t.Files {
		lists[i] = of[name]
	}
	single := len(t.Parts) == 1
	return func(yield func(*Placed) bool) {
		seen := func(*Placed) bool { return false } // a file has each result once
		if single {
			seen = seenBefore() // of several patterns, perhaps
		}
		for _, list := range lists {
			for i := range list {
				if r := &list[i]; !seen(r) && !yield(r) {
					return
				}
			}
		}
	}
}

// seenBefore tells whether it was asked for a result before.
func seenBefore() func(r *Placed) bool {
	type name struct{ label, output string }
	seen := map[name]bool{}
	return func(r *Placed) bool {
		n := name{r.Label, r.Output}
		before := seen[n]
		seen[n] = true
		return before
	}
}

// TracedSource is a [Source] and what it stood for.
type TracedSource struct {
	Kind   string // of the action
	Fields string // its fields, as JSON; see EncodeAction
	Digest store.Digest
}

// Action returns the source itself. A kind that is not in the table is an error.
func (t TracedSource) Action(table Actions) (Action, error) {
	return decodeFields(table, t.Kind, []byte(t.Fields))
}

// TracedTool is a host program and its version. One without a name is what runs the
// programs of the architecture that is its argument: a path in place of a version, ""
// for the kernel.
type TracedTool struct {
	Tool    Tool
	Version string
}

// traceAge is for how long a trace is believed. After that the whole way is
// gone once, which tells the store that the steps on it are still of use.
const traceAge = time.Hour

// Trace returns what the keys of the build took from outside the graph, and
// what it did there: the tools, and for each file that recorded steps a part with these
// and their sources. What belongs to no file belongs to those whose steps read it. The
// caller adds what it knows itself.
func (r *Result) Trace(ctx context.Context) (*Trace, error) {
	t := &Trace{Made: time.Now()}
	tools, parts := map[string]TracedTool{}, map[string]*TracedPart{}
	owners := r.owners()
	for i := range r.plan.steps {
		s := &r.plan.steps[i]
		for j, name := range owners[i] {
			p := parts[name]
			if p == nil {
				p = &TracedPart{Name: name}
				parts[name] = p
			}
			if _, located := locatedAt(s.node); !located && j == 0 {
				p.Steps++
			}
			if err := r.traceSource(ctx, s, p); err != nil {
				return nil, err
			}
		}
		for i, tool := range s.tools {
			tools[tool.Name] = TracedTool{tool, s.basis.tools[i].version}
		}
		if m, ok := s.node.action.(OfMachine); ok && m.Machine() != container.MachineArch() {
			tools[" "+m.Machine()] = r.engine.tracedMachine(ctx, m.Machine())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		t.Parts = append(t.Parts, *parts[name])
	}
	for _, name := range slices.Sorted(maps.Keys(tools)) {
		t.Tools = append(t.Tools, tools[name])
	}
	return t, nil
}

// owners are the files that each step of the plan belongs to: the one whose evaluation
// recorded it, else those of the steps that read it; "" for none.
func (r *Result) owners() [][]string {
	steps := r.plan.steps
	owners := make([][]string, len(steps))
	for i := len(steps) - 1; i >= 0; i-- { // what reads a step comes after it
		if stack := steps[i].node.opts.Stack; len(stack) > 0 {
			owners[i] = []string{stack[len(stack)-1].File}
			continue
		}
		for _, d := range steps[i].dependents {
			for _, name := range owners[r.plan.at[d.node]] {
				if !slices.Contains(owners[i], name) {
					owners[i] = append(owners[i], name)
				}
			}
		}
		if len(owners[i]) == 0 {
			owners[i] = []string{""}
		}
	}
	return owners
}

// traceSource adds to a part what a step took from outside the graph.
func (r *Result) traceSource(ctx context.Context, s *step, p *TracedPart) error {
	if l, ok := s.node.action.(Lasting); ok {
		p.Stamps = append(p.Stamps, l.Stamps(r.engine.world)...)
		if !l.Lasts(ctx, r.engine.world, s.artifacts()) { // undone since the step was looked up
			p.Sources = append(p.Sources, TracedSource{Kind: goneKind})
		}
	}
	if d := s.basis.fingerprint; d != nil {
		fields, err := encodeFields(s.node.action)
		if err != nil {
			return fmt.Errorf("trace of %s: %w", s.node.Label(), err)
		}
		p.Sources = append(p.Sources, TracedSource{s.node.action.Kind(), string(fields), *d})
	}
	return nil
}

// goneKind is no kind of an action, so that a trace with it never stands.
const goneKind = "-"

// Racy reports whether one of the stamps is of something that had changed so shortly
// before that it must not be trusted: within the grain of the file system's
// clock. Zero stands for the grain that such clocks have, 100 ms, or 2 s where
// a time looks as if the clock were a coarse one; less is for tests.
func Racy(stamps []Stamp, grain time.Duration) bool {
	return slices.ContainsFunc(stamps, func(s Stamp) bool { return s.racy(grain) })
}

// Standing is what still stands of a trace.
type Standing struct {
	Listed  bool            // the same files would be found
	Parts   map[string]bool // by name
	Shelves store.Shelves   // as they are now, for the trace; nothing where it has few results
	News    bool            // they tell so much more than the trace that it pays to keep them
}

// Stands reports whether the build that left the trace would do nothing if it
// were done again.
func (s Standing) Stands(t *Trace) bool {
	return s.Listed && !slices.ContainsFunc(t.Files, func(name string) bool { return !s.Parts[name] })
}

// Standing finds out for which parts of the trace a build would do nothing. What can't be
// found out counts as a change: the build then meets it, too. Of a trace that is too old,
// or rests on another tool, nothing stands.
func (e *Engine) Standing(ctx context.Context, t *Trace) Standing {
	age := time.Since(t.Made)
	if age < 0 || age >= traceAge || e.cfg.Refresh || !e.toolsStand(ctx, t.Tools) {
		return Standing{}
	}
	c := tracedSources{engine: e, table: ownActions()}
	maps.Copy(c.table, e.cfg.Actions)
	s := Standing{Parts: map[string]bool{}}
	if t.asks() >= manyObjects {
		s.Shelves = e.cfg.Store.Shelves() // before the objects are asked for
		s.News = s.Shelves.News(&t.Shelves) > len(s.Shelves)/8
	}
	resultStands := func(r Placed) bool {
		return e.resultStands(&r, r.shelved() && s.Shelves.Holds(&t.Shelves, r.Object.Digest))
	}
	stands := make([]bool, len(t.Parts))
	inParallel(len(t.Parts), func(i int) {
		p := &t.Parts[i]
		stands[i] = c.stand(ctx, p.Sources) && all(ctx, p.Stamps, Stamp.same) && all(ctx, p.Results, resultStands)
	})
	s.Listed = all(ctx, t.Listed, Stamp.same)
	for i, ok := range stands {
		s.Parts[t.Parts[i].Name] = ok
	}
	s.spread(t)
	return s
}

// spread lets nothing stand that needs something that does not.
func (s Standing) spread(t *Trace) {
	needed := map[string][]string{} // by whom
	var fallen []string
	for i := range t.Parts {
		p := &t.Parts[i]
		for _, other := range p.Needs {
			needed[other] = append(needed[other], p.Name)
			if _, known := s.Parts[other]; !known {
				s.Parts[p.Name] = false
			}
		}
	}
	for name, ok := range s.Parts {
		if !ok {
			fallen = append(fallen, name)
		}
	}
	for len(fallen) > 0 {
		name := fallen[len(fallen)-1]
		fallen = fallen[:len(fallen)-1]
		for _, by := range needed[name] {
			if s.Parts[by] {
				s.Parts[by] = false
				fallen = append(fallen, by)
			}
		}
	}
}

// tracedSources asks each source once, of however many parts it is.
type tracedSources struct {
	engine *Engine
	table  Actions
	known  sync.Map // from TracedSource to func() bool
}

func (c *tracedSources) stand(ctx context.Context, list []TracedSource) bool {
	for _, t := range list {
		ask, _ := c.known.LoadOrStore(t, sync.OnceValue(func() bool { return c.stands(ctx, t) }))
		if !ask.(func() bool)() {
			return false
		}
	}
	return true
}

func (c *tracedSources) stands(ctx context.Context, t TracedSource) bool {
	a, _ := t.Action(c.table) // nil for an error, and no Source
	src, ok := a.(Source)
	if !ok {
		return false
	}
	d, err := src.Fingerprint(ctx, c.engine.world)
	return err == nil && d == t.Digest
}

// tracedMachine is what runs programs of arch now.
func (e *Engine) tracedMachine(ctx context.Context, arch string) TracedTool {
	t := TracedTool{Tool: Tool{VersionArgs: []string{arch}}}
	emulator, err := e.tools.emulator(ctx, arch)
	switch {
	case err != nil:
		t.Version = "nothing"
	case emulator != nil:
		t.Version = emulator.Path
	}
	return t
}

func (e *Engine) toolsStand(ctx context.Context, traced []TracedTool) bool {
	for _, t := range traced {
		if t.Tool.Name == "" {
			if len(t.Tool.VersionArgs) != 1 || e.tracedMachine(ctx, t.Tool.VersionArgs[0]).Version != t.Version {
				return false
			}
			continue
		}
		now, err := e.tools.versions(ctx, []Tool{t.Tool})
		if err != nil || now[0].version != t.Version {
			return false
		}
	}
	return true
}

// manyObjects is from how many objects on it is quicker to look at the directories in which
// they lie, twice 256 at most, before one is asked for.
const manyObjects = 1024

// asks counts the objects of the results.
func (t *Trace) asks() int {
	n := 0
	for i := range t.Parts {
		n += len(t.Parts[i].Results)
	}
	return n
}

// resultStands reports whether the result is in its place, and its object in the store: asked
// for, unless it is known to be there.
func (e *Engine) resultStands(r *Placed, there bool) bool {
	placed := r.Path == "" || r.Sign != "" && observe(r.Path) == r.Sign
	return placed && (!r.Stored || there || e.cfg.Store.Has(r.Object))
}

// shelved reports whether nothing but the presence of the object counts: the user has a copy
// of it. A tree is more than its manifest, and a link is as good as the object's bytes.
func (r *Placed) shelved() bool {
	return r.Path != "" && r.Object.Kind == store.File && !strings.Contains(r.Sign, linkMode)
}

// linkMode is in the sign of a symbolic link, and of nothing else.
const linkMode = ":120777:"

// all reports whether ok holds for every element, asking on all processors.
func all[T any](ctx context.Context, list []T, ok func(T) bool) bool {
	var failed atomic.Bool
	one := func(i int) {
		if !failed.Load() && (!ok(list[i]) || ctx.Err() != nil) {
			failed.Store(true)
		}
	}
	if len(list) > 64 {
		inParallel(len(list), one)
		return !failed.Load()
	}
	for i := range list {
		one(i)
	}
	return !failed.Load()
}

// inParallel calls do for the numbers below n, on all processors.
func inParallel(n int, do func(int)) {
	const piece = 16
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(runtime.NumCPU(), 1+n/piece) {
		group.Go(func() {
			for from := int(next.Add(piece)) - piece; from < n; from = int(next.Add(piece)) - piece {
				for i := from; i < min(from+piece, n); i++ {
					do(i)
				}
			}
		})
	}
	group.Wait()
}
