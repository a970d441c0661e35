package history

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/timeline"
)

// The states of builds and steps.
const (
	Running     = "running"
	Done        = "done"
	Unchanged   = "unchanged" // of a build that had nothing to do
	Failed      = "failed"
	Interrupted = "interrupted"
	Killed      = "killed"
)

// Build is the event log of a build, read.
type Build struct {
	output.BuildRun
	Steps  []*Step // that ran, in the order in which they began
	Cached []Cached
	Notes  []string               // what b9 had to say
	Paths  timeline.Paths[string] // by label
}

// Step is one that ran, or failed before it did.
type Step struct {
	output.StepRun
	Key, Was string // of the start; see [output.Event]
	Inputs   []string
	Output   []string
}

// Cached is a step that did not run.
type Cached struct {
	Label, Builtin string
	Inputs         []string // of one behind a step that ran; see [output.Event]
}

// Read reads the log of the build with that ID.
func (d Dir) Read(id string) (*Build, error) {
	data, _, err := d.read(id+extension, 0)
	if err != nil {
		return nil, err
	}
	r := reader{running: map[string]*Step{}}
	for line := range bytes.Lines(data) {
		if e, err := output.ParseEvent(bytes.TrimSuffix(line, []byte{'\n'})); err == nil { // the last may be cut
			r.event(e)
		}
	}
	if r.State == "" {
		r.State = d.unfinished(id + extension)
	}
	for _, s := range r.Steps {
		switch {
		case s.State == Running:
			s.State = r.State
		case s.State == Failed && r.State == Interrupted && (strings.HasSuffix(s.Error, output.Interrupted) || strings.Contains(s.Error, context.Canceled.Error())):
			s.State, s.Error = Interrupted, ""
		}
	}
	return &r.Build, nil
}

// unfinished is the state of a build that did not say how it ended.
func (d Dir) unfinished(name string) string {
	f, err := os.Open(d.path(name))
	if err != nil {
		return Killed
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == unix.EWOULDBLOCK {
		return Running
	}
	return Killed
}

// reader goes through the events of a build.
type reader struct {
	Build
	running map[string]*Step // by label
}

func (r *reader) event(e output.Event) {
	switch e.Event {
	case "begun":
		if e.Build != nil {
			r.Begun, r.Started = *e.Build, e.Time
		}
	case "started":
		s := r.begin(e)
		s.Key, s.Was, s.Inputs = e.Key, e.Was, e.Inputs
	case "cached":
		r.Paths.Cached(e.Label, func() []string { return e.Inputs })
		r.Cached = append(r.Cached, Cached{e.Label, e.Builtin, e.Inputs})
		r.BuildRun.Cached++
	case "log":
		if s := r.running[e.Label]; s != nil && e.Line != nil {
			s.Output, s.Lines = append(s.Output, *e.Line), s.Lines+1
		}
	case "note":
		if e.Line != nil {
			r.Notes = append(r.Notes, *e.Line)
		}
	case "done", "failed":
		r.ended(e)
	case "finished":
		finish(&r.BuildRun, e)
	}
}

// begin begins a step.
func (r *reader) begin(e output.Event) *Step {
	s := &Step{StepRun: output.StepRun{Label: e.Label, Builtin: e.Builtin, Place: e.Place, State: Running, Started: e.Time}}
	r.Steps, r.running[e.Label] = append(r.Steps, s), s
	return s
}

// ended ends a step. One that could not begin ends all the same.
func (r *reader) ended(e output.Event) {
	s := r.running[e.Label]
	if s == nil {
		s = r.begin(e)
	}
	delete(r.running, e.Label)
	if e.Seconds != nil {
		r.Paths.Ran(e.Label, time.Duration(*e.Seconds*float64(time.Second)), s.Inputs)
	}
	s.State, s.Seconds, s.Error, s.Changes = Done, e.Seconds, e.Error, e.Changes
	if e.Event == "done" {
		r.Executed++
		return
	}
	s.State = Failed
	r.Failed++
}

// finish tells how a build ended.
func finish(b *output.BuildRun, e output.Event) {
	b.State, b.Seconds, b.Error = Done, e.Seconds, e.Error
	for _, n := range []struct {
		to   *int
		from *int
	}{{&b.Executed, e.Executed}, {&b.Cached, e.Cached}, {&b.Failed, e.Failed}} {
		if n.from != nil {
			*n.to = *n.from
		}
	}
	switch {
	case e.Build != nil:
		b.Begun, b.State = *e.Build, Unchanged
		b.Started = e.Time.Add(-time.Duration(*e.Seconds * float64(time.Second)))
	case e.Error == output.Interrupted:
		b.State, b.Error = Interrupted, ""
	case e.Error != "":
		b.State = Failed
	case b.Executed == 0:
		b.State = Unchanged
	}
}

// glance is how much is read of either end of a log, to tell what was built and how it ended.
const glance = 16 << 10

// List lists the builds of which something is kept, newest first: those in a workspace,
// or all for "".
func (d Dir) List(workspace string) ([]output.BuildRun, error) {
	names, err := d.logs()
	if err != nil {
		return nil, err
	}
	var list []output.BuildRun
	for _, name := range names {
		b, err := d.glance(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	for _, name := range []string{unchangedFile + older, unchangedFile} {
		all, err := d.listUnchanged(name)
		if err != nil {
			return nil, err
		}
		list = append(list, all...)
	}
	list = slices.DeleteFunc(list, func(b output.BuildRun) bool {
		return b.ID == "" || workspace != "" && b.Workspace != workspace
	})
	slices.SortStableFunc(list, func(a, b output.BuildRun) int { return cmp.Compare(b.ID, a.ID) })
	return list, nil
}

// glance reads how a build began and ended; the whole of a log that does not say how it
// ended.
func (d Dir) glance(name string) (b output.BuildRun, err error) {
	head, tail, err := d.read(name, glance)
	if err != nil {
		return b, err
	}
	first, _, _ := bytes.Cut(head, []byte{'\n'})
	begun, ferr := output.ParseEvent(first)
	if tail == nil {
		tail = head
	}
	tail = bytes.TrimSuffix(tail, []byte{'\n'})
	last, lerr := output.ParseEvent(tail[bytes.LastIndexByte(tail, '\n')+1:])
	if ferr != nil || lerr != nil || last.Event != "finished" || begun.Build == nil {
		whole, err := d.Read(strings.TrimSuffix(name, extension))
		if err != nil {
			return b, err
		}
		return whole.BuildRun, nil
	}
	b.Begun, b.Started = *begun.Build, begun.Time
	finish(&b, last)
	return b, nil
}

// listUnchanged lists the builds that had nothing to do.
func (d Dir) listUnchanged(name string) (list []output.BuildRun, err error) {
	data, _, err := d.read(name, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for line := range bytes.Lines(data) {
		e, err := output.ParseEvent(bytes.TrimSuffix(line, []byte{'\n'}))
		if err != nil || e.Build == nil || e.Seconds == nil {
			continue // what another b9 wrote, or a cut line
		}
		var b output.BuildRun
		finish(&b, e)
		list = append(list, b)
	}
	return list, err
}
