package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"b9/engine/store"
)

var errNoBackend = errors.New("no container backend is configured")

// Result is what a build made.
type Result struct {
	Executed int // steps whose action ran
	Cached   int // steps found in the store; located sources are not counted
	Steps    []StepTime

	artifacts map[Ref]*Artifact
	states    []*state // of the whole graph
}

// StepTime tells of one executed step, for profiles.
type StepTime struct {
	Node     *Node
	Started  time.Time
	Duration time.Duration
}

// Artifact is the result for a ref that was asked for, nil for another one.
func (r *Result) Artifact(ref Ref) *Artifact { return r.artifacts[ref] }

// StepError is the failure of one step.
type StepError struct {
	Node *Node
	Err  error
	Kept string // directory that holds the step's state and log, "" when none was kept
	Log  string // path of the kept log, "" when there is none
}

// Error names the place, the built-in and the cause.
func (e *StepError) Error() string {
	where := e.Node.Label() // of a step that no build file recorded
	if at := e.Node.Where(); at != (Position{}) {
		where = at.String()
	}
	return fmt.Sprintf("%s: %s(): %v", where, e.Node.Builtin(), e.Err)
}

// Unwrap returns the cause.
func (e *StepError) Unwrap() error { return e.Err }

// state is one node in one build.
type state struct {
	node       *Node
	inputs     []*state // of node.Inputs(), in order
	dependents []*state
	waiting    atomic.Int32 // inputs that are not done
	counted    atomic.Bool  // as found in the store or the cache

	fingerprint *store.Digest // of a source, once its key was computed
	tools       []toolVersion // of a tooled action, likewise
	key         store.Digest  // once it was looked up; none of a located source
	wanted      bool          // asked for by the user

	mu        sync.Mutex  // guards artifacts once the state is done
	artifacts []*Artifact // of node.Outputs(), in order; set when done
	there     bool        // the artifacts were seen to be in the store
}

// build is one call of Build.
type build struct {
	*Engine
	states  []*state // inputs before dependents
	byNode  map[*Node]*state
	ready   chan *state
	pending atomic.Int64 // states that are queued or being worked on
	stopped atomic.Bool  // after a failure: begin nothing new
	found   atomic.Int64 // steps that were in the store
	running sync.WaitGroup
	lending sync.WaitGroup // of steps that are being published

	mu     sync.Mutex
	errs   []error
	result *Result
}

// Build makes the refs and everything they need. Steps that are in the
// store are not run. The error joins one StepError for each failed step;
// after a cancel it is the context's.
func (e *Engine) Build(ctx context.Context, refs ...Ref) (*Result, error) {
	b := e.plan(refs)
	defer func() { b.result.Cached = int(b.found.Load()) }()
	b.schedule(ctx)
	b.lending.Wait()
	if err := b.error(ctx); err != nil {
		return b.result, err
	}
	for _, ref := range refs {
		a, err := b.deliver(ctx, ref)
		if err != nil {
			return b.result, err
		}
		b.result.artifacts[ref] = a
	}
	b.result.states = b.states
	return b.result, nil
}

// plan collects the states that refs need.
func (e *Engine) plan(refs []Ref) *build {
	b := &build{Engine: e, byNode: map[*Node]*state{}, result: &Result{artifacts: map[Ref]*Artifact{}}}
	for _, ref := range refs {
		b.add(ref.Node).wanted = true
	}
	return b
}

// add enters n and what it needs, inputs first. It keeps its own stack, for
// a graph may be deeper than is good for recursion.
func (b *build) add(root *Node) *state {
	type frame struct {
		s    *state
		next int
	}
	if s, ok := b.byNode[root]; ok {
		return s
	}
	top := b.newState(root)
	stack := []frame{{s: top}}
	for len(stack) > 0 {
		f := &stack[len(stack)-1]
		if f.next == len(f.s.node.opts.Inputs) {
			b.states = append(b.states, f.s)
			stack = stack[:len(stack)-1]
			continue
		}
		in := f.s.node.opts.Inputs[f.next].Ref.Node
		f.next++
		dep, ok := b.byNode[in]
		if !ok {
			dep = b.newState(in)
		}
		f.s.inputs = append(f.s.inputs, dep)
		dep.dependents = append(dep.dependents, f.s)
		f.s.waiting.Add(1)
		if !ok {
			stack = append(stack, frame{s: dep})
		}
	}
	return top
}

