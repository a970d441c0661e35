package engine

import (
	"context"
	"errors"

	"b9.build/b9/engine/container"
)

// OfMachine is implemented by actions that run programs of one architecture, as
// uname(2) names machines. Where this machine's kernel does not run them an emulator
// does, which counts like the host's other programs.
type OfMachine interface {
	Action
	Machine() string
}

// found is the emulator for an architecture, or why there is none.
type found struct {
	emulator *container.Emulator
	err      error
}

// emulator is [container.FindEmulator], asked once. What a cancelled build did not
// find out is asked again.
func (t *toolTable) emulator(ctx context.Context, arch string) (*container.Emulator, error) {
	if arch == "" || arch == container.MachineArch() {
		return nil, nil
	}
	t.emulating.Lock()
	defer t.emulating.Unlock()
	f, ok := t.emulators[arch]
	if !ok {
		f.emulator, f.err = container.FindEmulator(ctx, arch)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		t.emulators[arch] = f
	}
	return f.emulator, f.err
}

// Emulator returns what runs programs of arch on this machine, nil for its kernel.
func (w *World) Emulator(ctx context.Context, arch string) (*container.Emulator, error) {
	if w.tools == nil {
		return container.FindEmulator(ctx, arch)
	}
	return w.tools.emulator(ctx, arch)
}

// chooseEmulators says what runs the programs of other architectures, before
// anything else is done. A step whose programs nothing runs here is an error then,
// unless it may come from the cache of other machines: there it is one when the step
// has to run.
func (e *Engine) chooseEmulators(ctx context.Context, p *plan) error {
	told := map[string]bool{}
	var errs []error
	for i := range p.steps {
		n := p.steps[i].node
		a, ok := n.action.(OfMachine)
		if !ok || told[a.Machine()] {
			continue
		}
		told[a.Machine()] = true
		emulator, err := e.tools.emulator(ctx, a.Machine())
		if err != nil && e.cfg.Cache == nil {
			err = &StepError{Node: n, Err: err}
			e.events(Event{Type: StepFailed, Node: n, Err: err})
			errs = append(errs, err)
		}
		if emulator != nil {
			e.events(Event{Type: Notice, Line: emulator.String()})
		}
	}
	return errors.Join(errs...)
}

// toolsOf lists the host's programs that an action calls, and the emulator that
// runs what the kernel does not. Where there is none the action is known by its key
// alone, and can't run.
func (e *Engine) toolsOf(ctx context.Context, a Action) ([]Tool, error) {
	var tools []Tool
	if t, ok := a.(Tooled); ok {
		tools = t.Tools()
	}
	m, ok := a.(OfMachine)
	if !ok {
		return tools, nil
	}
	emulator, _ := e.tools.emulator(ctx, m.Machine())
	if emulator != nil {
		tools = append(tools, emulator.Program())
	}
	return tools, ctx.Err()
}
