package build

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"b9.build/b9/builtins"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
)

// testedFiles has targets that stand for tests of a kind of their own: those of resize().
var testedFiles = map[string]string{
	"b9.toml":      "",
	"B9BUILD.star": "small = image(name = \"small\", fs = \"vfat\", size = \"2M\")\nresize(small, \"4M\", name = \"grows\")\nresize(image(fs = \"ext4\", size = \"64M\"), \"64K\", name = \"fails\")\nresize(resize(image(fs = \"ext4\", size = \"65M\"), \"64K\"), \"128M\", name = \"needs\")\nfile(name = \"none\", content = \"x\")\n",
	"a_test.star":  "def test_good():\n    pass\n\ndef test_bad():\n    fail(\"1 < 2 & \\x01\\nmore\")\n",
}

// tester is `b9 test` with resize() as a kind of tests.
func newTester(t *testing.T, dir, store string, patterns ...string) (*tester, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	out, progress := new(bytes.Buffer), new(bytes.Buffer)
	p := session.New(strings.NewReader(""), out, progress)
	p.Dir, p.Store, p.JSON = dir, store, true
	s, err := p.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	kinds := append(testKinds(), testKind{name: "resizing", builtin: "resize"})
	return &tester{
		maker: &maker{Session: s, Request: Request{Flags: Flags{display: "plain"}, Patterns: patterns, ReadOnly: true}},
		kinds: kinds, filter: regexp.MustCompile(""), junit: filepath.Join(dir, "junit.xml"),
	}, out, progress
}

// TestTargetsThatAreTests wants targets of a kind in the table to be built, each as a test,
// whatever fails, and read back from JUnit's XML by another parser what was reported.
func TestTargetsThatAreTests(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	dir, store := t.TempDir(), filepath.Join(t.TempDir(), "store")
	for name, text := range testedFiles {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{
		"//a_test.star:test_good": "passed", "//a_test.star:test_bad": "failed",
		"//:grows": "passed", "//:fails": "failed", "//:needs": "not_run",
	}
	for _, cached := range []bool{false, true} {
		b, out, progress := newTester(t, dir, store, "//...")
		err := b.run(t.Context())
		if status, tell := exit.Of(t.Context(), err); status != exit.Failed || tell {
			t.Fatalf("status %d, %v", status, err)
		}
		var doc output.Tests
		if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		if doc.Passed != 2 || doc.Failed != 2 || doc.NotRun != 1 || len(doc.Tests) != len(want) || len(doc.Errors) != 3 {
			t.Errorf("%+v", doc)
		}
		for _, x := range doc.Tests {
			if x.Status != want[x.Label] || x.Cached != (cached && x.Status == "passed") || x.Place == nil {
				t.Errorf("%+v", x)
			}
			if x.Status == "not_run" && !strings.HasPrefix(x.Because, "not built, because //:needs (resize) failed") {
				t.Errorf("%s: because %q", x.Label, x.Because)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "b9-out")); err == nil {
			t.Error("tests placed results")
		}
		if n := strings.Count(progress.String(), "a_test.star:5:5: test_bad(): fail(): 1 < 2"); n != 1 {
			t.Errorf("the failure is shown %d times:\n%s", n, progress)
		}
		checkJUnit(t, b.junit, doc)
	}
}

// checkJUnit reads the XML token by token.
func checkJUnit(t *testing.T, path string, doc output.Tests) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	status, name, failure := map[string]string{}, "", ""
	dec := xml.NewDecoder(bytes.NewReader(text))
	for {
		token, err := dec.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			at := map[string]string{}
			for _, a := range e.Attr {
				at[a.Name.Local] = a.Value
			}
			switch e.Name.Local {
			case "testsuites":
				if at["tests"] != "5" || at["failures"] != "2" || at["skipped"] != "1" {
					t.Errorf("testsuites has %v", at)
				}
			case "testcase":
				name = at["classname"] + ":" + at["name"]
				status[name] = "passed"
				if at["file"] == "" || at["line"] == "" || at["time"] == "" {
					t.Errorf("%s has %v", name, at)
				}
			case "failure":
				status[name] = "failed"
			case "skipped":
				status[name] = "not_run"
			}
		case xml.CharData:
			if status[name] == "failed" {
				failure += string(e)
			}
		}
	}
	for _, x := range doc.Tests {
		if status[x.Label] != x.Status {
			t.Errorf("%s is %q in XML, and %q", x.Label, status[x.Label], x.Status)
		}
	}
	if !strings.Contains(failure, "1 < 2 & \ufffd\nmore") {
		t.Errorf("the failures are %q", failure)
	}
}

// TestNoTests wants patterns that name no test to be mistakes of the command line.
func TestNoTests(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	dir, store := t.TempDir(), filepath.Join(t.TempDir(), "store")
	for name, text := range testedFiles {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for pattern, want := range map[string]string{
		"//:none":                 "//:none is no test but file(): tests are functions test_* of files *_test.star, and targets of boot_test(), and targets of resize()",
		"a_test.star:test_god":    `a_test.star has no test "test_god" (have test_good, test_bad): did you mean "test_good"?`,
		"b_test.star":             "there is no file b_test.star",
		"//:nothing":              `has no target "nothing"`,
		"nowhere/...":             "there is no B9BUILD.star below //nowhere",
		"a_test.star:test_good[]": "bad target",
	} {
		b, _, _ := newTester(t, dir, store, pattern)
		err := b.run(t.Context())
		if status, _ := exit.Of(t.Context(), err); status != exit.WrongUsage || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: status %d: %v", pattern, status, err)
		}
	}
	b, _, _ := newTester(t, dir, store, "//...")
	b.filter = regexp.MustCompile("nothing")
	if err := b.run(t.Context()); err == nil || !strings.Contains(err.Error(), `no tests that match "nothing" in //...`) {
		t.Error(err)
	}
}

// TestKindsAreThere wants the table of kinds to name operations that there are.
func TestKindsAreThere(t *testing.T) {
	have := map[string]bool{"": true}
	for _, op := range builtins.Operations(builtins.Settings{}) {
		have[op.Name] = true
	}
	for _, k := range testKinds() {
		if k.name == "" || !have[k.builtin] {
			t.Errorf("%+v is no kind", k)
		}
	}
}

// TestJUnitOfMistakes has what mistakes in build files kept from being looked at as errors,
// and no file of an earlier run.
func TestJUnitOfMistakes(t *testing.T) {
	doc := output.Tests{Tests: []output.Test{{Label: "//a_test.star:test_x", Status: testPassed}}, NotBuilt: []output.NotBuilt{{Label: "//p/...", Because: "p/B9BUILD.star"}}, Error: "p/B9BUILD.star:1:1: undefined: x"}
	all := junit(doc)
	if all.Tests != 2 || all.Errors != 1 || len(all.Suites) != 2 || all.Suites[1].Errors != 1 || all.Suites[1].Cases[0].Error.Text != doc.Error {
		t.Errorf("%+v", all)
	}
}
