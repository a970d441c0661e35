package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"b9/engine/store"
)

// ensure sees to it that the artifacts of s can be read: a step that is only
// known by its record is run again when another one needs its content.
func (b *build) ensure(ctx context.Context, s *state) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.present() {
		return nil
	}
	return b.run(ctx, s)
}

// run makes the outputs of s, unless another goroutine or process has made
// them meanwhile. The caller holds a slot, or s.mu, or both.
func (b *build) run(ctx context.Context, s *state) error {
	in, err := b.keyInput(ctx, s)
	if err != nil {
		return err
	}
	key, err := nodeKey(s.node, in)
	if err != nil {
		return err
	}
	if ok, err := b.borrow(ctx, s, key); ok || err != nil {
		return err
	}
	for _, dep := range s.inputs {
		if err := b.ensure(ctx, dep); err != nil {
			return err
		}
	}
	unlock, err := b.cfg.Store.LockKey(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	if outputs, ok := b.cfg.Store.LookupOutputs(key); ok && b.take(s, outputs) && s.present() && b.lasts(ctx, s) {
		b.cached(s)
		return nil
	}
	return b.execute(ctx, s, key, in)
}

// execute runs the action in a scratch directory and adopts what it made.
func (b *build) execute(ctx context.Context, s *state, key store.Digest, in keyInput) error {
	scratch, err := b.cfg.Store.Scratch(s.node.Label())
	if err != nil {
		return err
	}
	t := &attempt{build: b, state: s, key: key, in: in, scratch: scratch, started: time.Now()}
	b.events(Event{Type: StepStarted, Node: s.node})
	err = t.run(ctx)
	took := time.Since(t.started)
	if err == nil {
		if s.counted.Swap(false) {
			b.found.Add(-1) // it was known, and its content was needed after all
		}
		b.mu.Lock()
		b.result.Executed++
		b.result.Steps = append(b.result.Steps, StepTime{Node: s.node, Started: t.started, Duration: took})
		b.mu.Unlock()
		b.events(Event{Type: StepDone, Node: s.node, Duration: took})
		return errors.Join(scratch.Close(), b.forgetFailure(s.node))
	}
	if ctx.Err() == nil {
		err = t.keep(err)
	}
	b.events(Event{Type: StepFailed, Node: s.node, Err: err, Duration: took})
	if cerr := scratch.Close(); cerr != nil {
		b.events(Event{Type: StepLog, Node: s.node, Line: "warning: " + cerr.Error()})
	}
	return err
}

// forgetFailure drops what an earlier failure of the step left, unless
// someone is looking around in it.
func (b *build) forgetFailure(n *Node) error {
	err := b.cfg.Store.DropFailed(b.Scoped(n.Label()))
	if errors.Is(err, store.ErrInUse) {
		return nil
	}
	return err
}

// attempt is one execution of a step.
type attempt struct {
	*build
	state   *state
	key     store.Digest
	in      keyInput
	scratch *store.Scratch
	job     *Job
	started time.Time
}

const logFile = "log"

func (t *attempt) run(ctx context.Context) error {
	f, err := os.OpenFile(filepath.Join(t.scratch.Dir(), logFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	node := t.state.node
	w := &lineWriter{to: f, line: func(line string) { t.events(Event{Type: StepLog, Node: node, Line: line}) }}
	t.job = &Job{node: node, engine: t.Engine, dir: t.scratch.Dir(), log: &lockedWriter{w: w}, events: t.events}
	for i, dep := range t.state.inputs {
		t.job.inputs = append(t.job.inputs, dep.artifact(node.opts.Inputs[i].Ref.Output))
		t.job.keys = append(t.job.keys, dep.key)
	}
	err = node.action.Run(ctx, t.job)
	w.flush()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := t.checkSources(ctx); err != nil {
		return err
	}
	return t.commit(ctx)
}

// checkSources fails the step when a source it read in place has changed
// since its key was computed.
func (t *attempt) checkSources(ctx context.Context) error {
	for i, dep := range t.state.inputs {
		loc, ok := dep.node.action.(Located)
		if !ok || dep.artifacts[0].path == "" {
			continue
		}
		d, err := loc.Fingerprint(ctx, t.world)
		if err != nil {
			return err
		}
		if d != t.in.inputs[i].Digest {
			return fmt.Errorf("%s was changed while the step used it: nothing was stored, build again", dep.artifacts[0].path)
		}
	}
	return nil
}

// commit adopts the outputs and the log, and writes the record last.
func (t *attempt) commit(ctx context.Context) error {
	node, st := t.state.node, t.cfg.Store
	parts, err := nodeParts(node, t.in)
	if err != nil {
		return err
	}
	r := &store.Record{Key: t.key, Label: t.Scoped(node.Label()), Kind: node.action.Kind(), Parts: parts, Started: t.started}
	for _, out := range node.opts.Outputs {
		path := t.job.Output(out.Name)
		if err := checkOutput(path, out); err != nil {
			return fmt.Errorf("%T: %w", node.action, err)
		}
		obj, err := st.Adopt(ctx, path)
		if err != nil {
			return err
		}
		r.Outputs = append(r.Outputs, store.Output{Name: out.Name, Object: obj})
	}
	log, err := st.Adopt(ctx, filepath.Join(t.scratch.Dir(), logFile))
	if err != nil {
		return err
	}
	r.Log = &log
	r.Duration = time.Since(t.started)
	if err := st.Commit(r); err != nil {
		return err
	}
	t.take(t.state, r.Outputs)
	t.lend(ctx, node, r)
	return nil
}

// checkOutput reports an action that did not make what it declared.
func checkOutput(path string, out Output) error {
	st, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("output %q was not made: %w", out.Name, err)
	}
	if st.IsDir() != (out.Kind == store.Tree) || !st.IsDir() && !st.Mode().IsRegular() {
		return fmt.Errorf("output %q is a %s, not a %s", out.Name, st.Mode().Type(), out.Kind)
	}
	return nil
}

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
	return fmt.Errorf("%w: make room where the store is (%s), for example with `b9 cache gc --max-size SIZE`", err, t.cfg.Store.Dir())
}

// movedError is an error whose text names files where they are kept now.
type movedError struct {
	error
	from, to string
}

func (m *movedError) Error() string { return strings.ReplaceAll(m.error.Error(), m.from, m.to) }
func (m *movedError) Unwrap() error { return m.error }

// keep saves the state of a failed step for `b9 shell`.
func (t *attempt) keep(cause error) error {
	fail := &StepError{Node: t.state.node, Err: cause}
	if t.job == nil || t.job.saveSandbox(t.scratch.Dir()) != nil {
		return fail
	}
	dir, err := t.scratch.Keep(t.Scoped(t.state.node.Label()))
	if err != nil {
		return fail
	}
	fail.Kept, fail.Log = dir, filepath.Join(dir, logFile)
	fail.Err = t.wayOut(&movedError{error: cause, from: t.job.dir, to: dir})
	return fail
}
