package display

import (
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

func (j *events) event(e engine.Event) {
	now := j.now()
	if e.Type == engine.StepProgress && !j.due(e.Node, now) {
		return
	}
	if e.Type == engine.StepDone || e.Type == engine.StepFailed {
		delete(j.progress, e.Node)
	}
	j.write(output.EventOf(e, now))
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

func (j *events) note(message string) {
	j.write(output.Event{Time: j.now(), Event: "note", Line: &message})
}

func (j *events) finish(s Summary, failed int) {
	j.write(output.Finished(output.Ending{Executed: s.Executed, Cached: s.Cached, Failed: failed, Err: s.Err, Interrupted: s.Interrupted, Took: s.Took}, j.now()))
}

func (j *events) write(e output.Event) {
	// An error of standard error has nowhere to be printed.
	_ = output.PrintLine(j.w, e)
}
