// Package timeline tells where the time of a build went.
//
//	Paths    the critical path, found while the steps of a build end
//	Ahead    what is left of a build, as far as earlier ones tell
//	Profile  a build that was logged: its steps, the critical path, what ran when
//
// It prints and draws nothing but text and the Chrome trace; package page has the page.
package timeline

import (
	"slices"
	"time"
)

// Paths finds the critical path of a build: of all chains of steps in which each needs
// the one before, the one that took longest. No machine, however large, could have built
// it sooner without a step of the path being quicker.
//
// Steps are added when they end, each after those that it needs. A step that was cached
// takes no time, and is a link all the same between what ran before it and after it.
type Paths[K comparable] struct {
	ends map[K]link[K] // of steps that ran, and those behind them
	last K             // where the longest path ends
}

// link is the end of the longest path to a step.
type link[K comparable] struct {
	length time.Duration // with the step itself
	took   time.Duration // of the step
	before K             // the step before
	begins bool          // there is none
}

// Ran adds a step that took so long, and needs those.
func (p *Paths[K]) Ran(step K, took time.Duration, needs []K) {
	if p.ends == nil {
		p.ends = map[K]link[K]{}
	}
	l := p.longest(needs)
	l.took, l.length = took, l.length+took
	p.ends[step] = l
	if len(p.ends) == 1 || l.length > p.ends[p.last].length {
		p.last = step
	}
}

// Cached adds a step that did not run. It asks what that needs only after one has run.
func (p *Paths[K]) Cached(step K, needs func() []K) {
	if len(p.ends) == 0 {
		return // as in most builds
	}
	if l := p.longest(needs()); !l.begins {
		p.ends[step] = l
	}
}

// longest is the longest path to one of the steps, of which the next is a link.
func (p *Paths[K]) longest(needs []K) link[K] {
	l := link[K]{begins: true}
	for _, n := range needs {
		if end, ok := p.ends[n]; ok && (l.begins || end.length > l.length) {
			l = link[K]{length: end.length, before: n}
		}
	}
	return l
}

// Behind reports whether a step that was cached is behind one that ran.
func (p *Paths[K]) Behind(cached K) bool { _, ok := p.ends[cached]; return ok }

// Took is the time that a step of the path took; 0 for one that was cached.
func (p *Paths[K]) Took(step K) time.Duration { return p.ends[step].took }

// Critical lists the steps of the critical path that ran, the first of them first, and
// what they took together.
func (p *Paths[K]) Critical() (path []K, length time.Duration) {
	if len(p.ends) == 0 {
		return nil, 0
	}
	step := p.last
	for {
		l := p.ends[step]
		if l.took > 0 || step == p.last {
			path = append(path, step)
		}
		if l.begins {
			slices.Reverse(path)
			return path, p.ends[p.last].length
		}
		step = l.before
	}
}
