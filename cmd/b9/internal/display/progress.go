package display

import (
	"fmt"
	"slices"
	"time"

	"b9.build/b9/cmd/b9/internal/timeline"
	"b9.build/b9/engine"
	"b9.build/b9/engine/size"
)

// logTail is how many lines of a step's log are repeated when it fails.
const logTail = 40

// step is one step while it runs.
type step struct {
	node        *engine.Node
	since       time.Time
	took        time.Duration // of one that ended
	done, total int64         // bytes
	tail        []string      // the last lines of its output, at most logTail
	lines       int           // that it printed so far
}

// log notes a line of output.
func (s *step) log(line string) {
	s.lines++
	s.tail = append(slices.Delete(s.tail, 0, max(0, len(s.tail)+1-logTail)), line)
}

// last is the last line of output that shows anything.
func (s *step) last() string {
	for _, line := range slices.Backward(s.tail) {
		if text := Clean(line); text != "" {
			return text
		}
	}
	return ""
}

// amount tells how far the step is, as far as it says so.
func (s *step) amount() string {
	switch {
	case s.total > 0:
		return fmt.Sprintf("%d%% of %s", min(100, int(100*float64(s.done)/float64(s.total))), size.About(s.total))
	case s.done > 0:
		return size.About(s.done)
	}
	return ""
}

// progress counts what happened and holds what is running.
type progress struct {
	start                    time.Time
	total                    int
	executed, cached, failed int
	running                  []*step // in the order they started
	placing                  *placing
	nodes                    []*engine.Node // of the graph
	paths                    timeline.Paths[*engine.Node]
	slowest                  []*step                       // that ended, at most slowestSteps
	over                     map[*engine.Node]bool         // steps that ended before anything was foretold; nil where it never is
	ahead                    *timeline.Ahead[*engine.Node] // nil where nothing is foretold
}

// placing is how far the placing of results is.
type placing struct {
	since       time.Time
	done, total int64 // bytes
}

// largePlacing is from how many bytes on people are told of what is placed, and how fast.
const largePlacing = 256 << 20

// place notes how far the placing is, and whether it has just begun.
func (p *progress) place(done, total int64, now time.Time) (first bool) {
	if first = p.placing == nil; first {
		p.placing = &placing{since: now}
	}
	p.placing.done, p.placing.total = done, total
	return first
}

// line is such as "placing  3.1GiB of 8GiB, 412MiB/s".
func (p *placing) line(now time.Time) string {
	text := fmt.Sprintf("placing  %s of %s", size.About(p.done), size.About(p.total))
	if took := now.Sub(p.since).Seconds(); took > 0 {
		text += fmt.Sprintf(", %s/s", size.About(int64(float64(p.done)/took)))
	}
	return text
}

// rate is such as ", 8GiB placed at 412MiB/s"; empty where little was placed, or nothing.
func (p *placing) rate(now time.Time) string {
	if p == nil || p.done < largePlacing {
		return ""
	}
	return fmt.Sprintf(", %s placed at %s/s", size.About(p.done), size.About(int64(float64(p.done)/max(now.Sub(p.since).Seconds(), 1e-3))))
}

// event counts e, and returns the step that it is about, nil for none.
func (p *progress) event(e engine.Event, now time.Time) *step {
	switch e.Type {
	case engine.GraphReady:
		p.total += int(e.Total)
		p.nodes = e.Nodes
		return nil
	case engine.StepStarted:
		s := &step{node: e.Node, since: now}
		p.running = append(p.running, s)
		return s
	case engine.StepLog:
		s := p.find(e.Node)
		s.log(e.Line)
		return s
	case engine.StepProgress:
		s := p.find(e.Node)
		s.done, s.total = e.Done, e.Total
		return s
	case engine.StepDone:
		p.executed++
		p.ran(e)
	case engine.StepFailed:
		p.ran(e)
		if isFailure(e.Err) {
			p.failed++
		}
	case engine.StepCached:
		p.cached++
		p.paths.Cached(e.Node, e.Node.Needs)
		p.ended(e.Node)
	default:
		return nil
	}
	s := p.find(e.Node)
	p.running = slices.DeleteFunc(p.running, func(r *step) bool { return r == s })
	return s
}

