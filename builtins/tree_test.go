package builtins

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"b9.build/b9/builtins/internal/builtinstest"
	"b9.build/b9/engine/container"
)

// scripted is a backend whose every command does this to the directory for /out.
type scripted func(out string) error

func (scripted) Name() string { return "script" }

func (scripted) Usable(context.Context) error { return nil }

func (scripted) Probe(context.Context) (container.Features, error) { return container.Features{}, nil }

func (scripted) Reap(context.Context) error { return nil }

func (s scripted) Run(_ context.Context, spec container.Spec, _ container.IO) (container.Result, error) {
	for _, m := range spec.Mounts {
		if m.Target == "/out" {
			return container.Result{}, s(m.Source)
		}
	}
	return container.Result{}, fmt.Errorf("no /out")
}

// rich makes what a package manager may leave.
func rich(t *testing.T) scripted {
	return func(out string) error {
		in := func(name string) string { return filepath.Join(out, name) }
		check(t, os.MkdirAll(in("mail"), 0o755))
		for _, name := range []string{"su", "mail/box", "ping", "acl", "link1"} {
			check(t, os.WriteFile(in(name), []byte(name), 0o644))
		}
		check(t, os.Link(in("link1"), in("mail/link2")))
		check(t, os.Symlink("su", in("sym")))
		for name, owner := range map[string]int{"su": 65534, "mail": 8, "mail/box": 8, "sym": 7, ".": 9} {
			check(t, os.Lchown(in(name), owner, owner))
		}
		check(t, unix.Setxattr(in("ping"), "security.capability", []byte(capability), 0))
		check(t, unix.Setxattr(in("ping"), "user.note", []byte("n"), 0))
		check(t, unix.Setxattr(in("acl"), "system.posix_acl_access", []byte(userACL), 0))
		check(t, unix.Chmod(in("su"), 0o4755))
		check(t, unix.Chmod(in("mail"), 0o2775))
		check(t, unix.Chmod(in("."), 0o1777))
		return nil
	}
}

// richTree builds tree() of what rich left, with further arguments, and lists the result.
func richTree(t *testing.T, args string, more map[string]string) (string, error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("owners need root")
	}
	files := map[string]string{"root.raw": "x", "B9BUILD.star": `
r = lxc_exec(images = {"/": "root.raw"}, script = ["true"], shares = {"/out": writable()})
tree(name = "t", ` + args + `)`}
	b := newBuilder(t, files)
	builtinstest.WriteWorkspace(t, b.root, more)
	c := &checkout{root: b.root, st: b.st, backend: rich(t)}
	made, err := c.try(t, nil, "//:t")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(t.TempDir(), "t")
	check(t, made["//:t"].Fork(t.Context(), dir))
	text, err := listing(dir)
	check(t, err)
	return text, nil
}

// wantLines holds a listing to the beginnings of lines.
func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, want := range lines {
		if !strings.Contains("\n"+text, "\n"+want) {
			t.Errorf("no line %q", want)
		}
	}
	if t.Failed() {
		t.Logf("the tree is\n%s", text)
	}
}

func TestATreeKeepsWhatTheResultOfAStepHas(t *testing.T) {
	text, err := richTree(t, `files = {"d": r["/out"], "d/mail/new": file(content = "x"), "e/f": file(content = "y", mode = "4755")}`, nil)
	check(t, err)
	wantLines(t, text,
		". 40755 0:0 0 ", "d 41777 9:9 0 ", "d/su 104755 65534:65534 0 1 ", "d/mail 42775 8:8 0 ", "d/mail/box 100644 8:8 0 1 ",
		`d/ping 100644 0:0 0 1 "security.capability\x00user.note\x00"`, `d/acl 100674 0:0 0 1 "system.posix_acl_access\x00"`,
		"d/link1 100644 0:0 0 2 ", "d/mail/link2 100644 0:0 0 2 ", `d/sym 120777 7:7 0 1 "" "su"`,
		"d/mail/new 100644 0:0 0 1 ", "e/f 104755 0:0 0 1 ")
	text, err = richTree(t, `files = {".": r["/out"]}`, nil)
	check(t, err)
	wantLines(t, text, ". 41777 9:9 0 ", "su 104755 65534:65534 0 1 ")
}

// TestOneFileOfAResultKeepsWhatItHas takes files out of the result of a step, one by one.
func TestOneFileOfAResultKeepsWhatItHas(t *testing.T) {
	text, err := richTree(t, `files = {"su": r["/out"]["su"], "box": r["/out"]["mail/box"], "x/ping": r["/out"]["ping"], "acl": r["/out"]["acl"],
		"one": r["/out"]["link1"], "two": r["/out"]["mail/link2"], "led": r["/out"]["sym"]}`, nil)
	check(t, err)
	wantLines(t, text,
		". 40755 0:0 0 ", "x 40755 0:0 0 ", "su 104755 65534:65534 0 1 ", "box 100644 8:8 0 1 ", "led 104755 65534:65534 0 1 ",
		`x/ping 100644 0:0 0 1 "security.capability\x00user.note\x00"`, `acl 100674 0:0 0 1 "system.posix_acl_access\x00"`,
		"one 100644 0:0 0 1 ", "two 100644 0:0 0 1 ")
	text, err = richTree(t, `files = {"su": r["/out"]["su"], "ping": r["/out"]["ping"]}, owners = {"*": "33:33"}`, nil)
	check(t, err)
	wantLines(t, text, "su 100755 33:33 0 1 ", `ping 100644 33:33 0 1 "user.note\x00" `)
}

func TestRulesChangeWhatATreeKeeps(t *testing.T) {
	text, err := richTree(t, `files = {"d": r["/out"]}, owners = {"d/su": "33:33", "d/ping": "33:33", "d/mail": "33:33", "d/mail/link2": "5:5"}, modes = {"d/acl": "0600"}`, nil)
	check(t, err)
	wantLines(t, text,
		"d/su 100755 33:33 0 1 ", `d/ping 100644 33:33 0 1 "user.note\x00" `, "d/mail 42775 33:33 0 ", "d/mail/box 100644 8:8 0 ",
		`d/acl 100600 0:0 0 1 "system.posix_acl_access\x00"`, "d/link1 100644 5:5 0 2 ", "d/mail/link2 100644 5:5 0 2 ")
	text, err = richTree(t, `files = {"d": r["/out"]}, owners = {"d/su": "33:33"}, modes = {"d/su": "4750"}`, nil)
	check(t, err)
	wantLines(t, text, "d/su 104750 33:33 0 1 ")
}

func TestATreeOfASourceDirectoryKeepsNothingOfTheHost(t *testing.T) {
	text, err := richTree(t, `files = {"d": "src"}`, map[string]string{"src/a": "1", "src/sub/b": "2"})
	check(t, err)
	wantLines(t, text, "d 40755 0:0 0 ", "d/a 100644 0:0 0 1 ", "d/sub/b 100644 0:0 0 1 ")
}

func TestATreeRefusesWhatItCanNotHold(t *testing.T) {
	b := newBuilder(t, map[string]string{"root.raw": "x", "B9BUILD.star": `
r = lxc_exec(images = {"/": "root.raw"}, script = ["true"], shares = {"/out": writable()})
tree(name = "t", files = {"d": r["/out"]})`})
	c := &checkout{root: b.root, st: b.st, backend: scripted(func(out string) error { return unix.Mkfifo(filepath.Join(out, "pipe"), 0o644) })}
	if _, err := c.try(t, nil, "//:t"); err == nil || !strings.Contains(err.Error(), "a tree holds files, directories and symbolic links") {
		t.Error(err)
	}
}
