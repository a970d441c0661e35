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
	bothTake, bothRefuse       int
	onlyNetplan, onlyB9        int // refuses
	crashedTaken, crashedCount int // of those on which netplan crashed, those that b9 takes, and all
	apart                      []string
}

func (c *confusion) add(doc, netplan, b9 string) {
	switch {
	case netplan == crashed:
		c.crashedCount++
		if b9 != "" {
			return
		}
		c.crashedTaken++
	case netplan == "" && b9 == "":
		c.bothTake++
		return
	case netplan != "" && b9 != "":
		c.bothRefuse++
		return
	case netplan != "":
		c.onlyNetplan++
	default:
		c.onlyB9++
	}
	c.apart = append(c.apart, fmt.Sprintf("netplan: %q\nb9: %.300q\n%s", netplan, b9, doc))
}

func (c *confusion) String() string {
	return fmt.Sprintf("both take %d, both refuse %d, only netplan refuses %d, only b9 refuses %d; netplan crashed on %d, of which b9 takes %d", c.bothTake, c.bothRefuse, c.onlyNetplan, c.onlyB9, c.crashedCount, c.crashedTaken)
}

// agreement is the part of the documents with one verdict: of those with a verdict of
// netplan's, and of all where a crash counts as a refusal.
func (c *confusion) agreement() (judged, raw float64) {
	same, other := c.bothTake+c.bothRefuse, c.onlyNetplan+c.onlyB9
	refused := c.crashedCount - c.crashedTaken
	return float64(same) / float64(same+other), float64(same+refused) / float64(same+other+c.crashedCount)
}

// seedVariable chooses other documents than those of every run.
const seedVariable = "B9_NETPLAN_SEED"

// netplanSeeds are those of every run, and how many documents each makes.
func netplanSeeds(t *testing.T) (seeds []uint64, documents int) {
	if s := os.Getenv(seedVariable); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
		return []uint64{seed}, 200
	}
	if os.Getenv("B9_LONG_TESTS") == "" {
		return []uint64{28, 29, 30}, 55
	}
	return []uint64{28, 29, 30}, 180
}

// TestNetplanAgrees makes configurations in which every key of netplan's schema
// occurs, most of which netplan takes, and of each some with one change, most of
// which it refuses. Every document counts: b9 has netplan's verdict on 97 in 100.
// A netplan that crashes has given none, but sets up no network either, so that the
// same holds where a crash counts as a refusal.
func TestNetplanAgrees(t *testing.T) {
	needNetplan(t)
	const tries = 3
	seeds, documents := netplanSeeds(t)
	p := &planner{keys: map[string]bool{}}
	var docs []string
	for n, seed := range seeds {
		p.Rand = rand.New(rand.NewPCG(seed, 0))
		for i := 0; i < documents || n == len(seeds)-1 && len(p.missing()) > 0 && i < 3*documents; i++ {
			doc := p.document()
			docs = append(docs, wrapped(doc))
			for range tries {
				docs = append(docs, wrapped(p.mutated(doc)))
			}
		}
	}
	if left := p.missing(); len(left) > 0 {
		t.Errorf("no document has the keys %s", left)
	}
	var made, changed, all confusion
	for i, verdict := range netplanVerdicts(t, docs) {
		got := checked(t, docs[i])
		all.add(docs[i], verdict, got)
		if i%(1+tries) == 0 {
			made.add(docs[i], verdict, got)
		} else {
			changed.add(docs[i], verdict, got)
		}
	}
	judged, raw := all.agreement()
	t.Logf("seeds %d (%s), %d documents: %s: they agree on %.1f %%, with crashes as refusals on %.1f %%", seeds, seedVariable, len(docs), all.String(), 100*judged, 100*raw)
	t.Logf("as made: %s", made.String())
	t.Logf("changed: %s", changed.String())
	for _, s := range all.apart {
		t.Log(s)
	}
	if made.bothTake < len(docs)/(1+tries)*6/10 || changed.bothRefuse < len(docs)*tries/(1+tries)*5/10 {
		t.Errorf("too few documents are as they are meant to be")
	}
	if judged < 0.97 || raw < 0.97 {
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
		{"renderer: NetworkManager, nm-devices: {n: {networkmanager: {passthrough: {connection.type: wifi}}}}", "nm-devices: {n: {networkmanager: {passthrough: {connection.type: wifi}}}}"},
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
		{e + "wifis: {w: {access-points: {a: {}}}}, vlans: {v: {id: 1, link: w}}", "vlans: {v: {id: 1, link: w}}, wifis: {w: {access-points: {a: {}}}}"},
		{"bridges: {b: {interfaces: [e], parameters: {path-cost: {e: 5}, port-priority: {e: 5}}}}, " + strings.TrimSuffix(e, ", "), e + "bridges: {b: {parameters: {path-cost: {e: 5}}}}, vlans: {v: {id: 1, link: w}, w: {id: 1, link: e}}"},
		{e + "bridges: {b: {parameters: {port-priority: {e: 0}}}}, vlans: {v: {id: 1, link: w}, w: {id: 1, link: e}}", e + "bridges: {b: {parameters: {port-priority: {e: 5}}}}, vlans: {v: {id: 1, link: w}, w: {id: 1, link: e}}"},
		{e + "bridges: {b: {parameters: {path-cost: {e: 5}}}, c: {parameters: {path-cost: {f: 5}}}}", e + "bridges: {b: {parameters: {path-cost: {e: 5}}}, c: {parameters: {path-cost: {e: 6}}}}"},
		{e + "bridges: {b: {parameters: {path-cost: {e: -1}}}}", e + "bridges: {b: {parameters: {path-cost: {e: 1.5}}}}"},
		{e + "vrfs: {v: {table: 5, routes: [{to: 10.0.0.0/8, via: 192.0.2.1}], routing-policy: [{from: 10.0.0.0/8}]}}", e + "vrfs: {v: {table: 5, routes: [{to: 10.0.0.0/8, via: 192.0.2.1}]}}"},
	}
}
