package cloudinit

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"b9.build/b9/engine/content/yaml"
)

// generate is netplan's program that reads a configuration and writes what it
// means to the renderers (Debian package netplan.io).
const generate = "/usr/libexec/netplan/generate"

// complaint is the line of what netplan prints that says why it refuses.
var complaint = regexp.MustCompile(`(?i)[^\n]*\berror\b[^\n]*|[^\n]*needs? [^\n]*`)

// crashed is the verdict of a netplan that broke, which is none.
const crashed = "crashed"

// netplanVerdicts returns what netplan says of each document, "" where it takes it.
// The documents lie in directories of their own, which netplan takes for the root.
//
// netplan asks for the program of Open vSwitch where one of its devices is
// configured. A file of that name covers it, in name spaces that end with the script.
func netplanVerdicts(t *testing.T, docs []string) []string {
	t.Helper()
	dir := t.TempDir()
	for i, doc := range docs {
		etc := filepath.Join(dir, strconv.Itoa(i), "etc/netplan")
		if err := os.MkdirAll(etc, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(etc, "a.yaml"), []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "ovs-vsctl"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`set -e
mount -t overlay overlay -o lowerdir=%[1]s/bin:/usr/bin /usr/bin
i=0
while [ $i -lt %[2]d ]; do
	%[3]s --root-dir %[1]s/$i >%[1]s/$i/said 2>&1 || echo "status $?" >%[1]s/$i/refused
	i=$((i + 1))
done`, dir, len(docs), generate)
	if out, err := exec.Command("unshare", "--map-root-user", "--mount", "sh", "-c", script).CombinedOutput(); err != nil {
		t.Skipf("netplan can't run in name spaces of its own: %v\n%s", err, out)
	}
	verdicts := make([]string, len(docs))
	for i := range docs {
		root := filepath.Join(dir, strconv.Itoa(i))
		if status, err := os.ReadFile(filepath.Join(root, "refused")); err == nil {
			if code, _ := strconv.Atoi(strings.Fields(string(status))[1]); code >= 128 {
				verdicts[i] = crashed
				continue
			}
			said, _ := os.ReadFile(filepath.Join(root, "said"))
			verdicts[i] = strings.ReplaceAll(complaint.FindString(string(said)), root, "") + " (" + strings.TrimSpace(string(status)) + ")"
		}
	}
	return verdicts
}

func needNetplan(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(generate); err != nil {
		t.Skipf("no %s (Debian package netplan.io): %v", generate, err)
	}
}

// checked is what b9 says of a network configuration, "" where it takes it.
func checked(t *testing.T, doc string) string {
	t.Helper()
	d, err := yaml.Parse("n", doc)
	if err != nil {
		return err.Error()
	}
	_, err = yaml.Split(CheckNetwork(d.Root, d.Warnings))
	return errorText(err)
}

func wrapped(doc mapping) string { return yamlOf(mapping{{"network", doc}}) }

// confusion counts verdicts on documents.
type confusion struct {
	bothTake, bothRefuse int
	crashes              int
	apart                []string // one line for each document on which they differ
}

func (c *confusion) add(doc, netplan, b9 string) {
	switch {
	case netplan == crashed:
		c.crashes++
	case netplan == "" && b9 == "":
		c.bothTake++
	case netplan != "" && b9 != "":
		c.bothRefuse++
	default:
		c.apart = append(c.apart, fmt.Sprintf("netplan: %q\nb9: %.300q\n%s", netplan, b9, doc))
	}
}

func (c *confusion) String() string {
	onlyNetplan := 0
	for _, s := range c.apart {
		if !strings.HasPrefix(s, `netplan: ""`) {
			onlyNetplan++
		}
	}
	return fmt.Sprintf("both take %d, both refuse %d, only netplan refuses %d, only b9 refuses %d; netplan crashed on %d", c.bothTake, c.bothRefuse, onlyNetplan, len(c.apart)-onlyNetplan, c.crashes)
}

func (c *confusion) agreement() float64 {
	same := float64(c.bothTake + c.bothRefuse)
	return same / (same + float64(len(c.apart)))
}

// seedVariable chooses other documents than those of every run.
const seedVariable = "B9_NETPLAN_SEED"

// TestNetplanAgrees makes configurations in which every key of netplan's schema
// occurs, as many that netplan takes as such that it refuses after one change, and
// asks netplan and b9 for their verdicts.
func TestNetplanAgrees(t *testing.T) {
	needNetplan(t)
	seed := uint64(28)
	if s := os.Getenv(seedVariable); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
	}
	const pairs, tries = 200, 3
	p := &planner{Rand: rand.New(rand.NewPCG(seed, 0)), keys: map[string]bool{}}
	var docs []string
	for i := 0; i < pairs || len(p.missing()) > 0 && i < 2*pairs; i++ {
		doc := p.document()
		docs = append(docs, wrapped(doc))
		for range tries {
			docs = append(docs, wrapped(p.mutated(doc)))
		}
	}
	if left := p.missing(); len(left) > 0 {
		t.Errorf("no document has the keys %s", left)
	}
	var asked, harmless confusion // harmless are changes that netplan takes
	verdicts := netplanVerdicts(t, docs)
	for i := 0; i < len(docs); i += 1 + tries {
		if verdicts[i] == "" || verdicts[i] == crashed {
			asked.add(docs[i], verdicts[i], checked(t, docs[i]))
		}
		broken := false
		for j := i + 1; j <= i+tries; j++ {
			switch {
			case verdicts[j] == "" && verdicts[i] == "":
				harmless.add(docs[j], "", checked(t, docs[j]))
			case verdicts[j] != "" && verdicts[j] != crashed && !broken:
				broken = true
				asked.add(docs[j], verdicts[j], checked(t, docs[j]))
			}
		}
	}
	t.Logf("seed %d (%s): %s: they agree on %.1f %%", seed, seedVariable, asked.String(), 100*asked.agreement())
	t.Logf("changes that netplan takes: %s: they agree on %.1f %%", harmless.String(), 100*harmless.agreement())
	for _, s := range append(asked.apart, harmless.apart...) {
		t.Log(s)
	}
	if asked.bothTake < pairs*7/10 || asked.bothRefuse < pairs*7/10 {
		t.Errorf("too few documents are as they are meant to be")
	}
	if asked.agreement() < 0.97 || harmless.agreement() < 0.9 {
		t.Errorf("they agree on too few")
	}
}

