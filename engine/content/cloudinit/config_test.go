package cloudinit

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"b9.build/b9/engine/content/internal/oracle"
	"b9.build/b9/engine/content/yaml"
)

// checkConfig reads and checks a cloud-config.
func checkConfig(t testing.TB, file, text string) (warnings []yaml.Finding, err error) {
	t.Helper()
	d, err := yaml.Parse(file, text)
	if err != nil {
		return nil, err
	}
	return yaml.Split(CheckConfig(d.Root, d.Warnings))
}

// schemaValues are values of every kind, put in place of every value that a
// key can have.
func schemaValues() []string {
	return []string{"text", "'0644'", "0644", "7", "-1", "2.5", "yes", "off", "null", "2030-01-01", "[]", "[a]", "[a, a]", "[[a, b]]", "[1]", "[null]", "{}", "{a: b}", "{a: null}", "{name: x}", "[{name: x}]", "!!binary aGk=", "'12G'", "now", "auto", "all", "none"}
}

// schemaDocuments makes documents for every rule: each key of each mapping
// with every value, alone and beside what its mapping requires.
func schemaDocuments() []string {
	var docs []string
	var walk func(r *rule, wrap func(string) string)
	walk = func(r *rule, wrap func(string) string) {
		for _, v := range schemaValues() {
			docs = append(docs, wrap(v))
		}
		for _, v := range r.enum {
			docs = append(docs, wrap(fmt.Sprint(v)))
		}
		for _, o := range append(append([]*rule{}, r.one...), r.any...) {
			if o.kinds&(isMap|isList) != 0 || o.fields != nil {
				walk(o, wrap)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(r.fields)) {
			f := r.fields[key]
			var needed strings.Builder
			for _, other := range r.required {
				if other != key {
					fmt.Fprintf(&needed, ", %s: %s", other, sampleOf(r.fields[other]))
				}
			}
			walk(f, func(s string) string { return wrap(fmt.Sprintf("{%s: %s%s}", key, s, needed.String())) })
		}
		for _, p := range r.patterns {
			walk(p.rule, func(s string) string { return wrap("{rsa_private: " + s + "}") })
		}
		if r.items != nil {
			walk(r.items, func(s string) string { return wrap("[" + s + "]") })
		}
	}
	for _, key := range config().keys {
		walk(config().rule(key), func(s string) string { return "#cloud-config\n" + key + ": " + s + "\n" })
	}
	return docs
}

func sampleOf(r *rule) string {
	switch {
	case r == nil:
		return "x"
	case len(r.enum) > 0:
		return fmt.Sprint(r.enum[0])
	case r.kinds&isBool != 0:
		return "true"
	case r.kinds&isInt != 0:
		return "1"
	case r.kinds&isList != 0 && r.items != nil:
		return "[" + sampleOf(r.items) + "]"
	case r.kinds&isMap != 0:
		return "{}"
	}
	return "x"
}

// stride thins out the documents: python needs 8 ms for each. All of them, some
// 16,000, agree as well.
const stride = 17

const schemaProgram = `
import sys, json, logging, tempfile, io, contextlib
logging.disable(logging.CRITICAL)
from cloudinit.config import schema
s = schema.get_schema()
out = []
f = tempfile.NamedTemporaryFile()
for doc in json.load(sys.stdin):
    f.seek(0); f.truncate(); f.write(doc.encode()); f.flush()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            schema.validate_cloudconfig_file(f.name, s)
        out.append("")
    except Exception as e: out.append(str(e) or repr(e))
print(json.dumps(out))
`

// newer finds what later versions of cloud-init than the tests' take.
var newer = regexp.MustCompile(`ansible: \{pull: \[|sudo: \[|layout: \[\[|playbook_names|verify_commit|pull: \{inventory|config_path|grub-efi/|check_exe: |install_rsyslog|rsyslog: \{packages|ntp: \{(peers|allow)|` +
	`doas|users: \[\]|packages: \[\{|source: \{uri|headers|metalink|mirrorlist|locale: (yes|no|on|off|true|false)|rh_subscription: \{[a-z]+_|org: |(raspberry|ubuntu)[-_]pi|(raspberry|ubuntu)[-_]pro|(create|hashed|no|plain|primary|selinux|ssh)-[a-z-]+: `)

// stricter reports whether the mistake is one that only b9 finds.
func stricter(err error) bool {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if !strings.Contains(line, "cloud-init has no such key") && !strings.Contains(line, "are no permission bits") {
			return false
		}
	}
	return true
}

