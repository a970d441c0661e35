package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"b9.build/b9/engine/store"
)

// The life of a step
//
// A step is one node in one build. The scheduler hands it over when its inputs
// are done, and from there on this file tells its life from top to bottom.
//
// First the step is prepared: a source is asked for its fingerprint, host
// programs for their versions, the inputs for their digests, and the key is
// made of that. It is computed once and kept, and changes only where something
// is asked for again on purpose: a Moving source right before it runs, and an
// input whose content had to be made again.
//
// Then its suppliers are asked in order for what the key stands for: the
// record in this machine's store (recall), the cache of other machines, and
// last the action itself, which always has an answer (obtain). A supplier is
// asked in two ways. To look up is free: nothing is fetched, run, written or
// reported, so Explain and dry runs look up, too. To supply puts the step into
// the store.
//
// A step that is only on the way to what was asked for needs no more than its
// record, for the keys of what depends on it are made of digests. Content is
// made readable late: by ensure, for a step that runs and reads it, and for
// what the user asked for. That may be long after the step was done, and by
// several goroutines at once, so it happens under the step's mutex, and the
// outputs are replaced as a whole.
//
// What is fetched or run is fetched or run under the store's lock on the key,
// after the store was asked once more: of all goroutines and processes that
// want the same step one makes it, and the others find its record.
type step struct {
	node       *Node
	inputs     []*step // of node.Inputs(), in order
	dependents []*step
	waiting    atomic.Int32 // inputs that are not done
	wanted     bool         // asked for by the user: its content is needed

	// Whoever works on the step has these to himself: the scheduler's
	// goroutine until the step is done, then the holder of mu.
	basis    keyInput
	tools    []Tool       // whose versions the basis has
	key      store.Digest // of basis; zero of a located source
	rerun    bool         // it has to run, whatever the store and the cache know
	release  func()       // gives back what the step was admitted for, once; nil if it was not
	counted  bool         // as found in the store or the cache
	readable bool         // the content was seen to be in the store

	mu      sync.Mutex // held to make the content of a step readable that is done
	outputs atomic.Pointer[[]*Artifact]
}

// artifacts are the outputs in the order of node.Outputs(), nil before the
// step is done.
func (s *step) artifacts() []*Artifact {
	if list := s.outputs.Load(); list != nil {
		return *list
	}
	return nil
}

// artifact is the output of that name, nil before the step is done. The node declares
// it: NewNode checked.
func (s *step) artifact(output string) *Artifact {
	list := s.artifacts()
	if list == nil {
		return nil
	}
	return list[s.node.indexOf(output)]
}

// finish gives the step its outputs.
func (s *step) finish(list []*Artifact) { s.outputs.Store(&list) }

// executor takes the steps of one build through their lives.
type executor struct {
	engine     *Engine
	recorded   recorded
	suppliers  []supplier // in the order in which they are asked; recorded is the first
	found      atomic.Int64
	views      views
	room       *room          // nil where nothing runs
	publishing sync.WaitGroup // of steps that are on their way to the cache

	mu     sync.Mutex // guards the counts in result, and failed
	result *Result
	failed map[*Node]bool
}

func newExecutor(e *Engine, r *Result) *executor {
	x := &executor{engine: e, result: r, failed: map[*Node]bool{}}
	x.recorded = recorded{x}
	x.suppliers = append(x.suppliers, x.recorded)
	if e.cfg.Cache != nil {
		x.suppliers = append(x.suppliers, shared{x})
	}
	x.suppliers = append(x.suppliers, running{x})
	return x
}

// supplier is one place that the result of a step can come from.
type supplier interface {
	// lookup returns the outputs that the supplier has recorded for the step's
	// key, nil where it has no record. It has no effect that anyone sees.
	lookup(ctx context.Context, s *step) ([]*Artifact, error)

	// supply puts the step into the store: its record and, if content is set,
	// the content of its outputs. It returns nil where the supplier has no
	// such step. The caller does not hold the key's lock.
	supply(ctx context.Context, s *step, content bool) ([]*Artifact, error)
}

// prepare finds out what the key of s is made of, and computes it. A source
// that is read in place is done then.
func (x *executor) prepare(ctx context.Context, s *step) error {
	if err := x.ask(ctx, s); err != nil || s.artifacts() != nil {
		return err
	}
	return x.identify(s)
}