// TestNetplanRules holds each rule between keys against netplan: the first document
// of a pair is taken by both, the second is refused by both.
func TestNetplanRules(t *testing.T) {
	pairs := netplanRules()
	var docs []string
	for _, pair := range pairs {
		docs = append(docs, pair[0], pair[1])
	}
	verdicts := make([]string, len(docs))
	if _, err := os.Stat(generate); err == nil {
		whole := make([]string, len(docs))
		for i, doc := range docs {
			whole[i] = "network: {version: 2, " + doc + "}\n"
		}
		verdicts = netplanVerdicts(t, whole)
	} else {
		t.Logf("netplan is not asked: %v (Debian package netplan.io)", err)
		for i := 1; i < len(docs); i += 2 {
			verdicts[i] = "refused"
		}
	}
	for i, doc := range docs {
		got := checked(t, "{version: 2, "+doc+"}")
		if bad := i%2 == 1; bad != (verdicts[i] != "") || bad != (got != "") {
			t.Errorf("%s\nnetplan: %s\nb9: %s\nwant refused: %v", doc, verdicts[i], got, bad)
		}
	}
}

// netplanRules are pairs of a configuration that fits together and one that does not.
func netplanRules() [][2]string {
	const e = "ethernets: {e: {}, f: {}}, "
	gre := func(s string) string { return "tunnels: {t: {mode: gre, " + s + "}}" }
	wg := func(s string) string { return "tunnels: {t: {mode: wireguard, " + s + "}}" }
	const key = "key: " + wireguardExample
	const peer = "peers: [{keys: {public: " + wireguardExample + "}, allowed-ips: [0.0.0.0/0]}]"
	nm := func(s string) string { return "renderer: NetworkManager, ethernets: {e: {" + s + "}}" }
	wifi := func(s string) string { return "wifis: {w: {access-points: {a: {" + s + "}}}}" }
	route := func(s string) string { return "ethernets: {e: {routes: [{" + s + "}]}}" }
	return [][2]string{
		{"ethernets: {e: {match: {name: x*}, set-name: y}}", "ethernets: {e: {set-name: y}}"},
		{"ethernets: {e: {ipv6-address-token: '::2'}}", "ethernets: {e: {ipv6-address-token: '::2', ipv6-address-generation: eui64}}"},
		{e + "vlans: {v: {id: 1, link: e}}", e + "vlans: {v: {id: 1, link: g}}"},
		{"vlans: {v: {id: 1, link: e}}, " + strings.TrimSuffix(e, ", "), "vlans: {v: {link: e}}, " + strings.TrimSuffix(e, ", ")},
		{e + "bonds: {b: {interfaces: [e, f], parameters: {primary: e}}}", e + "bonds: {b: {interfaces: [e, f], parameters: {primary: g}}}"},
		{e + "bonds: {b: {interfaces: [e]}, c: {interfaces: [f]}}", e + "bonds: {b: {interfaces: [e]}, c: {interfaces: [e]}}"},
		{e + "bonds: {b: {interfaces: [e]}}, bridges: {c: {interfaces: [b]}}", e + "bonds: {b: {interfaces: [e]}}, bridges: {c: {interfaces: [e]}}"},
		{e + "bridges: {b: {interfaces: [e], parameters: {path-cost: {e: 5}}}}", e + "bridges: {b: {interfaces: [e], parameters: {path-cost: {g: 5}}}}"},
		{e + "bridges: {b: {parameters: {port-priority: {e: 63}}}}", e + "bridges: {b: {parameters: {port-priority: {e: 64}}}}"},
		{e + "bridges: {b: {interfaces: []}}", e + "bridges: {e: {interfaces: []}}"},
		{e + "vrfs: {v: {table: 5, interfaces: [e]}, w: {table: 6, interfaces: [f]}}", e + "vrfs: {v: {table: 5, interfaces: [e]}, w: {table: 6, interfaces: [e]}}"},
		{e + "vrfs: {v: {table: 5}}", e + "vrfs: {v: {interfaces: [e]}}"},
		{gre("local: 192.0.2.1, remote: 192.0.2.2"), gre("local: 192.0.2.1")},
		{gre("local: 192.0.2.1, remote: 192.0.2.2, key: 5"), gre("local: 192.0.2.1, remote: 192.0.2.2, key: five")},
		{gre("local: 192.0.2.1, remote: 192.0.2.2, ttl: 255"), gre("local: 192.0.2.1, remote: 192.0.2.2, ttl: 256")},
		{"tunnels: {t: {mode: ip6gre, local: '::1', remote: '::2'}}", gre("local: '::1', remote: '::2'")},
		{"tunnels: {t: {mode: sit, local: 192.0.2.1, remote: 192.0.2.2}}", "tunnels: {t: {mode: sit, local: 192.0.2.1, remote: 192.0.2.2, key: 5}}"},
		{"tunnels: {t: {mode: sit, local: 192.0.2.1, remote: 192.0.2.2}}", "tunnels: {t: {local: 192.0.2.1, remote: 192.0.2.2}}"},
		{"tunnels: {t: {renderer: NetworkManager, mode: isatap, local: 192.0.2.1, remote: 192.0.2.2}}", "tunnels: {t: {mode: isatap, local: 192.0.2.1, remote: 192.0.2.2}}"},
		{"tunnels: {t: {mode: vxlan, id: 7}}", "tunnels: {t: {mode: vxlan}}"},
		{"tunnels: {t: {mode: vxlan, id: 7, local: '::1', remote: '::2'}}", "tunnels: {t: {mode: vxlan, id: 7, local: '::1', remote: 192.0.2.1}}"},
		{wg(key + ", " + peer), wg(peer)},
		{wg("key: /etc/key, " + peer), wg(key)},
		{wg(key + ", " + peer), wg("key: short, " + peer)},
		{wg(key + ", " + strings.Replace(peer, "allowed", "keepalive: 65535, allowed", 1)), wg(key + ", " + strings.Replace(peer, "allowed", "keepalive: 65536, allowed", 1))},
		{route("to: default, from: 192.0.2.1, scope: link"), route("to: default, scope: link")},
		{route("to: '::/0', type: blackhole"), route("to: default, type: blackhole")},
		{route("to: 10.0.0.0/8, via: 192.0.2.1"), route("to: 10.0.0.0/8, via: '::1'")},
		{route("to: default, via: 192.0.2.1, from: 192.0.2.9"), route("to: default, via: 192.0.2.1, from: '::9'")},
		{route("to: 10.0.0.0/8, scope: link"), route("via: 192.0.2.1")},
		{route("to: 10.0.0.0/8, type: blackhole"), route("type: blackhole")},
		{"ethernets: {e: {routing-policy: [{from: 10.0.0.0/8, to: 192.0.2.0/24}]}}", "ethernets: {e: {routing-policy: [{from: 10.0.0.0/8, to: '::/0'}]}}"},
		{"ethernets: {e: {routing-policy: [{from: 10.0.0.0/8, table: 7}]}}", "ethernets: {e: {routing-policy: [{table: 7}]}}"},
		{"ethernets: {e: {gateway4: 192.0.2.1, gateway6: '::1'}}", "ethernets: {e: {gateway4: '::1'}}"},
		{"ethernets: {e: {dhcp4: true, dhcp6: true, dhcp4-overrides: {use-dns: no}, dhcp6-overrides: {use-dns: no}}}", "ethernets: {e: {dhcp4: true, dhcp6: true, dhcp4-overrides: {use-dns: no}}}"},
		{"ethernets: {e: {virtual-function-count: 4, embedded-switch-mode: legacy}}", "ethernets: {e: {embedded-switch-mode: legacy}}"},
		{"ethernets: {e: {}, f: {link: e}}", "ethernets: {e: {}, f: {link: g}}"},
		{nm("activation-mode: manual"), nm("activation-mode: 'off'")},
		{nm("mtu: 1400"), nm("ipv6-mtu: 1400")},
		{nm("match: {name: x}"), nm("match: {driver: x}")},
		{nm("addresses: [192.0.2.1/24]"), nm("addresses: [{192.0.2.1/24: {label: a}}]")},
		{nm("ipv6-address-generation: stable-privacy"), "ethernets: {e: {ipv6-address-generation: stable-privacy}}"},
		{"nm-devices: {renderer: NetworkManager, n: {networkmanager: {passthrough: {connection.type: wifi}}}}", "nm-devices: {renderer: NetworkManager, n: {}}"},
		{"modems: {m: {renderer: NetworkManager, apn: x}}", "modems: {m: {apn: x}}"},
		{wifi("password: 12345678"), wifi("password: 1234567")},
		{wifi("band: 5GHz, channel: 36"), wifi("band: 5GHz, channel: 1")},
		{wifi("mode: adhoc"), wifi("mode: ap")},
		{wifi(""), "wifis: {w: {}}"},
		{wifi("auth: {key-management: psk, password: 12345678}"), wifi("auth: {key-management: psk, password: x}")},
		{e + "bridges: {b: {interfaces: [e], openvswitch: {fail-mode: secure}}}", "ethernets: {e: {openvswitch: {fail-mode: secure}}}"},
		{e + "bonds: {b: {interfaces: [e, f], openvswitch: {lacp: active}}}, bridges: {c: {interfaces: [b], openvswitch: {}}}", e + "bonds: {b: {interfaces: [e, f], openvswitch: {lacp: active}}}"},
		{e + "bridges: {b: {interfaces: [e], openvswitch: {controller: {addresses: ['tcp:127.0.0.1']}}}}", e + "bridges: {b: {interfaces: [e], openvswitch: {controller: {addresses: ['ssl:127.0.0.1']}}}}"},
		{"openvswitch: {ports: [[p, q]]}, bridges: {b: {interfaces: [p]}, c: {interfaces: [q]}}", "openvswitch: {ports: [[p, q]]}, bridges: {b: {interfaces: [p]}}"},
		{"ethernets: {renderer: networkd, e: {mtu: '1500'}}", "ethernets: {e: {mtu: x}}"},
		{"ethernets: {e: {addresses: [192.0.2.1/32]}}", "ethernets: {e: {addresses: [192.0.2.1/0]}}"},
		{"ethernets: {e: {}}", "bonds: {b: {match: {name: x}}}"},
	}
}
