package engine_test

import (
	"context"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"b9.build/b9/engine"
	"b9.build/b9/engine/container"
)

// ofMachine is a step that runs programs of another machine.
type ofMachine struct {
	Arch string
	Runs *atomic.Int32 `key:"-"`
}

// Kind implements engine.Action.
func (*ofMachine) Kind() string { return "of-machine/1" }

// Machine implements engine.OfMachine.
func (m *ofMachine) Machine() string { return m.Arch }

// Run implements engine.Action.
func (m *ofMachine) Run(ctx context.Context, job *engine.Job) error {
	m.Runs.Add(1)
	if _, err := job.World().Emulator(ctx, m.Arch); err != nil {
		return err
	}
	return os.WriteFile(job.Output(""), []byte(m.Arch), 0o600)
}

// nobodys is a machine that nothing runs programs of.
const nobodys = "vax"

// chain is a step of a machine behind one that writes a file.
func chain(t *testing.T, arch string) (first, second *atomic.Int32, last engine.Ref) {
	t.Helper()
	first, second = new(atomic.Int32), new(atomic.Int32)
	before := node(t, "//:before", &ofMachine{Arch: container.MachineArch(), Runs: first})
	return first, second, node(t, "//:of", &ofMachine{Arch: arch, Runs: second}, before)
}

// TestMachineThatNothingRuns is an error before any step is done, unless other
// machines may have done the step.
func TestMachineThatNothingRuns(t *testing.T) {
	b := newBench(t)
	first, second, last := chain(t, nobodys)
	_, err := b.engine(engine.Config{}).Build(t.Context(), last)
	if err == nil || !strings.Contains(err.Error(), `unknown architecture "vax"`) || first.Load() != 0 || second.Load() != 0 {
		t.Errorf("got %v after %d and %d runs", err, first.Load(), second.Load())
	}
	_, err = b.engine(engine.Config{Cache: &empty{}}).Build(t.Context(), last)
	if err == nil || !strings.Contains(err.Error(), `unknown architecture "vax"`) || first.Load() != 1 || second.Load() != 1 {
		t.Errorf("with a cache: got %v after %d and %d runs", err, first.Load(), second.Load())
	}
	if reasons, err := b.engine(engine.Config{}).Explain(t.Context(), last); err != nil || len(reasons) != 2 {
		t.Errorf("explained: %v, %v", reasons, err)
	}
}

// TestMachineOfAnEmulator is told before any step is done, and the emulator's version
// is in the key: one of another version runs the step again.
func TestMachineOfAnEmulator(t *testing.T) {
	e, err := container.FindEmulator(t.Context(), "s390x")
	if err != nil || e == nil {
		t.Skipf("needs an emulator: install the Debian package qemu-user-static: %v", err)
	}
	b := newBench(t)
	_, second, last := chain(t, "s390x")
	var told []string
	c := engine.Config{Events: func(ev engine.Event) {
		switch ev.Type {
		case engine.Notice:
			told = append(told, ev.Line)
		case engine.StepStarted:
			told = append(told, "started")
		}
	}}
	r, err := b.engine(c).Build(t.Context(), last)
	if err != nil {
		t.Fatal(err)
	}
	if len(told) != 3 || told[0] != e.String() {
		t.Errorf("told %q, want first %q", told, e)
	}
	trace, err := r.Trace(t.Context())
	if err != nil || len(trace.Tools) != 2 || trace.Tools[1].Tool.Name != e.Path || trace.Tools[0].Version != e.Path {
		t.Fatalf("the trace has %+v, %v", trace.Tools, err)
	}
	if !b.engine(c).Standing(t.Context(), trace).Stands(trace) {
		t.Error("the trace does not stand on the machine that left it")
	}
	trace.Tools[0].Version = "" // the kernel ran them
	if b.engine(c).Standing(t.Context(), trace).Stands(trace) {
		t.Error("the trace stands where another program runs what the step runs")
	}
	if r, err := b.engine(c).Build(t.Context(), last); err != nil || r.Executed != 0 || second.Load() != 1 {
		t.Errorf("again: %d steps ran, %v", r.Executed, err)
	}
}