// ask finds out what the key of s is made of.
func (x *executor) ask(ctx context.Context, s *step) error {
	s.basis = keyInput{epoch: x.engine.cfg.Epoch, inputs: s.inputArtifacts()}
	s.rerun = x.engine.cfg.Rerun != nil && x.engine.cfg.Rerun(s.node)
	if src, ok := s.node.action.(Source); ok {
		d, err := src.Fingerprint(ctx, x.engine.world)
		if err != nil {
			return err
		}
		s.basis.fingerprint = &d
	}
	if loc, ok := s.node.action.(Located); ok {
		if path, kind := loc.Locate(); path != "" {
			object := store.Object{Kind: kind, Digest: *s.basis.fingerprint}
			s.finish([]*Artifact{{store: x.engine.cfg.Store, path: path, epoch: x.engine.cfg.Epoch, object: object}})
			return nil
		}
	}
	var err error
	if s.tools, err = x.engine.toolsOf(ctx, s.node.action); err != nil {
		return err
	}
	s.basis.tools, err = x.engine.tools.versions(ctx, s.tools)
	return err
}

// inputArtifacts lists what the inputs stand for now.
func (s *step) inputArtifacts() []*Artifact {
	list := make([]*Artifact, len(s.inputs))
	for i, dep := range s.inputs {
		list[i] = dep.artifact(s.node.opts.Inputs[i].Ref.Output)
	}
	return list
}

// identify computes the key of s.
func (x *executor) identify(s *step) (err error) {
	s.key, err = x.engine.key(s.node, s.basis)
	return err
}

// lookup asks suppliers in order for the record of s, which is prepared. It
// gives s the outputs of the first that has one and returns it, else nil.
func (x *executor) lookup(ctx context.Context, s *step, suppliers ...supplier) (supplier, error) {
	for _, from := range suppliers {
		list, err := from.lookup(ctx, s)
		if err != nil {
			return nil, err
		}
		if list != nil {
			s.finish(list)
			return from, nil
		}
	}
	return nil, nil
}

// recall prepares s and reports whether it is done then: read in place, or
// recorded in the store.
func (x *executor) recall(ctx context.Context, s *step) (done bool, err error) {
	if err := x.prepare(ctx, s); err != nil || s.artifacts() != nil {
		return err == nil, err
	}
	from, err := x.lookup(ctx, s, x.recorded)
	if from == nil {
		return false, err
	}
	x.countFound(s)
	return true, nil
}

// countFound counts s as found, once.
func (x *executor) countFound(s *step) {
	if s.counted {
		return
	}
	s.counted = true
	x.found.Add(1)
	if !s.key.IsZero() {
		x.engine.cfg.Store.Found(x.engine.stepName(s.node.Label()), s.key)
	}
	x.engine.events(Event{Type: StepCached, Node: s.node, Key: s.key, Parts: x.engine.tellParts(s)})
}

// obtain gets s, which the store does not have, from the other suppliers. The
// caller holds a slot, or s.mu, or both.
func (x *executor) obtain(ctx context.Context, s *step, content bool) error {
	if err := x.confirm(ctx, s); err != nil {
		return err
	}
	for _, from := range x.suppliers[1:] {
		list, err := from.supply(ctx, s, content)
		if err != nil {
			return err
		}
		if list != nil {
			s.finish(list)
			return nil
		}
	}
	return fmt.Errorf("%s: no supplier had the step", s.node.Label()) // running has every step
}

// confirm asks a source again that may have moved on since it was asked first.
func (x *executor) confirm(ctx context.Context, s *step) error {
	src, ok := s.node.action.(Moving)
	if !ok {
		return nil
	}
	d, err := src.Refingerprint(ctx, x.engine.world, *s.basis.fingerprint)
	if err != nil {
		return err
	}
	s.basis.fingerprint = &d
	return x.identify(s)
}

// ensure sees to it that the content of s, which is done, can be read: a step
// that is known only by its record is obtained when another one reads it.
func (x *executor) ensure(ctx context.Context, s *step) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if present(s.artifacts()) {
		return nil
	}
	return x.obtain(ctx, s, true)
}

