package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"b9.build/b9/engine/internal/newfile"
	"b9.build/b9/engine/store"
	"b9.build/b9/engine/tool"
)

// StepError is the failure of one step.
type StepError struct {
	Node *Node
	Err  error
	Kept string // directory that holds the step's state and log, "" when none was kept
	Log  string // path of the kept log, "" when there is none

	Stopped bool // by an interruption, and not wrong itself
}

// Error names the place, the built-in and the cause.
func (e *StepError) Error() string {
	where := e.Node.Label() // of a step that no build file recorded
	if at := e.Node.Where(); at != (Position{}) {
		where = at.String()
	}
	return fmt.Sprintf("%s: %s(): %s", where, e.Node.Builtin(), e.Cause())
}

// Cause is the text of the cause without the built-in's name before it, by which the
// packages below begin theirs, too.
func (e *StepError) Cause() string { return strings.TrimPrefix(e.Err.Error(), e.Node.Builtin()+": ") }

// Unwrap returns the cause.
func (e *StepError) Unwrap() error { return e.Err }

// Elsewhere marks an error of another place than the store, such as a
// repository, for which advice about the store would be wrong.
type Elsewhere struct{ Err error }

func (e Elsewhere) Error() string { return e.Err.Error() }

// Unwrap returns the error that is marked.
func (e Elsewhere) Unwrap() error { return e.Err }

// wayOut adds what to do to the error of a full disk, which host tools report
// in words, and to that of a user who may not do what the step needs.
func (t *attempt) wayOut(err error) error {
	if errors.As(err, new(Elsewhere)) {
		return err
	}
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return fmt.Errorf("%w: steps set owners and mount images, so run b9 as root", err)
	}
	text := strings.ToLower(err.Error())
	if !strings.Contains(text, "no space left on device") || strings.Contains(text, "b9 cache gc") {
		return err
	}
	st := t.engine.cfg.Store
	return fmt.Errorf("%w: no %s left where the store is (%s): make room there, for example with `b9 cache gc --max-size SIZE`", err, st.Lacking(), st.Dir())
}

// logRest writes into the step's log what a program of the host printed, where the error
// has only the cause. It is no line of the step's for who watches.
func (t *attempt) logRest(err error) error {
	rest := tool.Rest(err)
	if rest == "" {
		return err
	}
	if _, lost := io.WriteString(t.log, strings.TrimSuffix(rest, "\n")+"\n"); lost != nil {
		return errors.Join(err, lost)
	}
	return fmt.Errorf("%w (the log has the rest)", err)
}

// movedError is an error whose text names files where they are kept now.
type movedError struct {
	error
	from, to string
}

func (m *movedError) Error() string { return strings.ReplaceAll(m.error.Error(), m.from, m.to) }
func (m *movedError) Unwrap() error { return m.error }

// keep saves the state of a failed step for `b9 shell`.
func (t *attempt) keep(ctx context.Context, cause error) error {
	fail := &StepError{Node: t.step.node, Err: cause}
	if t.job == nil || t.job.saveSandbox(ctx, t.scratch.Dir()) != nil || t.log.exist() != nil {
		return fail
	}
	_ = os.Remove(filepath.Join(t.scratch.Dir(), nameFile)) // it does not run any more
	dir, err := t.scratch.Keep(t.engine.stepName(t.step.node.Label()))
	if err != nil {
		return fail
	}
	fail.Kept, fail.Log = dir, filepath.Join(dir, logFile)
	fail.Err = t.wayOut(&movedError{error: cause, from: t.job.dir, to: dir})
	return fail
}

// keepStopped saves the log of a step that an interruption stopped, and its state where
// `b9 shell` can enter it. The error is as it was where there is nothing to be seen.
func (t *attempt) keepStopped(ctx context.Context, cause error) error {
	if t.job == nil || t.job.sandbox == nil && t.log.file == nil {
		return cause
	}
	err := t.keep(context.WithoutCancel(ctx), cause)
	var kept *StepError
	if !errors.As(err, &kept) || kept.Kept == "" {
		return cause
	}
	kept.Stopped = true
	if f, err := newfile.Open(filepath.Join(kept.Kept, stoppedFile), os.O_TRUNC, 0o600); err == nil {
		_ = f.Close() // it only chooses a word
	}
	return kept
}

// stoppedFile is empty, and says of a kept step that it was stopped and did not fail.
const stoppedFile = "stopped"

// WasStopped reports whether an interruption stopped the step, and nothing is wrong with it.
func WasStopped(f store.FailedStep) bool {
	_, err := os.Lstat(filepath.Join(f.Dir, stoppedFile))
	return err == nil
}

// failure is what the node left when it failed last, nil for nothing.
func (e *Engine) failure(n *Node) (*store.FailedStep, error) {
	kept, err := e.cfg.Store.Failed()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(kept, func(f store.FailedStep) bool { return f.Name == e.stepName(n.Label()) })
	if i < 0 {
		return nil, nil
	}
	return &kept[i], nil
}

// forgetFailure drops what an earlier failure of the step left, unless
// someone is looking around in it.
func (e *Engine) forgetFailure(n *Node) error {
	err := e.cfg.Store.DropFailed(e.stepName(n.Label()))
	if errors.Is(err, store.ErrInUse) {
		return nil
	}
	return err
}

// Log is the path of what a step printed before it failed; see [StepError].
func Log(f store.FailedStep) string { return filepath.Join(f.Dir, logFile) }
