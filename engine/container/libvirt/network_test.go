//go:build cgo && libvirt_dlopen

package libvirt

import (
	"net/netip"
	"testing"

	"libvirt.org/go/libvirtxml"
)

func TestPlanLink(t *testing.T) {
	net := &libvirtxml.Network{Name: "n", IPs: []libvirtxml.NetworkIP{
		{Address: "fd00::1", Family: "ipv6", Prefix: 64},
		{Address: "10.0.0.1", Netmask: "255.255.255.248", DHCP: &libvirtxml.NetworkDHCP{Hosts: []libvirtxml.NetworkDHCPHost{{IP: "10.0.0.5"}}}},
	}}
	taken := func() map[netip.Addr]bool { return map[netip.Addr]bool{netip.MustParseAddr("10.0.0.6"): true} }
	for number, want := range []string{"10.0.0.4/29", "10.0.0.3/29", "10.0.0.2/29"} {
		l, err := planLink(net, number, taken())
		if err != nil || l.address.String() != want || string(l.resolv) != "nameserver 10.0.0.1\n" {
			t.Errorf("slot %d: %+v, %v, want %s", number, l, err, want)
		}
	}
	if _, err := planLink(net, 3, taken()); err == nil || err.Error() != "network n: no free address in 10.0.0.0/29" {
		t.Errorf("got %v", err)
	}
	net.DNS = &libvirtxml.NetworkDNS{Enable: "no"}
	if l, err := planLink(net, 0, taken()); err != nil || l.resolv != nil {
		t.Errorf("got %+v, %v", l, err)
	}
	if l, err := planLink(&libvirtxml.Network{Name: "bridge"}, 0, taken()); err != nil || l.address.IsValid() {
		t.Errorf("got %+v, %v", l, err)
	}
}
