package ssh

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"b9.build/b9/engine/internal/sshdtest"
	"b9.build/b9/engine/ssh/config"
)

// keygenFingerprint is what ssh-keygen says of a key.
func keygenFingerprint(t *testing.T, key string) string {
	t.Helper()
	return strings.Fields(sshdtest.Run(t, "ssh-keygen", "-l", "-f", key+".pub"))[1]
}

func TestHostKeyUnknown(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	o := s.options("# nothing")
	refused(t, s.target(), o, "host key of "+s.Name()+" is not known", keygenFingerprint(t, s.Path("host_ed25519")), o.KnownHosts[0])
	if strings.Contains(s.log(), "publickey") || strings.Contains(s.log(), "user "+s.target().User) {
		t.Errorf("the server heard of the user before its key was checked:\n%s", s.log())
	}
	runAdvice(t, s, o)
	works(t, s.target(), o)
}

// Where there was never an ssh the directory is part of the advice.
func TestHostKeyFirst(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	o := s.options()
	o.KnownHosts = []string{filepath.Join(t.TempDir(), "dot ssh", "known_hosts")}
	runAdvice(t, s, o)
	works(t, s.target(), o)
}

// runAdvice runs the commands that the error of a refused host key ends with.
func runAdvice(t *testing.T, s *server, o Options) {
	t.Helper()
	_, err := dial(t.Context(), s.target(), o)
	if err == nil {
		t.Fatal("there is no error to take advice from")
	}
	_, command, ok := strings.Cut(err.Error(), "run: ")
	if !ok {
		t.Fatalf("the error gives no command: %v", err)
	}
	if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

func TestHostKeyChanged(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	o := s.options("# a comment", s.Name()+" "+s.Public("host_ed25519"))
	old := keygenFingerprint(t, s.Path("host_ed25519"))
	for _, suffix := range []string{"", ".pub"} {
		if err := os.Remove(s.Path("host_ed25519" + suffix)); err != nil {
			t.Fatal(err)
		}
	}
	sshdtest.Keygen(t, s.Path("host_ed25519"), "-t", "ed25519", "-N", "")
	refused(t, s.target(), o, "has changed", old, keygenFingerprint(t, s.Path("host_ed25519")), o.KnownHosts[0]+":2", "ssh-keygen -R")
	runAdvice(t, s, o)
	works(t, s.target(), o)
}

// A server known by one kind of key is asked for that kind, and one that has
// no key of a known kind counts as changed.
func TestHostKeyKinds(t *testing.T) {
	t.Parallel()
	s := newServer(t, "rsa", "ecdsa", "ed25519")
	for _, kind := range []string{"rsa", "ecdsa", "ed25519"} {
		works(t, s.target(), s.options(s.Name()+" "+s.Public("host_"+kind)))
	}
	sshdtest.Keygen(t, s.Path("other"), "-t", "ecdsa", "-N", "", "-b", "521")
	refused(t, s.target(), s.options(s.Name()+" "+s.Public("other")), "has changed")

	o := s.options(s.Name()+" "+s.Public("host_rsa"), s.Name()+" "+s.Public("host_ecdsa"))
	o.Config = []string{s.Write("config", "HostKeyAlgorithms ecdsa-*\n")}
	works(t, s.target(), o)
}

func TestHostKeyRevoked(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	good := s.Name() + " " + s.Public("host_ed25519")
	refused(t, s.target(), s.options(good, "@revoked * "+s.Public("host_ed25519")), "is revoked at ", "known_hosts:2")
	refused(t, s.target(), s.options(good, "@revoked * ssh-ed25519 rubbish"), "known_hosts:2: a revoked key can't be read")
	works(t, s.target(), s.options(good, "@revoked other.example "+s.Public("host_ed25519")))
}

func TestHostKeyNames(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.Public("host_ed25519")
	for name, line := range map[string]string{
		"exact": s.Name(), "list": "other," + s.Name(), "wildcard": "[127.0.0.*]:*", "all": "*",
		"plain name serves any port": "127.0.0.1", "question mark": strings.Replace(s.Name(), "127", "1?7", 1),
	} {
		t.Run(name, func(t *testing.T) { works(t, s.target(), s.options(line+" "+key)) })
	}
	for name, line := range map[string]string{
		"negated": "*,!*127.0.0.1*", "other port": fmt.Sprintf("[127.0.0.1]:%d", s.Port()+1), "other host": "[127.0.0.2]:*",
		"no key": s.Name() + " # ",
	} {
		t.Run(name, func(t *testing.T) { refused(t, s.target(), s.options(line+" "+key), "is not known") })
	}
}

func TestHostKeyHashed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	o := s.options(s.Name() + " " + s.Public("host_ed25519"))
	sshdtest.Run(t, "ssh-keygen", "-H", "-f", o.KnownHosts[0])
	if text, err := os.ReadFile(o.KnownHosts[0]); err != nil || !strings.HasPrefix(string(text), "|1|") {
		t.Fatalf("it was not hashed: %s %v", text, err)
	}
	works(t, s.target(), o)
	to := s.target()
	to.Host = "localhost"
	refused(t, to, o, "host key of [localhost]", "is not known")
}

