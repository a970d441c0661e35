package session

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"b9.build/b9/engine/config"
	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/backends"
)

// RunDir holds the control files of running containers.
const RunDir = "/run/b9"

// Backend opens the container backend that the configuration names. With "auto" it
// is the embedded one, which needs no daemon.
func (s *Session) Backend(ctx context.Context) (container.Backend, error) {
	name := s.Config.Container.Backend
	if name == "" || name == "auto" {
		name = "embedded"
	}
	b, err := backends.Open(name, s.Containers())
	if err != nil {
		return nil, err
	}
	if _, err := b.Probe(ctx); err != nil {
		return nil, fmt.Errorf("container backend %s: %w", name, err)
	}
	return configured{b, s.Config}, b.Reap(ctx)
}

// Containers says how container backends are reached.
func (s *Session) Containers() container.Config {
	return container.Config{
		RunDir:          RunDir,
		LibvirtURI:      s.Config.Libvirt.URI,
		LibvirtEmulator: s.Config.Libvirt.Emulator,
		LibvirtNetwork:  s.Config.Libvirt.Network,
	}
}

// configured fills in from the configuration what a step leaves open.
type configured struct {
	container.Backend
	cfg *config.Config
}

// Run implements container.Backend.
func (c configured) Run(ctx context.Context, s container.Spec, io container.IO) (container.Result, error) {
	d := c.cfg.Container
	s.Memory = cmp.Or(s.Memory, int64(d.Memory))
	s.CPUs = cmp.Or(s.CPUs, d.CPUs)
	s.Network = cmp.Or(s.Network, d.Network)
	s.Timeout = cmp.Or(s.Timeout, d.Timeout.Std())
	s.Capabilities = slices.Concat(s.Capabilities, d.Capabilities)
	return c.Backend.Run(ctx, s, io)
}
