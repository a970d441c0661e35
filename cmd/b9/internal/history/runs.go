package history

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"b9.build/b9/cmd/b9/internal/output"
)

// recent is how much is read, of the newest logs, to find out when steps ran last.
const recent = 8 << 20

// newest calls visit with the newest logs of a workspace, the newest first, until enough
// was read. Logs that can't be read are passed over: who asks is told less.
func (d Dir) newest(workspace string, visit func(id string, events []byte)) {
	names, err := d.logs()
	if err != nil {
		return
	}
	slices.Reverse(names)
	read := 0
	for _, name := range names {
		data, _, err := d.read(name, 0)
		if err != nil {
			continue
		}
		first, rest, _ := bytes.Cut(data, []byte{'\n'})
		if begun, err := output.ParseEvent(first); err != nil || begun.Build == nil || begun.Build.Workspace != workspace {
			continue
		}
		visit(strings.TrimSuffix(name, extension), rest)
		if read += len(data); read > recent {
			return
		}
	}
}

// Took tells how long each step of a workspace took the last time that it ran to its end,
// by label, as far as the newest logs go.
func (d Dir) Took(workspace string) map[string]time.Duration {
	took := map[string]time.Duration{}
	d.newest(workspace, func(_ string, events []byte) {
		for line := range bytes.Lines(events) {
			if !bytes.Contains(line, []byte(`"event":"done"`)) { // quicker than to parse it
				continue
			}
			e, err := output.ParseEvent(bytes.TrimSuffix(line, []byte{'\n'}))
			if err != nil || e.Event != "done" || e.Seconds == nil {
				continue
			}
			if _, ok := took[e.Label]; !ok {
				took[e.Label] = time.Duration(*e.Seconds * float64(time.Second))
			}
		}
	})
	return took
}

// Run is the last run of a step.
type Run struct {
	*Step
	Build string // the ID
}

// Runs tells of the last run of each step of a workspace, however it ended, by label, as
// far as the newest logs go.
func (d Dir) Runs(workspace string) map[string]Run {
	runs := map[string]Run{}
	d.newest(workspace, func(id string, _ []byte) {
		b, err := d.Read(id)
		if err != nil {
			return // removed meanwhile
		}
		for _, s := range b.Steps {
			if _, ok := runs[s.Label]; !ok {
				runs[s.Label] = Run{s, id}
			}
		}
	})
	return runs
}
