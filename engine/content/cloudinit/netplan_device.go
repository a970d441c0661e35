package cloudinit

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"b9.build/b9/engine/content/yaml"
)

// fail adds a mistake at a key of a device, or at the device where it has no such key.
func (p *netplan) fail(d *device, key, finding, format string, args ...any) {
	n, path := d.at(key)
	p.add(n, path, finding, format, args...)
}

// device checks the rules of one device.
func (p *netplan) device(d *device) {
	if d.fields.Get("set-name") != nil && d.fields.Get("match") == nil {
		p.fail(d, "set-name", findMissing, `set-name needs a match: that says which device gets the name`)
	}
	if d.fields.Get("ipv6-address-generation") != nil && d.fields.Get("ipv6-address-token") != nil {
		p.fail(d, "ipv6-address-token", findValue, "ipv6-address-generation and ipv6-address-token exclude each other")
	}
	p.routes(d)
	p.policies(d)
	switch d.kind {
	case "bonds":
		p.bond(d)
	case "bridges":
		p.bridge(d)
	case "ethernets":
		p.functions(d)
	case "nm-devices":
		p.functions(d)
		if fieldsOf(fieldsOf(d.fields.Get("networkmanager")).Get("passthrough")).Get("connection.type") == nil {
			p.fail(d, "networkmanager", findMissing, `a device of NetworkManager needs networkmanager: {passthrough: {connection.type: ...}}`)
		}
	case "tunnels":
		p.tunnel(d)
	case "vlans":
		p.reference(d, "link")
	case "virtual-ethernets":
		p.reference(d, "peer")
	case "vrfs":
		p.tables(d)
	case "wifis":
		if len(fieldsOf(d.fields.Get("access-points"))) == 0 {
			p.fail(d, "access-points", findMissing, `access-points has no network: give at least one`)
		}
	}
	p.rendered(d)
}

// routes checks where each route leads.
func (p *netplan) routes(d *device) {
	for i, n := range d.list("routes") {
		path := yaml.IndexPath(d.path+".routes", i)
		route := fieldsOf(n)
		p.families(route, path, "a route", "to", "via", "from")
		kind := strings.ToLower(scalarText(route.Get("type")))
		if kind == "" {
			kind = "unicast"
		}
		scope := strings.ToLower(scalarText(route.Get("scope")))
		global := scope == "global" || scope == "" && route.Get("via") != nil
		switch {
		case route.Get("to") == nil && (kind != "unicast" || scope != "global" || route.Get("via") == nil):
			p.add(n, path, findMissing, `the key "to" is missing`)
		case kind == "unicast" && global && (route.Get("via") == nil || route.Get("to") == nil):
			p.add(n, path, findMissing, `a global route leads "to" a network "via" a gateway: one of them is missing`)
		case scalarText(route.Get("to")) == "default" && route.Get("via") == nil && route.Get("from") == nil:
			p.add(n, path, findMissing, `nothing says whether "default" is of IPv4 or IPv6: give "via" or "from", or write 0.0.0.0/0 or ::/0`) // netplan crashes
		}
	}
}

// families checks that the addresses of some keys are all of IPv4 or all of IPv6.
func (p *netplan) families(fields yaml.Fields, path, what string, keys ...string) {
	first := ""
	for _, f := range fields {
		key, _ := f.Key.Value.(string)
		family := familyOf(scalarText(f.Value))
		switch {
		case !slices.Contains(keys, key) || family == "":
		case first == "":
			first = family
		case family != first:
			p.add(f.Value, yaml.JoinPath(path, f.Key), findValue, "%s is of %s, the address before it of %s: %s has one family", f.Value.Show(), family, first, what)
		}
	}
}

// familyOf is IPv4 or IPv6, and "" for what is no address.
func familyOf(s string) string {
	s, _, _ = strings.Cut(s, "/")
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil || a.Zone() != "":
		return ""
	case a.Is4():
		return "IPv4"
	}
	return "IPv6"
}

// policies checks the rules that choose tables of routes.
func (p *netplan) policies(d *device) {
	for i, n := range d.list("routing-policy") {
		path := yaml.IndexPath(d.path+".routing-policy", i)
		rule := fieldsOf(n)
		p.families(rule, path, "a rule", "from", "to")
		if rule.Get("from") == nil && rule.Get("to") == nil {
			p.add(n, path, findMissing, `a rule needs a "from" or a "to"`)
		}
	}
}

