package cloudinit

import (
	"strings"
	"testing"

	"b9.build/b9/engine/content/internal/oracle"
	"b9.build/b9/engine/content/yaml"
)

func networkDocuments() (good, bad []string) {
	good = []string{
		"version: 1\nconfig:\n- {type: physical, name: eth0, mac_address: '52:54:00:12:34:56', subnets: [{type: dhcp}]}\n",
		"version: 1\nconfig:\n- {type: physical, name: eth0, mtu: 1500, subnets: [{type: static, address: 192.0.2.5/24, gateway: 192.0.2.1, dns_nameservers: [192.0.2.53], dns_search: [x.org]}]}\n",
		"version: 1\nconfig:\n- {type: bond, name: b0, bond_interfaces: [a, b], params: {bond-mode: active-backup}}\n- {type: vlan, name: v, vlan_link: b0, vlan_id: 5}\n- {type: bridge, name: br, bridge_interfaces: [v]}\n- {type: nameserver, address: [192.0.2.1], search: [a]}\n- {type: route, destination: 10.0.0.0/8, gateway: 192.0.2.1}\n",
		"network: {version: 1, config: [{type: loopback, name: lo, subnets: [{type: manual}]}]}",
		"version: 2\nethernets:\n  eth0: {dhcp4: true}\n",
		"version: 2\nethernets:\n  eth0:\n    match: {macaddress: '52:54:00:12:34:56'}\n    set-name: lan\n    addresses: [192.0.2.5/24, '2001:db8::5/64']\n    gateway4: 192.0.2.1\n    nameservers: {search: [x.org], addresses: [192.0.2.53]}\n    routes: [{to: 10.0.0.0/8, via: 192.0.2.2, metric: 5}]\n",
		"version: 2\nethernets: {a: {}, b: {}}\nbonds: {b0: {interfaces: [a, b], parameters: {mode: active-backup}}}\nvlans: {v: {id: 5, link: b0}}\nbridges: {br: {interfaces: [v]}}\n",
		"version: 1\nconfig: [{type: physical, name: x, subnets: [{type: dhcp, control: auto}]}]",
		"version: 2\nethernets: {a: {dhcp4: 'yes', dhcp6: 'no'}}",
		"version: 1\nconfig: [{type: bond, name: b, bond_interfaces: [a], params: {bond-mode: 802.3ad, bond-miimon: 100, bond-lacp-rate: fast, bond-xmit_hash_policy: layer3+4, bond-use_carrier: 1}}]",
		"version: 1\nconfig: [{type: bridge, name: b, bridge_interfaces: [a], params: {bridge_stp: 0, bridge_fd: 0, bridge_pathcost: ['a 50']}}]",
		"version: 1\nconfig: [{type: physical, name: a, subnets: [{type: static, address: 192.0.2.5, prefix: 24, mtu: 1400, routes: [{network: 10.0.0.0, netmask: 255.0.0.0, gateway: 192.0.2.1}]}]}]",
		"version: 2\nethernets: {a: {}}\nbonds: {b: {interfaces: [a], parameters: {mode: 802.3ad, mii-monitor-interval: 100, up-delay: 5ms, transmit-hash-policy: layer3+4, primary: a}}}",
		"version: 2\nethernets: {a: {}}\nbridges: {b: {interfaces: [a], parameters: {stp: false, forward-delay: 4, path-cost: {a: 50}, priority: 1}}}",
		"version: 2\nethernets: {a: {routing-policy: [{from: 10.0.0.0/8, table: 7}], dhcp4-overrides: {use-domains: route}, receive-checksum-offload: false}}",
		"version: 1\nconfig: [{type: physical, name: a, subnets: [{type: static, address: 192.0.2.5, netmask: 255.255.254.0}, {type: static, address: 192.0.2.5/24, netmask: 24}, {type: static6, address: '2001:db8::5', netmask: 'ffff:ffff::'}]}]",
		"version: 2\nethernets: {a: {dhcp4: 'on', mtu: '1500'}}",
		"config: disabled",
	}
	bad = []string{
		"version: 3", "{}", "[]", "version: 1", "version: 1\nconfig: {}", "version: 1\nconfig: [{name: x}]", "version: 1\nconfig: [{type: phisical, name: x}]", "version: 1\nconfig: [{type: physical}]",
		"version: 1\nconfig: [{type: physical, name: x, subnets: [{type: dhpc4}]}]", "version: 1\nconfig: [{type: vlan, name: x}]", "version: 1\nconfig: [{type: physical, name: x, mac_address: 52:54}]",
		"version: 2\nethernet: {a: {}}", "version: 2\nethernets: [a]", "version: 2\nethernets: {a: {dhcp4: maybe}}", "version: 2\nethernets: {a: {addresses: [192.0.2.5]}}", "version: 2\nethernets: {a: {adresses: [192.0.2.5/24]}}",
		"version: 2\nethernets: {a: {gateway4: x}}", "version: 2\nvlans: {a: {id: 5}}", "version: 2\nethernets: {a: {routes: [{via: 192.0.2.1}]}}", "version: 2\nethernets: {a: {match: {macaddress: 12:34:56:12:34:56}}}",
		"version: 1\nconfig: [{type: route, gateway: 192.0.2.1}]", "version: 1\nconfig: [{type: route, network: 10.0.0.0, gateway: 192.0.2.1}]", "version: 1\nconfig: [{type: physical, name: x, subnets: [{type: dhcp, control: atuo}]}]", "version: 1\nconfig: [{type: physical, name: x, subnets: [{control: auto}]}]",
		"version: 1\nconfig: [{type: physical, name: a, subnets: [{type: static, address: 192.0.2.5, netmask: 255.0.255.0}]}]", "version: 1\nconfig: [{type: physical, name: a, subnets: [{type: static, address: 192.0.2.5, netmask: 33}]}]",
		"version: 1\nconfig: [{type: physical, name: a, subnets: [{type: static, address: 192.0.2.5, netmask: 192.0.2.1}]}]", "version: 1\nconfig: [{type: physical, name: a, subnets: [{type: static, address: 192.0.2.5, netmask: 'ffff::'}]}]",
		"version: 1\nconfig: [{type: physical, name: a, subnets: [{type: static6, address: '2001:db8::5', netmask: 255.255.255.0}]}]", "version: 1\nconfig: [{type: physical, name: a, subnets: [{type: static, address: 192.0.2.5/24, netmask: 255.255.0.0}]}]",
		"version: 1\nconfig: [{type: route, destination: 10.0.0.0, netmask: 255.0.0.1, gateway: 192.0.2.1}]", "version: 1\nconfig: [{type: physical, name: a, subnets: [{type: dhcp, routes: [{network: 10.0.0.0, netmask: 0.255.0.0, gateway: 192.0.2.1}]}]}]",
		"version: 1\nconfig: [{type: physical, name: a, subnets: [{type: static, address: 192.0.2.5, prefix: 64}]}]",
	}
	return good, bad
}

