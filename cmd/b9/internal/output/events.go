package output

import (
	"errors"
	"time"

	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// Event is one thing that happened in a build. Event is begun, graph, started, log,
// progress, done, failed, cached, placing, note or finished.
type Event struct {
	Time     time.Time       `json:"time"`
	Event    string          `json:"event"`
	Build    *Begun          `json:"build,omitempty"` // of begun, and of a build with nothing to do
	Label    string          `json:"label,omitempty"`
	Builtin  string          `json:"builtin,omitempty"`
	Place    *Place          `json:"place,omitempty"`
	Line     *string         `json:"line,omitempty"`
	Done     *int64          `json:"done,omitempty"`  // bytes
	Total    *int64          `json:"total,omitempty"` // bytes, or steps
	Seconds  *float64        `json:"seconds,omitempty"`
	Error    string          `json:"error,omitempty"`
	Log      string          `json:"log,omitempty"`    // path
	Kept     string          `json:"kept,omitempty"`   // path
	Inputs   []string        `json:"inputs,omitempty"` // labels of the steps that it needs directly; of a started step, and of one that was cached behind one that ran
	Key      string          `json:"key,omitempty"`    // of a started step; of a cached one, too, with --events
	Parts    []store.Part    `json:"parts,omitempty"`  // what the key is made of, with --events
	Was      string          `json:"was,omitempty"`    // the key of the newest record of its label then
	Changes  []engine.Change `json:"changes,omitempty"`
	Executed *int            `json:"executed,omitempty"`
	Cached   *int            `json:"cached,omitempty"`
	Failed   *int            `json:"failed,omitempty"`
}

// Begun says what was to be built.
type Begun struct {
	ID        string   `json:"id"`
	Command   string   `json:"command"` // such as "build"
	Patterns  []string `json:"patterns"`
	Options   []string `json:"options,omitempty"` // NAME=VALUE
	Workspace string   `json:"workspace"`         // path
	Version   string   `json:"version"`           // of b9
	Process   int      `json:"process"`
}

// eventNames are the names of the events of the engine.
var eventNames = [...]string{
	engine.GraphReady: "graph", engine.StepStarted: "started", engine.StepLog: "log", engine.StepProgress: "progress",
	engine.StepDone: "done", engine.StepFailed: "failed", engine.StepCached: "cached", engine.Notice: "note",
}

// EventOf is the document's form of an event.
func EventOf(e engine.Event, now time.Time) Event {
	out := Event{Time: now, Event: eventNames[e.Type], Parts: e.Parts, Changes: e.Changes, Key: keyOf(e.Key), Was: keyOf(e.Was)}
	if e.Node != nil {
		out.Label, out.Builtin, out.Place = e.Node.Label(), e.Node.Builtin(), PlaceOf(e.Node.Where())
	}
	switch e.Type {
	case engine.GraphReady:
		out.Total = &e.Total
	case engine.StepStarted:
		out.Inputs = InputsOf(e.Node)
	case engine.StepLog, engine.Notice:
		out.Line = &e.Line
	case engine.StepProgress:
		out.Done, out.Total = &e.Done, &e.Total
	case engine.StepDone, engine.StepFailed:
		seconds := e.Duration.Seconds()
		out.Seconds = &seconds
		out.fail(e.Err)
	}
	return out
}

// InputsOf are the labels of the steps that a step needs directly.
func InputsOf(n *engine.Node) []string {
	var labels []string
	for _, in := range n.Needs() {
		labels = append(labels, in.Label())
	}
	return labels
}

func keyOf(d store.Digest) string {
	if d.IsZero() {
		return ""
	}
	return d.String()
}

func (e *Event) fail(err error) {
	if err == nil {
		return
	}
	e.Error = err.Error()
	var s *engine.StepError
	if errors.As(err, &s) {
		e.Log, e.Kept = s.Log, s.Kept
	}
}

// Ending is how a build ended.
type Ending struct {
	Executed, Cached, Failed int // steps
	Err                      error
	Interrupted              bool
	Took                     time.Duration
}

// Interrupted is the error of a build that was interrupted.
const Interrupted = "interrupted"

// Finished is the event of a build's end.
func Finished(e Ending, now time.Time) Event {
	seconds := e.Took.Seconds()
	out := Event{Time: now, Event: "finished", Executed: &e.Executed, Cached: &e.Cached, Failed: &e.Failed, Seconds: &seconds}
	switch {
	case e.Interrupted:
		out.Error = Interrupted
	case e.Err != nil:
		out.Error = e.Err.Error()
	}
	return out
}

// Builds lists builds of this machine, newest first.
type Builds struct {
	Builds []BuildRun `json:"builds"`
}

// BuildRun is one of them. State is running, done, unchanged, failed, interrupted or
// killed; what is not known of a build that did not end is left out.
type BuildRun struct {
	Begun
	Started  time.Time `json:"started"`
	State    string    `json:"state"`
	Seconds  *float64  `json:"seconds,omitempty"`
	Executed int       `json:"executed"` // steps
	Cached   int       `json:"cached"`   // steps
	Failed   int       `json:"failed"`   // steps
	Error    string    `json:"error,omitempty"`
}

// History is one build of this machine and its steps that were not cached.
type History struct {
	Build BuildRun  `json:"build"`
	Steps []StepRun `json:"steps"`
}

// Profile tells where the time of a build went.
type Profile struct {
	Build    BuildRun      `json:"build"`
	Steps    []ProfileStep `json:"steps"`    // that ran, in the order in which they began
	Critical float64       `json:"critical"` // seconds of the critical path
	Work     float64       `json:"work"`     // seconds of all steps together
	Idle     float64       `json:"idle"`     // seconds of the build in which no step ran
}

// ProfileStep is a step of a build. Offset is the seconds from the build's beginning to
// its own; Lane tells steps apart that ran at one time: at any moment each lane has one.
type ProfileStep struct {
	StepRun
	Offset   float64  `json:"offset"`
	Lane     int      `json:"lane"`
	Critical bool     `json:"critical"`
	Inputs   []string `json:"inputs,omitempty"` // labels
}

// Graph is targets and all that they need.
type Graph struct {
	Nodes    []GraphNode `json:"nodes"`              // what is needed after what needs it
	Critical float64     `json:"critical,omitempty"` // seconds of the critical path, if all ran and took what they took last
}

// GraphNode is a step, or a source file. State is source, up to date, would run, may run
// (if an input comes out different) or unknown.
type GraphNode struct {
	Label    string          `json:"label"`
	Builtin  string          `json:"builtin"`
	Place    *Place          `json:"place,omitempty"`
	Doc      string          `json:"doc,omitempty"`
	State    string          `json:"state"`
	Note     string          `json:"note,omitempty"`    // why it would run
	Changes  []engine.Change `json:"changes,omitempty"` // likewise
	Failed   bool            `json:"failed,omitempty"`  // when it ran last
	Critical bool            `json:"critical"`
	Needs    []string        `json:"needs"` // labels
	Last     *StepRun        `json:"last,omitempty"`
	Build    string          `json:"build,omitempty"` // of last
}

// StepRun is what became of a step. State is running, done, failed, interrupted or killed.
// Why says why it ran where nothing changed.
type StepRun struct {
	Label   string          `json:"label"`
	Builtin string          `json:"builtin"`
	Place   *Place          `json:"place,omitempty"`
	State   string          `json:"state"`
	Started time.Time       `json:"started"`
	Seconds *float64        `json:"seconds,omitempty"`
	Why     string          `json:"why,omitempty"`
	Changes []engine.Change `json:"changes,omitempty"`
	Error   string          `json:"error,omitempty"`
	Lines   int             `json:"lines"` // that it printed, as far as they are kept
}
