package builtins

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"b9.build/b9/builtins/internal/builtinstest"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/fsys/tree"
)

// seed builds a target whose output is a directory and returns its files.
func (b *builder) seed(target string) map[string]string {
	b.t.Helper()
	ctx := context.Background()
	w, err := openTest(ctx, lang.Config{Root: b.root})
	if err != nil {
		b.t.Fatal(err)
	}
	g, err := w.Resolve(ctx, []string{target})
	if err != nil {
		b.t.Fatal(err)
	}
	eng := engine.New(engine.Config{Store: b.st})
	defer eng.Close()
	result, err := eng.Build(ctx, g.Targets[0].Refs...)
	if err != nil {
		b.t.Fatal(err)
	}
	dir := b.t.TempDir() + "/seed"
	if err := result.Artifact(g.Targets[0].Refs[0]).Fork(ctx, dir); err != nil {
		b.t.Fatal(err)
	}
	files := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			b.t.Fatal(err)
		}
		files[e.Name()] = string(text)
	}
	return files
}

func TestCloudInitData(t *testing.T) {
	b := newBuilder(t, map[string]string{
		"base.yaml": "#cloud-config\n# a comment\npackages: [a]\n",
		"made.in":   "${x}\n",
		"B9BUILD.star": `
made = template(src = "made.in", vars = {"x": "text"})
conf = template(content = "packages: [${x}]\n", vars = {"x": "c"})
cloud_init(name = "merged", formats = ["dir"], user_data = ["base.yaml", {"packages": ["b"], "write_files": [{"path": "/x", "content": made}]}, conf], meta_data = {"local-hostname": "web"})
cloud_init(name = "parts", formats = ["dir"], user_data = ["#!/bin/sh\n", "base.yaml", "#include\nhttp://x/\n"])
cloud_init(name = "alone", formats = ["dir"], user_data = "base.yaml", network_config = [{"version": 2}, {"ethernets": {"eth0": {"dhcp4": True}}}], meta_data = {"instance-id": "i"})
cloud_init(name = "packed", formats = ["dir"], user_data = {"packages": ["a"]}, gzip = True)
merge_yaml(["base.yaml", conf, {"x": {"y": 1.5}}], name = "toml", format = "toml")
merge_yaml(["base.yaml", {"packages": "b"}], name = "yaml", header = "#cloud-config", strategy = "original")
`,
	})
	got := b.seed("//:merged")
	if want := "#cloud-config\npackages:\n  - a\n  - b\n  - c\nwrite_files:\n  - path: /x\n    content: |\n      text\n"; got["user-data"] != want {
		t.Errorf("user-data is %q, want %q", got["user-data"], want)
	}
	if !strings.HasPrefix(got["meta-data"], "instance-id: b9-") || !strings.HasSuffix(got["meta-data"], "\nlocal-hostname: web\n") {
		t.Errorf("meta-data is %q", got["meta-data"])
	}
	if got := b.seed("//:parts")["user-data"]; strings.Count(got, "Content-Type: text/") != 3 || !strings.HasPrefix(got, "Content-Type: multipart/mixed") {
		t.Errorf("user-data is %q", got)
	}
	got = b.seed("//:alone")
	if got["user-data"] != "#cloud-config\n# a comment\npackages: [a]\n" || got["meta-data"] != "instance-id: i\n" || got["network-config"] != "version: 2\nethernets:\n  eth0:\n    dhcp4: true\n" {
		t.Errorf("got %q", got)
	}
	r, err := gzip.NewReader(bytes.NewReader([]byte(b.seed("//:packed")["user-data"])))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(r); err != nil || string(text) != "#cloud-config\npackages:\n  - a\n" {
		t.Errorf("user-data is %q, %v", text, err)
	}
	if text, _ := b.build("//:toml", nil); text != "packages = ['a', 'c']\n\n[x]\ny = 1.5\n" {
		t.Errorf("got %q", text)
	}
	if text, _ := b.build("//:yaml", nil); text != "#cloud-config\npackages:\n  - a\n  - b\n" {
		t.Errorf("got %q", text)
	}
}

