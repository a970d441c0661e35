package unit

import (
	"bytes"
	"context"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
)

// opening is a function that opens the workspace, for Config.
func opening(root string) func(context.Context, io.Writer) (*lang.Workspace, error) {
	return func(ctx context.Context, stderr io.Writer) (*lang.Workspace, error) {
		return lang.Open(ctx, lang.Config{Root: root, Operations: builtins.Operations(builtins.Settings{}), Stderr: stderr})
	}
}

// testsIn are the tests of files below the root, by label.
func testsIn(t *testing.T, root string, files ...string) map[string]*Test {
	t.Helper()
	open := opening(root)
	ws, err := open(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*Test{}
	for _, file := range files {
		nodes, err := Config{Open: open}.Tests(ws, file)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			all[n.Label()] = n.Action().(*Test)
		}
	}
	return all
}

// TestLibraries runs the tests of the rule libraries that come with b9, side by side.
func TestLibraries(t *testing.T) {
	root, err := filepath.Abs("../../../..")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "stdlib", "testdata", "*"+lang.TestSuffix))
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	for i, file := range files {
		files[i], _ = filepath.Rel(root, file)
	}
	for label, test := range testsIn(t, root, files...) {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			var printed bytes.Buffer
			if err := test.Try(context.Background(), &printed, false); err != nil {
				t.Errorf("%v\n%s", err, printed.String())
			}
		})
	}
}

// write writes files of a workspace.
func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAssertions wants each assertion to pass where it should, and to fail with its
// sentence, at its place, where it should not.
func TestAssertions(t *testing.T) {
	for call, want := range map[string]string{
		`assert_equal({"a": (1, 2)}, {"a": (1, 2)})`:               "",
		`assert_equal(1, 2)`:                                       "assert_equal(): not what is expected:\n--- want\n+++ got\n@@ -1,1 +1,1 @@\n-2\n+1",
		`assert_equal("a\nb\n", "a\nc\n", "x")`:                    "assert_equal(): x: not what is expected:\n--- want\n+++ got\n@@ -1,2 +1,2 @@\n a\n-c\n+b",
		`assert_equal(file(name = "f"), ":f")`:                     "+<handle of //a_test.star:f>",
		`assert_equal([1], (1,))`:                                  "-(\n+[\n     1,\n-)\n+]",
		`assert_equal(struct(a = 1), struct(a = 1))`:               "",
		`assert_true([1])`:                                         "",
		`assert_true([], "the list")`:                              "assert_true(): the list: [\n] is not true",
		`assert_contains("abc", "b")`:                              "",
		`assert_contains({"a": 1}, "b", "d")`:                      "assert_contains(): d: no \"b\" in:\n{\n    \"a\": 1,\n}",
		`assert_fails(lambda: fail("no"), "^a_test")`:              "",
		`assert_fails(lambda: 1)`:                                  "assert_fails(): there was no mistake",
		`assert_fails(lambda: fail("no"), "yes")`:                  "nothing matches \"yes\" in:\na_test.star:4:26: fail(): no",
		`assert_fails(lambda: 1 // 0, "(")`:                        `"(" is no regular expression`,
		`assert_fails(lambda: fail("no"), golden = "../x.golden")`: `"../x.golden" is no file beside the test`,
		`assert_fails(lambda: fail("no"), golden = "no.golden")`:   "there is no file no.golden",
		`assert_targets({})`:                                       "",
		`assert_targets({"a": "file"})`:                            "targets: not what is expected",
		`assert_target("a")`:                                       `no target "a" (have none)`,
		`[file(name = "a", content = "x"), assert_target("a", "file", content = "x", src = None)]`:          "",
		`[file(name = "a", content = "x"), assert_target("a", "tree")]`:                                     `-    "the built-in": "tree"`,
		`[file(name = "a", content = "x"), assert_target("a", src = "y")]`:                                  `+    "src": None`,
		`[file(content = "x"), assert_equal(made_steps()[0].attributes, {"content": "x", "mode": "0644"})]`: "",
		`assert_fails(lambda: [file(name = "a"), fail()]) and file(name = "a", content = "")`:               "",
		`image(fs = "ext5")`: "a_test.star:4:5: image(): unknown fs",
		`glob(["*.none"])`:   "a_test.star:4:5: glob(): no file matches",
	} {
		root := t.TempDir()
		write(t, root, map[string]string{"b9.toml": "", "a_test.star": `load("@b9//assert.star", "assert_contains", "assert_equal", "assert_fails", "assert_target", "assert_targets", "assert_true", "made_steps")

def test_it():
    ` + call + "\n"})
		err := testsIn(t, root, "a_test.star")["//a_test.star:test_it"].Try(t.Context(), io.Discard, false)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", call, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "a_test.star:4:")):
			t.Errorf("%s: got %v, want %s", call, err, want)
		}
	}
}

