package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
	"b9.build/b9/engine/repo"
	"b9.build/b9/engine/store"
)

// explain asks the engine why steps would run or, against something, in what their keys
// differ from those there: a file of events if there is one of that name, else a
// repository.
func explain(ctx context.Context, s *session.Session, m *cachedEngine, against string, refs []engine.Ref) ([]engine.Reason, error) {
	if against == "" {
		return m.Explain(ctx, refs...)
	}
	theirs, err := records(ctx, s, against, refs)
	if err != nil {
		return nil, err
	}
	reasons, err := m.Against(ctx, func(label string) *store.Record { return theirs[label] }, refs...)
	for i := range reasons {
		reasons[i].Elsewhere = against
	}
	return reasons, err
}

// records are those of another machine, by label.
func records(ctx context.Context, s *session.Session, against string, refs []engine.Ref) (map[string]*store.Record, error) {
	path, err := s.Path(against)
	if err != nil {
		return nil, err
	}
	if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
		return toldRecords(path, against)
	} else if errors.Is(err, fs.ErrNotExist) && strings.Contains(against, "/") && !strings.Contains(against, ":") {
		return nil, exit.Usagef("--against %s: there is no such file of events, and no such repository", against)
	}
	return sharedRecords(ctx, s, against, refs)
}

// toldRecords are those that a file of events tells.
func toldRecords(path, name string) (map[string]*store.Record, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	found := map[string]*store.Record{}
	for line := range bytes.Lines(data) {
		e, err := output.ParseEvent(bytes.TrimSuffix(line, []byte{'\n'}))
		if key, kerr := store.ParseDigest(e.Key); err == nil && kerr == nil && len(e.Parts) > 0 {
			found[e.Label] = &store.Record{Key: key, Label: e.Label, Parts: e.Parts}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: it tells no keys of steps: have it written by `b9 build --events=FILE` with something to do", name)
	}
	return found, nil
}

// sharedRecords are the newest in a repository of the steps that refs need.
func sharedRecords(ctx context.Context, s *session.Session, name string, refs []engine.Ref) (map[string]*store.Record, error) {
	r, err := s.Repositories().Open(ctx, name, nil)
	if err != nil {
		return nil, err
	}
	p := newPicked(refs)
	err = r.Steps(ctx, p.take)
	if p.left == 0 && len(p.missing) > 0 {
		s.Console.Warn("%s: its newest %d steps were looked through, and %d of those here are not among them", name, maxLooked, len(p.missing))
	}
	return p.found, errors.Join(err, r.Close())
}

// maxLooked bounds how many steps of a repository are looked at: each is a file to be read,
// and what was never published is among none of them.
const maxLooked = 10_000

// picked are the newest records of some steps among those that are looked at.
type picked struct {
	missing map[string]bool // labels
	found   map[string]*store.Record
	left    int // how many more are looked at
}

// newPicked is for the steps that refs need and that a repository can have.
func newPicked(refs []engine.Ref) *picked {
	p := &picked{missing: map[string]bool{}, found: map[string]*store.Record{}, left: maxLooked}
	for _, n := range engine.Reachable(refs...) {
		if _, located := n.Action().(engine.Located); !located && engine.Shareable(n) {
			p.missing[n.Label()] = true
		}
	}
	return p
}

// take looks at a step, and reports whether it wants to see more.
func (p *picked) take(step repo.Step) bool {
	p.left--
	if key, err := store.ParseDigest(step.Key); err == nil {
		record, err := store.DecodeRecord(key, step.Record)
		if err == nil && p.missing[record.Label] {
			delete(p.missing, record.Label)
			p.found[record.Label] = record
		}
	}
	return len(p.missing) > 0 && p.left > 0
}