// TestSeedIdentity holds that the instance-id follows the content, and that
// what does not change the seed does not change it.
func TestSeedIdentity(t *testing.T) {
	b := newBuilder(t, map[string]string{"B9BUILD.star": `cloud_init(name = "s", formats = ["dir"], user_data = ["u.yaml", {"runcmd": ["x"]}])`, "u.yaml": "packages: [a]\n"})
	first := b.seed("//:s")["meta-data"]
	builtinstest.WriteWorkspace(t, b.root, map[string]string{"u.yaml": "# comment\npackages: [a]\n"})
	if again := b.seed("//:s")["meta-data"]; again != first {
		t.Errorf("a comment made %q of %q", again, first)
	}
	builtinstest.WriteWorkspace(t, b.root, map[string]string{"u.yaml": "packages: [b]\n"})
	if again := b.seed("//:s")["meta-data"]; again == first {
		t.Error("changed user-data left the instance-id as it was")
	}
}

// TestSeedIdentityOfContent holds that the instance-id is the same however
// the same content is written, packed and laid out, and made also where
// meta-data is a text.
func TestSeedIdentityOfContent(t *testing.T) {
	b := newBuilder(t, map[string]string{"m.yaml": "local-hostname: h\n", "B9BUILD.star": `
def seed(name, **given):
    cloud_init(name = name, **(dict(user_data = {"packages": ["x"]}, meta_data = {"local-hostname": "h"}, formats = ["dir"]) | given))
seed("a")
seed("gzip", gzip = True)
seed("text", user_data = "#cloud-config\npackages:\n  - x\n")
seed("metatext", meta_data = "m.yaml")
seed("user", user_data = {"packages": ["y"]})
seed("vendor", vendor_data = {"packages": ["y"]})
seed("network", network_config = {"version": 2})
seed("file", files = {"x": "m.yaml"})
seed("meta", meta_data = {"local-hostname": "g"})
`})
	first := b.seed("//:a")["meta-data"]
	for _, name := range []string{"gzip", "text", "metatext"} {
		if got := b.seed("//:" + name)["meta-data"]; got != first {
			t.Errorf("%s: meta-data is %q, want %q", name, got, first)
		}
	}
	seen := map[string]string{first: "a"}
	for _, name := range []string{"user", "vendor", "network", "file", "meta"} {
		got := b.seed("//:" + name)["meta-data"]
		if seen[got] != "" {
			t.Errorf("%s and %s have the same meta-data %q", name, seen[got], got)
		}
		seen[got] = name
	}
}

func TestCloudInitMistakes(t *testing.T) {
	tests := []struct{ args, want string }{
		{`user_data = "#cloud-config-archive\n- content: |\n    runcmd: ls\n"`, "user_data:2:12: content:1:9: runcmd: want list, got text"},
		{`user_data = ["#include nowhere\n", {}]`, `user_data[0]:1:10: "nowhere" is no address to include: write one such as "https://example.com/user-data"`},
		{`files = {"a": "m", "a/b": "m"}`, `files: "a" and "a/b" can't be in one seed: one is a file where the other needs a directory, or (on vfat) they differ only in case`},
		{`files = {"a": "m", "A": "m"}, formats = ["vfat"]`, `files: "a" and "A" can't be in one seed: one is a file where the other needs a directory, or (on vfat) they differ only in case`},
		{`meta_data = "\n- b\n"`, "meta_data:2:1: want a mapping of keys to values"},
		{`user_data = b"x"`, "user_data: want dict, text of several lines, or file (handle, label or path), got bytes"},
		{`meta_data = {"instance-id": None}`, "meta_data: instance-id has no value: give one, or leave it out to have one made of the seed's content"},
		{`user_data = [{}], strategy = "list(apend)"`, `strategy: unknown setting "apend" of list (have append, prepend, replace, no_replace, recurse_list, recurse_array, recurse_dict, recurse_str): did you mean "append"?`},
	}
	for _, tt := range tests {
		root := t.TempDir()
		builtinstest.WriteWorkspace(t, root, map[string]string{lang.RootFile: "", "m": "", lang.BuildFile: "cloud_init(name = \"s\", " + tt.args + ")\n"})
		want := "B9BUILD.star:1:1: cloud_init(): " + tt.want
		w, err := openTest(t.Context(), lang.Config{Root: root})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Resolve(t.Context(), []string{"//:s"}); err == nil || err.Error() != want {
			t.Errorf("%s: got %v\nwant %s", tt.args, err, want)
		}
	}
}

