package cloudinit

import "b9.build/b9/engine/content/yaml"

// What netplan refuses though its documentation allows it:
//
// netplan reads the devices in the order in which they stand. A name of one that comes
// later is noted, and once all are read and such a device was among them, the whole is
// read again. What may be there only once is then there twice: up to 0.107 the networks
// of a wireless card, and in every version the costs that a bridge gives to its ports,
// unless they were of devices that were not known the first time. And 0.106, Debian
// 12's, crashes on routes of a vrf that has no rules (and on devices of NetworkManager
// with another renderer: see collect). Either way the machine starts without a network.
// The findings have a name of their own, with which those silence them who know which
// netplan is to read the configuration.

// order numbers the nodes of a document as they are met, those below aliases once.
func order(n *yaml.Node, seen map[*yaml.Node]int) {
	if _, again := seen[n]; n == nil || again {
		return
	}
	seen[n] = len(seen)
	switch v := n.Value.(type) {
	case yaml.Fields:
		for _, f := range v {
			order(f.Key, seen)
			order(f.Value, seen)
		}
	case []*yaml.Node:
		for _, e := range v {
			order(e, seen)
		}
	}
}

// later reports whether a device is defined behind the node that names it.
func (p *netplan) later(d *device, n *yaml.Node) bool { return p.order[n] < p.order[d.key] }

// passes checks what reading a second time, or a crash, makes impossible.
func (p *netplan) passes() {
	p.costs("path-cost")
	p.costs("port-priority")
	for _, d := range p.devices {
		if points := fieldsOf(d.fields.Get("access-points")); d.kind == "wifis" && p.again != nil && len(points) > 0 {
			p.add(points[0].Key, d.path+".access-points", findNetplan, "netplan up to 0.107 refuses networks of a wireless card where a device is named before it is defined, as %s is: define it before that", p.again.name)
		}
		if n := d.fields.Get("routes"); d.kind == "vrfs" && kindsOf(orNull(n)) == isList && len(d.list("routing-policy")) == 0 {
			p.add(n, d.path+".routes", findNetplan, "netplan 0.106 crashes on routes of a vrf that has no routing-policy: give a rule, or leave the routes to what belongs to the vrf, with its table")
		}
	}
}

// costs checks that no device is given a cost twice, by several bridges or because the
// document is read again.
func (p *netplan) costs(key string) {
	given := map[*device]bool{}
	said := map[*yaml.Node]bool{}
	for pass := range 2 {
		if pass > 0 && p.again == nil {
			return
		}
		for _, d := range p.devices {
			if d.kind != "bridges" {
				continue
			}
			for _, f := range fieldsOf(fieldsOf(d.fields.Get("parameters")).Get(key)) {
				port := p.named[scalarText(f.Key)]
				switch {
				case port == nil || said[f.Key] || pass == 0 && p.later(port, f.Key):
				case !given[port]:
					given[port] = p.cost(d, key, f)
				default:
					said[f.Key] = true
					p.twice(d, port, key, f.Key, pass)
				}
			}
		}
	}
}

// cost reports whether a cost is one to netplan, which takes 0 for none.
func (p *netplan) cost(d *device, key string, f yaml.Field) bool {
	n, ok := number(f.Value)
	if key == "path-cost" && (!ok || n < 1 || n > 65535) && !p.failedAt(f.Value.At) {
		p.advise(f.Value, yaml.JoinPath(d.path+".parameters."+key, f.Key), "a bridge knows costs of 1 to 65535")
	}
	return ok && uint32(n) != 0
}

func (p *netplan) twice(d, port *device, key string, n *yaml.Node, pass int) {
	path := yaml.JoinPath(d.path+".parameters."+key, n)
	if pass == 0 {
		p.add(n, path, findValue, "%s has a %s already", port.name, key)
		return
	}
	p.add(n, path, findNetplan, "netplan refuses a %s of what was defined before, where another device is named before it is defined, as %s is: define that before, or %s behind the bridge", key, p.again.name, port.name)
}
