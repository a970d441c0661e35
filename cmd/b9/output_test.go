package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
)

// goldenFiles is a workspace in which every command has something to print.
var goldenFiles = map[string]string{
	"b9.toml":    "",
	"rules.star": "\"\"\"Rules of the test.\"\"\"\n\ndef site(name, size = \"1G\"):\n    \"\"\"A site.\n\n    Args:\n      name: name of the target.\n      size: how large\n        it is.\n\n    Returns:\n      the handle.\n    \"\"\"\n    return image(name = name, size = size)\n\ndef _hidden(): pass\n",
	"rules_test.star": `load("@b9//assert.star", "assert_equal", "assert_targets")
load(":rules.star", "site")

def test_names():
    site("shop")
    assert_targets({"shop": "image"})

def test_wrong():
    assert_equal(1, 2, "a sum")
`,
	"B9BUILD.star": `file(name = "a", content = "x", doc = "first of all")
template(name = "b", src = ":a", vars = {})
group(name = "both", targets = [":a", ":b"])
image(name = "image", size = "1M", fs = "vfat", label = "DATA", content = tree(files = {"etc/motd": file(content = "hi\n")}))
share("base", ":image")
shared("base", repo = "local", name = "again")
disk(name = "disk", partitions = [part(":image")], table = "gpt")
resize(image(size = "64M"), "64K", name = "fails")
`,
	"mistakes.star": `def helper(x):
    return image(size = x, fs = "ext5")
helper("1M")
file(name = "x", src = "a.txt", content = "b")
frob(1)
`,
	"calls.star": `def helper(x):
    return image(name = "i", size = "1M", fs = x)
helper("ext5")
convert(":nothing", "raw", name = "y")
convert("x.raw", "qcow3", name = "z")
`,
	"syntax.star": "file(name = \n",
	"load.star":   "load(\":nothing.star\", \"x\")\n",
	"x.raw":       strings.Repeat("\x00", 1<<20),
	"y.raw":       strings.Repeat("\x01", 1<<20),
	"a.txt":       "a\n",
}

// goldenRun is a command and the golden file of what it prints. They run in order.
type goldenRun struct {
	command string // without --json
	golden  string // of testdata/output; "" for a command that prints no document
	events  bool   // compare the document on standard error
}

