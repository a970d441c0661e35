package display

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/timeline"
	"b9.build/b9/engine"
)

const (
	worthTimes   = time.Second     // of the critical path, from which on it is told
	shownSteps   = 3               // of the critical path, and of the slowest beside it
	keptSteps    = 10              // the slowest of all
	foretelAfter = 2 * time.Second // of a build
)

// ran notes how long a step took that ended.
func (p *progress) ran(e engine.Event) {
	p.paths.Ran(e.Node, e.Duration, e.Node.Needs())
	p.ended(e.Node)
	p.slowest = append(p.slowest, &step{node: e.Node, took: e.Duration})
	slices.SortStableFunc(p.slowest, func(a, b *step) int { return int(min(1, max(-1, b.took-a.took))) })
	p.slowest = p.slowest[:min(keptSteps, len(p.slowest))]
}

func (p *progress) ended(n *engine.Node) {
	switch {
	case p.ahead != nil:
		p.ahead.Ended(n)
	case p.over != nil:
		p.over[n] = true
	}
}

// times is the line of a build's critical path and slowest steps, such as
//
//	critical path 38.2 s: //web:root 30 s, //web:disk 8.2 s; slowest beside it: //doc:site 12 s
//
// It is empty where only one step ran, or all were quick.
func (p *progress) times() string {
	path, length := p.paths.Critical()
	if length < worthTimes || p.executed+p.failed < 2 {
		return ""
	}
	shown := slices.Clone(path)
	slices.SortStableFunc(shown, func(a, b *engine.Node) int {
		return int(min(1, max(-1, p.paths.Took(b)-p.paths.Took(a))))
	})
	shown = shown[:min(shownSteps, len(shown))]
	var steps, slow []string
	for _, n := range path {
		if slices.Contains(shown, n) {
			steps = append(steps, n.Label()+" "+Took(p.paths.Took(n)))
		}
	}
	text := fmt.Sprintf("critical path %s: %s", Took(length), strings.Join(steps, ", "))
	if more := len(path) - len(shown); more > 0 {
		text += " and " + output.Count(more, "step", "steps") + " more"
	}
	for _, s := range p.slowest {
		if len(slow) < shownSteps && !slices.Contains(path, s.node) {
			slow = append(slow, s.node.Label()+" "+Took(s.took))
		}
	}
	if len(slow) > 0 {
		text += "; slowest beside it: " + strings.Join(slow, ", ")
	}
	return text
}

// foretell asks, once, what steps took in earlier builds, when a build has run for a
// while. Reading that takes a moment, in which events are shown nevertheless.
func (d *Display) foretell() {
	d.mu.Lock()
	nodes, took := d.progress.nodes, d.took
	if took == nil || nodes == nil || d.now().Sub(d.progress.start) < foretelAfter {
		d.mu.Unlock()
		return
	}
	d.took = nil
	d.mu.Unlock()
	known := took()
	ahead := timeline.NewAhead(slices.DeleteFunc(slices.Clone(nodes), (*engine.Node).Located), (*engine.Node).Needs, func(n *engine.Node) (time.Duration, bool) {
		t, ok := known[n.Label()]
		return t, ok
	}, d.jobs)
	d.mu.Lock()
	defer d.mu.Unlock()
	for n := range d.progress.over {
		ahead.Ended(n)
	}
	d.progress.ahead, d.progress.over = ahead, nil
}

// remaining is such as ", about 2:10 left"; "more than" where some steps were never built.
func (p *progress) remaining(now time.Time) string {
	if p.ahead == nil || len(p.running) == 0 {
		return ""
	}
	running := map[*engine.Node]time.Duration{}
	for _, s := range p.running {
		running[s.node] = now.Sub(s.since)
	}
	left, whole := p.ahead.Left(running)
	switch {
	case left < time.Second:
		return ""
	case whole:
		return ", about " + clock(left) + " left"
	}
	return ", more than " + clock(left) + " left"
}
