package cloudinit

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"b9.build/b9/engine/content/yaml"
)

// tunnel checks what the mode of a tunnel asks for.
func (p *netplan) tunnel(d *device) {
	p.reference(d, "link")
	mode := d.text("mode")
	switch mode {
	case "":
		return // the table says so
	case "wireguard":
		p.wireguard(d)
		return
	case "vxlan":
		p.vxlan(d)
	default:
		p.ends(d, mode)
	}
	input, output := d.tunnelKeys()
	for _, key := range []*yaml.Node{input, output} {
		_, err := strconv.ParseUint(scalarText(key), 10, 32)
		if key != nil && err != nil && familyOf(scalarText(key)) != "IPv4" {
			p.add(key, d.path, findValue, "%s is no key of a tunnel: write a number, or one as an IPv4 address", key.Show())
		}
	}
	if n, ok := number(d.fields.Get("ttl")); ok && n > 255 {
		p.fail(d, "ttl", findValue, "%d is more than 255", n)
	}
	p.tunnelRenderer(d, mode, input != nil || output != nil)
}

// tunnelKeys are the keys of a tunnel, which may be one for both directions.
func (d *device) tunnelKeys() (input, output *yaml.Node) {
	for _, name := range []string{"key", "keys"} {
		n := d.fields.Get(name)
		switch {
		case n == nil:
		case kindsOf(n) == isMap:
			if k := fieldsOf(n).Get("input"); k != nil {
				input = k
			}
			if k := fieldsOf(n).Get("output"); k != nil {
				output = k
			}
		default:
			input, output = n, n
		}
	}
	return input, output
}

// ends checks the two ends of a tunnel.
func (p *netplan) ends(d *device, mode string) {
	want := "IPv4"
	if slices.Contains([]string{"ipip6", "ip6ip6", "ip6gre", "ip6gretap", "vti6"}, mode) {
		want = "IPv6"
	}
	for _, key := range []string{"local", "remote"} {
		n := d.fields.Get(key)
		family := familyOf(scalarText(n))
		switch {
		case n == nil:
			p.add(d.key, d.path, findMissing, "the key %q is missing: a tunnel has a local and a remote address", key)
		case family != "" && family != want:
			p.fail(d, key, findValue, "a tunnel of the mode %s has addresses of %s, not %s", mode, want, family)
		}
	}
}

func (p *netplan) vxlan(d *device) {
	local, remote := familyOf(d.text("local")), familyOf(d.text("remote"))
	if local != "" && remote != "" && local != remote {
		p.fail(d, "remote", findValue, "local is of %s, remote of %s: both have one family", local, remote)
	}
	id, ok := number(d.fields.Get("id"))
	switch {
	case !ok:
		p.add(d.key, d.path, findMissing, `the key "id" is missing: a vxlan has one`)
	case id < 1 || id > 1<<24-1:
		p.fail(d, "id", findValue, "%d is no id of a vxlan: give 1 to 16777215", id)
	}
	if n, ok := number(d.fields.Get("flow-label")); ok && n > 1<<20-1 && n != 1<<32-1 {
		p.fail(d, "flow-label", findValue, "%d is more than 1048575", n)
	}
}

// tunnelRenderer checks that the renderer knows the mode, and keys in it.
func (p *netplan) tunnelRenderer(d *device, mode string, keys bool) {
	withKeys := []string{"gre", "ip6gre", "gretap", "ip6gretap", "vti", "vti6"}
	unknown := []string{"isatap"}
	if d.renderer == networkManager {
		withKeys, unknown = []string{"gre", "ip6gre"}, []string{"gretap", "ip6gretap"}
	}
	switch {
	case d.renderer == openVSwitch:
	case slices.Contains(unknown, mode):
		p.fail(d, "mode", findValue, "%s has no tunnels of the mode %s", d.renderer, mode)
	case keys && !slices.Contains(withKeys, mode):
		p.add(d.key, d.path, findValue, "%s has no keys for tunnels of the mode %s", d.renderer, mode)
	}
}

// isWireguardKey reports whether a text is 32 bytes in base64.
func isWireguardKey(s string) bool {
	b, err := base64.StdEncoding.DecodeString(s)
	return err == nil && len(b) == 32 && len(s) == 44
}

