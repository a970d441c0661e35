package cloudinit

import (
	"fmt"
	"maps"

	"b9.build/b9/engine/content/yaml"
)

func networkV2() *rule {
	devices := func(more rules, needs ...string) *rule {
		f := v2Device()
		maps.Copy(f, more)
		return tOpenMap(nil).others(tMap(f).needs(needs...))
	}
	return tMap(rules{
		"version":   tInt(),
		"renderer":  v2Renderer(),
		"ethernets": devices(v2Ethernet()),
		"bonds":     devices(rules{"interfaces": tList(tText()), "parameters": v2BondParameters()}),
		"bridges":   devices(rules{"interfaces": tList(tText()), "parameters": v2BridgeParameters()}),
		"vlans":     devices(rules{"id": tInt().from(0).to(4094), "link": tText()}, "id", "link"),
		"wifis":     devices(rules{"match": v2Match(), "set-name": tText(), "access-points": tOpenMap(nil), "wakeonlan": tAny(), "wakeonwlan": tList(tText()), "regulatory-domain": tText()}),
		"tunnels":   tOpenMap(nil), "modems": tOpenMap(nil), "vrfs": tOpenMap(nil), "dummy-devices": tOpenMap(nil), "nm-devices": tOpenMap(nil), "openvswitch": tOpenMap(nil),
	}).needs("version")
}

// v2Ethernet is what only real devices have.
func v2Ethernet() rules {
	f := rules{
		"match": v2Match(), "set-name": tText(), "wakeonlan": tBool(), "link": tText(), "virtual-function-count": tInt(), "delay-virtual-functions-rebind": tBool(),
		"embedded-switch-mode": tEnum("switchdev", "legacy"), "infiniband-mode": tEnum("datagram", "connected"),
	}
	for _, what := range []string{
		"receive-checksum", "transmit-checksum", "tcp-segmentation", "tcp6-segmentation", "generic-segmentation", "generic-receive", "large-receive",
	} {
		f[what+"-offload"] = tBool()
	}
	return f
}

// v2Time is a number of seconds or milliseconds, which may have its unit.
func v2Time() *rule { return tKind(isInt | isText).match(`^[0-9]+ ?(us|ms|s|min)?$`) }

func v2BondParameters() *rule {
	active := tBool()
	packets, gratuitous := tInt().from(0).to(65535), tInt().from(0).to(255)
	return tMap(rules{
		"mode": tEnum(append(bondModes(), "balance-tcp", "balance-slb")...), "lacp-rate": tEnum("fast", "slow"), "mii-monitor-interval": v2Time(), "min-links": tInt(),
		"transmit-hash-policy": tEnum("layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4"), "ad-select": tEnum("stable", "bandwidth", "count"),
		"all-slaves-active": active, "all-members-active": active, "arp-interval": v2Time(), "arp-ip-targets": tList(tAddress(false)),
		"arp-validate": tEnum("none", "active", "backup", "all"), "arp-all-targets": tEnum("any", "all"), "up-delay": v2Time(), "down-delay": v2Time(),
		"fail-over-mac-policy": tEnum("none", "active", "follow"), "gratuitous-arp": gratuitous, "gratuitious-arp": gratuitous, "packets-per-slave": packets, "packets-per-member": packets,
		"primary-reselect-policy": tEnum("always", "better", "failure"), "resend-igmp": tInt().from(0).to(255), "learn-packet-interval": v2Time(), "primary": tText(),
	})
}

func v2BridgeParameters() *rule {
	ports := tOpenMap(nil).others(tInt())
	return tMap(rules{
		"ageing-time": v2Time(), "aging-time": v2Time(), "forward-delay": v2Time(), "hello-time": v2Time(), "max-age": v2Time(),
		"priority": tInt().from(0).to(65535), "path-cost": ports, "port-priority": ports, "stp": tBool(),
	})
}

func v2Renderer() *rule { return tEnum("networkd", "NetworkManager", "sriov") }

func v2Match() *rule {
	return tMap(rules{"name": tText(), "macaddress": tMAC(), "driver": tTextOrList(tText())})
}

// v2Switch is a bool, or one of the two words that netplan reads as one.
func v2Switch() *rule {
	return tKind(isBool | isText).check(func(n *yaml.Node) (name, problem string) {
		if s, ok := n.Value.(string); ok && s != "yes" && s != "no" {
			return findType, "want bool, got text"
		}
		return "", ""
	})
}

func v2Policy() *rule {
	return tMap(rules{"from": tDestination(), "to": tDestination(), "table": tInt(), "priority": tInt(), "mark": tInt(), "type-of-service": tInt()})
}

// v2Address is an address, or a mapping of one address to what goes with it.
func v2Address() *rule {
	address := tAddress(true)
	options := tMap(rules{"label": tText(), "lifetime": tEnum("forever", int64(0))})
	return tKind(isText | isMap).others(options).check(func(n *yaml.Node) (name, problem string) {
		fields, ok := n.Value.(yaml.Fields)
		switch {
		case !ok:
			return address.also(n)
		case len(fields) != 1:
			return findValue, fmt.Sprintf("want one address with its options, got a mapping of %d", len(fields))
		}
		return address.also(fields[0].Key)
	})
}

// v2Device is what all kinds of devices have.
func v2Device() rules {
	overrides := tMap(rules{
		"hostname": tText(), "route-metric": tInt(), "send-hostname": tBool(), "use-dns": tBool(), "use-domains": tEnum(true, false, "route"), "use-hostname": tBool(),
		"use-mtu": tBool(), "use-ntp": tBool(), "use-routes": tBool(),
	})
	return rules{
		"renderer": v2Renderer(), "dhcp4": v2Switch(), "dhcp6": v2Switch(), "dhcp4-overrides": overrides, "dhcp6-overrides": overrides, "dhcp-identifier": tText(),
		"accept-ra": tBool(), "addresses": tList(v2Address()), "gateway4": tAddress(false), "gateway6": tAddress(false), "mtu": tInt(),
		"nameservers": tMap(rules{"search": tList(tText()), "addresses": tList(tAddress(false))}),
		"routes": tList(tMap(rules{
			"to": tDestination(), "via": tAddress(false), "from": tAddress(false), "metric": tInt(), "on-link": tBool(), "type": tText(), "scope": tText(), "table": tInt(),
			"mtu": tInt(), "congestion-window": tInt(), "advertised-receive-window": tInt(),
		}).needs("to")),
		"routing-policy": tList(v2Policy()), "macaddress": tMAC(), "optional": tBool(), "optional-addresses": tList(tText()), "critical": tBool(),
		"link-local": tList(tEnum("ipv4", "ipv6")), "ipv6-privacy": tBool(), "ipv6-mtu": tInt(), "ipv6-address-generation": tText(), "ipv6-address-token": tText(),
		"emit-lldp": tBool(), "activation-mode": tEnum("manual", "off"), "ignore-carrier": tBool(), "auth": tOpenMap(nil), "neigh-suppress": tBool(),
		"networkmanager": tOpenMap(nil), "openvswitch": tOpenMap(nil), "hairpin": tBool(), "port-mac-learning": tBool(),
	}
}
