//go:build cgo && libvirt_dlopen

package libvirt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"sort"
	"strings"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/near"
)

// networkNames are the active networks, sorted.
func networkNames(conn *libvirt.Connect) ([]string, error) {
	nets, err := conn.ListAllNetworks(libvirt.CONNECT_LIST_NETWORKS_ACTIVE)
	if err != nil {
		var v libvirt.Error
		if errors.As(err, &v) && v.Code == libvirt.ERR_NO_SUPPORT {
			return nil, nil
		}
		return nil, fmt.Errorf("libvirt's networks: %w", plain(err))
	}
	var names []string
	for i := range nets {
		if name, err := nets[i].GetName(); err == nil {
			names = append(names, name)
		}
		_ = nets[i].Free()
	}
	sort.Strings(names)
	return names, nil
}

// link is a container's connection to a libvirt network. Nothing in the
// container asks for an address by DHCP, so it is given one.
type link struct {
	network string
	address netip.Prefix // not valid where the network has no addresses
	gateway netip.Addr
	resolv  []byte // nil for the host's
}

// joinNetwork plans the link of the container with a slot number.
func joinNetwork(conn *libvirt.Connect, name string, number int) (*link, error) {
	net, err := conn.LookupNetworkByName(name)
	if err != nil {
		names, _ := networkNames(conn)
		known := append([]string{container.NetworkHost, container.NetworkNone, container.NetworkNAT}, names...)
		return nil, fmt.Errorf("no network %q (have %s)%s", name, strings.Join(known, ", "), near.Hint(name, known))
	}
	defer net.Free()
	text, err := net.GetXMLDesc(0)
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", name, plain(err))
	}
	var x libvirtxml.Network
	if err := x.Unmarshal(text); err != nil {
		return nil, fmt.Errorf("network %s: %w", name, err)
	}
	leases, err := net.GetDHCPLeases()
	if err != nil {
		// A network without DHCP may say so by an error.
		leases = nil
	}
	taken := make(map[netip.Addr]bool)
	for _, l := range leases {
		if a, err := netip.ParseAddr(l.IPaddr); err == nil {
			taken[a] = true
		}
	}
	return planLink(&x, number, taken)
}

// planLink chooses an address: from the top of the network's range down, the
// slot's number of free ones further.
func planLink(x *libvirtxml.Network, number int, taken map[netip.Addr]bool) (*link, error) {
	l := &link{network: x.Name}
	for i := range x.IPs {
		ip := &x.IPs[i]
		gateway, err := netip.ParseAddr(ip.Address)
		if err != nil || !gateway.Is4() {
			continue
		}
		length, err := prefixLength(ip)
		if err != nil {
			return nil, fmt.Errorf("network %s: %w", x.Name, err)
		}
		taken[gateway] = true
		reserveHosts(ip, taken)
		address, err := fromTop(netip.PrefixFrom(gateway, length), number, taken)
		if err != nil {
			return nil, fmt.Errorf("network %s: %w", x.Name, err)
		}
		l.gateway, l.address = gateway, netip.PrefixFrom(address, length)
		if x.DNS == nil || x.DNS.Enable != "no" {
			l.resolv = []byte("nameserver " + gateway.String() + "\n")
		}
		break
	}
	return l, nil
}

func prefixLength(ip *libvirtxml.NetworkIP) (int, error) {
	if ip.Netmask == "" {
		if ip.Prefix == 0 {
			return 24, nil
		}
		return int(ip.Prefix), nil
	}
	mask, err := netip.ParseAddr(ip.Netmask)
	if err != nil || !mask.Is4() {
		return 0, fmt.Errorf("odd netmask %q", ip.Netmask)
	}
	b := mask.As4()
	return bits.LeadingZeros32(^binary.BigEndian.Uint32(b[:])), nil
}

// reserveHosts marks the addresses that the network keeps for machines.
func reserveHosts(ip *libvirtxml.NetworkIP, taken map[netip.Addr]bool) {
	if ip.DHCP == nil {
		return
	}
	for _, h := range ip.DHCP.Hosts {
		if a, err := netip.ParseAddr(h.IP); err == nil {
			taken[a] = true
		}
	}
}

// fromTop is the n-th free address of a network, counted down from its
// broadcast address.
func fromTop(p netip.Prefix, n int, taken map[netip.Addr]bool) (netip.Addr, error) {
	first := p.Masked().Addr()
	last := first.As4()
	binary.BigEndian.PutUint32(last[:], binary.BigEndian.Uint32(last[:])|(1<<(32-p.Bits())-1))
	for a := netip.AddrFrom4(last).Prev(); first.Less(a); a = a.Prev() {
		if taken[a] {
			continue
		}
		if n == 0 {
			return a, nil
		}
		n--
	}
	return netip.Addr{}, fmt.Errorf("no free address in %v", p.Masked())
}

// device is the link as a device of a domain.
func (l *link) device() libvirtxml.DomainInterface {
	d := libvirtxml.DomainInterface{
		Source: &libvirtxml.DomainInterfaceSource{Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: l.network}},
	}
	if l.address.IsValid() {
		d.IP = []libvirtxml.DomainInterfaceIP{{Address: l.address.Addr().String(), Family: "ipv4", Prefix: uint(l.address.Bits())}}
		d.Route = []libvirtxml.DomainInterfaceRoute{{Family: "ipv4", Address: "0.0.0.0", Prefix: 0, Gateway: l.gateway.String()}}
	}
	return d
}
