package build

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"slices"
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
		Tags               []string
		Epoch              time.Time
		Offline            bool
		Settings           any
	}{engine.StampOf(program).Sign, b.Root, b.Dir, b.Patterns, b.options, b.tags, at, b.offline, b.Config.Settings()})
	return store.Sum(text), err
}

// again returns the report of a build that has nothing to do; nil where that is not
// known.
func (b *maker) again(ctx context.Context) (r *report, err error) {
	if len(b.rerun) > 0 || b.twice {
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
	standing, err := b.standing(ctx, t)
	if err != nil {
		return nil, exit.Resumes(err, resumes)
	}
	t.Shelves = standing.Shelves
	names, err := st.ResultsDigest(b.Root)
	if err != nil || names != t.Names || !standing.Stands(t) {
		b.before = &before{trace: t, parts: standing.Parts, named: err == nil && names == t.Names}
		return nil, nil
	}
	if standing.News {
		_ = st.WriteNote(key, t.Encode())
	}
	if err := b.print(t); err != nil {
		return nil, err
	}
	r = &report{store: st, root: b.Root, placed: t.Results(), Build: output.Build{Cached: t.Steps(), Shared: share.Traced(t)}}
	b.tellStale(r, t.Left)
	return r, nil
}

// standing tells what of the trace is as it was.
func (b *maker) standing(ctx context.Context, t *engine.Trace) (engine.Standing, error) {
	m, err := open(b.Session, b.Flags, nil, nil)
	if err != nil {
		return engine.Standing{}, err
	}
	return m.Standing(ctx, t), m.Close()
}

// print prints what evaluation printed when it left the trace.
func (b *maker) print(t *engine.Trace) error {
	for i := range t.Parts {
		if _, err := io.WriteString(b.Console, t.Parts[i].Printed); err != nil {
			return err
		}
	}
	return nil
}

// remember keeps the trace of a build that went well. It is only a help, so what hinders
// it is no error.
func (b *maker) remember(r *report) {
	names, err := r.store.ResultsDigest(r.root)
	if err != nil || !b.vouch(r) {
		return
	}
	r.trace.Names = names
	if key, err := b.traceKey(); err == nil {
		_ = r.store.WriteNote(key, r.trace.Encode())
	}
}

// vouch leaves out of the trace what the times of files can't vouch for, and reports
// whether anything is left.
func (b *maker) vouch(r *report) bool {
	t := r.trace
	t.Parts = slices.DeleteFunc(t.Parts, func(p engine.TracedPart) bool { return r.evaluated[p.Name] && engine.Racy(p.Stamps, b.grain) })
	if engine.Racy(t.Listed, b.grain) {
		t.Listed = []engine.Stamp{{Path: r.root, Sign: unlisted}}
	}
	return len(t.Parts) > 0
}

// unlisted is the sign of no directory: the files are looked for again.
const unlisted = "?"
