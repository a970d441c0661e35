package timeline

import (
	"io"

	"b9.build/b9/cmd/b9/internal/output"
)

// traceEvent is one of the trace event format, which chrome://tracing, Perfetto and others
// read: "Trace Event Format" of the Chromium project, its JSON object form. Times are
// microseconds.
type traceEvent struct {
	Name     string         `json:"name"`
	Category string         `json:"cat,omitempty"`
	Phase    string         `json:"ph"`
	At       int64          `json:"ts"`
	Took     *int64         `json:"dur,omitempty"`
	Process  int            `json:"pid"`
	Thread   int            `json:"tid"`
	Color    string         `json:"cname,omitempty"`
	Args     map[string]any `json:"args,omitempty"`
}

// Trace writes a profile as a Chrome trace: the build is a process, and each lane a thread.
func Trace(w io.Writer, p output.Profile) error {
	const process = 1
	events := []traceEvent{{Name: "process_name", Phase: "M", Process: process, Args: map[string]any{"name": "b9 " + p.Build.Command + " " + p.Build.ID}}}
	whole := microseconds(Length(p))
	events = append(events, traceEvent{Name: p.Build.Command, Category: "build", Phase: "X", Took: &whole, Process: process, Args: map[string]any{"patterns": p.Build.Patterns, "state": p.Build.State}})
	for _, s := range p.Steps {
		took := microseconds(Seconds(s.StepRun))
		e := traceEvent{Name: s.Label, Category: s.Builtin, Phase: "X", At: microseconds(s.Offset), Took: &took, Process: process, Thread: s.Lane + 1, Args: map[string]any{"state": s.State, "critical": s.Critical}}
		if s.Why != "" {
			e.Args["why"] = s.Why
		}
		if s.Inputs != nil {
			e.Args["inputs"] = s.Inputs
		}
		if s.Error != "" {
			e.Args["error"], e.Color = s.Error, "terrible"
		}
		events = append(events, e)
	}
	return output.PrintForeign(w, struct {
		Events []traceEvent `json:"traceEvents"`
		Unit   string       `json:"displayTimeUnit"`
	}{events, "ms"})
}

func microseconds(s float64) int64 { return int64(s * 1e6) }
