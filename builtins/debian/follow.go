package debian

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"time"

	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// archiveState is the state of an archive: of all package lists that a
// bootstrap may take packages from. It is for steps that install more in a
// system which comes from there.
type archiveState struct {
	Suite      string
	Arch       string
	Components []string
	Suites     []string
	Mirrors    []string

	Users   []string      `key:"-"` // as for a bootstrap
	Apt     string        `key:"-"`
	Refresh time.Duration `key:"-"`
}

// Follows implements engine.Followed. A pinned archive does not move.
func (b *bootstrap) Follows() engine.Moving {
	if b.Snapshot != "" {
		return nil
	}
	return &archiveState{
		Suite: b.Suite, Arch: b.Arch, Components: b.Components, Suites: b.Suites, Mirrors: b.Mirrors, Users: b.Users, Apt: b.Apt, Refresh: b.Refresh,
	}
}

// Reads implements engine.Told.
func (a *archiveState) Reads() string { return "package lists of " + a.Suite }

// Kind implements engine.Action.
func (a *archiveState) Kind() string { return "archive-state/1" }

// Fingerprint implements engine.Source.
func (a *archiveState) Fingerprint(ctx context.Context, w *engine.World) (store.Digest, error) {
	limit := a.Refresh
	if w.Refresh {
		limit = 0
	}
	return a.fingerprint(ctx, w, limit)
}

// Refingerprint implements engine.Moving.
func (a *archiveState) Refingerprint(ctx context.Context, w *engine.World, _ store.Digest) (store.Digest, error) {
	return a.fingerprint(ctx, w, min(a.Refresh, freshAnswer))
}

// bootstrap is one from this archive.
func (a *archiveState) bootstrap() *bootstrap {
	return &bootstrap{Suite: a.Suite, Arch: a.Arch, Components: a.Components, Suites: a.Suites, Mirrors: a.Mirrors, Users: a.Users, Apt: a.Apt}
}

func (a *archiveState) fingerprint(ctx context.Context, w *engine.World, limit time.Duration) (store.Digest, error) {
	b := a.bootstrap()
	sources, err := b.sources()
	if err != nil {
		return store.Digest{}, err
	}
	state, err := b.archiveState(ctx, w, sources, limit)
	if err != nil {
		return store.Digest{}, err
	}
	return store.Digest(sha256.Sum256(state)), nil
}

// Run implements engine.Action: it writes the state down.
func (a *archiveState) Run(_ context.Context, job *engine.Job) error {
	return os.WriteFile(job.Output(""), fmt.Appendln(nil, job.Fingerprint()), 0o644)
}
