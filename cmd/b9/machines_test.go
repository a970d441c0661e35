package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// otherMachines are what debian_machine() makes of parameters that the machine of
// TestBoots does not have: looked at by their own tools, in containers.
const otherMachines = `
load("@b9//debian.star", "debian_machine")
srv = part(image(size = "16M"), label = "srv")
var = part(image(size = "16M"), label = "var")
paging = part(image(fs = "swap", size = "16M"), type = "swap")
disk(name = "disk", partitions = [srv, var, paging])

STATIC = {"address": "192.0.2.10/24", "gateway": "192.0.2.1", "dns": ["192.0.2.2", "192.0.2.3"]}
old = debian_machine(
    name = "old",
    suite = "bookworm",
    kernel = None,
    init = "sysvinit",
    first_boot = None,
    network = "ifupdown",
    growfs = False,
    packages = ["hello"],
    interfaces = {"en*": "dhcp", "lan0": STATIC},
    serial = ["ttyS0", "hvc0"],
    ssh_keys = ["ssh-ed25519 AAAA root"],
    password = "$6$salt$root",
    users = {"ann": {"groups": ["adm", "audio"], "shell": "/bin/sh", "ssh_keys": ["ssh-ed25519 BBBB ann"], "password": "$6$salt$ann"}},
    mounts = {"/srv": srv, "/var/lib/data": (var, "noatime"), "swap": paging},
    shares = {"/given": tree(files = {"file": file(content = "given\n")})},
    script = ["cp /given/file /"],
    label = "old-root",
)
cloud = debian_machine(
    name = "cloud",
    suite = "bookworm",
    kernel = None,
    first_boot = "cloud-init",
    network = "netplan",
    interfaces = {"en*": "dhcp", "lan0": STATIC},
    serial = [],
)
LOOK = """
exec >/out/facts
tell() { echo "$1: $2"; }
tell init "$(readlink -f /sbin/init)"
tell installed "$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\\n' hello cloud-init locales linux-image-amd64 2>/dev/null | sed -n 's/^ii *//p' | sort | tr '\\n' ' ')"
tell host "$(cat /etc/hostname)"
tell shadow "$(getent shadow root ann | cut -d: -f1,2 | tr '\\n' ' ')"
tell ann "$(id -nG ann 2>/dev/null) $(getent passwd ann | cut -d: -f6,7)"
tell keys "$(cat /root/.ssh/authorized_keys /home/ann/.ssh/authorized_keys 2>/dev/null | tr '\\n' ' ')"
tell closed "$(stat -c '%a %U' /root/.ssh/authorized_keys /home/ann/.ssh /home/ann/.ssh/authorized_keys 2>/dev/null | tr '\\n' ' ')"
tell given "$(cat /file 2>/dev/null)"
tell lan0 "$(ifquery lan0=machine1 2>/dev/null | grep -o -e 192.0.2.10 -e '^gateway: 192.0.2.1$' | tr '\\n' ' ')"
tell ens3 "$(ifquery ens3=machine0 >/dev/null 2>&1 && grep -c 'machine0 inet dhcp' /etc/network/interfaces)"
tell servers "$(grep -h ^nameserver /etc/resolv.conf 2>/dev/null | tr '\\n' ' ')"
tell serial "$(grep -h '^[^#].*getty -L' /etc/inittab 2>/dev/null | tr '\\n' ' ')$(ls /etc/systemd/system/getty.target.wants 2>/dev/null | grep serial)"
tell fstab "$(tr '\\n' '|' </etc/fstab)"
tell parsed "$(findmnt --verify --tab-file /etc/fstab 2>&1 | grep 'parse error')"
tell dirs "$(ls -d /srv /var/lib/data 2>/dev/null | tr '\\n' ' ')"
tell repart "$(ls /etc/repart.d 2>/dev/null)"
if command -v netplan >/dev/null; then
	netplan generate --root-dir / && tell netplan "$(cat /run/systemd/network/*machine0* | grep -c -e ^Name=en -e ^DHCP=yes) $(cat /run/systemd/network/*machine1* | grep -e ^Address -e ^Gateway -e ^DNS | tr '\\n' ' ')"
	tell mode "$(stat -c %a /etc/netplan/50-machine.yaml)"
fi
if command -v cloud-init >/dev/null; then
	cloud-init schema -c /etc/cloud/cloud.cfg.d/90-machine.cfg --annotate >/dev/null 2>&1; tell cloud "$(python3 -c 'import yaml; print(sorted(yaml.safe_load(open("/etc/cloud/cloud.cfg.d/90-machine.cfg")).items()))')"
fi
exit 0
"""
lxc_exec(name = "old_facts", images = {"/": old}, shares = {"/out": writable()}, network = "none", script = [LOOK])
lxc_exec(name = "cloud_facts", images = {"/": cloud}, shares = {"/out": writable()}, network = "none", script = [LOOK])
`

