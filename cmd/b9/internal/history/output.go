package history

import (
	"fmt"
	"time"

	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/engine"
)

// Of what a step prints the first part is kept, and of what follows the end: a step that
// fails says why in its last lines. Of a log that is large already only the end is kept.
const (
	maxStepOutput = 1 << 20  // bytes of lines
	maxStepEnd    = 64 << 10 // likewise
	maxLog        = 32 << 20 // bytes of a log after which steps have no first part
)

// stepLines is what a step printed.
type stepLines struct {
	size    int // of the first part
	end     []engine.Event
	at      []time.Time // of end
	endSize int
	left    int // lines between the two parts
}

// output keeps a line of a step, or lets go of one.
func (l *Log) output(e engine.Event, now time.Time) {
	s := l.steps[e.Node]
	if s == nil {
		s = &stepLines{}
		l.steps[e.Node] = s
	}
	if s.size < maxStepOutput && len(s.end) == 0 && l.written < maxLog {
		s.size += len(e.Line)
		l.add(lineOf(e, now))
		return
	}
	s.end, s.at, s.endSize = append(s.end, e), append(s.at, now), s.endSize+len(e.Line)
	for s.endSize > maxStepEnd {
		s.endSize -= len(s.end[0].Line)
		s.end, s.at, s.left = s.end[1:], s.at[1:], s.left+1
	}
}

// lineOf is a line of a step, which its label tells well enough.
func lineOf(e engine.Event, now time.Time) output.Event {
	event := output.EventOf(e, now)
	event.Place, event.Builtin = nil, ""
	return event
}

// endOutput writes what was held back of what the step printed.
func (l *Log) endOutput(n *engine.Node, now time.Time) {
	s := l.steps[n]
	delete(l.steps, n)
	if s == nil {
		return
	}
	if s.left > 0 {
		gap := fmt.Sprintf("(%s left out)", output.Count(s.left, "line is", "lines are"))
		l.add(lineOf(engine.Event{Type: engine.StepLog, Node: n, Line: gap}, now))
	}
	for i, e := range s.end {
		l.add(lineOf(e, s.at[i]))
	}
}
