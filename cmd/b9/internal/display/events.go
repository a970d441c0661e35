package display

import (
	"errors"
	"io"
	"time"

	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/engine"
)

// events writes one JSON object a line for each event.
type events struct {
	w        io.Writer
	now      func() time.Time
	progress map[*engine.Node]time.Time // when a step's progress was last written
}

// eventNames are the names of the events of the engine.
var eventNames = map[engine.EventType]string{
	engine.GraphReady: "graph", engine.StepStarted: "started", engine.StepLog: "log", engine.StepProgress: "progress",
	engine.StepDone: "done", engine.StepFailed: "failed", engine.StepCached: "cached",
}

func (j *events) event(e engine.Event) {
	out := output.Event{Time: j.now(), Event: eventNames[e.Type]}
	if e.Node != nil {
		out.Label, out.Builtin, out.Place = e.Node.Label(), e.Node.Builtin(), output.PlaceOf(e.Node.Where())
	}
	seconds := e.Duration.Seconds()
	switch e.Type {
	case engine.GraphReady:
		out.Total = &e.Total
	case engine.StepLog:
		out.Line = &e.Line
	case engine.StepProgress:
		if !j.due(e.Node, out.Time) {
			return
		}
		out.Done, out.Total = &e.Done, &e.Total
	case engine.StepDone, engine.StepFailed:
		out.Seconds = &seconds
		fail(&out, e.Err)
		delete(j.progress, e.Node)
	}
	j.write(out)
}

// placing tells how far the placing of results is. Of no step it is the only progress.
func (j *events) placing(done, total int64) {
	if now := j.now(); done == total || j.due(nil, now) {
		j.write(output.Event{Time: now, Event: "placing", Done: &done, Total: &total})
	}
}

// due lets the progress of a step through as often as a frame would be drawn.
func (j *events) due(n *engine.Node, now time.Time) bool {
	if last, ok := j.progress[n]; ok && now.Sub(last) < frameInterval {
		return false
	}
	j.progress[n] = now
	return true
}

func fail(e *output.Event, err error) {
	if err == nil {
		return
	}
	e.Error = err.Error()
	var s *engine.StepError
	if errors.As(err, &s) {
		e.Log, e.Kept = s.Log, s.Kept
	}
}

func (j *events) note(message string) {
	j.write(output.Event{Time: j.now(), Event: "note", Line: &message})
}

func (j *events) finish(s Summary, failed int) {
	seconds := s.Took.Seconds()
	e := output.Event{Time: j.now(), Event: "finished", Executed: &s.Executed, Cached: &s.Cached, Failed: &failed, Seconds: &seconds}
	switch {
	case s.Interrupted:
		e.Error = "interrupted"
	case s.Err != nil:
		e.Error = s.Err.Error()
	}
	j.write(e)
}

func (j *events) write(e output.Event) {
	// An error of standard error has nowhere to be printed.
	_ = output.PrintLine(j.w, e)
}
