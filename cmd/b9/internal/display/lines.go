package display

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/engine"
)

// failure is one failed step, printed again when the build has ended.
type failure struct {
	step *step
	err  error
	took time.Duration
}

// isFailure distinguishes a step that failed from one that was stopped because the
// build was interrupted.
func isFailure(err error) bool {
	var s *engine.StepError
	return errors.As(err, &s) && !s.Stopped
}

// tell prints the lines that an event is worth.
func (d *Display) tell(s *step, e engine.Event) {
	lasted := segment{plain, " " + Took(e.Duration)}
	switch {
	case e.Type == engine.StepLog && d.level >= levelVerbose:
		d.logLine(s, e.Line)
	case e.Type == engine.StepCached && d.level >= levelVerbose:
		d.stepLine(s, segment{faint, "cached"})
	case d.level < levelNormal:
	case e.Type == engine.StepStarted && d.screen == nil:
		d.stepLine(s, segment{plain, "started"})
	case e.Type == engine.StepDone:
		d.stepLine(s, segment{green, "done"}, lasted)
	case e.Type == engine.StepFailed && isFailure(e.Err):
		d.stepLine(s, segment{red, "failed"}, lasted)
	case e.Type == engine.StepFailed:
		d.stepLine(s, segment{plain, "stopped"}, lasted)
	}
}

// stepLine prints such as "//web:root  lxc_exec  done 12.3 s".
func (d *Display) stepLine(s *step, what ...segment) {
	line := []segment{{plain, s.node.Label()}, {faint, "  " + s.node.Builtin() + "  "}}
	d.print(append(d.stamp(line), what...)...)
}

// logLine prints such as "//web:root | Setting up nginx ...".
func (d *Display) logLine(s *step, text string) {
	d.print(d.stamp([]segment{{faint, s.node.Label() + " | "}, {plain, text}})...)
}

// stamp puts the time since the start before a line when debugging.
func (d *Display) stamp(line []segment) []segment {
	if d.level < levelDebug {
		return line
	}
	at := d.now().Sub(d.progress.start)
	return append([]segment{{faint, fmt.Sprintf("%8.3f ", at.Seconds())}}, line...)
}

// conclude prints how the build ended, the failed steps last.
func (d *Display) conclude(s Summary) {
	if d.level > levelQuiet {
		d.print(segment{plain, d.total(s)})
		if line := d.progress.times(); line != "" {
			d.print(segment{plain, line})
		}
	}
	if s.Interrupted {
		for _, f := range d.failures {
			if d.level > levelQuiet {
				d.tellStopped(f)
			}
		}
		return
	}
	for _, note := range s.Notes {
		if d.level > levelQuiet {
			d.print(segment{plain, note})
		}
	}
	told := map[error]bool{}
	for _, f := range d.failures {
		if isFailure(f.err) {
			d.tellAgain(f)
			told[f.err] = true
		}
	}
	if len(told) > 0 {
		d.others(s.Err, told)
	}
}

// total is such as "12 steps: 3 executed, 9 cached in 42.1 s".
func (d *Display) total(s Summary) string {
	if s.Interrupted {
		return fmt.Sprintf("interrupted after %s: %d executed, %d cached", Took(s.Took), s.Executed, s.Cached)
	}
	failed := ""
	if d.progress.failed > 0 {
		failed = fmt.Sprintf(", %d failed", d.progress.failed)
	}
	steps := output.Count(s.Executed+s.Cached+d.progress.failed, "step", "steps")
	return fmt.Sprintf("%s: %d executed, %d cached%s in %s%s", steps, s.Executed, s.Cached, failed, Took(s.Took), d.progress.placing.rate(d.now()))
}

// tellAgain prints the end of a failed step's log, the error, and what to do
// about it.
func (d *Display) tellAgain(f failure) {
	var e *engine.StepError
	errors.As(f.err, &e)
	if len(f.step.tail) > 0 {
		d.print()
		d.print(segment{bold, f.step.node.Label()}, segment{plain, fmt.Sprintf("  %s  failed after %s; %s:", f.step.node.Builtin(), Took(f.took), f.step.excerpt())})
		for _, line := range f.step.tail {
			d.print(segment{faint, f.step.node.Label() + " | "}, segment{plain, line})
		}
		if e.Log != "" {
			d.print(segment{plain, "the whole log: " + e.Log})
		}
	}
	d.print()
	d.printError(f.err)
	if d.level >= levelDebug {
		d.callers(e.Node.Stack())
	}
	if e.Kept != "" {
		d.print(segment{plain, d.wayOut(e)})
	}
}

// stoppedTail is how many lines of the log of a step are shown that was stopped.
const stoppedTail = 10

// tellStopped prints what a step did last that an interruption stopped, and how to look at
// what it left.
func (d *Display) tellStopped(f failure) {
	s := f.step
	s.tail = s.tail[max(0, len(s.tail)-stoppedTail):]
	var e *engine.StepError
	kept := errors.As(f.err, &e) && e.Kept != ""
	if len(s.tail) == 0 && !kept {
		return
	}
	d.print()
	what := ""
	if len(s.tail) > 0 {
		what = "; " + s.excerpt() + ":"
	}
	d.print(segment{bold, s.node.Label()}, segment{plain, fmt.Sprintf("  %s  stopped after %s%s", s.node.Builtin(), Took(f.took), what)})
	for _, line := range s.tail {
		d.print(segment{faint, s.node.Label() + " | "}, segment{plain, line})
	}
	if kept {
		d.print(segment{plain, "the whole log: " + e.Log})
		d.print(segment{plain, d.wayOut(e)})
	}
}

// excerpt says how much of the log is shown.
func (s *step) excerpt() string {
	if s.lines > len(s.tail) {
		return fmt.Sprintf("the last %d of %d lines of its log", len(s.tail), s.lines)
	}
	return "its log"
}

// printError prints an error, which may have several lines.
func (d *Display) printError(err error) { d.printLines(err.Error()) }

func (d *Display) printLines(text string) {
	for _, line := range strings.Split(text, "\n") {
		d.print(segment{red, line})
	}
}

func (d *Display) callers(stack []engine.Position) {
	for i, p := range stack {
		if i > 0 {
			d.print(segment{plain, fmt.Sprintf("    called from %s", p)})
		}
	}
}

// wayOut says how to examine what a failed step left.
func (d *Display) wayOut(e *engine.StepError) string {
	if _, ok, err := engine.LoadSandbox(e.Kept); ok && err == nil {
		return "look around in it with: b9 " + d.flags + "shell " + ShellWord(e.Node.Label())
	}
	return "its files are kept in " + e.Kept
}

// others prints those parts of a build's error that were not printed yet.
func (d *Display) others(err error, told map[error]bool) {
	if mistakes, ok := err.(lang.Errors); ok { // which belong together
		d.print()
		d.printLines(strings.TrimSuffix(output.Text(mistakes), "\n"))
		return
	}
	if err == nil || told[err] {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			d.others(e, told)
		}
		return
	}
	told[err] = true
	d.print()
	d.printError(err)
}