// TestNetplanForms holds that what only netplan reads is taken.
func TestNetplanForms(t *testing.T) {
	for _, device := range []string{
		"ethernets: {a: {addresses: [{192.0.2.5/24: {label: 'a:1', lifetime: 0}}]}}", "bonds: {b: {parameters: {arp-ip-targets: [192.0.2.1]}}}",
		"wifis: {a: {access-points: {x: {password: passphrase}}}}", "tunnels: {t: {mode: gre, local: 192.0.2.1, remote: 192.0.2.2}}",
	} {
		d, err := yaml.Parse("n", "version: 2\n"+device)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := yaml.Split(CheckNetwork(d.Root, nil)); err != nil {
			t.Errorf("%s: %v", device, err)
		}
	}
}

func TestNetworkMessages(t *testing.T) {
	v1 := func(device string) string { return "version: 1\nconfig: [" + device + "]\n" }
	bond := func(params string) string {
		return v1("{type: bond, name: b, bond_interfaces: [], params: {" + params + "}}")
	}
	v2 := func(kind, device string) string { return "version: 2\n" + kind + ": {b: " + device + "}\n" }
	tests := []struct{ in, want string }{
		{bond("bond-mimon: 100"), `n:2:62: config[0].params.bond-mimon: unknown key: did you mean "bond-miimon"?`},
		{bond("bond-miimon: often"), "n:2:75: config[0].params.bond-miimon: want int, got text"},
		{bond("bond-mode: 802.3af"), `n:2:73: config[0].params.bond-mode: unknown value "802.3af" (have balance-rr, active-backup, balance-xor, broadcast, 802.3ad, balance-tlb, balance-alb, balance-tcp, balance-slb): did you mean "802.3ad"?`},
		{bond("bond-num_grat_arp: 256"), "n:2:81: config[0].params.bond-num_grat_arp: 256 is more than 255"},
		{v1("{type: bond, name: b, bond_interfaces: []}"), `n:2:10: config[0]: the key "params" is missing`},
		{v1("{type: bridge, name: b, bridge_interfaces: [], params: {bridge_stpp: on}}"), `n:2:66: config[0].params.bridge_stpp: unknown key: did you mean "bridge_stp"?`},
		{v1("{type: bridge, name: b, bridge_interfaces: [], params: {bridge_fd: soon}}"), "n:2:77: config[0].params.bridge_fd: want int, got text"},
		{v1("{type: physical, name: a123456789012345}"), `n:2:33: config[0].name: "a123456789012345" is longer than the 15 characters that a network device's name can have`},
		{v1("{type: physical, name: a, subnets: [{type: dhcp, routes: [{destination: default, gateway: 192.0.2.1, to: x}]}]}"), "n:2:111: config[0].subnets[0].routes[0].to: unknown key (have destination, gateway, metric, netmask, network, prefix, type)"},
		{v1("{type: physical, name: a, subnets: [{type: dhcp, routes: [{gateway: '::1', network: '::', destination: '::'}]}]}"), `n:2:68: config[0].subnets[0].routes[0]: a route has either a "destination" or a "network", which mean the same`},
		{v2("bonds", "{parameters: {mod: 802.3ad}}"), `n:2:26: bonds.b.parameters.mod: unknown key: did you mean "mode"?`},
		{v2("bonds", "{parameters: {up-delay: [1]}}"), "n:2:36: bonds.b.parameters.up-delay: want text or bool or number, got list"},
		{v2("bridges", "{parameters: {path-cost: 5}}"), "n:2:39: bridges.b.parameters.path-cost: want mapping, got int"},
		{v2("bridges", "{parameters: {stp: off, prio: 1}}"), `n:2:38: bridges.b.parameters.prio: unknown key (have ageing-time, aging-time, forward-delay, hello-time, max-age, path-cost, port-priority, priority, stp)`},
		{v2("vlans", "{id: 4095, link: b}"), "n:2:17: vlans.b.id: 4095 is more than 4094"},
		{v2("ethernets", "{nameservers: {address: [192.0.2.1]}}"), `n:2:31: ethernets.b.nameservers.address: unknown key: did you mean "addresses"?`},
		{v2("ethernets", "{routing-policy: [{form: 10.0.0.0/8}]}"), `n:2:35: ethernets.b.routing-policy[0].form: unknown key: did you mean "from"?` + "\n" + `n:2:34: ethernets.b.routing-policy[0]: a rule needs a "from" or a "to"`},
		{v2("ethernets", "{addresses: [{192.0.2.5/24: {lable: x}}]}"), `n:2:45: ethernets.b.addresses[0]."192.0.2.5/24".lable: unknown key: did you mean "label"?`},
	}
	for _, tt := range tests {
		d, err := yaml.Parse("n", tt.in)
		if err != nil {
			t.Fatal(err)
		}
		_, err = yaml.Split(CheckNetwork(d.Root, nil))
		if got := errorText(err); got != tt.want {
			t.Errorf("%q: got %s\nwant %s", tt.in, got, tt.want)
		}
	}
}

