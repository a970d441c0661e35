package builtins

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"b9.build/b9/builtins/internal/builtinstest"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/container"
	"b9.build/b9/engine/store"
)

// idle is a backend in which every script ends well and changes nothing.
type idle struct {
	container.Backend // no other method is called
	ran               atomic.Int32
}

func (c *idle) Run(context.Context, container.Spec, container.IO) (container.Result, error) {
	c.ran.Add(1)
	return container.Result{}, nil
}

const release = "Suite: small\nArchitectures: amd64\nComponents: main\nSHA256:\n %064x 10 main/binary-amd64/Packages\n"

// TestFollows holds that a script runs again when the archive has changed that an
// image it follows comes from, through any steps between, and only then.
func TestFollows(t *testing.T) {
	if _, err := exec.LookPath("/usr/lib/apt/apt-helper"); err != nil {
		t.Skip("needs apt-helper of the Debian package apt")
	}
	var state atomic.Int32
	archive := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/debian/dists/small/Release" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintf(w, release, state.Load())
	}))
	defer archive.Close()
	st, err := store.Open(filepath.Join(t.TempDir(), "store"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	root := t.TempDir()
	builtinstest.WriteWorkspace(t, root, map[string]string{lang.RootFile: "", "B9BUILD.star": fmt.Sprintf(`
base = bootstrap(name = "base", suite = "small", mirror = "deb [trusted=yes] %s/debian small main", refresh = "1ms")
between = resize(name = "between", image = base, size = "3G")
root = image(size = "8M")
lxc_exec(name = "plain", images = {"/": root}, script = ["true"])
lxc_exec(name = "direct", images = {"/": root}, script = ["true"], follows = [base, ":between"])
lxc_exec(name = "through", images = {"/": root}, script = ["echo through"], follows = [":between"])
`, archive.URL)})
	build := func(target string) (executed, ran int) {
		t.Helper()
		w, err := openTest(t.Context(), lang.Config{Root: root})
		if err != nil {
			t.Fatal(err)
		}
		g, err := w.Resolve(t.Context(), []string{target})
		if err != nil {
			t.Fatal(err)
		}
		var backend idle
		e := engine.New(engine.Config{Store: st, Backend: func(context.Context) (container.Backend, error) { return &backend, nil }})
		r, err := e.Build(t.Context(), g.Targets[0].Refs[0])
		if err != nil {
			t.Fatal(err)
		}
		return r.Executed, int(backend.ran.Load())
	}
	for _, target := range []string{"//:plain", "//:direct", "//:through"} {
		build(target)
	}
	for i, want := range []int{0, 1, 0} {
		if i == 1 {
			state.Add(1)
		}
		for _, target := range []string{"//:direct", "//:through"} {
			if _, ran := build(target); ran != want {
				t.Errorf("%s, build %d: the script ran %d times, want %d", target, i, ran, want)
			}
		}
		if n, _ := build("//:plain"); n != 0 {
			t.Errorf("what follows nothing ran again")
		}
	}
}

// TestFollowsMistakes: what comes from nothing that moves can't be followed.
func TestFollowsMistakes(t *testing.T) {
	root := t.TempDir()
	builtinstest.WriteWorkspace(t, root, map[string]string{lang.RootFile: "", "B9BUILD.star": `
root = image(name = "root", size = "8M")
lxc_exec(name = "x", images = {"/": root}, script = ["true"], follows = [root])
lxc_exec(name = "pinned", images = {"/": root}, script = ["true"], follows = [bootstrap(suite = "bookworm", mirror = "http://m.example/archive/debian", snapshot = "20261101T000000Z")])
`})
	w, err := openTest(t.Context(), lang.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Resolve(t.Context(), []string{"//:pinned"}); err != nil && strings.Contains(err.Error(), "pinned") {
		t.Errorf("a pinned archive: %v", err)
	}
	_, err = w.Resolve(t.Context(), []string{"//:x"})
	if want := "B9BUILD.star:3:1: lxc_exec(): follows: //:root comes from no bootstrap(), so nothing moves that could be followed: leave it out"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
