package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"b9.build/b9/builtins/image"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/store"
)

// buildOnce runs one action in an engine of its own and returns the engine's
// result, the only output and the step's log.
func buildOnce(t *testing.T, st *store.Store, a engine.Action) (*engine.Result, *engine.Artifact, string, error) {
	t.Helper()
	n, err := engine.NewNode(a, engine.NodeOptions{Label: "//:test", Outputs: lang.OneFile("raw")})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	e := engine.New(engine.Config{Store: st, Events: func(ev engine.Event) {
		if ev.Type == engine.StepLog {
			log.WriteString(ev.Line + "\n")
		}
	}})
	r, err := e.Build(context.Background(), n.Ref(""))
	for wait := 15 * time.Second; outOfStep(err) && wait <= 4*time.Minute; wait *= 2 {
		t.Logf("again in %v: %v", wait, err)
		time.Sleep(wait)
		log.Reset()
		r, err = e.Build(context.Background(), n.Ref(""))
	}
	if cerr := e.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return r, nil, log.String(), err
	}
	return r, r.Artifact(n.Ref("")), log.String(), nil
}

// outOfStep reports whether a mirror was in the middle of an update, which
// only waiting helps against.
func outOfStep(err error) bool {
	return err != nil && strings.Contains(err.Error(), "the archive is out of step with itself")
}

// needArchive skips the test where packages can't be installed.
func needArchive(t *testing.T) {
	t.Helper()
	needRoot(t)
	if os.Getenv("B9_LONG_TESTS") == "" {
		t.Skip("installs Debian: set B9_LONG_TESTS=1, as `make test` does")
	}
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		t.Skip("needs mmdebstrap")
	}
	b := bookworm()
	var down *unreachableError
	if _, err := b.Fingerprint(context.Background(), testWorld(t)); errors.As(err, &down) {
		t.Skipf("needs the machine's Debian mirror: %v", err)
	}
}

func bookworm() *bootstrap {
	return &bootstrap{Suite: "bookworm", Arch: "amd64", Variant: "minbase", Apt: machineApt, Refresh: time.Hour, Image: image.FileSystem{Free: 64 << 20, Label: "root"}}
}

// TestBootstrapLive installs Debian twice: the second time in another store,
// which has only the packages that the first one downloaded.
//
// An archive that is updated meanwhile leaves the two nothing in common: then
// they are made again.
func TestBootstrapLive(t *testing.T) {
	needArchive(t)
	t.Parallel()
	for range 4 {
		before := stateOfArchive(t)
		complaints := installTwice(t)
		if stateOfArchive(t) != before {
			t.Logf("the archive has changed meanwhile")
			continue
		}
		for _, c := range complaints {
			t.Error(c)
		}
		return
	}
	t.Error("the archive changes all the time")
}