// Whoever keeps no host keys for ssh(1) is told why b9 knows none.
func TestHostKeyNowhere(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	o := s.options()
	o.Config, o.KnownHosts = []string{s.Write("config", "UserKnownHostsFile /dev/null\nStrictHostKeyChecking no\n")}, nil
	refused(t, s.target(), o, "is not known", keygenFingerprint(t, s.Path("host_ed25519")), "UserKnownHostsFile /dev/null", "let the host have a file")
}

func TestHostKeyAlias(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	o := s.options("images " + s.Public("host_ed25519"))
	o.Config = []string{s.Write("config", "HostKeyAlias images\n")}
	works(t, s.target(), o)
	o.KnownHosts = []string{s.Write("known_hosts2", "")}
	refused(t, s.target(), o, "host key of images is not known", "echo 'images ssh-ed25519 ")
	runAdvice(t, s, o)
	works(t, s.target(), o)
}

func TestHostCertificate(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	ca := sshdtest.Keygen(t, s.Path("host_ca"), "-t", "ecdsa", "-N", "")
	s.Configure(s.Config() + "HostCertificate " + s.Path("host_ed25519-cert.pub") + "\n")
	sign := func(args ...string) {
		sshdtest.Run(t, "ssh-keygen", append(append([]string{"-q", "-s", ca, "-h", "-I", "id"}, args...), s.Path("host_ed25519.pub"))...)
	}
	authority := "@cert-authority [127.0.0.*]:* " + s.Public("host_ca")

	sign("-n", "127.0.0.1")
	works(t, s.target(), s.options(authority))
	works(t, s.target(), s.options(s.Name()+" "+s.Public("host_ed25519"))) // without an authority the plain key counts
	refused(t, s.target(), s.options("@cert-authority other "+s.Public("host_ca")), "is not known")
	refused(t, s.target(), s.options(authority, "@revoked * "+s.Public("host_ca")), "is revoked")
	refused(t, s.target(), s.options(authority, "@revoked * "+s.Public("host_ed25519")), "is revoked")

	sign("-n", "127.0.*")
	works(t, s.target(), s.options(authority))
	sign("-n", "other.example")
	refused(t, s.target(), s.options(authority), "not accepted", "principal")
	sign("-n", "127.0.0.1", "-V", "20200101:20200102")
	refused(t, s.target(), s.options(authority), "not accepted", "expired")

	// An authority is no host key.
	o := s.options("@cert-authority * " + s.Public("host_ed25519"))
	s.Configure(strings.ReplaceAll(s.Config(), "\nHostCertificate ", "\n#"))
	refused(t, s.target(), o, "is not known")
}

func TestAlgorithmList(t *testing.T) {
	def := []string{"a1", "a2", "b1"}
	for spec, want := range map[string]string{
		"": "a1 a2 b1", "b1,a1": "b1 a1", "x,a2": "a2", "-a*": "b1", "+x": "a1 a2 b1", "^b1": "b1 a1 a2", "a*": "a1 a2",
	} {
		if got := strings.Join(algorithmList(spec, def), " "); got != want {
			t.Errorf("%q: %s, not %s", spec, got, want)
		}
	}
}

