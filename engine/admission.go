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
	memory, cpus, slots *quantity
}

// quantity is something that steps share, in whole units.
type quantity struct {
	*semaphore.Weighted
	all int64 // 0 for no end of it
}

const milli = 1000 // processors are counted in thousandths

func newAdmission(jobs int, m Machine) *admission {
	of := func(n int64) *quantity { return &quantity{semaphore.NewWeighted(n), n} }
	return &admission{memory: of(m.Memory), cpus: of(int64(m.CPUs * milli)), slots: of(int64(jobs))}
}

// take waits until the step of that action may run, and returns what ends it, which
// may be called again. The error is the context's.
func (a *admission) take(ctx context.Context, action Action) (release func(), err error) {
	var memory int64
	var cpus float64
	if l, ok := action.(Limited); ok {
		memory, cpus = l.Limits()
	}
	var held []func()
	release = sync.OnceFunc(func() {
		for _, r := range held {
			r()
		}
	})
	for _, want := range []struct {
		from *quantity
		n    int64
	}{{a.memory, memory}, {a.cpus, int64(cpus * milli)}, {a.slots, 1}} {
		n := min(want.n, want.from.all)
		if n <= 0 {
			continue
		}
		if err := want.from.Acquire(ctx, n); err != nil {
			release()
			return nil, err
		}
		held = append(held, func() { want.from.Release(n) })
	}
	return release, nil
}
