package build

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"time"

	"b9.build/b9/builtins/share"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// The trace of the build before, which is a note in the store, says whether a build
// has anything to do. If not, no file is evaluated and no key is computed. See engine.Trace for what that rests on.

// traceKey names the trace of a build: everything that has a say in it and
// is not in the trace itself.
func (b *maker) traceKey() (store.Digest, error) {
	program, err := os.Executable()
	if err != nil {
		return store.Digest{}, err
	}
	at, err := session.Epoch()
	if err != nil {
		return store.Digest{}, err
	}
	text, err := json.Marshal(struct {
		Program, Root, Dir string
		Patterns, Options  []string
		Epoch              time.Time
		Offline            bool
		Settings           any
	}{engine.StampOf(program).Sign, b.Root, b.Dir, b.Patterns, b.options, at, b.offline, b.Config.Settings()})
	return store.Sum(text), err
}

// again returns the report of a build that has nothing to do; nil where that is not
// known.
func (b *maker) again(ctx context.Context) (r *report, err error) {
	if len(b.rerun) > 0 {
		return nil, nil
	}
	key, err := b.traceKey()
	if err != nil {
		return nil, err
	}
	st, err := b.Store()
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
	stands, err := b.stands(ctx, st, t)
	if err != nil || !stands {
		return nil, exit.Resumes(err, resumes)
	}
	if _, err := b.Console.Write([]byte(t.Printed)); err != nil {
		return nil, err
	}
	return &report{store: st, root: b.Root, Build: output.Build{Cached: t.Steps, Shared: share.Traced(t), Results: b.shown(t.Results)}}, nil
}

// stands reports whether all that the trace rests on is as it was.
func (b *maker) stands(ctx context.Context, st *store.Store, t *engine.Trace) (bool, error) {
	m, err := open(b.Session, b.Flags, nil, nil)
	if err != nil {
		return false, err
	}
	names, err := st.ResultsDigest(b.Root)
	stands := err == nil && names == t.Names && m.Stands(ctx, t)
	return stands, errors.Join(err, m.Close())
}

// remember keeps the trace of a build that went well, and what evaluation printed.
// It is only a help, so what hinders it is no error.
func (b *maker) remember(r *report, ws *session.Workspace, printed string) {
	t := r.trace
	t.Stamps, t.Printed = append(t.Stamps, ws.Stamps()...), printed
	names, err := r.store.ResultsDigest(r.root)
	if err != nil || t.Racy(b.grain) {
		return
	}
	t.Names = names
	if key, err := b.traceKey(); err == nil {
		_ = r.store.WriteNote(key, t.Encode())
	}
}