func (p *netplan) wireguard(d *device) {
	private := d.fields.Get("key")
	if private == nil {
		private = d.fields.Get("keys")
	}
	if kindsOf(orNull(private)) == isMap {
		private = fieldsOf(private).Get("private")
	}
	p.wireguardKey(d, private, d.path+".keys", "private", true)
	peers := d.list("peers")
	if len(peers) == 0 {
		p.fail(d, "peers", findMissing, "a tunnel of the mode wireguard needs at least one peer")
	}
	for i, n := range peers {
		path := yaml.IndexPath(d.path+".peers", i)
		peer := fieldsOf(n)
		keys := fieldsOf(peer.Get("keys"))
		p.wireguardKey(d, keys.Get("public"), path+".keys", "public", true)
		p.wireguardKey(d, keys.Get("shared"), path+".keys", "shared", false)
		if ips, _ := valueOf(peer.Get("allowed-ips")).([]*yaml.Node); len(ips) == 0 {
			p.add(n, path, findMissing, `the key "allowed-ips" is missing, or empty`)
		}
		if v, ok := number(peer.Get("keepalive")); ok && v > 65535 {
			p.add(peer.Get("keepalive"), path+".keepalive", findValue, "%d is more than 65535", v)
		}
	}
}

func orNull(n *yaml.Node) *yaml.Node {
	if n == nil {
		return &yaml.Node{}
	}
	return n
}

// wireguardKey checks a key, which may be the path of a file but for a public one,
// and in NetworkManager.
func (p *netplan) wireguardKey(d *device, n *yaml.Node, path, name string, needed bool) {
	s := scalarText(n)
	file := strings.HasPrefix(s, "/") && name != "public" && d.renderer != networkManager
	switch {
	case n == nil && needed:
		p.add(d.key, path, findMissing, "the key %q is missing", name)
	case n != nil && !file && !isWireguardKey(s):
		p.add(n, path+"."+name, findValue, "this is no key of wireguard: it has 32 bytes in base64, as `wg genkey` makes them")
	}
}

var hostForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?i:([a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])(\.([a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9]))*)$`)
})

// checkEndpoint checks the address of a peer, with its port.
func checkEndpoint(n *yaml.Node) (name, problem string) {
	s, ok := n.Value.(string)
	if !ok {
		return "", ""
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return findValue, strconv.Quote(s) + " has no port: write it as \"" + s + ":51820\""
	}
	host, bracketed := strings.CutPrefix(s[:i], "[")
	if bracketed {
		host = strings.TrimSuffix(host, "]")
	}
	port, err := strconv.ParseUint(s[i+1:], 10, 16)
	if err != nil || port == 0 || familyOf(host) == "" && !hostForm().MatchString(host) || strings.Contains(host, "/") {
		return findValue, strconv.Quote(s) + " is no address with a port: write it as \"host:51820\" or \"[2001:db8::1]:51820\""
	}
	return "", ""
}

// checkTarget checks the address of a controller of Open vSwitch.
func checkTarget(n *yaml.Node) (name, problem string) {
	s, _ := n.Value.(string)
	scheme, rest, _ := strings.Cut(s, ":")
	ok := false
	switch scheme {
	case "unix", "punix":
		ok = rest != ""
	case "tcp", "ssl":
		ok = isTarget(rest, true)
	case "ptcp", "pssl":
		ok = isTarget(rest, false)
	}
	if ok {
		return "", ""
	}
	return findValue, strconv.Quote(s) + ` is no address of a controller (have tcp:HOST:PORT, ssl:HOST:PORT, ptcp:PORT:HOST, pssl:PORT:HOST, unix:FILE, punix:FILE)`
}

// isTarget reports whether s is a host and port, in that order or the other, where
// the second may be absent.
func isTarget(s string, hostFirst bool) bool {
	host, port := s, ""
	switch i := strings.LastIndexByte(s, ':'); {
	case !hostFirst:
		port, host, _ = strings.Cut(s, ":")
	case strings.HasPrefix(s, "["):
		host, port, _ = strings.Cut(s[1:], "]")
		port = strings.TrimPrefix(port, ":")
	case i >= 0:
		host, port = s[:i], s[i+1:]
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	host, _, _ = strings.Cut(host, "%")
	if port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
	}
	return host == "" && !hostFirst || familyOf(host) != "" && !strings.Contains(host, "/")
}