// exclusively calls create under the lock on the key of s, unless the store
// has the step by then.
func (x *executor) exclusively(ctx context.Context, s *step, create func() ([]*Artifact, error)) ([]*Artifact, error) {
	unlock, err := x.engine.cfg.Store.LockKey(ctx, s.key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	list, err := x.recorded.supply(ctx, s, true)
	if err != nil {
		return nil, err
	}
	if list != nil {
		x.countFound(s)
		return list, nil
	}
	return create()
}

// recorded supplies what the store of this machine has.
type recorded struct{ x *executor }

// lookup implements supplier. The objects need not be there, unless the user
// asked for them: only a step that runs needs them. Asking for them also tells
// the store that they are still of use, and keeps them until it is closed.
func (r recorded) lookup(ctx context.Context, s *step) ([]*Artifact, error) {
	if s.rerun {
		return nil, nil
	}
	outputs, _ := r.x.engine.cfg.Store.Recorded(s.key)
	list := r.x.engine.outputsOf(s, outputs)
	if list == nil {
		return nil, nil
	}
	s.readable = present(list)
	if s.wanted && !s.readable || !r.lasts(ctx, s, list) {
		return nil, nil
	}
	return list, nil
}

// supply implements supplier: there is nothing to be done but to see whether
// the content is there.
func (r recorded) supply(ctx context.Context, s *step, _ bool) ([]*Artifact, error) {
	if s.rerun {
		return nil, nil
	}
	outputs, _ := r.x.engine.cfg.Store.LookupOutputs(s.key)
	list := r.x.engine.outputsOf(s, outputs)
	if list == nil || !present(list) || !r.lasts(ctx, s, list) {
		return nil, nil
	}
	return list, nil
}

// lasts reports whether what the outputs stand for is still so.
func (r recorded) lasts(ctx context.Context, s *step, list []*Artifact) bool {
	l, ok := s.node.action.(Lasting)
	return !ok || present(list) && l.Lasts(ctx, r.x.engine.world, list)
}

// shared supplies what other machines have made; see cache.go for what goes
// over the line.
type shared struct{ x *executor }

// lookup implements supplier.
func (c shared) lookup(ctx context.Context, s *step) ([]*Artifact, error) {
	if s.rerun {
		return nil, nil
	}
	r := c.record(ctx, s)
	if r == nil {
		return nil, nil
	}
	return c.x.engine.outputsOf(s, r.Outputs), nil
}

// supply implements supplier. The content counts only when it is what the
// record says.
func (c shared) supply(ctx context.Context, s *step, content bool) ([]*Artifact, error) {
	if s.rerun || !Shareable(s.node) {
		return nil, nil
	}
	if content {
		return c.x.exclusively(ctx, s, func() ([]*Artifact, error) { return c.fetch(ctx, s) })
	}
	r := c.record(ctx, s)
	if r == nil {
		return nil, nil
	}
	c.x.engine.tell(ctx, s, r)
	if err := c.x.engine.cfg.Store.Learn(r); err != nil {
		return nil, err
	}
	c.x.countFound(s)
	return c.x.engine.outputsOf(s, r.Outputs), nil
}

// running supplies every step by running its action.
type running struct{ x *executor }

// lookup implements supplier: what an action will make nobody knows.
func (running) lookup(context.Context, *step) ([]*Artifact, error) { return nil, nil }

// supply implements supplier.
func (r running) supply(ctx context.Context, s *step, _ bool) ([]*Artifact, error) {
	for _, dep := range s.inputs {
		if err := r.x.ensure(ctx, dep); err != nil {
			return nil, err
		}
	}
	// An input that had to be made again may have come out otherwise. What
	// the step reads is what its key says.
	s.basis.inputs = s.inputArtifacts()
	if err := r.x.identify(s); err != nil {
		return nil, err
	}
	return r.x.exclusively(ctx, s, func() ([]*Artifact, error) { return r.execute(ctx, s) })
}

// execute runs the action in a scratch directory and tells how that ended.
func (r running) execute(ctx context.Context, s *step) ([]*Artifact, error) {
	e := r.x.engine
	if r.x.room != nil {
		r.x.room.before(ctx, s)
	}
	scratch, err := e.cfg.Store.Scratch(s.node.Label())
	if err != nil {
		return nil, err
	}
	t := &attempt{engine: e, step: s, scratch: scratch, views: &r.x.views, started: time.Now()}
	was := e.cfg.Store.LatestKey(e.stepName(s.node.Label()))
	e.events(Event{Type: StepStarted, Node: s.node, Key: s.key, Was: was, Parts: e.tellParts(s)})
	record, err := t.run(ctx)
	took := time.Since(t.started)
	if err == nil {
		s.rerun = false // what others find from now on is the new result
		r.x.countExecuted(s)
		e.events(Event{Type: StepDone, Node: s.node, Duration: took})
		r.x.publish(ctx, s.node, record)
		r.discard(scratch, s)
		return e.outputsOf(s, record.Outputs), e.forgetFailure(s.node)
	}
	if ctx.Err() == nil {
		err = t.keep(ctx, err)
	} else {
		err = t.keepStopped(ctx, err)
	}
	e.events(Event{Type: StepFailed, Node: s.node, Err: err, Duration: took, Changes: e.changes(s, was)})
	r.discard(scratch, s)
	return nil, err
}

// discard removes the step's scratch directory. What stays in it is the next
// command's to remove.
func (r running) discard(scratch *store.Scratch, s *step) {
	if err := scratch.Close(); err != nil {
		r.x.engine.events(Event{Type: StepLog, Node: s.node, Line: "warning: " + err.Error()})
	}
}

// countExecuted counts s as executed. It may have been counted as found
// before, when its content was not needed.
func (x *executor) countExecuted(s *step) {
	if s.counted {
		s.counted = false
		x.found.Add(-1)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.result.Executed++
	x.result.Ran = append(x.result.Ran, s.node)
}

// fails notes that s failed.
func (x *executor) fails(s *step) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.failed[s.node] = true
}

// attempt is one execution of a step.
type attempt struct {
	engine  *Engine
	step    *step
	scratch *store.Scratch
	views   *views
	job     *Job
	log     *stepLog
	started time.Time
}

// run runs the action and stores what it made.
func (t *attempt) run(ctx context.Context) (*store.Record, error) {
	node, events := t.step.node, t.engine.events
	t.log = &stepLog{path: filepath.Join(t.scratch.Dir(), logFile), name: t.engine.stepName(node.Label())}
	w := &lineWriter{to: t.log, line: func(line string) { events(Event{Type: StepLog, Node: node, Line: line}) }}
	t.job = &Job{
		node: node, engine: t.engine, inputs: t.step.basis.inputs, fingerprint: t.step.basis.fingerprint,
		dir: t.scratch.Dir(), log: w, views: t.views,
	}
	err := errors.Join(node.action.Run(ctx, t.job), t.job.closeExposed())
	w.flush()
	err = t.logRest(err)
	if err := errors.Join(err, t.log.Close()); err != nil {
		return nil, err
	}
	if err := t.checkSources(ctx); err != nil {
		return nil, err
	}
	return t.commit(ctx)
}

// checkSources fails the step when a source that it read in place has changed
// since its key was computed.
func (t *attempt) checkSources(ctx context.Context) error {
	for i, dep := range t.step.inputs {
		loc, ok := dep.node.action.(Located)
		was := t.step.basis.inputs[i]
		if !ok || was.Stored() {
			continue
		}
		d, err := loc.Fingerprint(ctx, t.engine.world)
		if err != nil {
			return err
		}
		if d != was.Digest() {
			return changed(was.path)
		}
	}
	return nil
}

// commit adopts the outputs and the log, and writes the record last. A step whose
// outputs are small leaves its slot meanwhile: what it waits for is the disk.
func (t *attempt) commit(ctx context.Context) (*store.Record, error) {
	node, st := t.step.node, t.engine.cfg.Store
	parts, texts, err := t.engine.described(ctx, node, t.step.basis)
	if err != nil {
		return nil, err
	}
	small := true
	for _, out := range node.opts.Outputs {
		ok, err := checkOutput(st, t.job.Output(out.Name), out)
		if err != nil {
			return nil, fmt.Errorf("%T: %w", node.action, err)
		}
		small = small && ok
	}
	if small {
		defer t.leaveSlot(ctx)()
	}
	r := &store.Record{Key: t.step.key, Label: t.engine.stepName(node.Label()), Kind: node.action.Kind(), Parts: parts, Texts: texts, Started: t.started}
	for _, out := range node.opts.Outputs {
		obj, err := st.Adopt(ctx, t.job.Output(out.Name), t.read()...)
		if err != nil {
			return nil, err
		}
		r.Outputs = append(r.Outputs, store.Output{Name: out.Name, Object: obj})
	}
	if r.Log, err = t.adoptLog(ctx); err != nil {
		return nil, err
	}
	r.Duration = time.Since(t.started)
	return r, st.Commit(r)
}

// read lists the file objects that the step read: what it made may share blocks with them.
func (t *attempt) read() (objects []store.Digest) {
	for _, a := range t.step.basis.inputs {
		if a.Stored() && a.Kind() == store.File {
			objects = append(objects, a.Digest())
		}
	}
	return objects
}

// leaveSlot gives back what the step was admitted for, and returns what ends its wait
// for the disk. No more steps wait than there are places.
func (t *attempt) leaveSlot(ctx context.Context) (end func()) {
	if t.step.release == nil || t.engine.committing.Acquire(ctx, 1) != nil {
		return func() {}
	}
	t.step.release()
	return func() { t.engine.committing.Release(1) }
}

// smallOutput is the size in bytes up to which an output is small: to hash it takes
// less time than to flush it.
const smallOutput = 1 << 20

// checkOutput reports an action that did not make what it declared, and whether what it
// made is a small file.
func checkOutput(s *store.Store, path string, out Output) (small bool, err error) {
	st, err := os.Lstat(path)
	if err == nil && s.IsFork(path) {
		st, err = os.Stat(path)
	}
	if err != nil {
		return false, fmt.Errorf("output %q was not made: %w", out.Name, err)
	}
	if st.IsDir() != (out.Kind == store.Tree) || !st.IsDir() && !st.Mode().IsRegular() {
		return false, fmt.Errorf("output %q is a %s, not a %s", out.Name, st.Mode().Type(), out.Kind)
	}
	return st.Mode().IsRegular() && st.Size() <= smallOutput, nil
}
