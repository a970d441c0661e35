package nat

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// nowhere are destinations that sockets of the host would take for the host itself,
// or that are no single host's.
var nowhere = [...]netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("224.0.0.0/3"), // multicast, reserved, broadcast
	netip.MustParsePrefix("::/127"),      // unspecified and loopback
	netip.MustParsePrefix("fe80::/10"),   // of a link that has no name here
	netip.MustParsePrefix("ff00::/8"),
	address4.Masked(),
	address6.Masked(),
}

// target is where what is sent to an address of the namespace goes, if it goes
// anywhere. A command that may make packets of its own can send to any address,
// also to those that have no route.
func (n *Network) target(to netip.AddrPort) (netip.AddrPort, bool) {
	if relay, ok := n.relayed[to]; ok {
		return relay, true
	}
	ip := to.Addr().Unmap()
	for _, p := range nowhere {
		if p.Contains(ip) {
			return netip.AddrPort{}, false
		}
	}
	return netip.AddrPortFrom(ip, to.Port()), true
}

// destination is what a packet was sent to.
func destination(id stack.TransportEndpointID) netip.AddrPort {
	return netip.AddrPortFrom(ipOf(id.LocalAddress), id.LocalPort)
}

func ipOf(a tcpip.Address) netip.Addr {
	ip, _ := netip.AddrFromSlice(a.AsSlice()) // not valid, and so nowhere, for none
	return ip
}