// find returns the running step of a node, or an empty one: a step can fail,
// and print a line, without having started.
func (p *progress) find(n *engine.Node) *step {
	for _, s := range p.running {
		if s.node == n {
			return s
		}
	}
	return &step{node: n}
}

// lines draws the region: the counts, then the running steps, those that run
// longest first, in at most rows lines.
func (p *progress) lines(now time.Time, rows int) [][]segment {
	all := [][]segment{p.counts(now)}
	if p.placing != nil {
		return append(all, []segment{{plain, "  " + p.placing.line(now)}})[:min(2, max(1, rows))]
	}
	shown := p.running
	if room := max(0, rows-1); len(shown) > room {
		shown = shown[:max(0, room-1)]
	}
	width := 0
	for _, s := range shown {
		width = max(width, min(labelCols, len(s.node.Label())))
	}
	for _, s := range shown {
		all = append(all, s.line(now, width))
	}
	if more := len(p.running) - len(shown); more > 0 && rows > 1 {
		all = append(all, []segment{{faint, fmt.Sprintf("  and %d more", more)}})
	}
	return all
}

// maxLong bounds how many steps are said to run.
const maxLong = 10

// long lists the steps that run for half the time between two ticks or longer, those that
// run longest first, such as "//web:root  lxc_exec  runs for 1:30  Setting up nginx ...".
func (p *progress) long(now time.Time) [][]segment {
	var all [][]segment
	if p.placing != nil {
		return append(all, []segment{{plain, p.placing.line(now)}})
	}
	for _, s := range p.running {
		took := now.Sub(s.since)
		if took < sayInterval/2 {
			continue
		}
		if len(all) == maxLong {
			return append(all, []segment{{faint, fmt.Sprintf("and %d more run", len(p.running)-maxLong)}})
		}
		line := []segment{{plain, s.node.Label()}, {faint, "  " + s.node.Builtin() + "  "}, {plain, "runs for " + clock(took)}}
		if a := s.amount(); a != "" {
			line = append(line, segment{plain, "  " + a})
		}
		if l := s.last(); l != "" {
			line = append(line, segment{faint, "  " + l})
		}
		all = append(all, line)
	}
	return all
}

// counts is such as "[ 12/40] 3 running, 9 cached, 0:42".
func (p *progress) counts(now time.Time) []segment {
	done := p.executed + p.cached + p.failed
	total := max(p.total, done)
	digits := len(fmt.Sprint(total))
	line := []segment{
		{bold, fmt.Sprintf("[%*d/%d]", digits+1, done, total)},
		{plain, fmt.Sprintf(" %d running, %d cached, ", len(p.running), p.cached)},
	}
	if p.failed > 0 {
		line = append(line, segment{red, fmt.Sprintf("%d failed", p.failed)}, segment{plain, ", "})
	}
	return append(line, segment{plain, clock(now.Sub(p.start)) + p.remaining(now)})
}

// labelCols is the most columns of a label in the region.
const labelCols = 40

// line is such as "  //web:root  lxc_exec  0:12  Setting up nginx ...".
func (s *step) line(now time.Time, width int) []segment {
	label := shorten(s.node.Label(), labelCols)
	line := []segment{
		{plain, fmt.Sprintf("  %-*s  %s  %s", width, label, s.node.Builtin(), clock(now.Sub(s.since)))},
	}
	if a := s.amount(); a != "" {
		line = append(line, segment{plain, "  " + a})
	}
	if l := s.last(); l != "" {
		line = append(line, segment{faint, "  " + l})
	}
	return line
}