// TestSuitesLive installs suites beside this machine's own from its mirrors: older and
// newer ones, with and without usr-is-merged, and one that has no updates beside it.
func TestSuitesLive(t *testing.T) {
	needArchive(t)
	t.Parallel()
	w := testWorld(t)
	for _, c := range []struct{ suite, codename, suites string }{
		{"bullseye", "VERSION_CODENAME=bullseye", "Suites: bullseye bullseye-updates"},
		{"trixie", "VERSION_CODENAME=trixie", "Suites: trixie trixie-updates"},
		{"sid", "VERSION_CODENAME=", "Suites: sid"},
	} {
		b := bookworm()
		b.Suite, b.Variant = c.suite, "apt"
		r, img, log, err := buildOnce(t, w.Store, b)
		if err != nil {
			t.Errorf("%s: %v\n%s", c.suite, err, log)
			continue
		}
		if r.Executed != 1 {
			t.Errorf("%s: %d steps ran, want 1", c.suite, r.Executed)
		}
		x, err := img.Expose(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := fsys.Check(t.Context(), x.Path); err != nil {
			t.Errorf("%s: %v", c.suite, err)
		}
		if text := debugfs(t, x.Path, "cat /usr/lib/os-release"); !strings.Contains(text, c.codename) {
			t.Errorf("%s: os-release is\n%s", c.suite, text)
		}
		if text := debugfs(t, x.Path, "cat /"+sourcesFile); !strings.Contains(text, c.suites+"\n") || strings.Contains(text, "bookworm") {
			t.Errorf("%s: sources are\n%s", c.suite, text)
		}
		for _, path := range []string{"/usr/bin/apt-get", "/bin/sh", "/sbin/ldconfig"} {
			if text := debugfs(t, x.Path, "stat "+path); strings.Contains(text, "File not found") {
				t.Errorf("%s: no %s", c.suite, path)
			}
		}
		if err := x.Close(); err != nil {
			t.Error(err)
		}
		if r, _, _, err := buildOnce(t, w.Store, b); err != nil || r.Executed != 0 {
			t.Errorf("%s: built again without a change: %v", c.suite, err)
		}
	}
}

// stateOfArchive is what a step that installs from the archive counts by.
func stateOfArchive(t *testing.T) store.Digest {
	t.Helper()
	d, err := bookworm().Fingerprint(t.Context(), testWorld(t))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// installTwice returns what is wrong if the archive was the same all the time.
func installTwice(t *testing.T) (complaints []string) {
	t.Helper()
	one, two := testWorld(t).Store, testWorld(t).Store
	r, first, log, err := buildOnce(t, one, bookworm())
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if r.Executed != 1 {
		t.Errorf("%d steps ran, want 1", r.Executed)
	}
	x, err := first.Expose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	checkRootImage(t, x.Path)
	if r, _, _, err = buildOnce(t, one, bookworm()); err != nil || r.Executed != 0 {
		complaints = append(complaints, fmt.Sprintf("built again without a change: %d steps ran, %v", r.Executed, err))
	}
	if err := os.MkdirAll(filepath.Dir(aptCache(two)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(aptCache(one), aptCache(two)); err != nil {
		t.Fatal(err)
	}
	_, second, log, err := buildOnce(t, two, bookworm())
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if first.Digest() != second.Digest() {
		complaints = append(complaints, fmt.Sprintf("two installations differ: %s and %s", first.Digest(), second.Digest()))
	}
	if n := strings.Count(log, "Need to get "); n == 0 || n != strings.Count(log, "Need to get 0 B/") {
		complaints = append(complaints, "packages were downloaded although they were there:\n"+log)
	}
	return complaints
}

// checkRootImage judges a root file system with the tools of e2fsprogs.
func checkRootImage(t *testing.T, image string) {
	t.Helper()
	if err := fsys.Check(context.Background(), image); err != nil {
		t.Error(err)
	}
	if text := debugfs(t, image, "cat /"+sourcesFile); !strings.Contains(text, "Suites: bookworm") || !strings.Contains(text, "Types: deb\n") {
		t.Errorf("the image's sources are:\n%s", text)
	}
	if text := debugfs(t, image, "cat /etc/shadow"); !strings.HasPrefix(text, "root:*::0:") {
		t.Errorf("root has to change the password at once:\n%s", text)
	}
	for _, path := range []string{
		"/etc/hostname", "/etc/resolv.conf", "/etc/apt/sources.list", "/etc/apt/apt.conf.d/99mmdebstrap", "/etc/apt/preferences.d/b9",
		"/var/log/dpkg.log", "/var/cache/ldconfig/aux-cache", "/var/lib/dpkg/status-old", "/etc/passwd-", "/var/cache/apt/pkgcache.bin",
	} {
		if text := debugfs(t, image, "stat "+path); !strings.Contains(text, "File not found") {
			t.Errorf("%s is in the image", path)
		}
	}
	for path, want := range map[string]string{"/usr/bin/apt-get": "Mode:  0755", "/bin": "Type: symlink", "/dev/null": "Type: character special", "/tmp": "Mode:  01777"} {
		if text := debugfs(t, image, "stat "+path); !strings.Contains(text, want) {
			t.Errorf("%s is not %s:\n%s", path, want, text)
		}
	}
}

func debugfs(t *testing.T, image, request string) string {
	t.Helper()
	out, err := exec.Command("debugfs", "-R", request, image).CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := bytes.Cut(out, []byte("\n")) // after the banner
	return string(text)
}

// TestBootstrapMistakes needs the archive but installs nothing.
func TestBootstrapMistakes(t *testing.T) {
	needArchive(t)
	t.Parallel()
	b := bookworm()
	b.Packages = []string{"no-such-package-at-all"}
	_, _, log, err := buildOnce(t, testWorld(t).Store, b)
	want := "bookworm has no package for amd64: Unable to locate package no-such-package-at-all: check its name, or add the component or suite that has it"
	if err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got  %v\nwant %s\n%s", err, want, log)
	}
}
