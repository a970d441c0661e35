package cloudinit

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// entry is a key of a mapping, mapping a mapping in the order it is written in.
type entry struct {
	key   string
	value any // mapping, []any or a scalar
}
type mapping []entry

func (o mapping) MarshalJSON() ([]byte, error) {
	var b strings.Builder
	b.WriteByte('{')
	for i, e := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		key, _ := json.Marshal(e.key)
		value, err := json.Marshal(e.value)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s:%s", key, value)
	}
	return []byte(b.String() + "}"), nil
}

// yamlOf is a document as YAML; JSON is YAML, too.
func yamlOf(o mapping) string {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return string(text) + "\n"
}

func (o mapping) get(key string) any {
	for _, e := range o {
		if e.key == key {
			return e.value
		}
	}
	return nil
}

// planner makes network configurations that netplan 0.106 takes, most of them.
type planner struct {
	*rand.Rand
	names []string // of devices that may be referred to
	free  []string // those that belong to no bridge or bond yet
	used  int
	keys  map[string]bool // every key that was written, with what it is a key of
}

func pick[T any](p *planner, list ...T) T { return list[p.IntN(len(list))] }

// netplanSchema is the keys of netplan 0.106 with what their values are; see value.
func netplanSchema() map[string]string {
	common := `accept-ra flag, activation-mode manual|off, addresses [prefixed], critical flag, ignore-carrier flag, dhcp4 flag, dhcp6 flag,
dhcp-identifier mac|duid, dhcp4-overrides {overrides}, dhcp6-overrides {overrides}, gateway4 ip4, gateway6 ip6, ipv6-address-generation eui64,
ipv6-address-token ip6, ipv6-mtu number, ipv6-privacy flag, link-local [ipv4|ipv6], macaddress mac, mtu number, nameservers {nameservers},
optional flag, optional-addresses [ipv4-ll|ipv6-ra|dhcp4|dhcp6|static], renderer networkd, routes [{route}], routing-policy [{policy}], neigh-suppress flag`
	backend := `, renderer networkd`
	physical := common + `, match {match}, set-name word, wakeonlan flag, wakeonwlan [any|disconnect|magic_pkt|gtk_rekey_failure|eap_identity_req|four_way_handshake|rfkill_release],
emit-lldp flag, receive-checksum-offload flag, transmit-checksum-offload flag, tcp-segmentation-offload flag, tcp6-segmentation-offload flag,
generic-segmentation-offload flag, generic-receive-offload flag, large-receive-offload flag`
	return map[string]string{
		"ethernets":  physical + `, auth {auth}, link ref, virtual-function-count number, embedded-switch-mode switchdev|legacy, delay-virtual-functions-rebind flag, infiniband-mode datagram|connected`,
		"wifis":      physical + `, auth {auth}, regulatory-domain word`,
		"modems":     physical + `, apn word, auto-config flag, device-id word, network-id word, number word, password word, pin word, sim-id word, sim-operator-id word, username word`,
		"nm-devices": physical,
		"bridges":    common + `, parameters {bridge}`,
		"bonds":      common + `, parameters {bond}`,
		"vlans":      common,
		"tunnels":    common + `, mark number`,
		"vrfs":       backend + `, routes [{route}], routing-policy [{policy}]`,
		"bridge":     `ageing-time time, aging-time time, forward-delay time, hello-time time, max-age time, priority number, stp flag`,
		"bond": `mode balance-rr|active-backup|balance-xor|broadcast|802.3ad|balance-tlb|balance-alb, lacp-rate slow|fast, mii-monitor-interval time, min-links number,
transmit-hash-policy layer2|layer3+4|encap2+3, ad-select stable|bandwidth|count, all-slaves-active flag, all-members-active flag, arp-interval time, arp-ip-targets [ip4],
arp-validate none|active|backup|all, arp-all-targets any|all, up-delay time, down-delay time, fail-over-mac-policy none|active|follow, gratuitous-arp number,
gratuitious-arp number, packets-per-slave number, packets-per-member number, primary-reselect-policy always|better|failure, resend-igmp number, learn-packet-interval time`,
		"overrides":   `hostname word, route-metric number, send-hostname flag, use-dns flag, use-domains route|true, use-hostname flag, use-mtu flag, use-ntp flag, use-routes flag`,
		"nameservers": `search [word], addresses [ip]`,
		"match":       `driver word, macaddress mac, name word`,
		"auth": `key-management none|eap|802.1x, method tls|peap|ttls, identity word, anonymous-identity word, password word, ca-certificate word, client-certificate word,
client-key word, client-key-password word, phase2-auth word`,
		"point":          `band 5GHz|2.4GHz|5G|2.4G, bssid mac, hidden flag, mode infrastructure|adhoc, auth {auth}`,
		"networkmanager": `name word, uuid word, stable-id word, device word`,
		"vxlan": `ageing number, aging number, limit number, type-of-service number, flow-label number, do-not-fragment flag, short-circuit flag, arp-proxy flag, mac-learning flag,
notifications [l2-miss|l3-miss], checksums [udp|zero-udp6-tx|zero-udp6-rx|remote-tx|remote-rx], extensions [group-policy|generic-protocol], ttl number, link ref`,
		"peer":         `keepalive number, endpoint endpoint`,
		"switch":       `fail-mode standalone|secure, mcast-snooping flag, rstp flag, protocols [OpenFlow10|OpenFlow13|OpenFlow15], controller {controller}`,
		"controller":   `addresses [target], connection-mode in-band|out-of-band`,
		"extra":        `external-ids {ids}, other-config {ids}`,
		"ids":          `iface-id word, disable-in-band true`,
		"switches":     `external-ids {ids}, other-config {ids}, protocols [OpenFlow12|OpenFlow14], ssl {ssl}`,
		"ssl":          `ca-cert word, certificate word, private-key word`,
		"routeoptions": `on-link flag, table number, metric number, mtu number, congestion-window number, advertised-receive-window number`,
	}
}

