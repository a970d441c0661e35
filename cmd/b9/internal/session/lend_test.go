package session

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"b9.build/b9/builtins/debian"
	"b9.build/b9/engine/container"
)

// TestLoopbackProxies are of use on the host's own network, and on a private one,
// which is lent their ports.
func TestLoopbackProxies(t *testing.T) {
	for proxy, everywhere := range map[string]bool{
		"http://proxy.example:3128": true, "http://192.0.2.1": true, "proxy.example:3128": true, "DIRECT": true, ".example,localhost": true,
		"http://127.0.0.1:3142/": false, "http://me:secret@localhost:3142": false, "http://[::1]:3142": false,
		"127.0.0.1:3142": false, "localhost:3142": false, "socks5h://127.0.0.9": false, "": true, "http://localhost.example": true, "http://127.0.0.1:x": true,
	} {
		if !reachable(proxy, container.NetworkHost) || !reachable(proxy, container.NetworkNAT) || reachable(proxy, "default") != everywhere {
			t.Errorf("%s: from the host %v, from another network %v", proxy, reachable(proxy, container.NetworkHost), reachable(proxy, "default"))
		}
	}
	a := &debian.Access{Proxies: []debian.Proxy{{Option: "Acquire::http::Proxy", URL: "http://127.0.0.1:3142"}, {Option: "Acquire::http::Proxy::open.example", URL: "DIRECT"}}}
	if got := aptConfig(a, "default"); got != "Acquire::http::Proxy::open.example \"DIRECT\";\n" {
		t.Errorf("apt is told %q", got)
	}
	if got := aptConfig(&debian.Access{}, container.NetworkHost); got != "" {
		t.Errorf("apt is told %q", got)
	}
}

// TestLentPorts are those of proxies and mirrors on loopback, and no other.
func TestLentPorts(t *testing.T) {
	env := []string{"http_proxy=http://me:secret@127.0.0.1:3128/", "HTTPS_PROXY=localhost:3129", "no_proxy=localhost", "all_proxy=socks5://127.0.0.9", "ftp_proxy=http://proxy.example:21", "OTHER=http://127.0.0.1:22"}
	a := &debian.Access{
		Proxies: []debian.Proxy{{Option: "Acquire::http::Proxy", URL: "http://[::1]:3142"}, {Option: "Acquire::http::Proxy::open.example", URL: "DIRECT"}},
		Mirrors: []string{"http://127.0.0.1:3128/debian", "https://localhost/debian", "http://mirror.example/debian", "file:/srv/debian"},
	}
	var got []string
	for _, p := range lentPorts(env, a) {
		got = append(got, p.String())
	}
	want := []string{"127.0.0.1:443", "127.0.0.1:3128", "127.0.0.1:3129", "127.0.0.9:1080", "[::1]:443", "[::1]:3129", "[::1]:3142"}
	if !slices.Equal(got, want) {
		t.Errorf("lent %q, want %q", got, want)
	}
	spec := container.Spec{Network: container.NetworkNAT, Env: []string{"http_proxy=own"}}
	secrets := lendProxies(&spec, []string{"http_proxy=http://a:b@c", "NO_PROXY=localhost", "PATH=/bin", "https_proxy=http://d:word@127.0.0.1:1"})
	if want := []string{"http_proxy=own", "NO_PROXY=localhost", "https_proxy=http://d:word@127.0.0.1:1"}; !slices.Equal(spec.Env, want) {
		t.Errorf("the environment is %q, want %q", spec.Env, want)
	}
	if !slices.Contains(secrets, "word") || slices.Contains(secrets, "b") {
		t.Errorf("secret are %q", secrets)
	}
}

func TestSecretsOf(t *testing.T) {
	if got := debian.SecretsOf("http://ann:p%40ss@proxy:3128/"); !slices.Contains(got, "p@ss") || !slices.Contains(got, "ann:p%40ss") {
		t.Errorf("got %q", got)
	}
	if got := debian.SecretsOf("http://proxy:3128"); got != nil {
		t.Errorf("got %q", got)
	}
}

// TestLentFilesOfTheDead are removed, those of the living are not.
func TestLentFilesOfTheDead(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	mine, err := writeLent("conf", []byte("logins"))
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(mine)
	if info, err := os.Stat(filepath.Join(mine, "auth.conf")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if info, err := os.Stat(RunDir); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("others can enter %s: %v, %v", RunDir, info, err)
	}
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	theirs := strings.Replace(mine, "-"+strconv.Itoa(os.Getpid())+"-", "-"+strconv.Itoa(dead.Process.Pid)+"-", 1)
	if err := os.Mkdir(theirs, 0o755); err != nil {
		t.Fatal(err)
	}
	reapLent()
	if _, err := os.Stat(theirs); err == nil {
		t.Errorf("%s stayed", theirs)
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
}
