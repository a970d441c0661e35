package nat

import (
	"bytes"
	"net/netip"
	"strings"
)

// A resolver that listens on the host's loopback, such as systemd-resolved at
// 127.0.0.53, is out of the namespace's reach. The stack has an address for each,
// at whose port 53 it passes everything on to the resolver.

// dnsPort is of resolvers.
const dnsPort = 53

// maxResolvers is how many resolver(5) asks (MAXNS of resolv.h). There are as many
// addresses between the interface's and the broadcast address.
const maxResolvers = 3

// rewriteResolvConf returns a resolver configuration as it is to be in the namespace,
// and the relays that it needs. Without a resolver the one at 127.0.0.1 is asked, says
// resolv.conf(5).
func rewriteResolvConf(host []byte) (conf []byte, relayed map[netip.AddrPort]netip.AddrPort) {
	relayed = make(map[netip.AddrPort]netip.AddrPort)
	next := address4.Addr()
	found := 0
	relay := func(resolver netip.Addr) []byte {
		next = next.Next()
		relayed[netip.AddrPortFrom(next, dnsPort)] = netip.AddrPortFrom(resolver, dnsPort)
		return []byte("nameserver " + next.String() + "\n")
	}
	for line := range bytes.Lines(host) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 || fields[0] != "nameserver" {
			conf = append(conf, line...)
			continue
		}
		ip, err := netip.ParseAddr(fields[1])
		if err != nil || found == maxResolvers {
			continue
		}
		found++
		if ip.IsLoopback() || ip.Unmap().IsLoopback() || ip.IsUnspecified() || ip.Zone() != "" {
			line = relay(ip)
		}
		conf = append(conf, line...)
	}
	if found == 0 {
		if len(conf) > 0 && conf[len(conf)-1] != '\n' {
			conf = append(conf, '\n')
		}
		conf = append(conf, relay(netip.MustParseAddr("127.0.0.1"))...)
	}
	return conf, relayed
}
