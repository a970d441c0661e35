package cloudinit

import (
	"slices"
	"strings"

	"b9.build/b9/engine/content/yaml"
)

// rendered checks what a device asks of its renderer.
func (p *netplan) rendered(d *device) {
	if n := d.settings(); n != nil && d.renderer != networkManager {
		p.advise(n, d.path, `networkmanager has settings, but the renderer is %s: give renderer: NetworkManager`, d.renderer)
	}
	p.forSwitch(d)
	switch d.renderer {
	case networkd:
		p.forNetworkd(d)
	case networkManager:
		p.forManager(d)
	case openVSwitch:
		p.forNetwork(d)
	}
}

// settings returns settings of NetworkManager, of the device or of an access point.
func (d *device) settings() *yaml.Node {
	if n := d.fields.Get("networkmanager"); len(fieldsOf(n)) > 0 {
		return n
	}
	for _, ap := range fieldsOf(d.fields.Get("access-points")) {
		if n := fieldsOf(ap.Value).Get("networkmanager"); len(fieldsOf(n)) > 0 {
			return n
		}
	}
	return nil
}

// forSwitch checks the key openvswitch, parts of which are for bonds or bridges only.
func (p *netplan) forSwitch(d *device) {
	settings := fieldsOf(d.fields.Get("openvswitch"))
	for _, f := range settings {
		key, _ := f.Key.Value.(string)
		kind := "bridges"
		switch key {
		case "external-ids", "other-config":
			if len(fieldsOf(f.Value)) > 0 && d.renderer != openVSwitch && d.member == nil {
				p.add(f.Key, d.path+".openvswitch", findValue, "%s is for what belongs to a bridge or bond of Open vSwitch", key)
			}
			continue
		case "lacp":
			kind = "bonds"
		}
		if d.kind != kind {
			p.add(f.Key, d.path+".openvswitch", findValue, "%s is for %s only", key, kind)
		}
	}
	if d.renderer != openVSwitch {
		return
	}
	switch d.kind {
	case "bonds", "bridges", "vlans":
	case "ports":
		if d.member == nil {
			p.add(d.key, d.path, findMissing, "the port %q has to be one of the interfaces of a bridge or bond", d.name)
		}
	default:
		p.fail(d, "openvswitch", findValue, "Open vSwitch has no %s", d.kind)
	}
}

// forNetworkd checks what networkd can't do.
func (p *netplan) forNetworkd(d *device) {
	p.forNetwork(d)
	switch d.kind {
	case "modems":
		p.add(d.key, d.path, findValue, "networkd sets up no modems: give renderer: NetworkManager")
	case "wifis":
		p.wireless(d)
	}
	p.secret(d.fields.Get("auth"), d.path+".auth")
}

// forNetwork checks what networkd can't do of the addresses of a device, which it
// gives to those of Open vSwitch, too.
func (p *netplan) forNetwork(d *device) {
	if d.text("ipv6-address-generation") == "stable-privacy" {
		p.fail(d, "ipv6-address-generation", findValue, "networkd has no stable-privacy: give eui64, or renderer: NetworkManager")
	}
	if !flag(d.fields.Get("dhcp4")) || !flag(d.fields.Get("dhcp6")) {
		return
	}
	four, six := fieldsOf(d.fields.Get("dhcp4-overrides")), fieldsOf(d.fields.Get("dhcp6-overrides"))
	for _, key := range []string{"hostname", "route-metric", "send-hostname", "use-dns", "use-domains", "use-hostname", "use-mtu", "use-ntp", "use-routes"} {
		if overridden(four, key) != overridden(six, key) {
			p.fail(d, "dhcp6-overrides", findValue, "networkd has one %s for dhcp4 and dhcp6: give both the same", key)
		}
	}
}

// overridden is the value of an override, or the one that an absent key stands for.
func overridden(fields yaml.Fields, key string) string {
	n := fields.Get(key)
	switch {
	case strings.HasPrefix(key, "use-") && key != "use-domains" || key == "send-hostname":
		if n == nil || flag(n) {
			return "true"
		}
		return "false"
	}
	return scalarText(n)
}

// wireless checks what networkd can't do with a wireless card.
func (p *netplan) wireless(d *device) {
	if d.fields.Get("match") != nil {
		p.fail(d, "match", findValue, "networkd finds a wireless card by its name only: leave match out, or give renderer: NetworkManager")
	}
	for _, n := range d.list("wakeonwlan") {
		if s := strings.ToLower(scalarText(n)); s == "default" && len(d.list("wakeonwlan")) > 1 || s == "tcp" {
			p.fail(d, "wakeonwlan", findValue, "networkd can't wake on %q, or not together with others", s)
		}
	}
	for _, ap := range fieldsOf(d.fields.Get("access-points")) {
		path := yaml.JoinPath(d.path+".access-points", ap.Key)
		fields := fieldsOf(ap.Value)
		if mode := fields.Get("mode"); scalarText(mode) == "ap" {
			p.add(mode, path+".mode", findValue, "networkd makes no access point: give renderer: NetworkManager")
		}
		if n, ok := number(fields.Get("channel")); ok && n != 0 && fields.Get("band") != nil && !channel(scalarText(fields.Get("band")), n) {
			p.add(fields.Get("channel"), path+".channel", findValue, "the band has no channel %d", n)
		}
		if auth := fields.Get("auth"); auth != nil {
			p.secret(auth, path+".auth")
		} else {
			p.passphrase(fields.Get("password"), path+".password")
		}
	}
}

// secret checks the password of those who log in with a common one.
func (p *netplan) secret(auth *yaml.Node, path string) {
	if scalarText(fieldsOf(auth).Get("key-management")) == "psk" {
		p.passphrase(fieldsOf(auth).Get("password"), path+".password")
	}
}

// forManager checks what NetworkManager can't do.
func (p *netplan) forManager(d *device) {
	if mode := d.text("activation-mode"); mode == "off" || mode == "false" {
		p.fail(d, "activation-mode", findValue, "NetworkManager knows only manual")
	}
	if n, ok := number(d.fields.Get("ipv6-mtu")); ok && n != 0 {
		p.fail(d, "ipv6-mtu", findValue, "NetworkManager has no ipv6-mtu")
	}
	if fieldsOf(d.fields.Get("match")).Get("driver") != nil && d.fields.Get("set-name") == nil {
		p.fail(d, "match", findValue, "NetworkManager finds no device by its driver: give a set-name, too")
	}
	isMapping := func(n *yaml.Node) bool { return kindsOf(n) == isMap }
	if slices.ContainsFunc(d.list("addresses"), isMapping) {
		p.fail(d, "addresses", findValue, "NetworkManager knows no label and lifetime of an address")
	}
	for i, n := range d.list("routes") {
		if kind := scalarText(fieldsOf(n).Get("type")); kind != "" && !strings.EqualFold(kind, "unicast") {
			p.advise(n, yaml.IndexPath(d.path+".routes", i), "NetworkManager has no routes of the type %q", kind)
		}
	}
}
