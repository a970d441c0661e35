package engine

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Limited is an action that keeps within limits of memory and processors, which
// the steps that run at the same time have to share.
type Limited interface {
	Action

	// Limits are the most it uses: bytes and processors, 0 for no limit.
	Limits() (memory int64, cpus float64)
}

// admission lets steps run as long as the machine has what they may use. There is a
// slot for each of the engine's jobs. The limits of the steps that run come to no
// more than what the machine has; of a step without one nothing is known, and its
// slot counts for it. A step whose limit exceeds the machine runs alone among
// those that have one.
//
// A step first gets its memory, then its processors and last its slot, so that what
// waits for memory holds up no step without a limit, and each in the order in
// which it was asked for, so that none waits for ever.
type admission struct {
	slots *quantity
	room  func() (memory, cpus *quantity) // asked for when a step with a limit comes
}

// quantity is something that steps share, in whole units.
type quantity struct {
	*semaphore.Weighted
	all int64 // 0 for no end of it
}

const milli = 1000 // processors are counted in thousandths

// newAdmission returns one for so many jobs. The machine is looked at when it matters.
func newAdmission(jobs int, machine func() Machine) *admission {
	of := func(n int64) *quantity { return &quantity{semaphore.NewWeighted(n), n} }
	return &admission{slots: of(int64(jobs)), room: sync.OnceValues(func() (memory, cpus *quantity) {
		m := machine()
		return of(m.Memory), of(int64(m.CPUs * milli))
	})}
}

// take waits until the step of that action may run, and returns what ends it, which
// may be called again. The error is the context's.
func (a *admission) take(ctx context.Context, action Action) (release func(), err error) {
	wants := []want{{a.slots, 1}}
	if l, ok := action.(Limited); ok {
		wants = append(a.limited(l), wants...)
	}
	var held []func()
	release = sync.OnceFunc(func() {
		for _, r := range held {
			r()
		}
	})
	for _, w := range wants {
		n := min(w.n, w.from.all)
		if n <= 0 {
			continue
		}
		if err := w.from.Acquire(ctx, n); err != nil {
			release()
			return nil, err
		}
		held = append(held, func() { w.from.Release(n) })
	}
	return release, nil
}

// limits reports whether a step of that action waits for more than a slot.
func (a *admission) limits(action Action) bool {
	l, ok := action.(Limited)
	return ok && len(a.limited(l)) > 0
}

// want is an amount of something shared.
type want struct {
	from *quantity
	n    int64
}

// limited are the wants of a step with limits, in the order in which it gets them.
func (a *admission) limited(l Limited) []want {
	bytes, processors := l.Limits()
	if bytes <= 0 && processors <= 0 {
		return nil
	}
	memory, cpus := a.room()
	return []want{{memory, bytes}, {cpus, int64(processors * milli)}}
}
