package engine

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"b9.build/b9/engine/size"
	"b9.build/b9/engine/store"
)

// room keeps the disk of the store from filling up while a build runs.
type room struct {
	engine *Engine
	policy func() store.Policy // what collection takes last; made when it is first wanted
}

func newRoom(e *Engine, p *plan) *room {
	return &room{e, sync.OnceValue(func() store.Policy {
		ours := make(map[string]bool, len(p.steps))
		for i := range p.steps {
			ours[p.steps[i].node.Label()] = true
		}
		return store.Policy{Dear: e.fromElsewhere(), Ours: func(name string) bool {
			label, workspace := SplitStepName(name)
			return workspace == e.cfg.Workspace && ours[label]
		}}
	})}
}

// fromElsewhere tells the kinds, of any version, of steps that read the world outside of
// this machine and workspace.
func (e *Engine) fromElsewhere() func(kind string) bool {
	dear := map[string]bool{}
	for kind, of := range e.cfg.Actions {
		a := of()
		_, source := a.(Source)
		if _, located := a.(Located); source && !located {
			name, _, _ := strings.Cut(kind, "/")
			dear[name] = true
		}
	}
	return func(kind string) bool {
		name, _, _ := strings.Cut(kind, "/")
		return dear[name]
	}
}

// before makes room before a step runs, for as much as it made when it last ran. What
// hinders that is left for the step to meet.
func (r *room) before(ctx context.Context, s *step) {
	st := r.engine.cfg.Store
	space, err := st.Space()
	if err != nil || space.Free > space.Total/2 {
		return
	}
	report, err := st.MakeRoom(ctx, st.LastSize(r.engine.stepName(s.node.Label())), r.policy())
	switch {
	case ctx.Err() != nil:
	case err != nil:
		r.engine.events(Event{Type: Notice, Line: fmt.Sprintf("warning: no room could be made: %v", err)})
	case report.Freed > 0:
		r.engine.events(Event{Type: Notice, Line: fmt.Sprintf("%s was free for %s: collection freed %s", size.About(space.Free), st.Dir(), size.About(report.Freed))})
	}
}

// fewSteps are looked up in some hundredths of a second.
const fewSteps = 1000

// forecast says before anything runs that the steps that will run do not fit, if they
// make as much as when they last ran and even collection has too little to take. Nothing
// is known of what never ran. Which steps run is only found out where all of them would not
// fit: it takes as long as a build with nothing to do, and asks sources and the cache once
// more. In a large graph it asks only where the disk is almost full.
func (r *room) forecast(ctx context.Context, p *plan, refs []Ref) {
	st := r.engine.cfg.Store
	space, err := st.Space()
	if err != nil || space.Free > space.Total/4 || len(p.steps) > fewSteps && space.Free > 2*space.Reserve() || st.ReadOnly() != nil {
		return
	}
	last := map[*Node]int64{}
	for i := range p.steps {
		n := p.steps[i].node
		last[n] = st.LastSize(r.engine.stepName(n.Label()))
	}
	if need, _, _ := sum(last); need <= space.Free {
		return
	}
	reasons, err := r.engine.Explain(ctx, refs...)
	if err != nil {
		return // the build meets it
	}
	for _, reason := range reasons {
		if !reason.Runs {
			delete(last, reason.Node)
		}
	}
	need, steps, largest := sum(last)
	if need <= space.Free {
		return
	}
	more, err := st.Reclaimable(ctx, r.policy())
	if err != nil || need <= space.Free+more {
		return
	}
	r.engine.events(Event{Type: Notice, Line: fmt.Sprintf(
		"warning: this build may not fit: %d of its steps made %s when they last ran (%s %s), and for %s %s is free, and %s can be collected: free some, or choose another with --store",
		steps, size.About(need), largest.Label(), size.About(last[largest]), st.Dir(), size.About(space.Free), size.About(more))})
}

// sum adds up bytes, counts the steps that have some, and finds the one that has most.
func sum(bytes map[*Node]int64) (total int64, steps int, largest *Node) {
	for n, b := range bytes {
		if b == 0 {
			continue
		}
		total, steps = total+b, steps+1
		if largest == nil || b > bytes[largest] || b == bytes[largest] && n.Label() < largest.Label() {
			largest = n
		}
	}
	return total, steps, largest
}
