package builtins

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"b9/engine"
)

// seed builds a target whose output is a directory and returns its files.
func (b *builder) seed(target string) map[string]string {
	b.t.Helper()
	ctx := context.Background()
	w, err := Open(ctx, Config{Root: b.root})
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
	if text, _ := b.build("//:toml", nil); text != "packages = [\"a\", \"c\"]\n\n[x]\ny = 1.5\n" {
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
	writeWorkspace(t, b.root, map[string]string{"u.yaml": "# comment\npackages: [a]\n"})
	if again := b.seed("//:s")["meta-data"]; again != first {
		t.Errorf("a comment made %q of %q", again, first)
	}
	writeWorkspace(t, b.root, map[string]string{"u.yaml": "packages: [b]\n"})
	if again := b.seed("//:s")["meta-data"]; again == first {
		t.Error("changed user-data left the instance-id as it was")
	}
}
