package engine

import (
	"context"
	"fmt"
	"path/filepath"

	"b9/engine/store"
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
	Part     string // such as "input script" or "Script[2]"
	Old, New string // "" where the part is new or gone
}

// Explain tells, for every step that refs need and inputs first, whether it
// would run. Nothing is run. Below a step that would run nothing more can be
// known, since its output may come out unchanged.
func (e *Engine) Explain(ctx context.Context, refs ...Ref) ([]Reason, error) {
	b := e.plan(refs)
	unknown := map[*state]bool{}
	var reasons []Reason
	for _, s := range b.states {
		for _, dep := range s.inputs {
			if unknown[dep] {
				unknown[s] = true
			}
		}
		if unknown[s] {
			reasons = append(reasons, Reason{Node: s.node, Runs: true, Note: "runs if an input comes out different"})
			continue
		}
		known, err := b.find(ctx, s)
		if err != nil {
			return reasons, &StepError{Node: s.node, Err: err}
		}
		if known || b.lent(ctx, s) {
			reasons = append(reasons, Reason{Node: s.node, Cache: !known})
			continue
		}
		unknown[s] = true
		r, err := b.why(ctx, s)
		if err != nil {
			return reasons, err
		}
		reasons = append(reasons, r)
	}
	return reasons, nil
}

// lent reports whether a build would take s from the cache. Only what it makes
// is noted, for the steps after it.
func (b *build) lent(ctx context.Context, s *state) bool {
	if !b.shares(s.node) {
		return false
	}
	r := b.cachedRecord(ctx, s, s.key)
	return r != nil && b.take(s, r.Outputs)
}

func (b *build) why(ctx context.Context, s *state) (Reason, error) {
	r := Reason{Node: s.node, Runs: true}
	var err error
	if r.Failed, err = b.failure(s.node); err != nil {
		return r, err
	}
	last, err := b.cfg.Store.Latest(b.Scoped(s.node.Label()))
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
	in, err := b.keyInput(ctx, s)
	if err != nil {
		return r, err
	}
	parts, err := nodeParts(s.node, in)
	if err != nil {
		return r, err
	}
	if r.Changes = diffParts(last.Parts, parts); len(r.Changes) == 0 {
		r.Note = "its result is no longer in the store"
	}
	return r, nil
}

// failure is what the node left when it failed last, nil for nothing.
func (b *build) failure(n *Node) (*store.FailedStep, error) {
	kept, err := b.cfg.Store.Failed()
	if err != nil {
		return nil, err
	}
	for i := range kept {
		if kept[i].Name == b.Scoped(n.Label()) {
			return &kept[i], nil
		}
	}
	return nil, nil
}

// Log is the path of what a step printed before it failed; see [StepError].
func Log(f store.FailedStep) string { return filepath.Join(f.Dir, logFile) }

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
