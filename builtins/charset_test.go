package builtins

import (
	"context"
	"strings"
	"testing"

	"b9.build/b9/builtins/internal/builtinstest"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// TestNoText holds that each kind of text that a build reads is refused where it
// is none, with its place: a NUL byte, a byte of Latin-1, and a byte-order mark
// are put into a text that is taken without them.
func TestNoText(t *testing.T) {
	const (
		erlangBuild = `erlang_config(name = "x", inputs = ["in"])`
		merge       = `merge_yaml(["in%"], name = "x")`
		cloud       = `cloud_init(name = "x", user_data = "in")`
		lxc         = `lxc_exec(name = "x", images = {"/": image(name = "i", fs = "ext4", size = "8M")}, script = "in")`
	)
	tests := []struct{ file, build, text string }{
		{"B9BUILD.star", "", "v = \"\"\n#@\nfile(name = \"x\", content = v)\n"},
		{"in.star", `load(":in.star", "v")`, "v = \"a\"\n#@\n"},
		{"in.yaml", strings.ReplaceAll(merge, "%", ".yaml"), "a: b\n#@\n"},
		{"in.json", strings.ReplaceAll(merge, "%", ".json"), "{\"a\":\n \"@\"}"},
		{"in.toml", strings.ReplaceAll(merge, "%", ".toml"), "a = 1\n#@\n"},
		{"in", erlangBuild, "{a,\n %@\n b}."},
		{"in", `template(name = "x", src = "in")`, "a\n@"},
		{"in", cloud, "#cloud-config\n{} #@\n"},
		{"in", cloud, "#!/bin/sh\n#@\n"},
		{"in", cloud, "#include\n#@\n"},
		{"in", `cloud_init(name = "x", user_data = ["in", {"packages": ["a"]}])`, "#!/bin/sh\n#@\n"},
		{"in", `cloud_init(name = "x", network_config = "in")`, "version: 2\n#@\n"},
		{"in", `cloud_init(name = "x", meta_data = "in")`, "a: b\n#@\n"},
		{"in", lxc, "#!/bin/sh\n#@\n"},
	}
	for _, tt := range tests {
		files := map[string]string{lang.BuildFile: tt.build}
		files[tt.file] = strings.ReplaceAll(tt.text, "@", "é")
		if err := resolveFiles(t, files); err != nil {
			t.Errorf("%s %q: %v", tt.build, files[tt.file], err)
			continue
		}
		at := strings.Index(strings.SplitN(tt.text, "\n", 3)[1], "@")
		place := tt.file + ":2:" + string(rune('1'+at)) + ": "
		for _, bad := range []struct{ text, want string }{
			{strings.ReplaceAll(tt.text, "@", "\x00"), place + "a NUL byte can't be part of a text"},
			{strings.ReplaceAll(tt.text, "@", "\xe9"), place + "the byte 0xE9 is not UTF-8 (in Latin-1 it is \"é\")"},
			{"\ufeff" + strings.ReplaceAll(tt.text, "@", ""), tt.file + ":1:1: a byte-order mark (U+FEFF) begins the text"},
		} {
			files[tt.file] = bad.text
			if err := resolveFiles(t, files); err == nil || !strings.Contains(err.Error(), bad.want) {
				t.Errorf("%s %q: got %v\nwant %s", tt.build, bad.text, err, bad.want)
			}
		}
	}
}

func resolveFiles(t *testing.T, files map[string]string) error {
	t.Helper()
	root := t.TempDir()
	builtinstest.WriteWorkspace(t, root, map[string]string{lang.RootFile: ""})
	builtinstest.WriteWorkspace(t, root, files)
	w, err := openTest(context.Background(), lang.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Resolve(context.Background(), []string{"//:all"})
	return err
}

// TestNoTextOfStep is the same for texts that a step makes: the step that reads
// them says so.
func TestNoTextOfStep(t *testing.T) {
	for build, want := range map[string]string{
		`template(name = "x", src = made)`:                              ":1:2: a NUL byte",
		`merge_yaml([made], name = "x")`:                                ":1:2: a NUL byte",
		`erlang_config(name = "x", inputs = [made])`:                    ":1:2: a NUL byte",
		`cloud_init(name = "x", network_config = made)`:                 ":1:2: a NUL byte",
		`template(name = "x", content = "${v}", vars = {"v": made})`:    "",
		`cloud_init(name = "x", user_data = [made], formats = ["dir"])`: ":1:2: a NUL byte",
	} {
		files := map[string]string{lang.BuildFile: "made = file(name = \"made\", content = \"a\\0\")\n" + build}
		if got := buildError(t, files, "//:x"); want == "" && got != nil || want != "" && (got == nil || !strings.Contains(got.Error(), want)) {
			t.Errorf("%s: got %v, want %s", build, got, want)
		}
	}
}

// TestNoTextInCall holds it of texts in the call itself.
func TestNoTextInCall(t *testing.T) {
	half := `"\u00e9"[:1]` // one byte of two
	for build, want := range map[string]string{
		`lxc_exec(name = "x", images = {"/": image(name = "i", fs = "ext4", size = "8M")}, script = ["a\0"])`: "script:2:2: a NUL byte",
		`template(name = "x", content = "a\n\0")`:                                                             "content:2:1: a NUL byte",
		`template(name = "x", content = "a\n" + ` + half + `)`:                                                "content:2:1: the byte 0xC3 is not UTF-8",
		`merge_yaml(["a:\n \0"], name = "x")`:                                                                 "inputs[0]:2:2: a NUL byte",
		`erlang_config(name = "x", inputs = ["a.\n\0"])`:                                                      "inputs[0]:2:1: a NUL byte",
		`erlang_config(name = "x", inputs = ["a.\n" + ` + half + `])`:                                         "inputs[0]:2:1: the byte 0xC3 is not UTF-8",
		`cloud_init(name = "x", user_data = "#cloud-config\n\0: {}\n")`:                                       "user_data:2:1: a NUL byte",
	} {
		if err := resolveFiles(t, map[string]string{lang.BuildFile: build}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", build, err, want)
		}
	}
}

// buildError builds a target of a workspace of those files, and returns how that fails.
func buildError(t *testing.T, files map[string]string, target string) error {
	t.Helper()
	root := t.TempDir()
	builtinstest.WriteWorkspace(t, root, map[string]string{lang.RootFile: ""})
	builtinstest.WriteWorkspace(t, root, files)
	st, err := store.Open(t.TempDir(), store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	w, err := openTest(t.Context(), lang.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	g, err := w.Resolve(t.Context(), []string{target})
	if err != nil {
		return err
	}
	eng := engine.New(engine.Config{Store: st})
	defer eng.Close()
	_, err = eng.Build(t.Context(), g.Targets[0].Refs...)
	return err
}
