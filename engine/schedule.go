package engine

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
)

// The scheduler
//
// The scheduler decides in which order the steps of a plan are worked on, and
// how many at once; what happens to one step is told in step.go. A step is
// ready when all its inputs are done: every step counts those that are not
// (step.waiting), and whoever finishes a step counts it off at its dependents.
// The one that counts the last input off queues the dependent, so that each
// step is queued exactly once and no lock is taken.
//
// Ready steps wait in one channel with room for all of them, so that queueing
// never blocks. A few workers take them out. For most steps of most builds the
// store answers at once that they are known; the worker then goes straight on
// with one of the dependents. A step that has to come from elsewhere, or to
// run, may take minutes. It gets a goroutine of its own once it is
// admitted (admission.go): for one of the engine's slots (Config.Jobs), and
// for what its limits say. Those without limits wait for that in a channel, in their
// order, since they may be thousands; one with limits has its goroutine at once, so that
// it holds up no other. So the workers are never held up by what runs. While small
// outputs are flushed the step has left its slot to the next: all that are flushed at
// one time share a flush.
//
// pending counts the steps that are queued or worked on. A step leaves only
// after it has queued its dependents, so pending falls to zero exactly when
// nothing is left that could queue another step: then the channel is closed
// and the workers end. After a cancel no step is begun any more; those in the
// queue leave without a word, and their dependents are never queued. After a
// failure (unless Config.KeepGoing) none is begun either, but the store is still
// asked for those in the queue, so that whoever wants what was there before gets it
// whenever the failure came. A failed step does not count itself off, so what
// depends on it stays where it is.
type scheduler struct {
	executor *executor
	ready    chan *step
	waiting  chan *step   // to be admitted, without limits
	pending  atomic.Int64 // steps that are queued or worked on
	stopped  atomic.Bool  // after a failure: begin nothing new
	running  sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

// runPlan works through the plan. The error joins those of the steps that
// failed, or is the context's after a cancel.
func (x *executor) runPlan(ctx context.Context, p *plan) error {
	x.engine.events(Event{Type: GraphReady, Total: p.total, Nodes: x.result.Nodes()})
	if err := x.engine.chooseEmulators(ctx, p); err != nil {
		return err
	}
	d := &scheduler{executor: x, ready: make(chan *step, len(p.steps)), waiting: make(chan *step, len(p.steps))}
	if len(p.steps) > 0 {
		d.start(ctx, p)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(d.errs...)
}

// start queues the steps without inputs and returns when all are done.
func (d *scheduler) start(ctx context.Context, p *plan) {
	var first []*step
	for i := range p.steps {
		if s := &p.steps[i]; s.waiting.Load() == 0 {
			first = append(first, s)
		}
	}
	d.pending.Store(int64(len(first)))
	for _, s := range first {
		d.ready <- s
	}
	d.running.Go(func() { d.admit(ctx) })
	var workers sync.WaitGroup
	for range max(2, runtime.NumCPU()) {
		workers.Go(func() {
			for s := range d.ready {
				for s != nil {
					s = d.visit(ctx, s)
				}
			}
		})
	}
	workers.Wait()
	close(d.waiting)
	d.running.Wait()
}

// admit starts what waits without limits, each once it is admitted.
func (d *scheduler) admit(ctx context.Context) {
	for s := range d.waiting {
		release, err := d.executor.engine.admission.take(ctx, s.node.action)
		d.running.Go(func() { d.obtain(ctx, s, release, err) })
	}
}

// visit finishes a step at once that the store has, else has it obtained. It returns a
// step to visit next, or nil.
func (d *scheduler) visit(ctx context.Context, s *step) *step {
	late := d.stopped.Load()
	if ctx.Err() != nil || late && asksWorld(s.node) {
		d.leave()
		return nil
	}
	known, err := d.executor.recall(ctx, s)
	switch {
	case late && !known:
		d.leave()
	case err != nil:
		d.fail(ctx, s, err)
	case known:
		return d.done(s)
	case !d.executor.engine.admission.limits(s.node.action):
		d.waiting <- s
	default:
		d.running.Go(func() {
			release, err := d.executor.engine.admission.take(ctx, s.node.action)
			d.obtain(ctx, s, release, err)
		})
	}
	return nil
}

// asksWorld reports whether to find out the key of a node takes more than to read files
// of this machine, such as an answer of a server.
func asksWorld(n *Node) bool {
	_, source := n.action.(Source)
	_, located := locatedAt(n)
	return source && !located
}

// obtain gets the result of a step from elsewhere, or runs it. It was admitted, until
// release is called, unless the context had ended before.
func (d *scheduler) obtain(ctx context.Context, s *step, release func(), err error) {
	if err == nil {
		defer release()
	}
	if d.over(ctx) {
		d.leave()
		return
	}
	s.release = release
	err = d.executor.obtain(ctx, s, s.wanted)
	s.release = nil // before others may look at the step
	if err != nil {
		d.fail(ctx, s, err)
		return
	}
	if next := d.done(s); next != nil {
		d.ready <- next
	}
}

// over reports whether no step is begun any more.
func (d *scheduler) over(ctx context.Context) bool { return d.stopped.Load() || ctx.Err() != nil }

// done counts s off at its dependents and queues those that are ready now,
// but for one: that is returned, already counted as pending, and the caller
// visits or queues it.
func (d *scheduler) done(s *step) (next *step) {
	for _, dependent := range s.dependents {
		if dependent.waiting.Add(-1) != 0 {
			continue
		}
		d.pending.Add(1)
		if next != nil {
			d.ready <- next
		}
		next = dependent
	}
	d.leave()
	return next
}

// leave ends the work on one step, and the build with the last of them.
func (d *scheduler) leave() {
	if d.pending.Add(-1) == 0 {
		close(d.ready)
	}
}

// fail notes the error of a step and ends the work on it. An error that the step
// has not reported itself is reported here.
func (d *scheduler) fail(ctx context.Context, s *step, err error) {
	defer d.leave()
	if ctx.Err() != nil {
		return
	}
	e := d.executor.engine
	d.executor.fails(s)
	if !e.cfg.KeepGoing {
		d.stopped.Store(true)
	}
	var reported *StepError
	if !errors.As(err, &reported) {
		err = &StepError{Node: s.node, Err: err}
		e.events(Event{Type: StepFailed, Node: s.node, Err: err})
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.errs = append(d.errs, err)
}
