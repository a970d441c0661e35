package engine

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/store"
)

// Trace is what a successful build rested on. As long as all of that stands,
// the same build would find every step in the store and every result in its
// place, and can be told so without evaluating a file or computing a key.
type Trace struct {
	Made    time.Time
	Steps   int            // of the graph, located sources not counted
	Printed string         // what evaluation wrote for the user
	Names   store.Digest   // of the names that results have in the store
	Stamps  []Stamp        // what evaluation read
	Sources []TracedSource // what the keys took from outside the graph
	Tools   []TracedTool   // the host programs in the keys
	Results []Placed       // in the order in which they were asked for
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
// what it did there. The caller adds what it knows itself: further Stamps,
// Results, Printed and Names.
func (r *Result) Trace(ctx context.Context) (*Trace, error) {
	t := &Trace{Made: time.Now(), Steps: r.Executed + r.Cached}
	tools := map[string]TracedTool{}
	for i := range r.plan.steps {
		s := &r.plan.steps[i]
		if l, ok := s.node.action.(Lasting); ok {
			t.Stamps = append(t.Stamps, l.Stamps(r.engine.world)...)
			if !l.Lasts(ctx, r.engine.world, s.artifacts()) { // undone since the step was looked up
				t.Sources = append(t.Sources, TracedSource{Kind: goneKind})
			}
		}
		if d := s.basis.fingerprint; d != nil {
			fields, err := encodeFields(s.node.action)
			if err != nil {
				return nil, fmt.Errorf("trace of %s: %w", s.node.Label(), err)
			}
			t.Sources = append(t.Sources, TracedSource{s.node.action.Kind(), string(fields), *d})
		}
		for i, tool := range s.tools {
			tools[tool.Name] = TracedTool{tool, s.basis.tools[i].version}
		}
		if m, ok := s.node.action.(OfMachine); ok && m.Machine() != container.MachineArch() {
			tools[" "+m.Machine()] = r.engine.tracedMachine(ctx, m.Machine())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(tools)) {
		t.Tools = append(t.Tools, tools[name])
	}
	return t, nil
}

// goneKind is no kind of an action, so that a trace with it never stands.
const goneKind = "-"

// Racy reports whether something was read so shortly after it had changed
// that the trace must not be used: within the grain of the file system's
// clock. Zero stands for the grain that such clocks have, 100 ms, or 2 s where
// a time looks as if the clock were a coarse one; less is for tests.
func (t *Trace) Racy(grain time.Duration) bool {
	return slices.ContainsFunc(t.Stamps, func(s Stamp) bool { return s.racy(grain) })
}

// Stands reports whether the build that left the trace would do nothing if it
// were done again. What can't be found out counts as a change: the build
// then meets it, too.
func (e *Engine) Stands(ctx context.Context, t *Trace) bool {
	age := time.Since(t.Made)
	return age >= 0 && age < traceAge && !e.cfg.Refresh && e.toolsStand(ctx, t.Tools) && e.sourcesStand(ctx, t.Sources) &&
		all(ctx, t.Stamps, Stamp.same) && all(ctx, t.Results, e.resultStands)
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

func (e *Engine) sourcesStand(ctx context.Context, traced []TracedSource) bool {
	table := ownActions()
	maps.Copy(table, e.cfg.Actions)
	for _, t := range traced {
		a, _ := t.Action(table) // nil for an error, and no Source
		src, ok := a.(Source)
		if !ok {
			return false
		}
		if d, err := src.Fingerprint(ctx, e.world); err != nil || d != t.Digest {
			return false
		}
	}
	return true
}

func (e *Engine) resultStands(r Placed) bool {
	placed := r.Path == "" || r.Sign != "" && observe(r.Path) == r.Sign
	return placed && (!r.Stored || e.cfg.Store.Has(r.Object))
}

// all reports whether ok holds for every element, asking on all processors.
func all[T any](ctx context.Context, list []T, ok func(T) bool) bool {
	n := min(runtime.NumCPU(), 1+len(list)/64)
	var failed atomic.Bool
	var group sync.WaitGroup
	for part := range n {
		group.Go(func() {
			for i := part; i < len(list) && !failed.Load(); i += n {
				if !ok(list[i]) || ctx.Err() != nil {
					failed.Store(true)
				}
			}
		})
	}
	group.Wait()
	return !failed.Load()
}
