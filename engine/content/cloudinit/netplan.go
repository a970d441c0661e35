package cloudinit

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"b9.build/b9/engine/content/yaml"
	"b9.build/b9/engine/near"
)

// Rules between the keys of a network configuration of version 2:
//
// netplan reads all devices, links those that name each other, and then refuses what
// fits together in no system, or not with the renderer that is to set it up: networkd
// unless the configuration says NetworkManager, or a device is one of Open vSwitch. So
// devices are collected first; then each kind has its rules. What a table found wrong
// already is passed over here: a value of another kind is as one that is absent.

// The renderers, as netplan calls them.
const (
	networkd       = "networkd"
	networkManager = "NetworkManager"
	openVSwitch    = "Open vSwitch" // chosen by what a device has, not by name
)

// device is one network device of a configuration.
type device struct {
	kind     string // ethernets, bonds and so on; ports for a port of Open vSwitch
	name     string
	key      *yaml.Node // where its definition begins
	path     string
	fields   yaml.Fields
	renderer string
	member   *device // the bridge or bond that it belongs to
	vrf      *device
}

// netplan is what is known of all devices together.
type netplan struct {
	*ruleCheck
	devices []*device
	named   map[string]*device
	global  yaml.Fields // the key openvswitch beside the devices
	order   map[*yaml.Node]int
	again   *device // one that is named before it is defined: see passes
}

// deviceKinds are the keys of version 2 that define devices.
func deviceKinds() []string {
	return []string{"bonds", "bridges", "dummy-devices", "ethernets", "modems", "nm-devices", "tunnels", "virtual-ethernets", "vlans", "vrfs", "wifis"}
}

// netplan checks the rules between keys.
func (c *ruleCheck) netplan(root *yaml.Node, path string) {
	top, _ := root.Value.(yaml.Fields)
	p := &netplan{ruleCheck: c, named: map[string]*device{}, order: map[*yaml.Node]int{}, global: fieldsOf(top.Get("openvswitch"))}
	order(root, p.order)
	for _, f := range top {
		if kind, _ := f.Key.Value.(string); slices.Contains(deviceKinds(), kind) {
			p.collect(kind, f, yaml.JoinPath(path, f.Key), scalarText(top.Get("renderer")))
		}
	}
	p.ports(yaml.JoinPath(path, &yaml.Node{Value: "openvswitch"}))
	p.members()
	p.switches()
	for _, d := range p.devices {
		p.device(d)
	}
	p.passes()
}

// collect enters the devices of one kind.
func (p *netplan) collect(kind string, of yaml.Field, path, renderer string) {
	all := fieldsOf(of.Value)
	if r := scalarText(all.Get("renderer")); r != "" {
		renderer = r
	}
	for _, f := range all {
		name := scalarText(f.Key)
		if name == "renderer" {
			continue
		}
		d := &device{kind: kind, name: name, key: f.Key, path: yaml.JoinPath(path, f.Key), fields: fieldsOf(f.Value), renderer: renderer}
		p.checkName(d)
		if r := d.text("renderer"); r == networkd || r == networkManager {
			d.renderer = r
		}
		switch {
		case kind == "nm-devices" && d.renderer != networkManager:
			p.fail(d, "renderer", findNetplan, "netplan 0.106 crashes on a device of NetworkManager with another renderer: give renderer: NetworkManager")
			d.renderer = networkManager
		case d.renderer == "":
			d.renderer = networkd
		}
		if first := p.named[name]; first != nil {
			p.add(d.key, d.path, findValue, "there is a device of this name already among the %s", first.kind)
			continue
		}
		p.named[name] = d
		p.devices = append(p.devices, d)
	}
}

func (p *netplan) checkName(d *device) {
	switch {
	case d.name == "", strings.ContainsFunc(d.name, func(r rune) bool { return r <= ' ' || r > '~' }):
		p.add(d.key, d.path, findValue, "%q is no name of a device: use printable ASCII characters without blanks", d.name)
	case strings.ContainsAny(d.name, "*[]?"):
		p.add(d.key, d.path, findValue, "the name of a device can't be a pattern: give a name, and the pattern in match:")
	case len(d.name) > 15 && !slices.Contains([]string{"ethernets", "wifis", "modems", "nm-devices"}, d.kind):
		p.advise(d.key, d.path, "%q is longer than the 15 characters that a network device's name can have", d.name)
	}
}

// advise adds a warning about what netplan takes.
func (p *netplan) advise(n *yaml.Node, path, format string, args ...any) {
	p.findings = append(p.findings, yaml.Finding{At: n.At, Path: path, Name: findValue, Msg: fmt.Sprintf(format, args...), Warning: true})
}

