package builtins

import (
	"context"
	"strings"
	"testing"

	"b9.build/b9/builtins/internal/builtinstest"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/builtins/share"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// builder builds targets of one workspace directory again and again.
type builder struct {
	t    *testing.T
	root string
	st   *store.Store
}

func newBuilder(t *testing.T, files map[string]string) *builder {
	root := t.TempDir()
	builtinstest.WriteWorkspace(t, root, map[string]string{lang.RootFile: ""})
	builtinstest.WriteWorkspace(t, root, files)
	st, err := store.Open(t.TempDir(), store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return &builder{t, root, st}
}

// build returns the text of the target and how many steps ran.
func (b *builder) build(target string, options map[string]string) (text string, executed int) {
	b.t.Helper()
	ctx := context.Background()
	w, err := openTest(ctx, lang.Config{Root: b.root, Options: options})
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
	data, err := result.Artifact(g.Targets[0].Refs[0]).ReadAll(1 << 20)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(data), result.Executed
}

// TestRebuilds builds a chain of files and templates and asserts what each
// change runs again.
func TestRebuilds(t *testing.T) {
	b := newBuilder(t, map[string]string{
		"B9BUILD.star": `
load("//lib:names.star", "host")
port = option("port", type = "int", default = 80)
key = file(src = "key.txt")
conf = template(name = "conf", src = "conf.in", vars = {"host": host, "key": key})
template(name = "out", content = "[${conf}] ${port}", vars = {"conf": conf, "port": port})
`,
		"lib/names.star": `host = "db1"`,
		"key.txt":        "secret",
		"conf.in":        "${host} ${key} $${x}",
	})
	step := func(what, wantText string, wantExecuted int, options map[string]string) {
		t.Helper()
		text, executed := b.build("//:out", options)
		if text != wantText || executed != wantExecuted {
			t.Errorf("%s: got %q after %d steps, want %q after %d", what, text, executed, wantText, wantExecuted)
		}
	}
	change := func(name, text string) { builtinstest.WriteWorkspace(t, b.root, map[string]string{name: text}) }
	step("first", "[db1 secret ${x}] 80", 3, nil)
	step("again", "[db1 secret ${x}] 80", 0, nil)
	step("an option", "[db1 secret ${x}] 81", 1, map[string]string{"port": "81"})
	change("key.txt", "other")
	step("a source", "[db1 other ${x}] 80", 3, nil)
	change("lib/names.star", `host = "db2"`)
	step("a library", "[db2 other ${x}] 80", 2, nil)
	change("conf.in", "${host} ${key}  # ${host}")
	step("a template", "[db2 other  # db2] 80", 2, nil)
	change("lib/names.star", "# a comment\nhost = \"db2\"")
	step("a comment", "[db2 other  # db2] 80", 0, nil)
}

func TestFileMode(t *testing.T) {
	b := newBuilder(t, map[string]string{"B9BUILD.star": `file(name = "run", content = "#!/bin/sh", mode = 0o755)`})
	w, err := openTest(context.Background(), lang.Config{Root: b.root})
	if err != nil {
		t.Fatal(err)
	}
	g, err := w.Resolve(context.Background(), []string{"//:run"})
	if err != nil {
		t.Fatal(err)
	}
	out, err := g.Targets[0].Refs[0].Node.Declared("")
	if err != nil || out.Mode != 0o755 {
		t.Errorf("the output asks for mode %o, %v", out.Mode, err)
	}
}

// openTest opens a workspace with b9's own operations.
func openTest(ctx context.Context, cfg lang.Config) (*lang.Workspace, error) {
	images := share.NewImages(share.Config{}, cfg.Root)
	cfg.Operations = Operations(Settings{Shared: images})
	cfg.Prefixes = map[string]func(string) (string, lang.Step, error){share.Prefix: images.Target}
	return lang.Open(ctx, cfg)
}

// TestOptionTypes declares options in every way: the second value is the default, whose type
// is the option's where none is said.
func TestOptionTypes(t *testing.T) {
	for call, want := range map[string]string{
		`option("v")`: "None", `option("v", "0")`: "0", `option("v", "debian")`: "debian", `option("v", "int")`: `write type = "int"`,
		`option("v", 3)`: "3", `option("v", True)`: "True", `option("v", default = 3)`: "3", `option("v", "3", type = "int")`: "default:",
		`option("v", "bool", type = "string")`: "bool", `option("v", 3, type = "int")`: "3", `option("v", "int", 3)`: "at most 2",
	} {
		b := newBuilder(t, map[string]string{"B9BUILD.star": `file(name = "f", content = str(` + call + `))`})
		w, err := openTest(t.Context(), lang.Config{Root: b.root})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = w.Resolve(t.Context(), []string{"//:f"}); err != nil {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", call, err, want)
			}
			continue
		}
		if text, _ := b.build("//:f", nil); text != want {
			t.Errorf("%s: %q, want %q", call, text, want)
		}
	}
	b := newBuilder(t, map[string]string{"B9BUILD.star": `file(name = "f", content = str(option("v", 3) + 1))`})
	if text, _ := b.build("//:f", map[string]string{"v": "41"}); text != "42" {
		t.Errorf("-D v=41 gives %q", text)
	}
}
