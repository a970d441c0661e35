package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/engine/fsys/fuse"

	"github.com/rogpeppe/go-internal/testscript"

	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/backends"
)

func TestMain(m *testing.M) {
	backends.Main()
	if os.Getenv(without32) != "" {
		if err := refuse32(); err != nil {
			panic(err)
		}
		main()
	}
	testscript.Main(m, map[string]func(){"b9": main})
}

// TestScripts runs the promises of testdata/script: each script is a
// workspace and commands with what they must print.
func TestScripts(t *testing.T) {
	p := scripts()
	p.Dir = scriptDir()
	testscript.Run(t, p)
}

// TestScriptsOnLibvirt runs those about containers once more, on the other
// backend.
func TestScriptsOnLibvirt(t *testing.T) {
	if ok, err := condition("libvirt"); !ok {
		t.Skipf("no libvirtd answers at lxc:///, or b9 was built without -tags libvirt_dlopen: %v", err)
	}
	p := scripts()
	var err error
	if p.Files, err = filepath.Glob(filepath.Join(scriptDir(), "container*.txtar")); err != nil || len(p.Files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	p.Setup = func(e *testscript.Env) error {
		e.Setenv("B9_CONTAINER_BACKEND", container.Libvirt)
		return setupScript(e)
	}
	testscript.Run(t, p)
}

func scriptDir() string { return filepath.Join("..", "..", "testdata", "script") }

func scripts() testscript.Params {
	return testscript.Params{
		RequireExplicitExec: true,
		Setup:               setupScript,
		Condition:           condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"rootfs": rootfs,
			"counts": counts,
			"later":  later,
			"sshd":   sshd,
			"serve":  serve,
		},
	}
}

// condition knows [libvirt]: the libvirt-LXC backend can be used here.
func condition(name string) (bool, error) {
	if name != "libvirt" {
		return false, fmt.Errorf("unknown condition %q", name)
	}
	b, err := backends.Open("libvirt-lxc", container.Config{RunDir: session.RunDir, LibvirtURI: "lxc:///", FileSystems: fuse.FileSystems{}})
	if err != nil {
		return false, err
	}
	_, err = b.Probe(context.Background())
	return err == nil, nil
}

// setupScript gives every script a store and a configuration of its own.
func setupScript(e *testscript.Env) error {
	if os.Getuid() != 0 {
		e.T().Skip("containers need root")
	}
	e.Setenv("HOME", e.WorkDir)
	e.Setenv("XDG_CACHE_HOME", filepath.Join(e.WorkDir, ".cache"))
	e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, ".config"))
	root, err := filepath.Abs(filepath.Join("..", ".."))
	e.Setenv("SOURCE", root)
	return err
}

// applets are the programs that rootfs links to busybox.
const applets = "sh cat ls echo true false uname id env cp mkdir sleep test dd ps touch rm mv ln head chmod chown grep stat kill sync mount hostname wc tr date pwd"

// rootfs writes rootfs.star and a busybox binary into the current directory:
// load("//:rootfs.star", "rootfs") gives a tree that scripts can run in.
func rootfs(ts *testscript.TestScript, neg bool, args []string) {
	busybox, err := os.ReadFile("/bin/busybox")
	if os.IsNotExist(err) {
		ts.Fatalf("no /bin/busybox: install the Debian package busybox-static")
	}
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("busybox"), busybox, 0o755))
	ts.Check(os.WriteFile(ts.MkAbs("rootfs.star"), []byte(rootfsText()), 0o644))
}

// rootfsText is rootfs.star.
func rootfsText() string {
	return fmt.Sprintf(`
def rootfs():
    """A directory with busybox, in which /bin/sh works."""
    return tree(
        files = {"bin/busybox": "//:busybox", "etc/passwd": file(content = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n"), "etc/group": file(content = "root:x:0:\n")},
        links = {"bin/" + a: "busybox" for a in %q.split(" ")},
        dirs = ["proc", "sys", "dev", "tmp", "root", "mnt", "run"],
        modes = {"bin/busybox": "0755", "tmp": "1777"},
    )

def root(name = None, size = "64M"):
    """An image with that directory."""
    return image(name = name, content = rootfs(), size = size, label = "root")
`, applets)
}

// counts checks the last line of the build before: counts EXECUTED CACHED.
func counts(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: counts EXECUTED CACHED")
	}
	want := fmt.Sprintf("%s executed, %s cached", args[0], args[1])
	if got := ts.ReadFile("stderr"); strings.Contains(got, want) == neg {
		ts.Fatalf("%q is not as wanted in:\n%s", want, got)
	}
}

// later moves a file's time an hour on, and changes nothing else.
func later(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args {
		st, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		at := st.ModTime().Add(3600e9)
		ts.Check(os.Chtimes(ts.MkAbs(name), at, at))
	}
}
