package session

import (
	"context"
	"fmt"
	"time"

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
	if s.Memory == 0 {
		s.Memory = int64(d.Memory)
	}
	if s.CPUs == 0 {
		s.CPUs = d.CPUs
	}
	if s.Network == "" {
		s.Network = d.Network
	}
	if s.Timeout == 0 {
		s.Timeout = time.Duration(d.Timeout)
	}
	s.Capabilities = append(append([]string(nil), s.Capabilities...), d.Capabilities...)
	return c.Backend.Run(ctx, s, io)
}
