package cloudinit

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"b9.build/b9/engine/content/yaml"
	"b9.build/b9/engine/near"
)

// A check returns the name of the finding and what the problem is, "" where
// there is none.
type check func(*yaml.Node) (name, problem string)

// checks are the checks that tables ask for by their names.
func checks() map[string]check {
	return map[string]check{
		"address":   checkAddress,
		"allowedIP": func(n *yaml.Node) (string, string) { return checkPrefixed(n, 0) },
		"endpoint":  checkEndpoint,
		"ip":        func(n *yaml.Node) (string, string) { return checkFamily(n, "IPv4", "IPv6") },
		"ip4":       func(n *yaml.Node) (string, string) { return checkFamily(n, "IPv4") },
		"ip6":       func(n *yaml.Node) (string, string) { return checkFamily(n, "IPv6") },
		"ovsTarget": checkTarget,
		"netmask":   checkNetmask,
		"routed":    checkRouted,
		"destinationOf": func(n *yaml.Node) (string, string) {
			if n.Value == any("default") {
				return "", ""
			}
			return checkRouted(n)
		},
		"destination": checkDestination,
		"v1Type":      checkV1Type,
		"v2Address":   func(n *yaml.Node) (string, string) { return checkPrefixed(n, 1) },
	}
}

// oneKey checks that a mapping has one of the keys, of which the first is the
// usual one; both says why it can't have two of them, "" where it can.
func oneKey(keys []string, both string) check {
	return func(n *yaml.Node) (name, problem string) {
		fields, ok := n.Value.(yaml.Fields)
		have := 0
		for _, key := range keys {
			if fields.Get(key) != nil {
				have++
			}
		}
		switch {
		case ok && have == 0:
			return findMissing, fmt.Sprintf("the key %q is missing", keys[0])
		case have > 1 && both != "":
			return findValue, both
		}
		return "", ""
	}
}

// textForm checks the form of a text. In what the problem is, ${text} stands for
// the text in quotes.
func textForm(form *regexp.Regexp, finding, says string) check {
	return func(n *yaml.Node) (name, problem string) {
		if s, ok := n.Value.(string); ok && !form.MatchString(s) {
			return finding, strings.ReplaceAll(says, "${text}", strconv.Quote(s))
		}
		return "", ""
	}
}

func checkAddress(n *yaml.Node) (name, problem string) { return checkIP(n, false) }

// checkRouted checks an address, or a network, of a route.
func checkRouted(n *yaml.Node) (name, problem string) {
	if n.Value == any("") {
		return findValue, "this is no IP address: it is empty"
	}
	return checkIP(n, false)
}

// checkIP checks an IP address, which may have the length of a prefix behind
// it, or must have one.
func checkIP(n *yaml.Node, needsPrefix bool) (name, problem string) {
	s, ok := n.Value.(string)
	if !ok || s == "" {
		return "", ""
	}
	if _, err := netip.ParsePrefix(s); err == nil {
		return "", ""
	}
	address, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return findValue, fmt.Sprintf("%q is no IP address", s)
	case !needsPrefix:
		return "", ""
	case address.Is4():
		return findValue, fmt.Sprintf("%q has no prefix length: write it as %q", s, s+"/24")
	}
	return findValue, fmt.Sprintf("%q has no prefix length: write it as %q", s, s+"/64")
}

// checkNetmask checks an address mask or the length of a prefix.
func checkNetmask(n *yaml.Node) (name, problem string) {
	s := scalarText(n)
	if _, ok := maskBits(s); ok || s == "" {
		return "", ""
	}
	return findValue, fmt.Sprintf("%q is no netmask: write it as \"255.255.255.0\" or 24", s)
}

// maskBits is the length of the prefix that a netmask stands for: a number of bits,
// or an address of ones and then zeros.
func maskBits(s string) (bits int, ok bool) {
	if n, err := strconv.Atoi(s); err == nil {
		return n, n >= 0 && n <= 128
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return 0, false
	}
	zeros := false
	for _, b := range a.AsSlice() {
		for bit := range 8 {
			one := b&(0x80>>bit) != 0
			if one && zeros {
				return 0, false
			}
			if zeros = !one; one {
				bits++
			}
		}
	}
	return bits, true
}

// netmasks checks the netmasks of version 1 against the addresses that they are of.
func (c *ruleCheck) netmasks(root *yaml.Node, path string) {
	fields, _ := root.Value.(yaml.Fields)
	list, _ := valueOf(fields.Get("config")).([]*yaml.Node)
	for i, n := range list {
		at := yaml.IndexPath(yaml.JoinPath(path, &yaml.Node{Value: "config"}), i)
		c.netmask(fieldsOf(n), at, "destination")
		subnets, _ := valueOf(fieldsOf(n).Get("subnets")).([]*yaml.Node)
		for j, subnet := range subnets {
			at := yaml.IndexPath(at+".subnets", j)
			c.netmask(fieldsOf(subnet), at, "address")
			routes, _ := valueOf(fieldsOf(subnet).Get("routes")).([]*yaml.Node)
			for k, route := range routes {
				c.netmask(fieldsOf(route), yaml.IndexPath(at+".routes", k), "destination", "network")
			}
		}
	}
}

// netmask checks that a netmask, or prefix, is of the family of its address, and says
// the same as a prefix length behind that.
func (c *ruleCheck) netmask(fields yaml.Fields, path string, keys ...string) {
	for _, key := range keys {
		address, length, prefixed := strings.Cut(scalarText(fields.Get(key)), "/")
		family := familyOf(address)
		for _, name := range []string{"netmask", "prefix"} {
			n := fields.Get(name)
			bits, ok := maskBits(scalarText(n))
			mask := familyOf(scalarText(n))
			switch {
			case n == nil || !ok || family == "":
			case mask != "" && mask != family || family == "IPv4" && bits > 32:
				c.add(n, path+"."+name, findValue, "this is no netmask of %s, as the %s is", family, key)
			case prefixed && length != strconv.Itoa(bits):
				c.add(n, path+"."+name, findValue, "the %s has the prefix length %s already", key, length)
			}
		}
	}
}

// checkDestination checks where a route leads.
func checkDestination(n *yaml.Node) (name, problem string) {
	if n.Value == any("default") {
		return "", ""
	}
	return checkAddress(n)
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
	return findValue, fmt.Sprintf("unknown type %s (have %s)%s", kind.Show(), strings.Join(v1TypeNames(), ", "), near.Hint(s, v1TypeNames()))
}

// checkPrefixed checks an address with its prefix, of least bits or more, or a mapping
// of one such address to what goes with it.
func checkPrefixed(n *yaml.Node, least int) (name, problem string) {
	if fields, ok := n.Value.(yaml.Fields); ok {
		if len(fields) != 1 {
			return findValue, fmt.Sprintf("want one address with its options, got a mapping of %d", len(fields))
		}
		n = fields[0].Key
	}
	if name, problem = checkIP(n, true); problem != "" {
		return name, problem
	}
	if p, err := netip.ParsePrefix(scalarText(n)); err != nil || p.Bits() < least {
		return findValue, fmt.Sprintf("%q has no prefix length of %d or more", scalarText(n), least)
	}
	return "", ""
}

// checkFamily checks an address without a prefix, of one of the families.
func checkFamily(n *yaml.Node, families ...string) (name, problem string) {
	s := scalarText(n)
	if slices.Contains(families, familyOf(s)) && !strings.Contains(s, "/") {
		return "", ""
	}
	return findValue, fmt.Sprintf("%q is no address of %s, without a prefix length", s, strings.Join(families, " or "))
}
