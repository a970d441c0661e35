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
	missing, found := map[string]bool{}, map[string]*store.Record{}
	for _, n := range engine.Reachable(refs...) {
		if _, located := n.Action().(engine.Located); !located {
			missing[n.Label()] = true
		}
	}
	r, err := s.Repositories().Open(ctx, name, nil)
	if err != nil {
		return nil, err
	}
	err = r.Steps(ctx, func(step repo.Step) bool {
		key, err := store.ParseDigest(step.Key)
		if err != nil {
			return true
		}
		record, err := store.DecodeRecord(key, step.Record)
		if err == nil && missing[record.Label] {
			delete(missing, record.Label)
			found[record.Label] = record
		}
		return len(missing) > 0
	})
	return found, errors.Join(err, r.Close())
}