func TestNetworkConfig(t *testing.T) {
	good, bad := networkDocuments()
	for i, doc := range append(good, bad...) {
		d, err := yaml.Parse("n", doc)
		if err != nil {
			t.Fatal(err)
		}
		_, err = yaml.Split(CheckNetwork(d.Root, d.Warnings))
		if (err == nil) != (i < len(good)) {
			t.Errorf("%q: %v", doc, err)
		}
	}
}

// TestCloudInitTakesNetworkConfig holds that what the check takes for good is
// good to cloud-init.
func TestCloudInitTakesNetworkConfig(t *testing.T) {
	oracle.Need(t, "cloudinit.net.network_state", "cloud-init")
	good, _ := networkDocuments()
	good = good[:len(good)-1]
	var got []string
	oracle.Run(t, `
import sys, json, yaml, logging
logging.disable(logging.CRITICAL)
from cloudinit.net import network_state
out = []
for doc in json.load(sys.stdin):
    c = yaml.safe_load(doc)
    try: out.append("" if network_state.parse_net_config_data(c.get("network", c), skip_broken=False).config else "nothing")
    except Exception as e: out.append(repr(e))
print(json.dumps(out))
`, good, &got)
	for i := range got {
		if got[i] != "" {
			t.Errorf("%q: %s", good[i], got[i])
		}
	}
}