func (b *build) newState(n *Node) *state {
	s := &state{node: n}
	b.byNode[n] = s
	return s
}

// schedule works through the states, each after its inputs. Looking a step
// up is done by a few workers; running one takes a slot.
func (b *build) schedule(ctx context.Context) {
	b.events(Event{Type: GraphReady, Total: b.steps()})
	if len(b.states) == 0 {
		return
	}
	b.ready = make(chan *state, len(b.states))
	var first []*state
	for _, s := range b.states {
		if s.waiting.Load() == 0 {
			first = append(first, s)
		}
	}
	b.pending.Store(int64(len(first)))
	for _, s := range first {
		b.ready <- s
	}
	var workers sync.WaitGroup
	for range max(2, runtime.NumCPU()) {
		workers.Go(func() {
			for s := range b.ready {
				for s != nil {
					s = b.visit(ctx, s)
				}
			}
		})
	}
	workers.Wait()
	b.running.Wait()
}

// steps counts the states that are not sources read in place.
func (b *build) steps() int64 {
	var n int64
	for _, s := range b.states {
		if _, located := locatedAt(s.node); !located {
			n++
		}
	}
	return n
}

// locatedAt is where the output of a located source lies.
func locatedAt(n *Node) (path string, ok bool) {
	loc, ok := n.action.(Located)
	if !ok {
		return "", false
	}
	path, _ = loc.Locate()
	return path, path != ""
}

// visit finishes s at once when it is known, else sees to it that it runs.
// It returns a state to visit next, or nil.
func (b *build) visit(ctx context.Context, s *state) *state {
	if b.stopped.Load() || ctx.Err() != nil {
		b.leave()
		return nil
	}
	known, err := b.find(ctx, s)
	switch {
	case err != nil:
		b.fail(ctx, s, err)
		b.leave()
	case known:
		return b.done(s)
	default:
		b.running.Go(func() { b.make(ctx, s) })
	}
	return nil
}

// make runs s once a slot is free.
func (b *build) make(ctx context.Context, s *state) {
	select {
	case b.slots <- struct{}{}:
		defer func() { <-b.slots }()
	case <-ctx.Done():
	}
	if b.stopped.Load() || ctx.Err() != nil {
		b.leave()
		return
	}
	known, err := b.learn(ctx, s)
	if err == nil && !known {
		err = b.run(ctx, s)
	}
	if err != nil {
		b.fail(ctx, s, err)
		b.leave()
		return
	}
	if next := b.done(s); next != nil {
		b.ready <- next
	}
}

// done lets the dependents of s go on. One that it returns, unless it is
// nil, is for the caller to go on with or to queue, and counted as queued.
func (b *build) done(s *state) (next *state) {
	for _, d := range s.dependents {
		if d.waiting.Add(-1) != 0 {
			continue
		}
		b.pending.Add(1)
		if next != nil {
			b.ready <- next
		}
		next = d
	}
	b.leave()
	return next
}

// leave ends the work on one state, and the build with the last of them.
func (b *build) leave() {
	if b.pending.Add(-1) == 0 {
		close(b.ready)
	}
}

