package main

import (
	"context"
	"fmt"
	"time"

	"b9/engine/config"
	"b9/engine/container"
)

// runDir holds the control files of running containers.
const runDir = "/run/b9"

// openBackend opens the container backend that the configuration names. With
// "auto" it is the embedded one, which needs no daemon.
func (a *app) openBackend(ctx context.Context) (container.Backend, error) {
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	name := cfg.Container.Backend
	if name == "" || name == "auto" {
		name = "embedded"
	}
	b, err := container.Open(name, containerConfig(cfg))
	if err != nil {
		return nil, err
	}
	if _, err := b.Probe(ctx); err != nil {
		return nil, fmt.Errorf("container backend %s: %w", name, err)
	}
	return configured{b, cfg}, b.Reap(ctx)
}

func containerConfig(cfg *config.Config) container.Config {
	return container.Config{
		RunDir:          runDir,
		LibvirtURI:      cfg.Libvirt.URI,
		LibvirtEmulator: cfg.Libvirt.Emulator,
		LibvirtNetwork:  cfg.Libvirt.Network,
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