// ports enters the ports that join two switches of Open vSwitch.
func (p *netplan) ports(path string) {
	seen := map[string]string{}
	list, _ := valueOf(p.global.Get("ports")).([]*yaml.Node)
	for i, n := range list {
		pair, _ := n.Value.([]*yaml.Node)
		if len(pair) != 2 {
			continue
		}
		at := yaml.IndexPath(path+".ports", i)
		for j, end := range pair {
			name, peer := scalarText(end), scalarText(pair[1-j])
			if old, again := seen[name]; name == peer || again && old != peer {
				p.add(end, at, findValue, "the port %q can't have the peer %q: it is the port itself, or it has another", name, peer)
				continue
			}
			seen[name] = peer
			if p.named[name] == nil {
				d := &device{kind: "ports", name: name, key: end, path: at, renderer: openVSwitch}
				p.named[name] = d
				p.devices = append(p.devices, d)
			}
		}
	}
}

// members joins devices to their bridges, bonds and vrfs: each to one at most.
func (p *netplan) members() {
	for _, d := range p.devices {
		if d.kind != "bonds" && d.kind != "bridges" && d.kind != "vrfs" {
			continue
		}
		for i, n := range d.list("interfaces") {
			path := yaml.IndexPath(d.path+".interfaces", i)
			m := p.refer(n, path)
			if m == nil {
				continue
			}
			at := &m.member
			if d.kind == "vrfs" {
				at = &m.vrf
			}
			if *at != nil && *at != d {
				p.add(n, path, findValue, "%s belongs to %s already: a device is in one of the %s", m.name, (*at).name, map[bool]string{true: "vrfs", false: "bridges and bonds"}[d.kind == "vrfs"])
				continue
			}
			*at = d
		}
	}
}

// refer returns the device that a scalar names; one that is nowhere defined is a
// mistake.
func (p *netplan) refer(n *yaml.Node, path string) *device {
	name := scalarText(n)
	d := p.named[name]
	if d == nil && n != nil && kindsOf(n)&(isList|isMap) == 0 {
		hint := ""
		if len(name) > 2 {
			hint = near.Hint(name, slices.Sorted(maps.Keys(p.named)))
		}
		p.add(n, path, findValue, "there is no device %q: define it, in ethernets if it is a network card%s", name, hint)
	}
	if d != nil && p.again == nil && p.later(d, n) {
		p.again = d
	}
	return d
}

// reference is refer for the value of a key, which may be absent.
func (p *netplan) reference(d *device, key string) *device {
	if n := d.fields.Get(key); n != nil {
		return p.refer(n, d.path+"."+key)
	}
	return nil
}

// switches finds the devices that Open vSwitch sets up: those with more than
// names for it, and bridges, bonds and vlans on them.
func (p *netplan) switches() {
	for changed := true; changed; {
		changed = false
		for _, d := range p.devices {
			if d.renderer != openVSwitch && p.switched(d) {
				d.renderer, changed = openVSwitch, true
			}
		}
	}
}

func (p *netplan) switched(d *device) bool {
	n := d.fields.Get("openvswitch")
	only := func(f yaml.Field) bool {
		return f.Key.Value == any("external-ids") || f.Key.Value == any("other-config")
	}
	settings := fieldsOf(n)
	plain := n == nil || len(settings) > 0 && !slices.ContainsFunc(settings, func(f yaml.Field) bool { return !only(f) })
	mode := scalarText(fieldsOf(d.fields.Get("parameters")).Get("mode"))
	switch d.kind {
	case "bonds":
		return n != nil || mode == "balance-tcp" || mode == "balance-slb" || p.hasSwitched(d)
	case "bridges":
		return n != nil || p.hasSwitched(d)
	case "vlans":
		link := p.named[d.text("link")]
		return !plain || link != nil && link.renderer == openVSwitch
	}
	return !plain
}

func (p *netplan) hasSwitched(d *device) bool {
	return slices.ContainsFunc(p.devices, func(m *device) bool { return m.member == d && m.renderer == openVSwitch })
}

// text is the text of a scalar, "" where there is none.
func (d *device) text(key string) string { return scalarText(d.fields.Get(key)) }

func (d *device) list(key string) []*yaml.Node {
	list, _ := valueOf(d.fields.Get(key)).([]*yaml.Node)
	return list
}

// at is where a key stands, or the device where it is absent.
func (d *device) at(key string) (n *yaml.Node, path string) {
	if n := d.fields.Get(key); n != nil {
		return n, d.path + "." + key
	}
	return d.key, d.path
}

// flag reports whether a key is true.
func flag(n *yaml.Node) bool {
	switch strings.ToLower(scalarText(n)) {
	case "true", "on", "yes", "y":
		return true
	}
	return false
}

func valueOf(n *yaml.Node) any {
	if n == nil {
		return nil
	}
	return n.Value
}

func fieldsOf(n *yaml.Node) yaml.Fields {
	fields, _ := valueOf(n).(yaml.Fields)
	return fields
}

// scalarText is a scalar as netplan sees it, which reads all as text.
func scalarText(n *yaml.Node) string {
	switch v := valueOf(n).(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return ""
}
