package content

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// CheckNetworkConfig finds the mistakes in a network configuration of version
// 1 or 2, which may also stand below the key "network", and joins to them the
// warnings of reading it.
func CheckNetworkConfig(n *Node, warnings []Finding) []Finding {
	path := ""
	if fields, ok := n.Value.(Fields); ok && fields.get("network") != nil {
		n, path = fields.get("network"), "network"
	}
	c := &ruleCheck{work: maxChecked}
	if r := c.networkVersion(n, path); r != nil {
		c.apply(r, n, path)
	}
	for _, w := range warnings {
		if !c.settled[w.Place] {
			c.findings = append(c.findings, w)
		}
	}
	return c.findings
}

// networkVersion chooses the table; nil after a mistake, or where the network
// is not to be configured at all.
func (c *ruleCheck) networkVersion(n *Node, path string) *rule {
	fields, ok := n.Value.(Fields)
	if !ok {
		c.add(n, path, findType, "want a mapping, got %s", n.kindOf())
		return nil
	}
	if config := fields.get("config"); config != nil && config.Value == any("disabled") {
		return nil
	}
	version := fields.get("version")
	switch {
	case version == nil:
		c.add(n, path, findMissing, `the key "version" is missing: give 1 or 2`)
	case version.Value == any(int64(1)):
		return networkV1()
	case version.Value == any(int64(2)):
		return networkV2()
	default:
		c.add(version, joinPath(path, &Node{Value: "version"}), findValue, "unknown version %s (have 1, 2)", version.show())
	}
	return nil
}

var macForm = regexp.MustCompile(`^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}(:[0-9a-fA-F]{2}){0,14}$`)

func tMAC() *rule { return tText().check(checkMAC) }

func checkMAC(n *Node) (name, problem string) {
	if n.surprise != nil {
		return findType, "want text: " + n.explain()
	}
	if s, ok := n.Value.(string); ok && !macForm.MatchString(s) {
		return findValue, fmt.Sprintf("%q is no MAC address: write it as \"52:54:00:12:34:56\"", s)
	}
	return "", ""
}

// tAddress is an IP address; prefix asks for a prefix length behind it.
func tAddress(prefix bool) *rule {
	return tText().check(func(n *Node) (name, problem string) {
		s, ok := n.Value.(string)
		if !ok || s == "" {
			return "", ""
		}
		if _, err := netip.ParsePrefix(s); err == nil {
			return "", ""
		}
		if _, err := netip.ParseAddr(s); err == nil && !prefix {
			return "", ""
		} else if err == nil {
			return findValue, fmt.Sprintf("%q has no prefix length: write it as %q", s, s+map[bool]string{true: "/64", false: "/24"}[strings.Contains(s, ":")])
		}
		return findValue, fmt.Sprintf("%q is no IP address", s)
	})
}

// tNetmask is an address mask or a prefix length.
func tNetmask() *rule {
	return tKind(isText | isInt).check(func(n *Node) (name, problem string) {
		s, ok := n.Value.(string)
		if !ok {
			return "", ""
		}
		length, err := strconv.Atoi(s)
		if _, bad := netip.ParseAddr(s); bad == nil || err == nil && length >= 0 && length <= 128 {
			return "", ""
		}
		return findValue, fmt.Sprintf("%q is no netmask: write it as \"255.255.255.0\" or 24", s)
	})
}

// tDestination is where a route leads.
func tDestination() *rule {
	address := tAddress(false)
	return tText().check(func(n *Node) (name, problem string) {
		if n.Value == any("default") {
			return "", ""
		}
		return address.also(n)
	})
}

func tTextOrList(item *rule) *rule { return tKind(isText | isList).each(item) }

func networkV1() *rule {
	return tMap(rules{"version": tInt(), "config": tList(tKind(isMap).check(checkV1Type).anyOf(v1Types()...))}).needs("version", "config")
}

func v1TypeNames() []string {
	return []string{"physical", "bond", "bridge", "vlan", "loopback", "infiniband", "nameserver", "route"}
}

// checkV1Type looks at the type before the table of that type applies.
func checkV1Type(n *Node) (name, problem string) {
	fields, _ := n.Value.(Fields)
	kind := fields.get("type")
	if kind == nil {
		return findMissing, `the key "type" is missing (have ` + strings.Join(v1TypeNames(), ", ") + ")"
	}
	s, _ := kind.Value.(string)
	if slices.Contains(v1TypeNames(), s) {
		return "", ""
	}
	problem = fmt.Sprintf("unknown type %s (have %s)", kind.show(), strings.Join(v1TypeNames(), ", "))
	if near := Nearest(s, v1TypeNames()); near != "" {
		problem += fmt.Sprintf(": did you mean %q?", near)
	}
	return findValue, problem
}

// v1Types is the tables of the types. An element is checked against the one
// whose type it has.
func v1Types() []*rule {
	device := func(kind string, more rules, needs ...string) *rule {
		f := rules{
			"type": tEnum(kind), "name": tText(), "mac_address": tMAC(), "mtu": tKind(isInt | isNull), "subnets": tList(v1Subnet()), "accept-ra": tBool(),
			"params": tOpenMap(nil), "keep_configuration": tAny(), "wakeonlan": tBool(), "set-name": tText(),
		}
		for key, r := range more {
			f[key] = r
		}
		return tMap(f).needs(append([]string{"type", "name"}, needs...)...)
	}
	return []*rule{
		device("physical", nil),
		device("loopback", nil),
		device("infiniband", nil),
		device("bond", rules{"bond_interfaces": tList(tText())}),
		device("bridge", rules{"bridge_interfaces": tList(tText())}),
		device("vlan", rules{"vlan_link": tText(), "vlan_id": tInt().from(0)}, "vlan_link", "vlan_id"),
		tMap(rules{"type": tEnum("nameserver"), "address": tTextOrList(tAddress(false)), "search": tTextOrList(tText()), "interface": tText()}).needs("type", "address"),
		tMap(rules{
			"type": tEnum("route"), "destination": tAddress(false), "netmask": tNetmask(), "gateway": tAddress(false), "metric": tInt(), "id": tInt(),
		}).needs("type", "destination"),
	}
}

