package session

import (
	"context"
	"fmt"
	"sync"

	"b9.build/b9/engine/fsys/fuse"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/backends"
)

// RunDir holds the control files of running containers.
const RunDir = "/run/b9"

// Backend opens the container backend that the configuration names. With "auto" it
// is the embedded one, which needs no daemon.
func (s *Session) Backend(ctx context.Context) (container.Backend, error) {
	name := s.backendName()
	b, err := backends.Open(name, s.Containers())
	if err != nil {
		return nil, err
	}
	if err := b.Usable(ctx); err != nil {
		return nil, fmt.Errorf("container backend %s: %w", name, err)
	}
	return s.lend(b), b.Reap(ctx)
}

func (s *Session) backendName() string {
	if name := s.Config.Container.Backend; name != "" && name != "auto" {
		return name
	}
	return container.Embedded
}

// Containers says how container backends are reached.
func (s *Session) Containers() container.Config {
	return container.Config{RunDir: RunDir, LibvirtURI: s.Config.Libvirt.URI, LibvirtEmulator: s.Config.Libvirt.Emulator, FileSystems: fuse.FileSystems{}}
}

// ContainerDefaults is what the configuration says about containers. Build files
// are evaluated with it, and commands in images run with it.
func (s *Session) ContainerDefaults() container.Defaults {
	c := s.Config.Container
	d := container.Defaults{
		Network: c.Network, Memory: int64(c.Memory), CPUs: c.CPUs, Capabilities: c.Capabilities, Timeout: c.Timeout.Std(), Slower: c.TimeoutFactor,
	}
	if s.backendName() == container.Libvirt { // the other backend has no such networks
		d.Host = s.Config.Libvirt.Network
	}
	d.Networks = sync.OnceValues(s.networks)
	return d
}

// networks lists those that the backend has.
func (s *Session) networks() ([]string, error) {
	own := []string{container.NetworkNAT, container.NetworkHost, container.NetworkNone}
	if s.backendName() != container.Libvirt {
		return own, nil
	}
	b, err := backends.Open(container.Libvirt, s.Containers())
	if err != nil {
		return nil, err
	}
	// A libvirtd that is silent is given up by the backend; a build tells why.
	f, err := b.Probe(context.Background())
	return f.Networks, err
}