// TestAgreesWithSchema compares verdicts with what cloud-init schema says of
// some thousand documents, good and bad.
func TestAgreesWithSchema(t *testing.T) {
	oracle.Need(t, "cloudinit.config.schema, jsonschema", "cloud-init")
	docs := handDocuments()
	for i, doc := range schemaDocuments() {
		if i%stride == 0 {
			docs = append(docs, doc)
		}
	}
	var want []string
	oracle.Run(t, schemaProgram, docs, &want)
	valid := 0
	for i, doc := range docs {
		_, err := checkConfig(t, "f", doc)
		if want[i] == "" {
			valid++
		}
		if (err == nil) != (want[i] == "") && (err == nil && !newer.MatchString(doc) || err != nil && !stricter(err)) {
			t.Errorf("%q\n got %v\nwant %.300s", doc, err, want[i])
		}
	}
	t.Logf("%d documents, %d of them valid", len(docs), valid)
}

// handDocuments are what people write.
func handDocuments() []string {
	bodies := []string{
		"", "{}", "[]", "text", "null", "packages: [a, [b, '1.0']]", "packages: [a, [b, 1.0]]", "packages: [[a, b, c]]", "runcmd: [ls, [ls, -l], null]", "runcmd: ls", "runcmd: [{a: b}]", "runcmd: [[1]]", "bootcmd: [null]", "runcmd: []",
		"users: [default, {name: a}]", "users: [{shell: /bin/sh}]", "users: [{name: a, sudo: false}]", "users: [{name: a, sudo: [x]}]", "users: [{name: a, uid: '7'}]", "users: [{name: a, groups: {x: null}}]", "users: [{name: a, groups: {x: y}}]", "users: [{name: a, snapuser: b}]", "users: [{name: a, expiredate: 2030-01-01}]", "users: [{name: a, expiredate: '2030-01-01'}]", "users: [{name: a, expiredate: 'soon'}]", "users: [{name: a, colour: red}]", "users: {a: b}", "users: a", "users: [[a, b]]",
		"groups: [a, {b: [c]}]", "groups: {a: b}", "groups: {1: b}", "groups: a", "groups: [{a: []}]", "groups: []",
		"write_files: [{path: /x}]", "write_files: [{content: x}]", "write_files: [{path: /x, permissions: 0644}]", "write_files: [{path: /x, permissions: '0644'}]", "write_files: [{path: /x, permissions: 'rw'}]", "write_files: [{path: /x, encoding: b64}]", "write_files: [{path: /x, encoding: x}]", "write_files: [{path: /x, content: !!binary aGk=}]", "write_files: {path: /x}", "write_files: []", "write_files: [{path: /x, perms: '0644'}]",
		"package_update: yes", "package_update: 1", "package_update: 'yes'", "hostname: yes", "hostname: web", "hostname: 12", "timezone: UTC", "locale: [x]", "ssh_pwauth: 'yes'", "ssh_pwauth: 1", "chpasswd: {list: 'a:b'}", "chpasswd: {list: [a]}", "chpasswd: {users: [{name: a, password: b}]}", "chpasswd: {users: [{name: a, type: RANDOM}]}", "chpasswd: {users: [{name: a, type: hash}]}", "chpasswd: {expire: x}", "ntp:", "ntp: {servers: [a, a]}", "swap: {size: 2G}", "swap: {size: 2X}", "swap: {size: auto}", "mounts: [[a, b]]", "mounts: [[]]", "mounts: [[a,b,c,d,e,f,g]]", "mount_default_fields: [a, b, c, d, e, null]", "mount_default_fields: [a]", "power_state: {mode: reboot}", "power_state: {mode: reboot, delay: '+5'}", "power_state: {mode: x}", "power_state: {}", "power_state: {mode: halt, delay: -1}",
		"apt: {sources: {x: {source: y}}}", "apt: {sources: {x: {}}}", "apt: {primary: [{arches: [default], uri: 'http://x'}]}", "apt: {primary: [{uri: x}]}", "apt: {}", "apt: {debconf_selections: {a: 1}}", "reporting: {a: {type: log, level: INFO}}", "reporting: {a: {type: webhook}}", "reporting: {a: {type: webhook, endpoint: x, retries: -1}}", "reporting: {a: {type: webhook, endpoint: x, timeout: 2.5}}", "yum_repos: {a: {baseurl: x, enabled: yes, gpgcheck: 1}}", "yum_repos: {a: {name: x}}", "yum_repos: {a: {baseurl: x, name: 1}}", "mcollective: {conf: {public-cert: 1}}", "mcollective: {conf: {a: 1}}", "snap: {commands: [a, [b]]}", "snap: {commands: {0: a}}", "snap: {commands: {'0': a}}", "snap: {assertions: {a: 1}}", "snap: {commands: []}", "snap: {commands: {}}", "zypper: {repos: [{id: a, baseurl: b, x: y}]}", "zypper: {repos: [{id: a}]}", "cloud_init_modules: [ssh, [runcmd, once]]", "cloud_init_modules: [sshh]", "disk_setup: {a: {layout: [25, [75, 82]]}}", "disk_setup: {a: {layout: [[75, x]]}}", "ansible: {pull: [{url: u, playbook_name: p}]}", "ansible: {pull: [{url: u}]}", "users: [{name: a, sudo: [{b: c}]}]", "users: [{name: a, sudo: []}]", "disk_setup: {a: {layout: [[75]]}}", "fs_setup: [{partition: 1}]", "fs_setup: [{partition: auto}]", "growpart: {mode: off}", "growpart: {mode: 'off'}", "resize_rootfs: noblock", "resize_rootfs: 1", "manage_etc_hosts: template", "manage_etc_hosts: localhost", "keyboard: {model: x}", "ssh_keys: {rsa_private: x}", "ssh_keys: {foo: x}", "ssh_keys: {foo_rsa_private: x}", "landscape: {client: {tags: 'a,b'}}", "landscape: {client: {tags: 'a, b'}}", "lxd: {bridge: {mode: none, mtu: -2}}", "lxd: {bridge: {mode: none, mtu: -1}}", "wireguard: {interfaces: [{name: a}]}", "wireguard: {}", "wireguard:", "autoinstall: {version: 1, x: y}", "autoinstall: {version: 1.0}", "rsyslog: {configs: [a, {content: b}]}", "rsyslog: {configs: [{filename: b}]}", "phone_home: {url: x, post: [hostname]}", "phone_home: {url: x, post: [x]}", "phone_home: {post: all}", "unknown_thing: 1", "pacakges: [a]", "1: 2",
	}
	var docs []string
	for _, b := range bodies {
		docs = append(docs, "#cloud-config\n"+b+"\n")
	}
	return docs
}

// TestReadsConfigsAsPyYAML reads mutated cloud-configs.
func TestReadsConfigsAsPyYAML(t *testing.T) {
	oracle.SameAsPyYAML(t, append(handDocuments(), oracle.MutatedYAML(targets()[0], 1000)...))
}

// TestAgreesWithCommand runs the command itself on a few documents.
func TestAgreesWithCommand(t *testing.T) {
	if _, err := exec.LookPath("cloud-init"); err != nil {
		t.Skipf("no cloud-init (Debian package cloud-init): %v", err)
	}
	docs := handDocuments()
	for i := 8; i < len(docs); i += 30 {
		file := filepath.Join(t.TempDir(), "user-data")
		if err := os.WriteFile(file, []byte(docs[i]), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("cloud-init", "schema", "-c", file).CombinedOutput()
		if _, mine := checkConfig(t, "f", docs[i]); (mine == nil) != (err == nil) {
			t.Errorf("%q: got %v\nwant %v %s", docs[i], mine, err, out)
		}
	}
}
