package cloudinit

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"b9.build/b9/engine/content/yaml"
)

// CheckNetwork finds the mistakes in a network configuration of version
// 1 or 2, which may also stand below the key "network", and joins to them the
// warnings of reading it.
func CheckNetwork(n *yaml.Node, warnings []yaml.Finding) []yaml.Finding {
	path := ""
	if fields, ok := n.Value.(yaml.Fields); ok && fields.Get("network") != nil {
		n, path = fields.Get("network"), "network"
	}
	c := &ruleCheck{work: maxChecked}
	if r := c.networkVersion(n, path); r != nil {
		c.apply(r, n, path)
	}
	for _, w := range warnings {
		if !c.silent[w.At] {
			c.findings = append(c.findings, w)
		}
	}
	return c.findings
}

// networkVersion chooses the table; nil after a mistake, or where the network
// is not to be configured at all.
func (c *ruleCheck) networkVersion(n *yaml.Node, path string) *rule {
	fields, ok := n.Value.(yaml.Fields)
	if !ok {
		c.add(n, path, findType, "want a mapping, got %s", n.Kind())
		return nil
	}
	if config := fields.Get("config"); config != nil && config.Value == any("disabled") {
		return nil
	}
	version := fields.Get("version")
	switch {
	case version == nil:
		c.add(n, path, findMissing, `the key "version" is missing: give 1 or 2`)
	case version.Value == any(int64(1)):
		return networkV1()
	case version.Value == any(int64(2)):
		return networkV2()
	default:
		c.add(version, yaml.JoinPath(path, &yaml.Node{Value: "version"}), findValue, "unknown version %s (have 1, 2)", version.Show())
	}
	return nil
}

var macForm = regexp.MustCompile(`^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}(:[0-9a-fA-F]{2}){0,14}$`)

func tMAC() *rule { return tText().check(checkMAC) }

func checkMAC(n *yaml.Node) (name, problem string) {
	if n.Surprise() != "" {
		return findType, "want text: " + n.Explain()
	}
	if s, ok := n.Value.(string); ok && !macForm.MatchString(s) {
		return findValue, fmt.Sprintf("%q is no MAC address: write it as \"52:54:00:12:34:56\"", s)
	}
	return "", ""
}

// tAddress is an IP address; prefix asks for a prefix length behind it.
func tAddress(prefix bool) *rule {
	return tText().check(func(n *yaml.Node) (name, problem string) {
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
	return tKind(isText | isInt).check(func(n *yaml.Node) (name, problem string) {
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
	return tText().check(func(n *yaml.Node) (name, problem string) {
		if n.Value == any("default") {
			return "", ""
		}
		return address.also(n)
	})
}

func tTextOrList(item *rule) *rule { return tKind(isText | isList).each(item) }