// A refusal tells a program what it tells a person.
func TestRefusalsAreAnswers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var lines [2]string
	var keys [2]ssh.PublicKey
	for i := range keys {
		path := sshdtest.Keygen(t, fmt.Sprintf("%s/k%d", dir, i), "-t", "ed25519", "-N", "")
		key, err := readPublic(path + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		keys[i], lines[i] = key, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	}
	file := dir + "/known"
	if err := os.WriteFile(file, []byte("# known\na.example "+lines[0]+"\n@revoked c.example "+lines[0]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(host string, key ssh.PublicKey) error {
		known, err := readTrust(&config.Host{Target: Target{Port: 22}, Name: host, KnownHosts: []string{file}})
		if err != nil {
			t.Fatal(err)
		}
		return known.check("", nil, key)
	}
	if err := check("a.example", keys[0]); err != nil {
		t.Errorf("a known key: %v", err)
	}
	var other *xknownhosts.KeyError
	if err := check("a.example", keys[1]); !errors.As(err, &other) || len(other.Want) != 1 || where(other.Want[0]) != file+":2" || !sameKey(other.Want[0].Key, keys[0]) {
		t.Errorf("a changed key: %v, %+v", err, other)
	}
	if err := check("b.example", keys[0]); !errors.As(err, &other) || len(other.Want) != 0 {
		t.Errorf("an unknown server: %v, %+v", err, other)
	}
	var revoked *xknownhosts.RevokedError
	if err := check("c.example", keys[0]); !errors.As(err, &revoked) || where(revoked.Revoked) != file+":3" {
		t.Errorf("a revoked key: %v, %+v", err, revoked)
	}
}

// ssh-keygen is asked which lines of a file speak of a host.
func TestKnownHostsAgainstKeygen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sshdtest.Keygen(t, dir+"/k", "-t", "ed25519", "-N", "")
	pub, err := os.ReadFile(dir + "/k.pub")
	if err != nil {
		t.Fatal(err)
	}
	key := strings.Join(strings.Fields(string(pub))[:2], " ")
	lines := []string{
		"a.example", "*.example", "*.example,!a.example", "[a.example]:2222", "[*]:2222", "A.EXAMPLE", "a?example", "10.0.0.1,a.example",
		"|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg=", "|1|bad|bad", "|2|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg=",
		"@revoked a.example", "@cert-authority *.example", "!a.example", "*", "[a.example]:*", "[*.example]:22*",
	}
	var text strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&text, "%s %s\n", l, key)
	}
	text.WriteString("a.example broken line\n")
	file := dir + "/known"
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"a.example", "b.example", "[a.example]:2222", "192.168.1.61", "other", "A.example"} {
		known, err := readKnownHosts([]string{file}, host)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, k := range known {
			got = append(got, fmt.Sprint(k.Line))
		}
		if want := keygenFinds(t, file, host); strings.Join(got, " ") != want {
			t.Errorf("%s: lines %v, ssh-keygen finds %s", host, got, want)
		}
	}
}

// keygenFinds lists the numbers of the lines that ssh-keygen finds.
func keygenFinds(t *testing.T, file, host string) string {
	t.Helper()
	out, _ := exec.Command(sshdtest.Program(t, "ssh-keygen"), "-F", host, "-f", file).Output() // status 1: found none
	var found []string
	for line := range strings.Lines(string(out)) {
		if _, number, ok := strings.Cut(line, "found: line "); ok {
			found = append(found, strings.Fields(number)[0])
		}
	}
	return strings.Join(found, " ")
}

func FuzzKnownHosts(f *testing.F) {
	f.Add([]byte("[h]:22 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJBt9lmpaN4tzFUOOOCJWhMDuvuHqBhIbGcZC1xG7nRK\n@revoked * x\n"), "h")
	f.Add([]byte("|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= ssh-rsa AAAA"), "192.168.1.61")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		known, err := parseKnownHosts("known_hosts", data, name)
		for _, k := range known {
			if err == nil && (k.Key == nil || k.Line < 1) {
				t.Errorf("a line without a key: %+v", k)
			}
		}
	})
}

// UserKnownHostsFile may be /dev/null, which knows nobody; a pipe would be waited for.
func TestKnownHostsInWhatIsNoFile(t *testing.T) {
	if known, err := readKnownHosts([]string{"/dev/null"}, "web"); len(known) > 0 || err != nil {
		t.Errorf("/dev/null: %v, %v", known, err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readKnownHosts([]string{pipe}, "web"); err == nil || !strings.Contains(err.Error(), "is a pipe") {
		t.Errorf("a pipe: %v", err)
	}
}