func v1Subnet() *rule {
	return tMap(rules{
		"type":    tEnum("dhcp", "dhcp4", "dhcp6", "static", "static6", "manual", "ipv6_dhcpv6-stateless", "ipv6_dhcpv6-stateful", "ipv6_slaac"),
		"address": tAddress(false), "netmask": tNetmask(), "broadcast": tAddress(false), "gateway": tAddress(false),
		"dns_nameservers": tTextOrList(tAddress(false)), "dns_search": tTextOrList(tText()), "control": tEnum("manual", "auto", "hotplug"), "scope": tText(), "pointopoint": tText(), "metric": tInt(),
		"ipv4": tBool(), "ipv6": tBool(),
		"routes": tList(tMap(rules{
			"destination": tDestination(), "network": tDestination(), "to": tDestination(), "netmask": tNetmask(), "prefix": tInt(), "gateway": tAddress(false), "via": tAddress(false), "metric": tInt(), "type": tText(),
		})),
	}).needs("type")
}

func networkV2() *rule {
	devices := func(more rules, needs ...string) *rule {
		f := v2Device()
		for key, r := range more {
			f[key] = r
		}
		return tOpenMap(nil).others(tMap(f).needs(needs...))
	}
	parameters := tOpenMap(nil)
	return tMap(rules{
		"version":   tInt(),
		"renderer":  v2Renderer(),
		"ethernets": devices(rules{"match": v2Match(), "set-name": tText(), "wakeonlan": tBool(), "virtual-function-count": tInt(), "link": tText()}),
		"bonds":     devices(rules{"interfaces": tList(tText()), "parameters": parameters}),
		"bridges":   devices(rules{"interfaces": tList(tText()), "parameters": parameters}),
		"vlans":     devices(rules{"id": tInt().from(0), "link": tText()}, "id", "link"),
		"wifis":     devices(rules{"match": v2Match(), "access-points": parameters, "wakeonlan": tAny(), "regulatory-domain": tText()}),
		"tunnels":   tOpenMap(nil), "modems": tOpenMap(nil), "vrfs": tOpenMap(nil), "dummy-devices": tOpenMap(nil), "nm-devices": tOpenMap(nil), "openvswitch": tOpenMap(nil),
	}).needs("version")
}

func v2Renderer() *rule { return tEnum("networkd", "NetworkManager", "sriov") }

func v2Match() *rule {
	return tMap(rules{"name": tText(), "macaddress": tMAC(), "driver": tTextOrList(tText())})
}

// v2Switch is a bool, or one of the two words that netplan takes for one.
func v2Switch() *rule {
	return tKind(isBool | isText).check(func(n *Node) (name, problem string) {
		if s, ok := n.Value.(string); ok && s != "yes" && s != "no" {
			return findType, "want bool, got text"
		}
		return "", ""
	})
}

// v2Device is what all kinds of devices have.
func v2Device() rules {
	overrides := tMap(rules{
		"hostname": tText(), "route-metric": tInt(), "send-hostname": tBool(), "use-dns": tBool(), "use-domains": tKind(isBool | isText), "use-hostname": tBool(),
		"use-mtu": tBool(), "use-ntp": tBool(), "use-routes": tBool(),
	})
	address := tAddress(true)
	return rules{
		"renderer": v2Renderer(), "dhcp4": v2Switch(), "dhcp6": v2Switch(), "dhcp4-overrides": overrides, "dhcp6-overrides": overrides, "dhcp-identifier": tText(),
		"accept-ra": tBool(), "addresses": tList(tKind(isText | isMap).check(address.also)), "gateway4": tAddress(false), "gateway6": tAddress(false), "mtu": tInt(),
		"nameservers": tMap(rules{"search": tList(tText()), "addresses": tList(tAddress(false))}),
		"routes": tList(tMap(rules{
			"to": tDestination(), "via": tAddress(false), "from": tAddress(false), "metric": tInt(), "on-link": tBool(), "type": tText(), "scope": tText(), "table": tInt(),
			"mtu": tInt(), "congestion-window": tInt(), "advertised-receive-window": tInt(),
		}).needs("to")),
		"routing-policy": tList(tOpenMap(nil)), "macaddress": tMAC(), "optional": tBool(), "optional-addresses": tList(tText()), "critical": tBool(),
		"link-local": tList(tEnum("ipv4", "ipv6")), "ipv6-privacy": tBool(), "ipv6-mtu": tInt(), "ipv6-address-generation": tText(), "ipv6-address-token": tText(),
		"emit-lldp": tBool(), "activation-mode": tEnum("manual", "off"), "ignore-carrier": tBool(), "auth": tOpenMap(nil), "neigh-suppress": tBool(),
		"networkmanager": tOpenMap(nil), "openvswitch": tOpenMap(nil), "hairpin": tBool(), "port-mac-learning": tBool(),
	}
}