// some makes a mapping with some of the keys of a part of the schema.
func (p *planner) some(part string, chance float64) mapping {
	var o mapping
	for field := range strings.SplitSeq(netplanSchema()[part], ",") {
		key, kind, ok := strings.Cut(strings.TrimSpace(field), " ")
		if ok && p.Float64() < chance {
			p.keys[part+"."+key] = true
			o = append(o, entry{key, p.value(kind)})
		}
	}
	p.Shuffle(len(o), func(i, j int) { o[i], o[j] = o[j], o[i] })
	return o
}

// value makes a value: of a kind, one of several words, [a list] or {a part}.
func (p *planner) value(kind string) any {
	if inner, ok := strings.CutPrefix(kind, "["); ok {
		list := []any{}
		for range 1 + p.IntN(3) {
			list = append(list, p.value(strings.TrimSuffix(inner, "]")))
		}
		return list
	}
	if part, ok := strings.CutPrefix(kind, "{"); ok {
		switch part = strings.TrimSuffix(part, "}"); part {
		case "route":
			return p.route()
		case "policy":
			return p.policy()
		}
		return p.some(part, 0.4)
	}
	switch kind {
	case "flag":
		return pick[any](p, true, false, "yes", "no", "on", "off", "True", "n")
	case "number":
		return pick[any](p, 0, 1, 7, 42, 255, "100")
	case "time":
		return pick[any](p, 4, 100, "100", "5ms")
	case "word":
		return pick[any](p, "word", "a.b", "x_1", "eth", 17)
	case "mac":
		return pick(p, "52:54:00:12:34:56", "00:11:22:AA:BB:cc")
	case "ip":
		return p.value(pick(p, "ip4", "ip6"))
	case "ip4":
		return fmt.Sprintf("192.0.2.%d", p.IntN(256))
	case "ip6":
		return fmt.Sprintf("2001:db8::%x", p.IntN(65536))
	case "prefixed":
		return p.prefixed()
	case "ref":
		return pick(p, p.names...)
	case "endpoint":
		return pick(p, "1.2.3.4:5005", "[2001:fe:ad:de:ad:be:ef:11]:5", "example.org:51820")
	case "target":
		return pick(p, "tcp:127.0.0.1:1337", "ptcp:6653:[fe80::1234%eth0]", "unix:/some/socket", "tcp:[fe80::1]", "ptcp:", "punix:/x")
	}
	return pick(p, strings.Split(kind, "|")...)
}

