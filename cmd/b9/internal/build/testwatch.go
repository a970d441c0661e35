package build

import (
	"errors"
	"fmt"
	"strings"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/unit"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// watched is what the events of a build tell of tests.
type watched struct {
	tests map[*engine.Node]*test
	runs  map[*engine.Node]ran
	told  map[*engine.Node]error // of tests that failed, as people are told
}

// ran is a test that ran.
type ran struct {
	key, was store.Digest // see [engine.Event]
	changes  []engine.Change
}

// event notes what an event tells of a test. The event that it returns has the failure of
// a test in Starlark at the place of what was expected, and not of the test.
func (w *watched) event(e engine.Event) engine.Event {
	x := w.tests[e.Node]
	if x == nil {
		return e
	}
	switch e.Type {
	case engine.StepStarted:
		if w.runs == nil {
			w.runs = map[*engine.Node]ran{}
		}
		w.runs[e.Node] = ran{key: e.Key, was: e.Was}
	case engine.StepCached:
		x.Status, x.Cached = testPassed, true
	case engine.StepDone:
		x.Status, x.Seconds = testPassed, e.Duration.Seconds()
	case engine.StepFailed:
		w.failed(x, &e)
	}
	return e
}

func (w *watched) failed(x *test, e *engine.Event) {
	var step *engine.StepError
	if !errors.As(e.Err, &step) || step.Stopped {
		return
	}
	if u, ok := e.Node.Action().(*unit.Test); ok {
		step = atAssertion(u, step)
		e.Err = step
	}
	w.told[e.Node] = step
	r := w.runs[e.Node]
	r.changes = e.Changes
	if w.runs != nil {
		w.runs[e.Node] = r
	}
	x.Status, x.Seconds, x.Failure, x.Log = testFailed, e.Duration.Seconds(), step.Error(), step.Log
}

// atAssertion is the failure of a test with the place of the first mistake as its own.
// What it left is not for looking around in.
func atAssertion(u *unit.Test, step *engine.StepError) *engine.StepError {
	failure := *step
	failure.Kept = ""
	var mistakes lang.Errors
	if !errors.As(step.Err, &mistakes) || len(mistakes) == 0 || mistakes[0].Pos.File == "" {
		return &failure
	}
	stack := []engine.Position{mistakes[0].Pos}
	n, err := engine.NewNode(u, engine.NodeOptions{Label: step.Node.Label(), Builtin: step.Node.Builtin(), Stack: stack, Outputs: step.Node.Outputs()})
	if err != nil {
		return &failure
	}
	failure.Node = n
	failure.Err = errors.New(strings.TrimPrefix(mistakes.Error(), mistakes[0].Pos.String()+": "))
	return &failure
}

// translated is the error of a build with the failures of tests as people are told.
func (w *watched) translated(err error) error {
	if step, ok := err.(*engine.StepError); ok && w.told[step.Node] != nil {
		return w.told[step.Node]
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var all []error
	for _, one := range joined.Unwrap() {
		all = append(all, w.translated(one))
	}
	return errors.Join(all...)
}

// conclude says why each test ran, or why it did not.
func (w *watched) conclude(st *store.Store, result *engine.Result) {
	blockers := result.Blockers()
	for n, x := range w.tests {
		r, did := w.runs[n]
		switch {
		case did && x.Status != testNotRun:
			x.Why = w.why(st, n, x, r)
		case blockers[n] != nil && blockers[n] != n:
			x.Because = fmt.Sprintf("not built, because %s failed", blockers[n].Label())
		}
	}
}

// why says why a test ran.
func (w *watched) why(st *store.Store, n *engine.Node, x *test, r ran) string {
	if r.was == (store.Digest{}) {
		return "it has not passed here before"
	}
	changes := r.changes
	if x.Status == testPassed {
		changes, _, _ = engine.Since(st, r.was, r.key) // where a record is gone nothing is known
	}
	if _, ok := n.Action().(*unit.Test); ok {
		if words := unit.Why(changes); words != "" {
			return words
		}
	} else if len(changes) > 0 {
		return newTeller("").change(n, changes[0]).What + " changed"
	}
	return "asked for"
}
