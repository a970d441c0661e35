package engine

import (
	"context"
	"fmt"
	"slices"

	"b9.build/b9/engine/store"
)

// Reason says whether a step would run now, and why.
type Reason struct {
	Node    *Node
	Runs    bool
	Cache   bool     // it does not run, for the cache has it
	Changes []Change // against the last time the step ran, when it is known
	Note    string   // in place of changes: "never built", "its inputs are built first", ...

	Failed *store.FailedStep // what the step left when it failed last and has not succeeded since; nil for nothing
}

// Change is one part of a key that differs from the last run's.
type Change struct {
	Part string `json:"part"` // such as "input script" or "Script[2]"
	Old  string `json:"old"`  // "" where the part is new
	New  string `json:"new"`  // "" where it is gone
}

// Explain tells, for every step that refs need and inputs first, whether it
// would run. Nothing is run, and nothing is reported as an event. Below a step
// that would run nothing more can be known, since its output may come out
// unchanged.
func (e *Engine) Explain(ctx context.Context, refs ...Ref) ([]Reason, error) {
	p := newPlan(refs)
	x := newExecutor(e, &Result{})
	var reasons []Reason
	for i := range p.steps {
		r, err := x.explain(ctx, &p.steps[i])
		if err != nil {
			return reasons, err
		}
		reasons = append(reasons, r)
	}
	return reasons, nil
}

// explain tells about one step after its inputs. One that would run gets no
// outputs, by which those after it know.
func (x *executor) explain(ctx context.Context, s *step) (Reason, error) {
	if slices.ContainsFunc(s.inputs, func(dep *step) bool { return dep.artifacts() == nil }) {
		return Reason{Node: s.node, Runs: true, Note: "runs if an input comes out different"}, nil
	}
	if err := x.prepare(ctx, s); err != nil {
		return Reason{}, &StepError{Node: s.node, Err: err}
	}
	if s.artifacts() != nil { // read in place
		return Reason{Node: s.node}, nil
	}
	if s.rerun {
		return Reason{Node: s.node, Runs: true, Note: "it is to run again, whatever is cached"}, nil
	}
	from, err := x.lookup(ctx, s, x.suppliers...)
	if err != nil {
		return Reason{}, &StepError{Node: s.node, Err: err}
	}
	if from != nil {
		return Reason{Node: s.node, Cache: from != x.suppliers[0]}, nil
	}
	return x.engine.why(s)
}

// why compares the key of s, which would run, with that of its last run.
func (e *Engine) why(s *step) (Reason, error) {
	r := Reason{Node: s.node, Runs: true}
	var err error
	if r.Failed, err = e.failure(s.node); err != nil {
		return r, err
	}
	last, err := e.cfg.Store.Latest(e.stepName(s.node.Label()))
	if err != nil {
		return r, fmt.Errorf("%s: %w", s.node.Label(), err)
	}
	if last == nil {
		r.Note = "never built"
		if r.Failed != nil {
			r.Note = "never succeeded"
		}
		return r, nil
	}
	parts, err := nodeParts(s.node, s.basis)
	if err != nil {
		return r, err
	}
	if r.Changes = diffParts(last.Parts, parts); len(r.Changes) == 0 {
		r.Note = "its result is no longer in the store"
	}
	return r, nil
}

// diffParts compares two keys part by part, in the order of the new one.
func diffParts(old, new []store.Part) []Change {
	was := map[string]string{}
	for _, p := range old {
		was[p.Name] = p.Value
	}
	var changes []Change
	for _, p := range new {
		v, ok := was[p.Name]
		if !ok || v != p.Value {
			changes = append(changes, Change{Part: p.Name, Old: v, New: p.Value})
		}
		delete(was, p.Name)
	}
	for _, p := range old {
		if v, gone := was[p.Name]; gone {
			changes = append(changes, Change{Part: p.Name, Old: v})
		}
	}
	return changes
}
