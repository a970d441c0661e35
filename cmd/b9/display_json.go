package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"b9/engine"
)

// jsonEvents writes one JSON object a line for each event.
type jsonEvents struct {
	w        io.Writer
	now      func() time.Time
	progress map[*engine.Node]time.Time // when a step's progress was last written
}

// jsonEvent is one line. Event is graph, started, log, progress, done,
// failed, cached, note or finished.
type jsonEvent struct {
	Time     time.Time `json:"time"`
	Event    string    `json:"event"`
	Label    string    `json:"label,omitempty"`
	Builtin  string    `json:"builtin,omitempty"`
	Where    string    `json:"where,omitempty"` // file:line:col
	Line     *string   `json:"line,omitempty"`
	Done     *int64    `json:"done,omitempty"`  // bytes
	Total    *int64    `json:"total,omitempty"` // bytes, or steps
	Seconds  *float64  `json:"seconds,omitempty"`
	Error    string    `json:"error,omitempty"`
	Log      string    `json:"log,omitempty"`  // path
	Kept     string    `json:"kept,omitempty"` // path
	Executed *int      `json:"executed,omitempty"`
	Cached   *int      `json:"cached,omitempty"`
	Failed   *int      `json:"failed,omitempty"`
}

// eventNames are the names of the events of the engine.
var eventNames = map[engine.EventType]string{
	engine.GraphReady: "graph", engine.StepStarted: "started", engine.StepLog: "log", engine.StepProgress: "progress",
	engine.StepDone: "done", engine.StepFailed: "failed", engine.StepCached: "cached",
}

func (j *jsonEvents) event(e engine.Event) {
	out := jsonEvent{Time: j.now(), Event: eventNames[e.Type]}
	if e.Node != nil {
		out.Label, out.Builtin, out.Where = e.Node.Label(), e.Node.Builtin(), e.Node.Where().String()
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
	case engine.StepDone:
		out.Seconds = &seconds
		delete(j.progress, e.Node)
	case engine.StepFailed:
		out.Seconds = &seconds
		out.fail(e.Err)
		delete(j.progress, e.Node)
	}
	j.write(out)
}

// due lets the progress of a step through as often as a frame would be drawn.
func (j *jsonEvents) due(n *engine.Node, now time.Time) bool {
	if last, ok := j.progress[n]; ok && now.Sub(last) < frameInterval {
		return false
	}
	if j.progress == nil {
		j.progress = map[*engine.Node]time.Time{}
	}
	j.progress[n] = now
	return true
}

func (e *jsonEvent) fail(err error) {
	if err == nil {
		return
	}
	e.Error = err.Error()
	var s *engine.StepError
	if errors.As(err, &s) {
		e.Log, e.Kept = s.Log, s.Kept
	}
}

func (j *jsonEvents) note(message string) {
	j.write(jsonEvent{Time: j.now(), Event: "note", Line: &message})
}

func (j *jsonEvents) finish(s summary, failed int) {
	seconds := s.Took.Seconds()
	e := jsonEvent{Time: j.now(), Event: "finished", Executed: &s.Executed, Cached: &s.Cached, Failed: &failed, Seconds: &seconds}
	switch {
	case s.Interrupted:
		e.Error = "interrupted"
	case s.Err != nil:
		e.Error = s.Err.Error()
	}
	j.write(e)
}

// write escapes what encoding/json lets through and terminals obey.
func (j *jsonEvents) write(e jsonEvent) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		panic(fmt.Sprintf("%+v: %v", e, err)) // plain values always encode
	}
	// Nobody is left to tell when standard error cannot be written to.
	_, _ = j.w.Write(escapeControls(b.Bytes()))
}

// escapeControls writes DEL and the C1 control characters, U+0080 to U+009F,
// as JSON escapes.
func escapeControls(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == 0x7f:
			out = append(out, `\u007f`...)
		case c == 0xc2 && i+1 < len(text) && text[i+1] < 0xa0:
			out = fmt.Appendf(out, `\u%04x`, text[i+1])
			i++
		default:
			out = append(out, c)
		}
	}
	return out
}