func (p *planner) prefixed() any {
	a := fmt.Sprintf("%s/%d", p.value("ip4"), 1+p.IntN(32))
	if p.IntN(3) == 0 {
		a = fmt.Sprintf("%s/%d", p.value("ip6"), 1+p.IntN(128))
	}
	if p.IntN(4) > 0 {
		return a
	}
	p.keys["address.label"], p.keys["address.lifetime"] = true, true
	return mapping{{a, mapping{{"label", "a:1"}, {"lifetime", pick[any](p, "forever", 0)}}}}
}

func (p *planner) route() mapping {
	family := pick(p, "ip4", "ip6")
	o := mapping{{"to", fmt.Sprintf("%s/%d", p.value(family), p.IntN(33))}}
	if p.IntN(4) == 0 {
		o[0].value = "default"
	}
	if p.IntN(3) > 0 {
		o = append(o, entry{"via", p.value(family)})
	} else {
		o = append(o, entry{"scope", pick(p, "link", "host")})
	}
	if p.IntN(3) == 0 {
		o = append(o, entry{"from", p.value(family)})
	}
	if p.IntN(3) == 0 {
		o = append(o, entry{"type", pick(p, "unicast", "local", "blackhole", "nat", "anycast", "throw", "unreachable", "prohibit", "multicast", "broadcast", "xresolve")})
	}
	p.note("route", o)
	return append(o, p.some("routeoptions", 0.2)...)
}

func (p *planner) policy() mapping {
	family := pick(p, "ip4", "ip6")
	o := mapping{{pick(p, "from", "to"), p.value(family)}, {"table", 70 + p.IntN(5)}, {"priority", p.IntN(100)}, {"mark", p.IntN(9)}, {"type-of-service", p.IntN(256)}}
	p.note("policy", o)
	return o
}

func (p *planner) note(part string, o mapping) {
	for _, e := range o {
		p.keys[part+"."+e.key] = true
	}
}

// without removes keys from a mapping.
func without(o mapping, keys ...string) mapping {
	return slices.DeleteFunc(o, func(e entry) bool { return slices.Contains(keys, e.key) })
}

// join adds a key that some rule asks for.
func (p *planner) join(part string, o *mapping, key string, value any) {
	*o = append(without(*o, key), entry{key, value})
	p.keys[part+"."+key] = true
}

// device makes a device of a kind, with what the rules between keys ask for.
func (p *planner) device(kind string) mapping {
	o := p.some(kind, 0.12)
	if o.get("ipv6-address-token") != nil {
		o = without(o, "ipv6-address-generation")
	}
	if o.get("set-name") != nil && o.get("match") == nil {
		p.join(kind, &o, "match", p.some("match", 0.7))
	}
	if o.get("dhcp4-overrides") != nil {
		p.join(kind, &o, "dhcp6-overrides", o.get("dhcp4-overrides"))
	} else {
		o = without(o, "dhcp6-overrides")
	}
	if o.get("virtual-function-count") == nil {
		o = without(o, "embedded-switch-mode", "delay-virtual-functions-rebind")
	}
	switch kind {
	case "wifis":
		o = p.wifi(o)
	case "modems", "nm-devices":
		return p.managed(kind, o, mapping{{"connection.type", "gsm"}, {"a.b", "c"}})
	case "bonds", "bridges", "vrfs":
		o = p.group(kind, o)
	case "vlans":
		p.join(kind, &o, "id", p.IntN(4095))
		p.join(kind, &o, "link", pick(p, p.names...))
	case "tunnels":
		o = p.tunnel(o)
	}
	if kind != "vrfs" && o.get("openvswitch") == nil && !slices.Contains([]any{"gretap", "ip6gretap"}, o.get("mode")) && p.IntN(8) == 0 {
		o = p.managed(kind, o, nil)
	}
	return o
}