// TestDebianMachines builds them and reads what their tools say.
func TestDebianMachines(t *testing.T) {
	needMachine(t)
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"b9.toml": "", "B9BUILD.star": otherMachines} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b9(t, "-C", dir, "--store", t.TempDir(), "build", ":old_facts", ":cloud_facts", ":disk")
	ids := partitionIDs(t, filepath.Join(dir, "b9-out/disk.raw"))
	fstab := "LABEL=old-root / auto defaults 0 1|PARTUUID=" + ids[0] + " /srv auto defaults,nofail 0 2|PARTUUID=" + ids[1] +
		" /var/lib/data auto noatime,nofail 0 2|PARTUUID=" + ids[2] + " none swap defaults,nofail 0 0|"
	for target, want := range map[string]map[string]string{
		"old_facts": {
			"init": "/usr/sbin/init", "installed": "hello", "host": "debian", "shadow": "root:$6$salt$root ann:$6$salt$ann",
			"ann": "ann adm audio /home/ann:/bin/sh", "keys": "ssh-ed25519 AAAA root ssh-ed25519 BBBB ann", "closed": "600 root 700 ann 600 ann",
			"given": "given", "lan0": "192.0.2.10 gateway: 192.0.2.1", "ens3": "1",
			"servers": "nameserver 192.0.2.2 nameserver 192.0.2.3",
			"serial":  "S0:23:respawn:/sbin/getty -L ttyS0 115200 vt220 hvc0:23:respawn:/sbin/getty -L hvc0 115200 vt220",
			"fstab":   fstab, "dirs": "/srv /var/lib/data", "repart": "",
		},
		"cloud_facts": {
			"init": "/usr/lib/systemd/systemd", "installed": "cloud-init locales", "keys": "", "serial": "", "repart": "",
			"fstab":   "LABEL=root / auto defaults,x-systemd.growfs 0 1|",
			"netplan": "2 Address=192.0.2.10/24 DNS=192.0.2.2 DNS=192.0.2.3 Gateway=192.0.2.1", "mode": "600",
			"cloud": "[('datasource_list', ['NoCloud', 'None']), ('network', {'config': 'disabled'})]",
		},
	} {
		facts := factsIn(t, filepath.Join(dir, "b9-out", target, "out/facts"))
		for name, text := range want {
			if facts[name] != text {
				t.Errorf("%s: %s is %q, want %q", target, name, facts[name], text)
			}
		}
		if !strings.HasPrefix(facts["parsed"], "0 parse errors") {
			t.Errorf("%s: findmnt says of its fstab %q", target, facts["parsed"])
		}
	}
}

// factsIn are lines of the form NAME: TEXT.
func factsIn(t *testing.T, file string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	facts := map[string]string{}
	for line := range strings.Lines(string(data)) {
		name, text, _ := strings.Cut(line, ":")
		facts[name] = strings.TrimSpace(text)
	}
	return facts
}

// partitionIDs are the GUIDs of the partitions of a disk, as sfdisk reads them.
func partitionIDs(t *testing.T, disk string) []string {
	t.Helper()
	out, err := exec.Command("sfdisk", "--dump", disk).Output()
	if err != nil {
		t.Fatalf("sfdisk (Debian package fdisk): %v", err)
	}
	var ids []string
	for line := range strings.Lines(string(out)) {
		if _, rest, ok := strings.Cut(line, "uuid="); ok {
			ids = append(ids, strings.ToLower(rest[:36]))
		}
	}
	if len(ids) != 3 {
		t.Fatalf("sfdisk says\n%s", out)
	}
	return ids
}
