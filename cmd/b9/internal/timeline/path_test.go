package timeline

import (
	"math/rand"
	"slices"
	"testing"
	"time"
)

// graph is a random build: of each step what it needs, before it, what it takes, and
// whether it is cached.
type graph struct {
	needs  [][]int
	takes  []time.Duration
	cached []bool
}

func random(r *rand.Rand) graph {
	var g graph
	for i := range 1 + r.Intn(12) {
		var needs []int
		for j := range i {
			if r.Intn(3) == 0 {
				needs = append(needs, j)
			}
		}
		g.needs, g.takes, g.cached = append(g.needs, needs), append(g.takes, time.Duration(1+r.Intn(100))), append(g.cached, r.Intn(4) == 0)
		if g.cached[i] {
			g.takes[i] = 0
		}
	}
	return g
}

// longest is the longest chain that ends with a step, by trying all of them.
func (g graph) longest(step int) time.Duration {
	var most time.Duration
	for _, n := range g.needs[step] {
		most = max(most, g.longest(n))
	}
	return most + g.takes[step]
}

// TestCriticalPath compares the path with the longest of all chains, in random graphs.
func TestCriticalPath(t *testing.T) {
	r := rand.New(rand.NewSource(7))
	for range 2000 {
		g := random(r)
		var p Paths[int]
		var want time.Duration
		for i := range g.needs {
			if g.cached[i] {
				p.Cached(i, func() []int { return g.needs[i] })
			} else {
				p.Ran(i, g.takes[i], g.needs[i])
			}
			want = max(want, g.longest(i))
		}
		path, length := p.Critical()
		var sum time.Duration
		for i, s := range path {
			sum += g.takes[s]
			if g.cached[s] || i > 0 && !g.leads(path[i-1], s) {
				t.Fatalf("%+v: %v is no path", g, path)
			}
		}
		if length != want || sum != want {
			t.Fatalf("%+v: the path %v has %d, and takes %d: want %d", g, path, length, sum, want)
		}
	}
}

// leads reports whether the step needs the other one, through others perhaps.
func (g graph) leads(from, to int) bool {
	return slices.ContainsFunc(g.needs[to], func(n int) bool { return n == from || g.leads(from, n) })
}

// TestAhead lets random graphs run, one step after the other or all that can at once, and
// compares what is foretold at the beginning with what it takes.
func TestAhead(t *testing.T) {
	r := rand.New(rand.NewSource(8))
	for range 500 {
		g := random(r)
		steps := make([]int, len(g.needs))
		var all, longest time.Duration
		for i := range steps {
			steps[i] = i
			all += g.takes[i]
			longest = max(longest, g.longest(i))
		}
		ahead := func(jobs int) *Ahead[int] {
			return NewAhead(steps, func(s int) []int { return g.needs[s] }, func(s int) (time.Duration, bool) { return g.takes[s], s > 0 }, jobs)
		}
		one, many := ahead(1), ahead(len(steps))
		first := map[int]time.Duration{}
		for i := range steps {
			if len(g.needs[i]) == 0 {
				first[i] = 0
			}
		}
		if left, whole := one.Left(first); left != all || whole {
			t.Fatalf("%+v: one at a time takes %d, and %d is foretold, %t", g, all, left, whole)
		}
		if left, _ := many.Left(first); left != longest {
			t.Fatalf("%+v: all at once take %d, and %d is foretold", g, longest, left)
		}
		for i := range steps {
			one.Ended(i)
		}
		if left, whole := one.Left(nil); left != 0 || !whole {
			t.Fatalf("%+v: %d is left, %t", g, left, whole)
		}
	}
	a := NewAhead([]int{1}, func(int) []int { return nil }, func(int) (time.Duration, bool) { return 10, true }, 1)
	for took, want := range map[time.Duration]time.Duration{0: 10, 4: 6, 10: 0, 99: 0} {
		if left, _ := a.Left(map[int]time.Duration{1: took}); left != want {
			t.Errorf("after %d of 10 %d is left", took, left)
		}
	}
}
