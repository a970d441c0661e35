package container

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"b9.build/b9/engine/near"
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
	Slower       float64       // what every time limit is multiplied by, 0 for 1

	// Networks lists the networks that the backend has, as [Features] does. It is
	// asked for names only that are not those of every backend; nil, or an error, is
	// nothing known.
	Networks func() ([]string, error)
}

// CheckNetwork refuses the name of a network that the backend does not have, if that is
// known. A name that is marked as one of libvirt's is believed, as it may be one of
// another machine, whose results are used here.
func (d Defaults) CheckNetwork(name string) error {
	if name == "" || OwnNetwork(name) || d.Networks == nil || strings.HasPrefix(name, LibvirtNetworkPrefix) {
		return nil
	}
	have, err := d.Networks()
	if err != nil || slices.Contains(have, LibvirtNetworkPrefix+name) {
		return nil
	}
	have = slices.Clone(have)
	for i := range have {
		have[i] = networkName(have[i])
	}
	hint := near.Hint(name, have)
	if hint == "" {
		hint = fmt.Sprintf(": a network of libvirt on another machine is written %q, and is for backend %s", LibvirtNetworkPrefix+name, Libvirt)
	}
	return fmt.Errorf("unknown network %q (have %s)%s", name, strings.Join(have, ", "), hint)
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
	s.Timeout = d.limit(cmp.Or(s.Timeout, d.Timeout))
	s.Capabilities = slices.Concat(s.Capabilities, d.Capabilities)
	for i, name := range s.Capabilities {
		s.Capabilities[i] = capabilityName(name)
	}
	slices.Sort(s.Capabilities)
	s.Capabilities = slices.Compact(s.Capabilities)
	return s
}

// limit is a time limit on this machine: at least a nanosecond where there is one, and at
// most the longest duration.
func (d Defaults) limit(t time.Duration) time.Duration {
	if t <= 0 {
		return t
	}
	scaled := float64(t) * cmp.Or(d.Slower, 1)
	if scaled >= math.MaxInt64 {
		return math.MaxInt64
	}
	return max(1, time.Duration(scaled))
}

// networkName is the name of a network without the mark of libvirt's.
func networkName(name string) string { return strings.TrimPrefix(name, LibvirtNetworkPrefix) }
