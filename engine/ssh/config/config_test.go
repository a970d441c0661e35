package config

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"b9.build/b9/engine/internal/sshdtest"
)

// samples are configurations that b9 and ssh(1) must read alike.
var samples = map[string]string{
	"empty":         "",
	"first wins":    "Host web\n  Port 1\nHost *\n  Port 2\n  User all\n",
	"before hosts":  "Port 7\nHost web\n  Port 1\n",
	"patterns":      "Host w?b *.example !db.example\n  User x\nHost we? !web\n  User y\n",
	"negated only":  "Host !web\n  User x\n",
	"tabs, equals":  "\tHost\tweb  db\n\t\tPort=2200\nUser = \"some one\"\n",
	"case":          "hOST web\n  hostNAME WEB.Example\n  PORT 3\n",
	"comments":      "# Port 1\nPort 2 # two\n  # x\nUser \"a#b\"\n",
	"hostname":      "Host web\n  HostName %h.example\n",
	"percent":       "Host web\n  HostName 100%%.example\n",
	"identities":    "IdentityFile ~/.ssh/a\nHost web\n  IdentityFile \"~/b c\"\n  IdentityFile ~/.ssh/a\n  IdentitiesOnly yes\n",
	"certificates":  "CertificateFile ~/c\nCertificateFile /d\n",
	"known hosts":   "UserKnownHostsFile ~/.ssh/one \"/two words\"\nGlobalKnownHostsFile /g\n",
	"alias":         "HostKeyAlias other\n",
	"jump":          "ProxyJump u@gate:222,[::1]:23\n",
	"jump none":     "Host web\n  ProxyJump none\nHost *\n  ProxyJump gate\n",
	"jump first":    "ProxyJump gate\nProxyCommand nc %h %p\n",
	"command none":  "ProxyCommand none\n",
	"times":         "ConnectTimeout 1m30\nServerAliveInterval 2\nServerAliveCountMax 9\n",
	"no time":       "ConnectTimeout none\n",
	"family":        "AddressFamily inet6\n",
	"match all":     "Host db\n  Port 9\nMatch all\n  Port 8\n",
	"match host":    "HostName real.example\nMatch host *.example\n  User m\nMatch originalhost web\n  Port 5\n",
	"match user":    "Host web\n  User joe\nMatch user joe,jim host web\n  Port 6\nMatch !user joe\n  Port 4\n",
	"match local":   "Match localuser nobody-at-all\n  Port 4\nMatch !localuser nobody-at-all\n  Port 5\n",
	"include":       "Include DIR/one.conf DIR/none*.conf\nPort 99\n",
	"include twice": "Host other\n  Include DIR/one.conf\nHost web\n  Include DIR/*.conf\nPort 99\n",
	"bind":          "BindAddress 127.0.0.1\n",
	"escapes":       `User a\"b\\c` + "\nHost web\n  HostKeyAlias 'x y'\n",
	"agent":         "IdentityAgent ~/agent-%u\n",
	"unknown":       "SendEnv LANG LC_*\nHashKnownHosts yes\n",
}

// dump renders what was found as ssh -G does, for the keywords that count.
func (h *Host) dump() []string {
	lines := []string{
		"hostname " + h.Name, fmt.Sprintf("port %d", h.Port), "user " + h.User,
		fmt.Sprintf("identitiesonly %v", map[bool]string{true: "yes", false: "no"}[h.IdentitiesOnly]),
		"addressfamily " + map[string]string{"tcp": "any", "tcp4": "inet", "tcp6": "inet6"}[h.Network],
	}
	add := func(keyword, value string, want bool) {
		if want {
			lines = append(lines, keyword+" "+value)
		}
	}
	for _, f := range h.Certificates {
		add("certificatefile", f, true)
	}
	for _, f := range h.Identities {
		add("identityfile", f, true)
	}
	add("hostkeyalias", h.HostKeyAlias, h.HostKeyAlias != "")
	add("bindaddress", h.Bind, h.Bind != "")
	var jumps []string
	for _, j := range h.Jumps {
		text := j.Host
		if strings.Contains(text, ":") {
			text = "[" + text + "]"
		}
		if j.User != "" {
			text = j.User + "@" + text
		}
		if j.Port != 0 {
			text += fmt.Sprintf(":%d", j.Port)
		}
		jumps = append(jumps, text)
	}
	add("proxyjump", strings.Join(jumps, ","), len(jumps) > 0)
	slices.Sort(lines)
	return lines
}

// sshG asks ssh(1) the same.
func sshG(t *testing.T, file, host, home string) []string {
	t.Helper()
	cmd := exec.Command(sshdtest.Program(t, "ssh"), "-G", "-F", file, host)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("ssh -G: %v\n%s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		keyword, value, _ := strings.Cut(line, " ")
		switch keyword {
		case "identityfile": // without one in the file, ssh prints its defaults
			if !strings.Contains(string(text), "IdentityFile") {
				continue
			}
		case "proxyjump":
			if value == "none" {
				continue
			}
		case "hostname", "port", "user", "identitiesonly", "addressfamily", "certificatefile", "hostkeyalias", "bindaddress":
		default:
			continue
		}
		lines = append(lines, strings.ReplaceAll(line, "~/", home+"/")) // ssh -G leaves it to later
	}
	slices.Sort(lines)
	return lines
}

func TestConfigAgainstSSH(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("one.conf", "User included\nHost web\n  Port 41\nHost db\n  Port 42\n")
	write("two.conf", "HostKeyAlias two\n")
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range samples {
		t.Run(name, func(t *testing.T) {
			file := write("config", text)
			for _, host := range []string{"web", "db", "db.example", "x.example"} {
				h, err := Resolve(Target{Host: host}, []string{file}, home)
				if err != nil {
					t.Fatal(err)
				}
				got, want := h.dump(), sshG(t, file, host, home)
				if !slices.Equal(got, want) {
					t.Errorf("%s:\n got %q\nwant %q", host, got, want)
				}
			}
		})
	}
}

