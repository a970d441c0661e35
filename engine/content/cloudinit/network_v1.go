package cloudinit

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"b9.build/b9/engine/content/yaml"
	"b9.build/b9/engine/near"
)

func networkV1() *rule {
	return tMap(rules{"version": tInt(), "config": tList(tKind(isMap).check(checkV1Type).anyOf(v1Types()...))}).needs("version", "config")
}

func v1TypeNames() []string {
	return []string{"physical", "bond", "bridge", "vlan", "loopback", "infiniband", "nameserver", "route"}
}

// checkV1Type checks the type before the table of that type applies.
func checkV1Type(n *yaml.Node) (name, problem string) {
	fields, _ := n.Value.(yaml.Fields)
	kind := fields.Get("type")
	if kind == nil {
		return findMissing, `the key "type" is missing (have ` + strings.Join(v1TypeNames(), ", ") + ")"
	}
	s, _ := kind.Value.(string)
	if slices.Contains(v1TypeNames(), s) {
		return "", ""
	}
	problem = fmt.Sprintf("unknown type %s (have %s)", kind.Show(), strings.Join(v1TypeNames(), ", "))
	problem += near.Hint(s, v1TypeNames())
	return findValue, problem
}

// v1Types is the tables of the types. An element is checked against the one
// whose type it has.
func v1Types() []*rule {
	device := func(kind string, more rules, needs ...string) *rule {
		f := rules{
			"type": tEnum(kind), "name": tText().check(checkDeviceName), "mac_address": tMAC(), "mtu": tKind(isInt | isNull), "subnets": tList(v1Subnet()), "accept-ra": tBool(),
			"params": tOpenMap(nil), "keep_configuration": tBool(), "wakeonlan": tBool(), "optional": tBool(), "config_id": tText(), "set-name": tText(),
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
		device("bond", rules{"bond_interfaces": tList(tText()), "params": v1BondParams()}, "bond_interfaces", "params"),
		device("bridge", rules{"bridge_interfaces": tList(tText()), "params": v1BridgeParams()}, "bridge_interfaces"),
		device("vlan", rules{"vlan_link": tText(), "vlan_id": tInt().from(0)}, "vlan_link", "vlan_id"),
		tMap(rules{"type": tEnum("nameserver"), "address": tTextOrList(tAddress(false)), "search": tTextOrList(tText()), "interface": tText()}).needs("type", "address"),
		tMap(rules{
			"type": tEnum("route"), "destination": tAddress(false), "netmask": tNetmask(), "gateway": tAddress(false), "metric": tInt(), "id": tInt(),
		}).needs("type", "destination", "gateway"),
	}
}

// checkDeviceName refuses names that the kernel can't have (IFNAMSIZ).
func checkDeviceName(n *yaml.Node) (name, problem string) {
	const most = 15
	if s, ok := n.Value.(string); ok && utf8.RuneCountInString(s) > most {
		return findValue, fmt.Sprintf("%q is longer than the %d characters that a network device's name can have", s, most)
	}
	return "", ""
}

// checkV1Route holds a route of a subnet to one destination.
func checkV1Route(n *yaml.Node) (name, problem string) {
	fields, ok := n.Value.(yaml.Fields)
	to, network := fields.Get("destination"), fields.Get("network")
	switch {
	case ok && to == nil && network == nil:
		return findMissing, `the key "destination" is missing`
	case to != nil && network != nil:
		return findValue, `a route has either a "destination" or a "network", which mean the same`
	}
	return "", ""
}

func v1Subnet() *rule {
	route := tMap(rules{
		"destination": tDestination(), "network": tDestination(), "netmask": tNetmask(), "prefix": tInt(), "gateway": tAddress(false), "metric": tInt(), "type": tEnum("route"),
	}).needs("gateway").check(checkV1Route)
	return tMap(rules{
		"type":    tEnum("dhcp", "dhcp4", "dhcp6", "static", "static6", "manual", "ipv6_dhcpv6-stateless", "ipv6_dhcpv6-stateful", "ipv6_slaac"),
		"address": tAddress(false), "netmask": tNetmask(), "broadcast": tAddress(false), "gateway": tAddress(false),
		"dns_nameservers": tTextOrList(tAddress(false)), "dns_search": tTextOrList(tText()), "control": tEnum("manual", "auto", "hotplug"), "scope": tText(), "pointopoint": tText(), "metric": tInt(),
		"mtu": tKind(isInt | isNull), "prefix": tInt(), "ipv4": tBool(), "ipv6": tBool(), "routes": tList(route),
	}).needs("type")
}

func bondModes() []any {
	return []any{"balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"}
}

// v1BondParams is the parameters of a bond. Names are those of the kernel,
// whose underscores may be dashes, too.
func v1BondParams() *rule {
	number, small := tInt(), tInt().from(0).to(255)
	textOrNumber := tKind(isText | isInt)
	all := rules{
		"mode":         tEnum(append(bondModes(), "balance-tcp", "balance-slb")...),
		"active_slave": tText(), "primary": tText(), "slaves": tText(), "ad_actor_system": tText(), "ad_partner_mac": tText(), "mii_status": tText(),
		"ad_select": tText(), "arp_all_targets": tText(), "fail_over_mac": tText(), "lacp_rate": tText(), "xmit_hash_policy": tText(),
		"ad_actor_key": textOrNumber, "ad_aggregator": textOrNumber, "ad_partner_key": textOrNumber, "ad_user_port_key": textOrNumber, "queue_id": textOrNumber,
		"resend_igmp": textOrNumber, "updelay": textOrNumber,
		"all_slaves_active": tKind(isText | isInt | isBool), "tlb_dynamic_lb": tKind(isText | isInt | isBool), "use_carrier": tKind(isText | isInt | isBool),
		"arp_ip_target": tTextOrList(tText()), "arp_validate": tKind(isText | isBool), "primary_reselect": tEnum("always", "better", "failure"),
		"ad_actor_sys_prio": number, "ad_num_ports": number, "arp_interval": number, "downdelay": number, "lp_interval": number, "learn_packet_interval": number, "miimon": number,
		"min_links": number, "peer_notif_delay": number, "num_grat_arp": small, "num_unsol_na": small, "packets_per_slave": tInt().from(0).to(65535),
	}
	keys := rules{}
	for name, r := range all {
		keys["bond-"+name] = r
		keys["bond-"+strings.ReplaceAll(name, "_", "-")] = r
	}
	return tMap(keys)
}

func v1BridgeParams() *rule {
	ports := tList(tText())
	return tMap(rules{
		"bridge_ageing": tInt(), "bridge_bridgeprio": tInt(), "bridge_fd": tInt(), "bridge_gcint": tInt(), "bridge_hello": tInt(), "bridge_hw": tText(), "bridge_maxage": tInt(), "bridge_maxwait": tInt(),
		"bridge_pathcost": ports, "bridge_portprio": ports, "bridge_waitport": ports, "bridge_ports": tTextOrList(tText()),
		"bridge_stp": tEnum("on", "off", true, false, int64(0), int64(1)),
	})
}
