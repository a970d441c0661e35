package engine

import (
	"context"
	"errors"
	"sync"
)

// Result is what a build made.
type Result struct {
	Executed int     // steps whose action ran
	Cached   int     // steps found in the store or the cache; located sources are not counted
	Ran      []*Node // those whose action ran, in the order in which they ended

	engine    *Engine
	plan      *plan
	artifacts map[Ref]*Artifact
	failed    map[*Node]bool
}

// Artifact is the result for a ref that was asked for, nil for another one.
func (r *Result) Artifact(ref Ref) *Artifact { return r.artifacts[ref] }

// Has reports whether the node is one of the build.
func (r *Result) Has(n *Node) bool {
	_, ok := r.plan.at[n]
	return ok
}

// Outputs is what the node's step made or was found to have made, in the order
// of its outputs; nil for a step that did not come to an end. The content of
// what was not asked for may be gone from the store.
func (r *Result) Outputs(n *Node) []*Artifact {
	if _, ok := r.plan.at[n]; !ok {
		return nil
	}
	return r.plan.of(n).artifacts()
}

// Nodes lists the nodes of the build, inputs before what uses them.
func (r *Result) Nodes() []*Node {
	nodes := make([]*Node, len(r.plan.steps))
	for i := range r.plan.steps {
		nodes[i] = r.plan.steps[i].node
	}
	return nodes
}

// Build makes the refs and everything they need. Steps that are in the
// store are not run. The error joins one StepError for each failed step;
// after a cancel it is the context's. After a failure the result has the artifacts of
// those refs whose steps were done in spite of it, or were found done.
func (e *Engine) Build(ctx context.Context, refs ...Ref) (*Result, error) {
	p := newPlan(refs)
	r := &Result{engine: e, plan: p, artifacts: map[Ref]*Artifact{}}
	x := newExecutor(e, r)
	x.room = newRoom(e, p)
	x.room.forecast(ctx, p, refs)
	flattening, stop := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { e.cfg.Store.Flatten(flattening) })
	err := x.runPlan(ctx, p)
	x.publishing.Wait()
	stop()
	beside.Wait()
	if cerr := x.views.close(); err == nil {
		err = cerr
	}
	r.failed = x.failed
	err = x.deliverAll(ctx, refs, err)
	r.Cached = int(x.found.Load())
	return r, err
}

// deliverAll gives the result what was asked for. After a failure that is what there is,
// and nothing is made again for it.
func (x *executor) deliverAll(ctx context.Context, refs []Ref, failure error) error {
	if ctx.Err() != nil {
		return failure
	}
	for _, ref := range refs {
		if failure != nil && !x.result.plan.has(ref) {
			continue
		}
		a, err := x.deliver(ctx, ref)
		if err != nil {
			return errors.Join(failure, err)
		}
		x.result.artifacts[ref] = a
	}
	return failure
}

// Blockers says, after a failure, why a ref has no artifact: for each of those nodes
// whose step was not done because one that it needs failed, or its own, which that was.
// A node that is missing was not begun because the build had stopped.
func (r *Result) Blockers() map[*Node]*Node {
	blockers := map[*Node]*Node{}
	for i := range r.plan.steps {
		s := &r.plan.steps[i]
		if r.failed[s.node] {
			blockers[s.node] = s.node
			continue
		}
		for _, in := range s.inputs {
			if by := blockers[in.node]; by != nil {
				blockers[s.node] = by
				break
			}
		}
	}
	return blockers
}

// deliver returns the artifact for a ref of a finished build, and makes it
// again if collection took it meanwhile.
func (x *executor) deliver(ctx context.Context, ref Ref) (*Artifact, error) {
	if _, err := ref.Node.Declared(ref.Output); err != nil {
		return nil, err
	}
	s := x.result.plan.of(ref.Node)
	if !s.readable {
		if err := x.ensure(ctx, s); err != nil {
			return nil, err
		}
	}
	return s.artifact(ref.Output), nil
}