// TestOnlyTestsCallTesting wants the module to be of no use in a build file.
func TestOnlyTestsCallTesting(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"b9.toml": "", "B9BUILD.star": "testing.made()\n"})
	ws, err := opening(root)(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ws.Resolve(t.Context(), []string{"//..."}); err == nil || !strings.Contains(err.Error(), "B9BUILD.star:1:9: testing.made(): only a test calls it") {
		t.Errorf("got %v", err)
	}
}

// TestEndlessTest wants a test that never ends to be stopped, also where it tries to go on.
func TestEndlessTest(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"b9.toml": "", "a_test.star": `
def endless():
    for i in range(1000000):
        for j in range(1000000):
            pass

def test_it():
    for i in range(1000000):
        testing.attempt(endless)
`})
	ws, err := lang.Open(t.Context(), lang.Config{Root: root, Limits: lang.Limits{Steps: 100_000}})
	if err != nil {
		t.Fatal(err)
	}
	if err := ws.Try(t.Context(), "a_test.star", lang.Trial{Function: "test_it"}); err == nil || !strings.Contains(err.Error(), "evaluation stopped: it took more than 100000 steps") {
		t.Errorf("got %v", err)
	}
}

// TestKey wants all that a test reads in what its step is known by, and nothing else.
func TestKey(t *testing.T) {
	root := t.TempDir()
	files := map[string]string{
		"b9.toml": "", "a/x_test.star": "load(\"//lib:l.star\", \"x\")\nload(\"@b9//assert.star\", \"assert_true\")\ndef test_a(): pass\n\ndef helper_test_b(): pass\n\ndef test_c(): pass\n",
		"lib/l.star": "load(\":m.star\", y = \"x\")\nx = 1\n", "lib/m.star": "x = 1\n", "lib/n.star": "x = 1\n", "a/x.golden": "x", "a/y.txt": "y",
	}
	write(t, root, files)
	tests := testsIn(t, root, "a/x_test.star")
	if got := slices.Sorted(maps.Keys(tests)); !slices.Equal(got, []string{"//a/x_test.star:test_a", "//a/x_test.star:test_c"}) {
		t.Fatalf("the tests are %q", got)
	}
	before := tests["//a/x_test.star:test_a"]
	if got := slices.Sorted(maps.Keys(before.Loads)); !slices.Equal(got, []string{"@b9//assert.star", "a/x_test.star", "lib/l.star", "lib/m.star"}) || before.Globs != "" || before.B9 == "unknown" {
		t.Errorf("it reads %q, globs %q, b9 %s", got, before.Globs, before.B9)
	}
	for name, changes := range map[string]bool{"lib/m.star": true, "a/x.golden": true, "lib/n.star": false, "a/y.txt": false} {
		write(t, root, map[string]string{name: files[name] + "\n"})
		now := testsIn(t, root, "a/x_test.star")["//a/x_test.star:test_a"]
		if same := maps.Equal(now.Loads, before.Loads) && maps.Equal(now.Beside, before.Beside); same == changes {
			t.Errorf("%s: the same %v", name, same)
		}
		write(t, root, files)
	}
}

// TestWhy wants words for each part of a key.
func TestWhy(t *testing.T) {
	for want, changes := range map[string][]engine.Change{
		"a.star changed, option x":                 {{Part: "Loads"}, {Part: `Loads["a.star"]`, Old: "1", New: "2"}, {Part: `Options["x"]`}},
		"it loads a.star now":                      {{Part: `Loads["a.star"]`, New: "2"}},
		"it does not load a.star any more":         {{Part: `Loads["a.star"]`, Old: "2"}},
		"x.golden changed":                         {{Part: `Beside["x.golden"]`, New: "2"}},
		"another b9, what glob() may find changed": {{Part: "B9"}, {Part: "Globs"}},
		"": nil,
	} {
		if got := Why(changes); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
