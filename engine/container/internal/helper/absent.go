package helper

import (
	"context"
	"fmt"

	"b9.build/b9/engine/container"
)

// Absent is a backend that was not built in.
type Absent struct {
	Backend string // its name
	Why     error  // and what to do about it
}

// Name implements container.Backend.
func (a Absent) Name() string { return a.Backend }

// Usable implements container.Backend.
func (a Absent) Usable(context.Context) error { return a.Why }

// Probe implements container.Backend.
func (a Absent) Probe(context.Context) (container.Features, error) {
	return container.Features{}, a.Why
}

// Run implements container.Backend.
func (a Absent) Run(context.Context, container.Spec, container.IO) (container.Result, error) {
	return Failed, fmt.Errorf("backend %s: %w", a.Backend, a.Why)
}

// Reap implements container.Backend.
func (a Absent) Reap(context.Context) error { return nil }