func TestConfigFiles(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("WHERE", "there")
	file := filepath.Join(dir, "config")
	text := "IdentityFile ${WHERE}/%d-%h-%r-%p-%n-%u-%k-%%\nHostKeyAlias al\nUserKnownHostsFile ~/k1 k2\nConnectTimeout 1m5\nServerAliveInterval 7\nIdentityAgent ~/a\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := Resolve(Target{Host: "web", User: "u", Port: 5}, []string{dir + "/none", file}, "/h")
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(h.Identities, h.KnownHosts, h.Timeout, h.Alive, h.Agent, h)
	want := "[there//h-web-u-5-web-" + currentUser() + "-al-%] [/h/k1 k2 /etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2] 1m5s 7s /h/a u@web:5\n"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A server that all others are reached through is not reached through itself.
func TestConfigJumpThroughItself(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte("Host *\n  ProxyJump gate\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for host, jumps := range map[string]int{"web": 1, "gate": 0} {
		h, err := Resolve(Target{Host: host}, []string{file}, t.TempDir())
		if err != nil || len(h.Jumps) != jumps {
			t.Errorf("%s: jumps %v, %v", host, h.Jumps, err)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "config")
	for text, want := range map[string]string{
		"ProxyCommand nc %h 22":                 "config:1: b9 runs no ProxyCommand",
		"Host web\nProxyCommand nc %h 22":       "config:2: b9 runs no ProxyCommand",
		"Match exec true\nPort 5":               `can't evaluate "Match exec"`,
		"Match host web exec true\nPort 5":      `can't evaluate "Match exec"`,
		"Match final all\nPort 5":               `can't evaluate "Match final"`,
		"Match":                                 "has no argument",
		"Match host":                            "Match host needs a pattern",
		"Match all host x":                      "goes with no other",
		"Port x":                                `config:1: port: "x" is no number`,
		"Port 65536":                            "is no number",
		"ConnectTimeout soon":                   `"soon" is no time`,
		"IdentityFile ~/%Z":                     `does not know the token "%Z"`,
		"IdentityFile ${B9_NOT_SET}/x":          "environment has no ${B9_NOT_SET}",
		"User \"x":                              "a quote (\") is not closed",
		"CanonicalizeHostname yes":              "b9 can't honour canonicalizehostname yes",
		"RevokedHostKeys /x":                    "b9 can't honour revokedhostkeys /x",
		"PubkeyAuthentication no":               "b9 can't honour",
		"AddressFamily x":                       "none of any, inet, inet6",
		"IdentitiesOnly maybe":                  "neither yes nor no",
		"ProxyJump a:x":                         "has no valid port",
		"ProxyJump ssh://":                      "is no ssh://",
		"ProxyJump a,,b":                        "names no host",
		"Port 5\n# \x00":                        "config:2:3: a NUL byte",
		"# caf\xe9\nPort 5":                     "config:1:6: the byte 0xE9 is not UTF-8",
		"\ufeffPort 5":                          "config:1:1: a byte-order mark",
		"Include " + file:                       "nested more than 16 deep",
		"Host other\nProxyCommand nc\nPort nix": "",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Resolve(Target{Host: "web"}, []string{file}, dir)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A configuration that others may write to says nothing, as for ssh(1).
func TestConfigOfOthers(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte("Port 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, taken := range map[os.FileMode]bool{0o600: true, 0o644: true, 0o664: false, 0o646: false} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Resolve(Target{Host: "web"}, []string{file}, t.TempDir())
		if taken != (err == nil) || err != nil && !strings.Contains(err.Error(), "others may write to it (mode ") {
			t.Errorf("%04o: %v", mode, err)
		}
	}
}

// A configuration is read to its end or not at all: what is missed there may be a host
// key's alias, or who may log in. A pipe would be waited for, for ever.
func TestConfigIsReadWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	large, pipe := filepath.Join(dir, "large"), filepath.Join(dir, "pipe")
	text := strings.Repeat("# a comment\n", maxFile/12+1) + "Host web\n  Port 7\n"
	if err := errors.Join(os.WriteFile(large, []byte(text), 0o600), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{large: "is larger than 1048576 bytes", pipe: "is a pipe", "/dev/zero": "is larger than"} {
		if h, err := Resolve(Target{Host: "web"}, []string{file}, dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", file, h, err)
		}
	}
	if _, err := Resolve(Target{Host: "web"}, []string{"/dev/null"}, dir); err != nil {
		t.Error(err)
	}
}

func FuzzLine(f *testing.F) {
	for _, text := range samples {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		keyword, args, err := splitLine(text)
		if err == nil && keyword != "" && len(args) == 0 {
			t.Errorf("%q: a keyword without arguments", text)
		}
	})
}

// FuzzJump reads servers of a ProxyJump line. One that is accepted has a host and
// a port that can be connected to.
func FuzzJump(f *testing.F) {
	for _, text := range []string{
		"gate", "joe@gate:222", "[::1]:23", "u@[fe80::1%eth0]", "ssh://joe@gate:222", "ssh://[::1]", "gate:0", "gate:70000", "ssh://gate:0", "@", "ssh://",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		jump, err := parseJump(text)
		if err == nil && (jump.Host == "" || jump.Port < 0 || jump.Port > 65535) {
			t.Errorf("%q is %+v", text, jump)
		}
	})
}