func (b *build) fail(ctx context.Context, s *state, err error) {
	if ctx.Err() != nil {
		return
	}
	var step *StepError
	if !errors.As(err, &step) {
		err = &StepError{Node: s.node, Err: err}
		b.events(Event{Type: StepFailed, Node: s.node, Err: err})
	}
	if !b.cfg.KeepGoing {
		b.stopped.Store(true)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.errs = append(b.errs, err)
}

func (b *build) error(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	return errors.Join(b.errs...)
}

// find decides without running anything whether s is known. Its inputs are
// done. The objects need not be there: only a step that runs needs them.
func (b *build) find(ctx context.Context, s *state) (bool, error) {
	if loc, ok := s.node.action.(Located); ok {
		if path, kind := loc.Locate(); path != "" {
			return true, b.locate(ctx, s, loc, path, kind)
		}
	}
	in, err := b.keyInput(ctx, s)
	if err != nil {
		return false, err
	}
	key, err := b.key(s.node, in)
	if err != nil {
		return false, err
	}
	s.key = key
	outputs, ok := b.cfg.Store.Recorded(key)
	if !ok || !b.take(s, outputs) || !b.lasts(ctx, s) {
		return false, nil
	}
	// Looking also tells the store that the objects are still of use, and
	// keeps them there until it is closed.
	s.there = s.present()
	if !s.there && s.wanted {
		return false, nil
	}
	b.cached(s)
	return true, nil
}

// lasts reports whether what the artifacts of s stand for is still so.
func (b *build) lasts(ctx context.Context, s *state) bool {
	l, ok := s.node.action.(Lasting)
	return !ok || s.present() && l.Lasts(ctx, s.artifacts)
}

// key is nodeKey with buffers that are used again.
func (e *Engine) key(n *Node, in keyInput) (store.Digest, error) {
	m, ok := e.keys.Get().(*keyMaker)
	if !ok {
		m = new(keyMaker)
	}
	defer e.keys.Put(m)
	return m.key(n, in)
}

func (b *build) locate(ctx context.Context, s *state, loc Located, path string, kind store.Kind) error {
	d, err := loc.Fingerprint(ctx, b.world)
	if err != nil {
		return err
	}
	s.fingerprint = &d
	s.artifacts = []*Artifact{{store: b.cfg.Store, path: path, object: store.Object{Kind: kind, Digest: d}}}
	return nil
}

// keyInput gathers what the key of s is made of.
func (b *build) keyInput(ctx context.Context, s *state) (keyInput, error) {
	var in keyInput
	if src, ok := s.node.action.(Source); ok {
		d, err := src.Fingerprint(ctx, b.world)
		if err != nil {
			return in, err
		}
		in.fingerprint, s.fingerprint = &d, &d
	}
	if t, ok := s.node.action.(Tooled); ok {
		v, err := b.tools.versions(ctx, t.Tools())
		if err != nil {
			return in, err
		}
		in.tools, s.tools = v, v
	}
	in.inputs = b.inputObjects(s)
	return in, nil
}

func (b *build) inputObjects(s *state) []store.Object {
	objects := make([]store.Object, len(s.inputs))
	for i, dep := range s.inputs {
		objects[i] = dep.artifact(s.node.opts.Inputs[i].Ref.Output).object
	}
	return objects
}

// take makes the recorded outputs the artifacts of s. A record that does not
// have what the node declares is not used.
func (b *build) take(s *state, outputs []store.Output) bool {
	artifacts := make([]*Artifact, 0, len(outputs))
	for _, want := range s.node.opts.Outputs {
		for _, out := range outputs {
			if out.Name == want.Name && out.Object.Kind == want.Kind {
				artifacts = append(artifacts, &Artifact{store: b.cfg.Store, object: out.Object})
			}
		}
	}
	if len(artifacts) != len(s.node.opts.Outputs) {
		return false
	}
	s.artifacts = artifacts
	return true
}

// cached counts s as found, once.
func (b *build) cached(s *state) {
	if s.counted.Swap(true) {
		return
	}
	b.found.Add(1)
	b.events(Event{Type: StepCached, Node: s.node})
}

// artifact is the output of that name. The node declares it: NewNode checked.
func (s *state) artifact(output string) *Artifact {
	for i, out := range s.node.opts.Outputs {
		if out.Name == output {
			return s.artifacts[i]
		}
	}
	panic(fmt.Sprintf("%s: no output %q", s.node.Label(), output))
}

func (s *state) present() bool {
	for _, a := range s.artifacts {
		if !a.present() {
			return false
		}
	}
	return true
}

// deliver returns the artifact for a ref of a finished build, and makes it
// again if collection took it meanwhile.
func (b *build) deliver(ctx context.Context, ref Ref) (*Artifact, error) {
	if _, err := ref.Node.Declared(ref.Output); err != nil {
		return nil, err
	}
	s := b.byNode[ref.Node]
	if !s.there {
		if err := b.ensure(ctx, s); err != nil {
			return nil, err
		}
	}
	return s.artifact(ref.Output), nil
}

// Reachable lists the nodes that refs need, inputs before what uses them.
func Reachable(refs ...Ref) []*Node {
	b := (&Engine{}).plan(refs)
	nodes := make([]*Node, len(b.states))
	for i, s := range b.states {
		nodes[i] = s.node
	}
	return nodes
}