// TestWarningPlaces holds that a warning names a file, or the call that the
// text stands in.
func TestWarningPlaces(t *testing.T) {
	root := t.TempDir()
	builtinstest.WriteWorkspace(t, root, map[string]string{lang.RootFile: "", "u.yaml": "#cloud-config\nx: 1\n", lang.BuildFile: `cloud_init(
    name = "s",
    user_data = ["u.yaml", {"y": 1}, "#cloud-config-archive\n- 'z: 1'\n"],
    network_config = "version: 2\nethernets: {e: {mtu: 0777}}\n",
)
`})
	var out strings.Builder
	w, err := openTest(t.Context(), lang.Config{Root: root, Stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Resolve(t.Context(), []string{"//:s"}); err != nil {
		t.Fatal(err)
	}
	want := `u.yaml:2:1: warning: x: cloud-init has no such key (silence = ["unknown-key"] hides it)
B9BUILD.star:1:1: cloud_init(): warning: y: cloud-init has no such key (silence = ["unknown-key"] hides it)
B9BUILD.star:1:1: cloud_init(): user_data[2]:2:3: content:1:1: warning: z: cloud-init has no such key (silence = ["unknown-key"] hides it)
B9BUILD.star:1:1: cloud_init(): network_config:2:22: warning: 0777 is octal for the number 511 here: write "0777" for the text (silence = ["yaml-octal"] hides it)
`
	if out.String() != want {
		t.Errorf("got %s\nwant %s", out.String(), want)
	}
}

// A seed holds passwords and keys: nobody but its owner reads it where it is placed, and
// what is in a directory does not depend on the umask of who made it.
func TestSeedsAreForTheirOwner(t *testing.T) {
	b := newBuilder(t, map[string]string{"B9BUILD.star": `cloud_init(name = "seed", user_data = {"hostname": "x"}, formats = ["iso", "vfat", "dir"])`})
	for _, umask := range []int{0o077, 0o022} {
		old := syscall.Umask(umask)
		defer syscall.Umask(old)
		w, err := openTest(t.Context(), lang.Config{Root: b.root})
		if err != nil {
			t.Fatal(err)
		}
		g, err := w.Resolve(t.Context(), []string{"//:seed"})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range g.Targets[0].Placements() {
			if p.Ref.Output != "dir" && p.Mode != 0o600 {
				t.Errorf("%s is placed with mode %o", p.Path, p.Mode)
			}
		}
		dir := filepath.Join(t.TempDir(), "seed")
		if err := writeDir(t.Context(), dir, []tree.File{{Path: "user-data", Mode: 0o644}, {Path: "scripts/x", Mode: 0o644}}, time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]os.FileMode{"": os.ModeDir | 0o700, "user-data": 0o644, "scripts": os.ModeDir | 0o755, "scripts/x": 0o644} {
			if st, err := os.Lstat(filepath.Join(dir, name)); err != nil || st.Mode() != want {
				t.Errorf("umask %o: %q has mode %v (%v), want %v", umask, name, st.Mode(), err, want)
			}
		}
		syscall.Umask(old)
	}
}
