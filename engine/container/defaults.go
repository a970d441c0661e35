package container

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Defaults are what holds where a Spec says nothing. All of them but the time
// limit can be seen by the command: what a result is known by has to hold the
// Spec that was filled in, not the one before.
type Defaults struct {
	Network      string        // "" for NetworkNAT
	Host         string        // the network of libvirt that NetworkHost and NetworkNAT stand for; "" for the host's own, and a private one
	Memory       int64         // limit in bytes, 0 for none
	CPUs         float64       // limit in processors, 0 for none
	Capabilities []string      // for every Spec, beside its own
	Timeout      time.Duration // 0 for none
}

// Fill returns s with the defaults in place of what it leaves open. What two
// specifications mean alike they say alike then: a network of libvirt has its
// bare name, capabilities are sorted, without "CAP_", and there once.
func (d Defaults) Fill(s Spec) Spec {
	s.Network = networkName(cmp.Or(s.Network, d.Network, NetworkNAT))
	if d.Host != "" && (s.Network == NetworkHost || s.Network == NetworkNAT) {
		s.Network = networkName(d.Host)
	}
	s.Memory = cmp.Or(s.Memory, d.Memory)
	s.CPUs = cmp.Or(s.CPUs, d.CPUs)
	s.Timeout = cmp.Or(s.Timeout, d.Timeout)
	s.Capabilities = slices.Concat(s.Capabilities, d.Capabilities)
	for i, name := range s.Capabilities {
		s.Capabilities[i] = capabilityName(name)
	}
	slices.Sort(s.Capabilities)
	s.Capabilities = slices.Compact(s.Capabilities)
	return s
}

// networkName is the name of a network without the mark of libvirt's.
func networkName(name string) string { return strings.TrimPrefix(name, LibvirtNetworkPrefix) }