func (p *planner) wifi(o mapping) mapping {
	o = without(o, "match", "set-name")
	var points mapping
	for i := range 1 + p.IntN(2) {
		point := p.some("point", 0.4)
		if point.get("band") != nil {
			p.join("point", &point, "channel", map[byte]int{'5': 36, '2': 11}[point.get("band").(string)[0]])
		}
		if point.get("auth") == nil && p.IntN(2) == 0 {
			p.join("point", &point, "password", "s3cret passphrase")
		}
		points = append(points, entry{fmt.Sprintf("net%d", i), point})
	}
	p.join("wifis", &o, "access-points", points)
	return o
}

// managed makes a device one that NetworkManager sets up.
func (p *planner) managed(kind string, o, passthrough mapping) mapping {
	o = without(o, "ipv6-mtu", "activation-mode", "match", "set-name", "routes", "addresses")
	if keys, ok := o.get("keys").(mapping); ok && keys.get("private") != nil {
		o = append(without(o, "keys"), entry{"key", wireguardExample}) // it reads no file
	}
	p.join(kind, &o, "renderer", "NetworkManager")
	settings := p.some("networkmanager", 0.5)
	if passthrough != nil {
		p.join("networkmanager", &settings, "passthrough", passthrough)
	}
	p.join(kind, &o, "networkmanager", settings)
	return o
}

// take removes a device from those that belong to nothing yet.
func (p *planner) take() []any {
	var taken []any
	for range min(len(p.free), 1+p.IntN(2)) {
		i := p.IntN(len(p.free))
		taken = append(taken, p.free[i])
		p.free = slices.Delete(p.free, i, i+1)
	}
	return taken
}

func (p *planner) group(kind string, o mapping) mapping {
	if kind == "vrfs" {
		p.join(kind, &o, "table", 1000)
		if routes, ok := o.get("routes").([]any); ok {
			for i, r := range routes {
				routes[i] = without(r.(mapping), "table")
			}
		}
		if rules, ok := o.get("routing-policy").([]any); ok {
			for i, r := range rules {
				rules[i] = without(r.(mapping), "table")
			}
		}
		p.join(kind, &o, "interfaces", []any{pick(p, p.names...)})
		return o
	}
	members := p.take()
	p.join(kind, &o, "interfaces", append([]any{}, members...))
	parameters, _ := o.get("parameters").(mapping)
	if kind == "bonds" && len(members) > 0 {
		p.join("bond", &parameters, "primary", members[0])
		p.join(kind, &o, "parameters", parameters)
	}
	if kind == "bridges" && len(members) > 0 {
		p.join("bridge", &parameters, "path-cost", mapping{{members[0].(string), 50}})
		p.join("bridge", &parameters, "port-priority", mapping{{members[0].(string), p.IntN(64)}})
		p.join(kind, &o, "parameters", parameters)
		if p.IntN(4) == 0 {
			p.join(kind, &o, "openvswitch", p.some("switch", 0.5))
		} else if p.IntN(4) == 0 {
			p.join(kind, &o, "openvswitch", p.some("extra", 0.5))
		}
	}
	return o
}

const wireguardExample = "4GgaQCy68nzNsUE5aJ9fuLzHhB65tAlwbmA72MWnOm8="

