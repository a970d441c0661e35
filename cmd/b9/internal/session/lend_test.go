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

// TestLoopbackProxies are of use on the host's own network alone.
func TestLoopbackProxies(t *testing.T) {
	for proxy, everywhere := range map[string]bool{
		"http://proxy.example:3128": true, "http://192.0.2.1": true, "proxy.example:3128": true, "DIRECT": true, ".example,localhost": true,
		"http://127.0.0.1:3142/": false, "http://me:secret@localhost:3142": false, "http://[::1]:3142": false,
	} {
		if !reachable(proxy, container.NetworkHost) || reachable(proxy, "default") != everywhere {
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

func TestSecretsOf(t *testing.T) {
	if got := secretsOf("http://ann:p%40ss@proxy:3128/"); !slices.Contains(got, "p@ss") || !slices.Contains(got, "ann:p%40ss") {
		t.Errorf("got %q", got)
	}
	if got := secretsOf("http://proxy:3128"); got != nil {
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