func TestCheckMessages(t *testing.T) {
	tests := []struct{ in, want string }{
		{"pacakges: [a]\n", `f:1:1: pacakges: cloud-init has no such key: did you mean "packages"?`},
		{"write_files:\n- permissions: 0644\n  path: /x\n", `f:2:16: write_files[0].permissions: want text, got int: 0644 is octal for the number 420 here: write "0644" for the text`},
		{"write_files:\n- permissions: 'rwx'\n  path: /x\n", `f:2:16: write_files[0].permissions: "rwx" are no permission bits: write octal digits such as "0644"`},
		{"write_files:\n- content: x\n", `f:2:3: write_files[0]: the key "path" is missing`},
		{"users:\n- default\n- shell: /bin/sh\n", `f:3:3: users[1]: the key "name" is missing`},
		{"runcmd:\n- [ls, 1]\n", `f:2:8: runcmd[0][1]: want text, got int`},
		{"runcmd: ls\n", `f:1:9: runcmd: want list, got text`},
		{"runcmd:\n- a: b\n", `f:2:3: runcmd[0]: want text or null or list, got mapping`},
		{"hostname: no\n", `f:1:11: hostname: want text, got bool: no is the bool false here: write false, or "no" for the text`},
		{"users: [{name: x, grups: y}]\n", `f:1:19: users[0].grups: unknown key: did you mean "groups"?`},
		{"users: [{name: x, expiredate: 2030-01-01}]\n", `f:1:31: users[0].expiredate: want text, got date: 2030-01-01 is a date here: write "2030-01-01" for the text`},
		{"power_state: {mode: rebot}\n", `f:1:21: power_state.mode: unknown value "rebot" (have poweroff, reboot, halt): did you mean "reboot"?`},
		{"reporting: {a: {type: log, level: INF}}\n", `f:1:35: reporting.a.level: unknown value "INF" (have DEBUG, INFO, WARN, ERROR, FATAL): did you mean "INFO"?`},
	}
	for _, tt := range tests {
		if _, err := checkConfig(t, "f", tt.in); err == nil || err.Error() != tt.want {
			t.Errorf("%q: got %v\nwant %s", tt.in, err, tt.want)
		}
	}
}