func (p *planner) tunnel(o mapping) mapping {
	mode := pick(p, "ipip", "gre", "sit", "vti", "ip6ip6", "ipip6", "ip6gre", "vti6", "vxlan", "gretap", "ip6gretap", "wireguard")
	p.join("tunnels", &o, "mode", mode)
	family := "ip4"
	switch mode {
	case "ipip6", "ip6ip6", "ip6gre", "ip6gretap", "vti6":
		family = "ip6"
	case "wireguard":
		peer := p.some("peer", 0.7)
		p.join("peer", &peer, "keys", mapping{{"public", wireguardExample}, {"shared", wireguardExample}})
		p.join("peer", &peer, "allowed-ips", []any{"0.0.0.0/0", "2001:fe:ad:de:ad:be:ef:1/24"})
		p.join("tunnels", &o, "peers", []any{peer})
		p.join("tunnels", &o, pick(p, "key", "keys"), pick[any](p, wireguardExample, mapping{{"private", "/etc/wg.key"}}))
		p.join("tunnels", &o, "port", 5182)
		return o
	case "vxlan":
		o = append(o, p.some("vxlan", 0.6)...)
		p.join("vxlan", &o, "id", 1+p.IntN(1000))
		p.join("vxlan", &o, "port-range", []any{42, 442})
	}
	p.join("tunnels", &o, "local", p.value(family))
	p.join("tunnels", &o, "remote", p.value(family))
	p.join("tunnels", &o, "ttl", p.IntN(256))
	if slices.Contains([]string{"gre", "ip6gre", "gretap", "ip6gretap", "vti", "vti6"}, mode) {
		p.join("tunnels", &o, pick(p, "key", "keys"), pick[any](p, 1234, "1.2.3.4", mapping{{"input", 5}, {"output", "6"}}))
	}
	return o
}

// document makes a whole configuration.
func (p *planner) document() mapping {
	p.names, p.free = nil, nil
	network := mapping{{"version", 2}}
	p.keys["network.version"] = true
	if p.IntN(4) == 0 {
		p.join("network", &network, "renderer", "networkd")
	}
	kinds := []string{"ethernets", "wifis", "modems", "nm-devices", "vlans", "tunnels", "bonds", "bridges", "vrfs"}
	for i, kind := range kinds {
		if i > 0 && p.IntN(3) > 0 {
			continue
		}
		var all mapping
		for range 1 + p.IntN(2) {
			p.used++
			name := fmt.Sprintf("%c%d", kind[0], p.used%100)
			if len(p.names) == 0 {
				p.names = append(p.names, name) // the first may only name itself
			}
			all = append(all, entry{name, p.device(kind)})
			if kind == "ethernets" || kind == "vlans" {
				p.free = append(p.free, name)
			}
			p.names = append(p.names, name)
		}
		p.join("network", &network, kind, all)
	}
	if p.IntN(5) == 0 {
		p.switched(&network)
	}
	if p.IntN(4) == 0 { // any order is valid
		p.Shuffle(len(network), func(i, j int) { network[i], network[j] = network[j], network[i] })
	}
	return network
}

// switched adds what Open vSwitch has for the whole machine, and sometimes two
// bridges with a port each that join them, and a bond in one.
func (p *planner) switched(network *mapping) {
	all := p.some("switches", 0.5)
	if p.IntN(2) == 0 {
		p.used++
		a, b := fmt.Sprintf("pa%d", p.used%100), fmt.Sprintf("pb%d", p.used%100)
		p.join("switches", &all, "ports", []any{[]any{a, b}})
		bridges, _ := network.get("bridges").(mapping)
		left := []any{a}
		if len(p.free) >= 2 {
			bonds, _ := network.get("bonds").(mapping)
			p.keys["extra.lacp"] = true
			bond := mapping{{"interfaces", []any{p.free[0], p.free[1]}}, {"openvswitch", mapping{{"lacp", pick(p, "active", "passive", "off")}}}}
			p.free = p.free[2:]
			p.join("network", network, "bonds", append(slices.Clone(bonds), entry{"ob" + b, bond}))
			left = append(left, "ob"+b)
		}
		p.join("network", network, "bridges", append(slices.Clone(bridges), entry{"o" + a, mapping{{"interfaces", left}}}, entry{"o" + b, mapping{{"interfaces", []any{b}}}}))
	}
	p.join("network", network, "openvswitch", all)
}

// missing are the keys of the schema that no document had yet.
func (p *planner) missing() []string {
	var all []string
	for part, fields := range netplanSchema() {
		for field := range strings.SplitSeq(fields, ",") {
			if key, _, ok := strings.Cut(strings.TrimSpace(field), " "); ok && !p.keys[part+"."+key] {
				all = append(all, part+"."+key)
			}
		}
	}
	return slices.Sorted(maps.Keys(maps.Collect(func(yield func(string, bool) bool) {
		for _, key := range all {
			yield(key, true)
		}
	})))
}