func goldenRuns() []goldenRun {
	return []goldenRun{
		{command: "version", golden: "version"},
		{command: "init", golden: "init"},
		{command: "config", golden: "config"},
		{command: "config results.place", golden: "config-key"},
		{command: "config set build.jobs 2"},
		{command: "config check"},
		{command: "builtins file", golden: "builtins"},
		{command: "fmt --check B9BUILD.star mistakes.star", golden: "fmt"},
		{command: "lint mistakes.star", golden: "lint"},
		{command: "query", golden: "query"},
		{command: "query deps //:b", golden: "query-deps"},
		{command: "query rdeps //:a", golden: "query-rdeps"},
		{command: "query kind file", golden: "query-kind"},
		{command: "query options", golden: "query-options"},
		{command: "affected --since HEAD", golden: "affected"},
		{command: "explain //:b", golden: "explain"},
		{command: "build //:both //:fails //:a -k -q", golden: "errors-build"}, // one of the steps fails
		{command: "build //:both //:a //:both", golden: "build"},
		{command: "build //:both //:a //:both", golden: "build-again"},
		{command: "build //:image //:base --display json", golden: "events", events: true},
		{command: "build //:again //:disk", golden: "build-shared"},
		{command: "run //:a", golden: "run"},
		{command: "run //:a -- true", golden: "run-command", events: true},
		{command: "shell //:a -- true", golden: "shell", events: true},
		{command: "log //:a", golden: "log"},
		{command: "builds", golden: "builds"},
		{command: "log", golden: "history"},
		{command: "profile", golden: "profile"},
		{command: "graph //:disk", golden: "graph"},
		{command: "explain //:fails", golden: "explain-failed"},
		{command: "ls //:image:/ //:image:/etc", golden: "ls"},
		{command: "cat //:image:/etc/motd"},
		{command: "cp //:image:/etc/motd motd"},
		{command: "diff x.raw //:disk", golden: "diff"},
		{command: "watch //:a --builds 1", golden: "watch"},
		{command: "test rules_test.star", golden: "test"},
		{command: "test rules_test.star", golden: "test-again"},
		{command: "list", golden: "list"},
		{command: "list -r local", golden: "list-local"},
		{command: "update", golden: "update"},
		{command: "repo add --create team REPO"},
		{command: "repo list", golden: "repo-list"},
		{command: "push base -r team", golden: "push"},
		{command: "pull base -r team", golden: "pull"},
		{command: "repo check team", golden: "repo-check"},
		{command: "clean-local", golden: "clean-local"},
		{command: "clean-remote -r team", golden: "clean-remote"},
		{command: "repo remove team"},
		{command: "image convert x.raw x.qcow2"},
		{command: "image info x.qcow2", golden: "image-info"},
		{command: "doc rules.star", golden: "doc"},
		{command: "image info b9-out/disk.raw", golden: "image-info-disk"},
		{command: "image info b9-out/image.raw", golden: "image-info-fs"},
		{command: "image partitions b9-out/disk.raw", golden: "image-partitions"},
		{command: "image compare x.raw x.qcow2", golden: "image-compare"},
		{command: "image compare x.raw y.raw", golden: "image-compare-different"},
		{command: "image check x.qcow2", golden: "image-check"},
		{command: "image check b9-out/disk.raw", golden: "image-check-disk"},
		{command: "image resize x.raw 2M"},
		{command: "image replace b9-out/disk.raw 1 b9-out/image.raw"},
		{command: "cache", golden: "cache"},
		{command: "cache verify", golden: "cache-verify"},
		{command: "cache gc --dry-run", golden: "cache-gc"},
		{command: "clean"},

		{command: "biuld", golden: "errors-command"},
		{command: "build --frob", golden: "errors-flag"},
		{command: "-c container.memroy=1 -c biuld.jobs=1 config", golden: "errors-config"},
		{command: "build //:god //nowhere:x //a//b", golden: "errors-targets"},
		{command: "build -D x=y //:a", golden: "errors-option"},
		{command: "build mistakes.star:x", golden: "errors-mistakes"},
		{command: "build calls.star:y", golden: "errors-calls"},
		{command: "build syntax.star:x load.star:y", golden: "errors-load"},
		{command: "build //:fails", golden: "errors-step"},
		{command: "ls //:fails", golden: "errors-ls"},
		{command: "image info nothing.raw", golden: "errors-file"},
		{command: "doctor", golden: "doctor"}, // the last, see TestOutput
	}
}

// silent are the commands of which no document is wanted, or that print text for
// a shell.
var silent = []string{"b9", "b9 help", "b9 image", "b9 lsp", "b9 man", "b9 repo", "b9 completion", "b9 completion bash", "b9 completion fish", "b9 completion powershell", "b9 completion zsh"}

// TestOutput compares every document, and every form of an error, with its golden
// file. -update writes them.
func TestOutput(t *testing.T) {
	s := newSite(t, goldenFiles)
	nothingYet(t, s.dir)
	team := filepath.Join(t.TempDir(), "team")
	covered := map[string]bool{}
	root := commands(session.New(nil, nil, nil))
	root.InitDefaultHelpCmd()
	for _, g := range goldenRuns() {
		args := strings.Fields(strings.Replace(g.command, "REPO", team, 1))
		if cmd, _, err := root.Find(args); err == nil {
			covered[cmd.CommandPath()] = true
		}
		if i := slices.Index(args, "--"); i >= 0 {
			args = slices.Insert(args, i, "--json")
		} else {
			args = append(args, "--json")
		}
		if g.golden == "doctor" {
			t.Setenv("PATH", "") // on a machine with everything it has nothing to advise
		}
		status, out, errs := s.b9(args...)
		if g.golden == "" {
			if status != 0 || strings.HasPrefix(out, "{") {
				t.Errorf("b9 %s: status %d, standard output %q: a command that prints a document needs a golden file\n%s", g.command, status, out, errs)
			}
			continue
		}
		text := masked(s, team, out)
		if g.events || strings.HasPrefix(errs, "{") {
			text = masked(s, team, errs)
		} else if strings.HasPrefix(g.golden, "errors") {
			text = masked(s, team, errs) + "\n" + text
		}
		checkDocuments(t, g.command, text)
		compareGolden(t, g.golden, text)
	}
	each(root, func(cmd *cobra.Command) {
		if path := cmd.CommandPath(); !covered[path] && !slices.Contains(silent, path) {
			t.Errorf("%s is not run here: add it with its golden file", path)
		}
	})
}