func TestWarnings(t *testing.T) {
	tests := []struct{ in, want string }{
		{"package_update: yes\n", ""}, // a bool is wanted: nothing is odd
		{"runcmd: [yes]\n", ""},       // a mistake, which says it all
		{"final_message: 'yes'\n", ""},
		{"zypper: {config: {a: yes}}\n", "f:1:22: yes is the bool true here: write true, or \"yes\" for the text [yaml-bool]"},
		{"rh_subscription: {org: 0644}\n", "f:1:24: 0644 is octal for the number 420 here: write \"0644\" for the text [yaml-octal]"},
		{"chpasswd: {list: 'a:b'}\n", "f:1:18: chpasswd.list: this is deprecated [deprecated]"},
		{"something: 1\n", "f:1:1: something: cloud-init has no such key [unknown-key]"},
		{"packages: [a]\npackages: [b]\n", "f:2:1: the key packages is there already at f:1:11: only this last one counts [yaml-duplicate]"},
	}
	for _, tt := range tests {
		warnings, _ := checkConfig(t, "f", tt.in)
		var got []string
		for _, w := range warnings {
			got = append(got, w.Error()+" ["+w.Name+"]")
		}
		if strings.Join(got, "\n") != tt.want {
			t.Errorf("%q: got %q\nwant %q", tt.in, got, tt.want)
		}
		for _, w := range warnings {
			if left := yaml.Silence(warnings, []string{w.Name}); len(left) != len(warnings)-1 {
				t.Errorf("%q: %q does not silence", tt.in, w.Name)
			}
		}
	}
}

// TestLaterForms holds that what only later versions of cloud-init than the
// tests' take is taken, and that mistakes in it are found.
func TestLaterForms(t *testing.T) {
	tests := []struct{ in, want string }{
		{"ansible: {pull: [{url: u, playbook_name: p}]}\n", ""},
		{"ansible: {pull: {url: u, playbook_name: p}}\n", ""},
		{"ansible: {pull: [{url: u}]}\n", `f:1:18: ansible.pull[0]: the key "playbook_name" is missing`},
		{"users: [{name: a, sudo: ['ALL=(ALL) ALL', null]}]\n", ""},
		{"users: [{name: a, sudo: [5]}]\n", "f:1:26: users[0].sudo[0]: want text or null, got int"},
		{"disk_setup: {a: {layout: [[33, Linux]]}}\n", ""},
		{"users: [{name: a, ssh-authorized-keys: [k], no-create-home: yes}]\n", ""},
		{"users: [{name: a, no-create-home: k}]\n", "f:1:35: users[0].no-create-home: want bool, got text"},
		{"create_hostname_file: false\n", ""},
		{"ansible: {pull: [{url: u, playbook_names: [p], inventory: i, verify_commit: true}]}\n", ""},
		{"ansible: {pull: [{url: u, playbook_name: p, playbook_names: [p]}]}\n", `f:1:18: ansible.pull[0]: there is either a "playbook_name" or a list "playbook_names", not both`},
		{"packages: [a, {apt: [b, [c, '1']], snap: [d]}]\n", ""},
		{"packages: [{atp: [b]}]\n", `f:1:13: packages[0].atp: unknown key: did you mean "apt"?`},
		{"packages: [7]\n", "f:1:12: packages[0]: want text or list or mapping, got int"},
		{"write_files: [{path: /x, source: {uri: 'http://x', headers: {a: b}}}]\n", ""},
		{"write_files: [{path: /x, source: {url: 'http://x'}}]\n", "f:1:34: write_files[0].source: the key \"uri\" is missing\nf:1:35: write_files[0].source.url: unknown key: did you mean \"uri\"?"},
		{"yum_repos: {a: {mirrorlist: u}, b: {metalink: u}}\n", ""},
		{"yum_repos: {a: {name: u}}\n", `f:1:16: yum_repos.a: the key "baseurl" is missing`},
		{"ntp: {peers: [a], allow: [b]}\nlocale: false\nusers: []\n", ""},
		{"rsyslog: {check_exe: a, packages: [b], install_rsyslog: true}\ngrub_dpkg: {grub-efi/install_devices: a}\nchef: {config_path: a}\n", ""},
		{"rh_subscription: {activation_key: a, org: 'b', auto_attach: true, release_version: '9'}\n", ""},
		{"users: [{name: a, doas: [permit]}]\ncloud_config_modules: [raspberry_pi, ubuntu_pro]\n", ""},
	}
	for _, tt := range tests {
		_, err := checkConfig(t, "f", tt.in)
		if got := errorText(err); got != tt.want {
			t.Errorf("%q: got %s\nwant %s", tt.in, got, tt.want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