// tables checks that what a vrf routes is in its own table.
func (p *netplan) tables(d *device) {
	for _, key := range []string{"routes", "routing-policy"} {
		for i, n := range d.list(key) {
			table := fieldsOf(n).Get("table")
			if table == nil || scalarText(table) == d.text("table") {
				continue
			}
			report := p.advise // netplan takes it up to 0.106
			if key == "routes" {
				report = func(n *yaml.Node, path, format string, args ...any) { p.add(n, path, findValue, format, args...) }
			}
			report(table, yaml.IndexPath(d.path+"."+key, i)+".table", "the vrf has the table %s: leave this one out, or write the same", d.text("table"))
		}
	}
}

func (p *netplan) bond(d *device) {
	parameters := fieldsOf(d.fields.Get("parameters"))
	if primary := parameters.Get("primary"); primary != nil {
		p.refer(primary, d.path+".parameters.primary")
	}
	if d.renderer != openVSwitch {
		return
	}
	members := 0
	for _, m := range p.devices {
		if m.member == d {
			members++
		}
	}
	switch mode := scalarText(parameters.Get("mode")); {
	case d.member == nil:
		p.add(d.key, d.path, findValue, "a bond of Open vSwitch needs a bridge that it is one of the interfaces of")
	case members < 2:
		p.fail(d, "interfaces", findValue, "a bond of Open vSwitch needs two interfaces, there are %d", members)
	case mode != "" && !slices.Contains([]string{"active-backup", "balance-tcp", "balance-slb"}, mode):
		p.fail(d, "parameters", findValue, "Open vSwitch has no mode %q (have active-backup, balance-tcp, balance-slb)", mode)
	}
}

func (p *netplan) bridge(d *device) {
	parameters := fieldsOf(d.fields.Get("parameters"))
	for _, key := range []string{"path-cost", "port-priority"} {
		for _, f := range fieldsOf(parameters.Get(key)) {
			p.refer(f.Key, yaml.JoinPath(d.path+".parameters."+key, f.Key))
		}
	}
	controller := fieldsOf(fieldsOf(d.fields.Get("openvswitch")).Get("controller"))
	ssl := fieldsOf(p.global.Get("ssl"))
	list, _ := valueOf(controller.Get("addresses")).([]*yaml.Node)
	for i, n := range list {
		target := scalarText(n)
		if (strings.HasPrefix(target, "ssl:") || strings.HasPrefix(target, "pssl:")) && (ssl.Get("ca-cert") == nil || ssl.Get("certificate") == nil || ssl.Get("private-key") == nil) {
			p.add(n, yaml.IndexPath(d.path+".openvswitch.controller.addresses", i), findMissing, "%q needs openvswitch: {ssl: {ca-cert: ..., certificate: ..., private-key: ...}} beside the devices", target)
		}
	}
}

// functions checks what only a card with virtual functions (SR-IOV) has.
func (p *netplan) functions(d *device) {
	p.reference(d, "link")
	if d.kind != "ethernets" || d.fields.Get("virtual-function-count") != nil {
		return
	}
	linked := slices.ContainsFunc(p.devices, func(o *device) bool {
		return (o.kind == "ethernets" || o.kind == "nm-devices") && o.fields.Get("link") != nil && o.text("link") == d.name
	})
	for _, key := range []string{"embedded-switch-mode", "delay-virtual-functions-rebind"} {
		n := d.fields.Get(key)
		if n != nil && !linked && (key == "embedded-switch-mode" || flag(n)) {
			p.fail(d, key, findMissing, `%s is for a card with virtual functions: give virtual-function-count, or a device with "link" to this one`, key)
		}
	}
}

// wirelessKey is a key that a passphrase was turned into already.
var wirelessKey = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[0-9a-fA-F]{64}$`)
})

// passphrase checks a password that everybody in the network has.
func (p *netplan) passphrase(n *yaml.Node, path string) {
	s := scalarText(n)
	if n != nil && (len(s) < 8 || len(s) > 63) && !wirelessKey().MatchString(s) {
		p.add(n, path, findValue, "the password has %d characters: give 8 to 63, or 64 hexadecimal digits", len(s))
	}
}

// channel reports whether networkd knows the channel of a band.
func channel(band string, n int) bool {
	if strings.HasPrefix(band, "2.4") {
		return n >= 1 && n <= 14
	}
	known := []int{7, 8, 9, 11, 12, 16, 32, 68, 96, 149, 151, 153, 155, 157, 159, 161, 165, 169, 173}
	return slices.Contains(known, n) || n%2 == 0 && (n >= 34 && n <= 64 || n >= 100 && n <= 128 || n >= 132 && n <= 144)
}

// number is the value of a scalar that is a number.
func number(n *yaml.Node) (int, bool) {
	v, err := strconv.Atoi(scalarText(n))
	return v, n != nil && err == nil
}
