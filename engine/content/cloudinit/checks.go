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
		"address":     checkAddress,
		"netmask":     checkNetmask,
		"destination": checkDestination,
		"v1Type":      checkV1Type,
		"v2Address":   checkV2Address,
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
	s, ok := n.Value.(string)
	if !ok {
		return "", ""
	}
	length, err := strconv.Atoi(s)
	if _, bad := netip.ParseAddr(s); bad == nil || err == nil && length >= 0 && length <= 128 {
		return "", ""
	}
	return findValue, fmt.Sprintf("%q is no netmask: write it as \"255.255.255.0\" or 24", s)
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

// checkV2Address checks an address, or a mapping of one address to what goes
// with it.
func checkV2Address(n *yaml.Node) (name, problem string) {
	fields, ok := n.Value.(yaml.Fields)
	switch {
	case !ok:
		return checkIP(n, true)
	case len(fields) != 1:
		return findValue, fmt.Sprintf("want one address with its options, got a mapping of %d", len(fields))
	}
	return checkIP(fields[0].Key, true)
}