// checkDocuments reports JSON on lines of their own that is none of the documents.
func checkDocuments(t *testing.T, command, text string) {
	t.Helper()
	start := strings.Index("\n"+text, "\n{")
	if start < 0 {
		t.Errorf("b9 %s printed no document:\n%s", command, text)
		return
	}
	rest := text[start:]
	if end := strings.LastIndex(rest, "}\n"); end >= 0 {
		rest = rest[:end+1]
	}
	for dec := json.NewDecoder(strings.NewReader(rest)); dec.More(); {
		var doc struct{ Schema string }
		if err := dec.Decode(&doc); err != nil {
			t.Errorf("b9 %s: %v:\n%s", command, err, text)
			return
		}
		if !slices.ContainsFunc(output.Documents(), func(d output.Document) bool { return d.Schema() == doc.Schema }) {
			t.Errorf("b9 %s: schema %q is not in the table", command, doc.Schema)
		}
	}
}

// masks are what differs from one run, machine or file system to the next.
var masks = []struct {
	pattern *regexp.Regexp
	as      string
}{
	{regexp.MustCompile(`b3:[0-9a-f]{6,64}`), "b3:DIGEST"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`), "TIME"},
	{regexp.MustCompile(`\d{8}-\d{6}-[0-9a-f]{8}`), "VERSION"},
	{regexp.MustCompile(`"process": ?\d+`), `"process": 0`},
	{regexp.MustCompile(`\b\d+(\.\d+)? s\b`), "N s"},
	{regexp.MustCompile(`at least \S+ \(\d+ bytes\)`), "at least SIZE"},
	{regexp.MustCompile(`"(seconds|allocated|failed_bytes|apparent|freed|kept|in_use|bytes|collected|orphans|files|records|objects|done|total)": ?[0-9.e-]+`), `"$1": 0`},
	{regexp.MustCompile(`"(key|id|uuid|revision|go|host|user|b9|source|commit)": "[^"]*"`), `"$1": "..."`},
	{regexp.MustCompile(`/failed/[^"/]+`), "/failed/STEP"},
}

// masked takes out of a text what changes.
func masked(s *site, team, text string) string {
	text = strings.NewReplacer(s.dir, "DIR", s.store, "STORE", team, "REPO", os.Getenv("XDG_CONFIG_HOME"), "CONFIG").Replace(text)
	for _, c := range masks {
		text = c.pattern.ReplaceAllString(text, c.as)
	}
	return text
}

// compareGolden compares a text with a golden file. Of what depends on the
// machine the golden file has one item of a list.
func compareGolden(t *testing.T, name, text string) {
	t.Helper()
	switch name {
	case "doctor", "builtins", "config", "cache", "builds", "history", "profile", "graph":
		text = shapeOf(t, text)
	case "events":
		lines := strings.SplitAfter(text, "\n")
		slices.Sort(lines)
		text = strings.Join(slices.Compact(lines), "")
	}
	path := filepath.Join("testdata", "output", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Errorf("%v: -update writes it", err)
	} else if text != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, text, want)
	}
}

// shapeOf puts the names of types into the place of values, and leaves one item
// in every list, with the fields of all.
func shapeOf(t *testing.T, text string) string {
	var doc map[string]any
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	schema := doc["schema"]
	all := shape(doc).(map[string]any)
	all["schema"] = schema
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	if err := enc.Encode(all); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func shape(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key := range v {
			v[key] = shape(v[key])
		}
		return v
	case []any:
		all := map[string]any{}
		for _, item := range v {
			fields, ok := item.(map[string]any)
			if !ok {
				return []any{shape(item)}
			}
			for key := range fields {
				all[key] = shape(fields[key])
			}
		}
		return []any{all}
	case string:
		return "string"
	case float64:
		return "number"
	}
	return "bool"
}

// TestResultsArePrintedOnce asks for a result as itself, again, in a pattern and
// in a group: it has one line, when it is made and when there is nothing to do.
func TestResultsArePrintedOnce(t *testing.T) {
	s := newSite(t, goldenFiles)
	want := "b9-out/a\t1B\tb3:DIGEST\nb9-out/b\t1B\tb3:DIGEST\n"
	for _, args := range [][]string{
		{"//:a", "//:a", "//:b"}, {"//:both", "//:a"}, {"//:both", "//:a"}, {"//:a", "//:both", "//:both", ":b"},
	} {
		status, out, errs := s.b9(append([]string{"build"}, args...)...)
		if got := masked(s, "no repository", out); status != 0 || got != want {
			t.Errorf("b9 build %q: status %d, printed\n%swant\n%s%s", args, status, got, want, errs)
		}
	}
}
