package main

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"b9/builtins"
	"b9/cmd/b9/internal/output"
	"b9/engine"
	"b9/engine/store"
)

// A build that has nothing to do is told so by the trace of the one before,
// which is a note in the store: nothing is evaluated then, and no key is
// computed. See engine.Trace for what that rests on.

// traceKey names the trace of a build: everything that has a say in it and
// is not in the trace itself.
func (a *app) traceKey(f *engineFlags, patterns []string) (store.Digest, error) {
	dir, err := a.workDir()
	if err != nil {
		return store.Digest{}, err
	}
	program, err := os.Executable()
	if err != nil {
		return store.Digest{}, err
	}
	at, err := epoch()
	if err != nil {
		return store.Digest{}, err
	}
	text, err := json.Marshal(struct {
		Program, Root, Dir string
		Patterns, Options  []string
		Epoch              time.Time
		Offline            bool
		Settings           any
	}{engine.StampOf(program).Sign, a.root(), dir, patterns, f.options, at, f.offline, a.cfg.Settings()})
	return store.Sum(text), err
}

// again reports what the build would, if it is known that there is nothing
// to do. It is not known when r is nil.
func (a *app) again(ctx context.Context, f *engineFlags, patterns []string) (r *report, err error) {
	key, err := a.traceKey(f, patterns)
	if err != nil {
		return nil, err
	}
	st, err := a.openStore()
	if err != nil {
		return nil, err
	}
	data, ok := st.ReadNote(key)
	if !ok {
		return nil, nil
	}
	t, err := engine.DecodeTrace(data)
	if err != nil {
		return nil, nil // of another b9, and of no use
	}
	eng, err := a.newEngine(f, nil, nil)
	if err != nil {
		return nil, err
	}
	names, err := st.ResultsDigest(a.root())
	if err != nil || names != t.Names || !eng.Stands(ctx, t) {
		return nil, err
	}
	if _, err := a.stderr.Write([]byte(t.Printed)); err != nil {
		return nil, err
	}
	r = &report{Root: a.root(), Build: output.Build{Cached: t.Steps, Shared: builtins.TracedShared(t), Results: a.shownResults(t.Results)}}
	return r, eng.Close()
}

// remember keeps the trace of a build that went well. It is only a help, so
// what hinders it is no error.
func (a *app) remember(f *engineFlags, patterns []string, ws *builtins.Workspace, r *report) {
	t := r.Trace
	t.Stamps, t.Printed = append(t.Stamps, ws.Stamps()...), a.printed.String()
	names, err := a.store.ResultsDigest(ws.Root())
	if err != nil || t.Racy(a.grain) {
		return
	}
	t.Names = names
	if key, err := a.traceKey(f, patterns); err == nil {
		_ = a.store.WriteNote(key, t.Encode())
	}
}
