package cloudinit

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"b9.build/b9/engine/content/yaml"
	"b9.build/b9/engine/near"
)

// checks are the checks that tables ask for by their names. Each returns the
// name of the finding and what the problem is, "" where there is none.
func checks() map[string]func(*yaml.Node) (name, problem string) {
	return map[string]func(*yaml.Node) (name, problem string){
		"permissions": checkPermissions,
		"userName":    checkUserName,
		"playbook":    checkPlaybook,
		"yumRepo":     checkYumRepo,
		"mac":         checkMAC,
		"address":     checkAddress,
		"netmask":     checkNetmask,
		"destination": checkDestination,
		"deviceName":  checkDeviceName,
		"v1Type":      checkV1Type,
		"v1Route":     checkV1Route,
		"switch":      checkSwitch,
		"v2Address":   checkV2Address,
	}
}

var permissionForm = regexp.MustCompile(`^\s*(0o)?[0-7]{3,5}\s*$`)

// checkPermissions holds permissions of files to be octal digits.
func checkPermissions(n *yaml.Node) (name, problem string) {
	s, ok := n.Value.(string)
	if !ok || permissionForm.MatchString(s) {
		return "", ""
	}
	return findPermissions, fmt.Sprintf("%q are no permission bits: write octal digits such as \"0644\"", s)
}

func checkUserName(n *yaml.Node) (name, problem string) {
	f, ok := n.Value.(yaml.Fields)
	hasName, isSnap := f.Get("name") != nil, f.Get("snapuser") != nil
	switch {
	case !ok || hasName != isSnap:
		return "", ""
	case hasName:
		return findValue, `a user has either a "name" or a "snapuser", not both`
	}
	return findMissing, `the key "name" is missing`
}

// checkPlaybook holds what is pulled to a playbook, of which later versions of
// cloud-init accept a list.
func checkPlaybook(n *yaml.Node) (name, problem string) {
	fields, ok := n.Value.(yaml.Fields)
	one, many := fields.Get("playbook_name") != nil, fields.Get("playbook_names") != nil
	switch {
	case !ok || one != many:
		return "", ""
	case one:
		return findValue, `there is either a "playbook_name" or a list "playbook_names", not both`
	}
	return findMissing, `the key "playbook_name" is missing`
}

// checkYumRepo holds a repository to an address, of which later versions of
// cloud-init accept three kinds.
func checkYumRepo(n *yaml.Node) (name, problem string) {
	fields, ok := n.Value.(yaml.Fields)
	if !ok || fields.Get("baseurl") != nil || fields.Get("metalink") != nil || fields.Get("mirrorlist") != nil {
		return "", ""
	}
	return findMissing, `the key "baseurl" is missing`
}

var macForm = regexp.MustCompile(`^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}(:[0-9a-fA-F]{2}){0,14}$`)

func checkMAC(n *yaml.Node) (name, problem string) {
	if n.Surprise() != "" {
		return findType, "want text: " + n.Explain()
	}
	if s, ok := n.Value.(string); ok && !macForm.MatchString(s) {
		return findValue, fmt.Sprintf("%q is no MAC address: write it as \"52:54:00:12:34:56\"", s)
	}
	return "", ""
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

// checkSwitch checks a bool, or one of the two words that netplan reads as one.
func checkSwitch(n *yaml.Node) (name, problem string) {
	if s, ok := n.Value.(string); ok && s != "yes" && s != "no" {
		return findType, "want bool, got text"
	}
	return "", ""
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
