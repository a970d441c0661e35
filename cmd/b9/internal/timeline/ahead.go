package timeline

import "time"

// Ahead foretells how long a build still takes: the longest chain of what is left, or all
// that is left divided by the steps that may run at once, whichever is longer. A step is
// thought to take what it took the last time. What was never built is left out of the sum,
// which is then a bound from below.
//
// Nothing that needs a step which has not ended can have ended. So the chain behind each
// step is found once, before anything ends, and stays right.
type Ahead[K comparable] struct {
	jobs    int
	steps   map[K]future
	left    time.Duration // of all steps that did not end
	unknown int           // steps that did not end, and of which nothing is known
}

// future is what is ahead of a step.
type future struct {
	takes  time.Duration
	known  bool
	behind time.Duration // the longest chain of what needs it, without itself
}

// NewAhead foretells a build of these steps, inputs before what uses them.
func NewAhead[K comparable](steps []K, needs func(K) []K, takes func(K) (time.Duration, bool), jobs int) *Ahead[K] {
	a := &Ahead[K]{jobs: max(1, jobs), steps: make(map[K]future, len(steps))}
	for _, s := range steps {
		t, known := takes(s)
		a.steps[s] = future{takes: t, known: known}
		a.left += t
		if !known {
			a.unknown++
		}
	}
	for i := len(steps) - 1; i >= 0; i-- {
		f := a.steps[steps[i]]
		for _, n := range needs(steps[i]) {
			if of, ok := a.steps[n]; ok {
				of.behind = max(of.behind, f.takes+f.behind)
				a.steps[n] = of
			}
		}
	}
	return a
}

// Ended takes out a step that ended, or was found to be cached.
func (a *Ahead[K]) Ended(step K) {
	f, ok := a.steps[step]
	if !ok {
		return
	}
	delete(a.steps, step)
	a.left -= f.takes
	if !f.known {
		a.unknown--
	}
}

// Left is what is left, where these steps run, for so long already. Whole is false where
// steps are left of which nothing is known.
func (a *Ahead[K]) Left(running map[K]time.Duration) (left time.Duration, whole bool) {
	work := a.left
	for s, took := range running {
		f := a.steps[s]
		rest := max(0, f.takes-took)
		work -= f.takes - rest
		left = max(left, rest+f.behind)
	}
	return max(left, work/time.Duration(a.jobs)), a.unknown == 0
}
