package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// history is a workspace in a working tree of git, below its top.
type history struct {
	*site
	top string
}

func newHistory(t *testing.T, files map[string]string) *history {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is missing")
	}
	h := &history{site: newSite(t, nil), top: t.TempDir()}
	h.dir = filepath.Join(h.top, "ws")
	t.Setenv("GIT_CONFIG_GLOBAL", "/dev/null")
	t.Setenv("GIT_CONFIG_SYSTEM", "/dev/null")
	h.git("init", "-q", ".")
	h.write(files)
	h.commit()
	return h
}

// git runs git at the top.
func (h *history) git(args ...string) {
	h.Helper()
	git(h.T, h.top, args...)
}

func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@example", "-c", "protocol.file.allow=always"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

// nothingYet makes a directory a working tree of git with a commit of nothing.
func nothingYet(t *testing.T, dir string) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is missing")
	}
	git(t, dir, "init", "-q", ".")
	git(t, dir, "commit", "-q", "--allow-empty", "-m", "nothing")
}

func (h *history) commit() {
	h.Helper()
	h.git("add", "-A")
	h.git("commit", "-q", "--allow-empty", "-m", "x")
}

// write writes files below the top; one without text is removed.
func (h *history) write(files map[string]string) {
	h.Helper()
	for name, text := range files {
		path := filepath.Join(h.top, name)
		if text == "" {
			if err := os.Remove(path); err != nil {
				h.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			h.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			h.Fatal(err)
		}
	}
}

// affected is what b9 says, one label after another.
func (h *history) affected(args ...string) string {
	h.Helper()
	status, out, errs := h.b9(append([]string{"affected", "--output", "label", "--since"}, args...)...)
	if status != 0 || errs != "" {
		h.Errorf("b9 affected %q: status %d, %s", args, status, errs)
	}
	return strings.Join(strings.Fields(out), " ")
}

// TestAffected has one kind of change after another, and takes each back.
func TestAffected(t *testing.T) {
	h := newHistory(t, map[string]string{
		"ws/b9.toml":        "[options]\nhost = \"one\"\n[sources]\nout = \"../outside\"\n",
		"ws/lib.star":       "def page(name, text):\n    file(name = name, content = text + \"!\")\n",
		"ws/.gitignore":     "/b9-out/\n*.tmp\n",
		"ws/.gitattributes": "secret.txt export-ignore\nsubst.txt export-subst\ncrlf.txt text eol=crlf\n",
		"ws/B9BUILD.star": `load("//:lib.star", "page")
host = option("host", "none")
page("loaded", "x")
file(name = "secret", src = "secret.txt")
file(name = "subst", src = "subst.txt")
file(name = "crlf", src = "crlf.txt")
file(name = "opted", content = host)
tree(name = "dir", files = {"d": "d"})
group(name = "texts", targets = [template(name = "t-" + f, src = "g/" + f, vars = {}) for f in ["a", "b"]])
tree(name = "globbed", files = {f: f for f in glob(["g/*"])})
file(name = "outside", src = "@out//x")
`,
		"ws/secret.txt": "s\n", "ws/subst.txt": "$Format:%H$\n", "ws/crlf.txt": "a\r\nb\r\n", "ws/d/x": "x", "ws/d/sub/y": "y", "ws/g/a": "a", "ws/g/b": "b", "outside/x": "x",
		"ws/p/B9BUILD.star": "template(name = \"up\", src = \"//:opted\", vars = {})\n",
	})
	h.write(map[string]string{"ws/ignored.tmp": "x"})
	for _, c := range []struct{ what, want string }{
		{"nothing", ""},
		{"ws/secret.txt", "//:secret"}, {"ws/subst.txt", "//:subst"}, {"ws/crlf.txt", "//:crlf"},
		{"ws/d/sub/y", "//:dir"}, {"ws/d/new", "//:dir"},
		{"ws/g/a", "//:globbed //:t-a //:texts"}, {"ws/g/c", "//:globbed"},
		{"outside/x", "//:outside"}, {"ws/ignored.tmp", ""}, {"ws/unused", ""}, {"other", ""},
	} {
		before, err := os.ReadFile(filepath.Join(h.top, c.what))
		h.write(map[string]string{c.what: "changed"})
		if got := sorted(h.affected("HEAD")); got != c.want {
			t.Errorf("%s: affected is %q, want %q", c.what, got, c.want)
		}
		if h.write(map[string]string{c.what: string(before)}); err == nil && h.affected("HEAD") != "" {
			t.Errorf("%s: it is as it was", c.what)
		}
	}
	for _, c := range []struct{ file, from, to, want string }{
		{"ws/lib.star", "!", "?", "//:loaded"},
		{"ws/lib.star", "def", "# a comment\n\ndef", ""},
		{"ws/b9.toml", "one", "two", "//:opted //p:up"},
		{"ws/B9BUILD.star", `page("loaded", "x")`, "\n\n" + `page("loaded", "x")`, ""},
		{"ws/B9BUILD.star", `"secret.txt"`, `"subst.txt"`, "//:secret"},
		{"ws/B9BUILD.star", `name = "secret"`, `name = "renamed"`, "//:renamed"},
		{"ws/B9BUILD.star", "host = option", "host = 1 +* option", "error"},
	} {
		before, err := os.ReadFile(filepath.Join(h.top, c.file))
		if err != nil {
			t.Fatal(err)
		}
		h.write(map[string]string{c.file: strings.Replace(string(before), c.from, c.to, 1)})
		if c.want == "error" {
			if status, out, errs := h.b9("affected", "--since", "HEAD"); status != 1 || out != "" || !strings.Contains(errs, "B9BUILD.star:2") {
				t.Errorf("%s: status %d, %s%s", c.to, status, out, errs)
			}
			h.commit() // and then mended: what had a mistake then counts as affected
			h.write(map[string]string{c.file: string(before)})
			if got := h.affected("HEAD"); !strings.Contains(got, "//:opted") || strings.Contains(got, "nowhere") {
				t.Errorf("after a mistake affected is %q", got)
			}
			continue
		}
		if got := sorted(h.affected("HEAD")); got != c.want {
			t.Errorf("%s, %q: affected is %q, want %q", c.file, c.to, got, c.want)
		}
		h.write(map[string]string{c.file: string(before)})
	}
	h.statuses()
}

// statuses are those of mistakes.
func (h *history) statuses() {
	h.commit()
	for args, want := range map[string]string{
		"--since nope": "2 b9: --since nope: git knows no such revision here", "--since --all": "2 b9: --since --all: git knows", "": "2 b9: affected: give a revision",
		"--since HEAD //:nothing": "2 b9: ", "--since HEAD --output xml": "2 b9: --output xml: want table",
	} {
		status, out, errs := h.b9(append([]string{"affected"}, strings.Fields(args)...)...)
		if got := fmt.Sprint(status, " ", errs); out != "" || !strings.HasPrefix(got, want) {
			h.Errorf("b9 affected %s: %s%s, want %s", args, out, got, want)
		}
	}
	if status, out, _ := h.b9("affected", "--since", "HEAD~1", "--json", "//p/..."); status != 0 || !strings.Contains(out, `"label": "//p:up"`) || strings.Contains(out, "//:opted") {
		h.Errorf("status %d, %s", status, out)
	}
	if left, _ := filepath.Glob(filepath.Join(h.store, "scratch", "*")); len(left) > 0 {
		h.Errorf("left is %v", left)
	}
	s := newSite(h.T, map[string]string{"b9.toml": "", "B9BUILD.star": ""})
	if status, _, errs := s.b9("affected", "--since", "HEAD"); status != 1 || !strings.Contains(errs, "the workspace has to be in a working tree of git") {
		h.Errorf("outside of git: status %d, %s", status, errs)
	}
}

func sorted(words string) string {
	list := strings.Fields(words)
	slices.Sort(list)
	return strings.Join(list, " ")
}

// TestAffectedBySubmodules moves a submodule, and changes what is in it.
func TestAffectedBySubmodules(t *testing.T) {
	module := newHistory(t, map[string]string{"x": "one"})
	h := newHistory(t, map[string]string{"ws/b9.toml": "#\n", "ws/B9BUILD.star": "file(name = \"x\", src = \"sub/x\")\nfile(name = \"y\", content = \"y\")\n", "ws/b": "b"})
	h.git("submodule", "-q", "add", module.top, "ws/sub")
	h.commit()
	if got := h.affected("HEAD"); got != "" {
		t.Errorf("of nothing affected is %q", got)
	}
	h.write(map[string]string{"ws/sub/x": "edited"})
	if got := h.affected("HEAD"); got != "//:x" {
		t.Errorf("of an edited file affected is %q", got)
	}
	module.write(map[string]string{"x": "two"})
	module.commit()
	h.git("-C", "ws/sub", "checkout", "-q", "--", "x")
	h.git("-C", "ws/sub", "pull", "-q")
	h.commit()
	for since, want := range map[string]string{"HEAD": "", "HEAD~1": "//:x"} {
		if got := h.affected(since); got != want {
			t.Errorf("of the moved submodule since %s affected is %q", since, got)
		}
	}
}

// TestAffectedInAHook has the variables that git gives to a hook, which tie git to what the
// hook is of.
func TestAffectedInAHook(t *testing.T) {
	h := newHistory(t, map[string]string{"ws/b9.toml": "\n", "ws/B9BUILD.star": "file(name = 'a', content = '1')\n"})
	h.write(map[string]string{"ws/B9BUILD.star": "file(name = 'a', content = '2')\n"})
	for name, value := range map[string]string{"GIT_DIR": filepath.Join(h.top, ".git"), "GIT_INDEX_FILE": filepath.Join(h.top, "none"), "GIT_PREFIX": "ws/"} {
		t.Setenv(name, value)
	}
	if got := h.affected("HEAD"); got != "//:a" {
		t.Errorf("affected are %q", got)
	}
}

// TestAffectedAtRandom changes a workspace at random, some of it committed, and compares
// what b9 says with the keys of the steps that builds of two copies have.
func TestAffectedAtRandom(t *testing.T) {
	const rounds = 8
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 9))
		h := newHistory(t, randomWorkspace(r))
		then := h.keys("before")
		for range 1 + r.IntN(4) {
			h.mutate(r)
			if r.IntN(2) == 0 {
				h.commit()
			}
		}
		now := h.keys("after")
		var want []string
		for label, key := range now {
			if then[label] != key {
				want = append(want, label)
			}
		}
		h.git("tag", "-f", "first", h.first())
		if got := sorted(h.affected("first")); got != sorted(strings.Join(want, " ")) {
			t.Errorf("seed %d: affected is %q, by the keys it is %q", seed, got, sorted(strings.Join(want, " ")))
		}
	}
}

// first is the first commit.
func (h *history) first() string {
	out, err := exec.Command("git", "-C", h.top, "rev-list", "--max-parents=0", "HEAD").Output()
	if err != nil {
		h.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func randomWorkspace(r *rand.Rand) map[string]string {
	files := map[string]string{
		"ws/b9.toml": "[options]\nword = \"w0\"\n", "ws/lib.star": "WORD = \"l0\"\n\ndef both(name, text):\n    return file(name = name, content = text + WORD)\n", ".gitignore": "b9-out\n",
		"ws/top.txt": "t0\n",
	}
	for p := range 4 {
		pkg := fmt.Sprintf("ws/p%d/", p)
		files[pkg+"B9BUILD.star"] = randomPackage(r, p)
		for i := range 3 {
			files[fmt.Sprint(pkg, "f", i, ".txt")] = fmt.Sprint("f", p, i, "\n")
		}
		files[pkg+"d/e/g.txt"], files[pkg+"d/h.txt"] = "g\n", "h\n"
	}
	return files
}

// randomPackage is a build file in which every kind of input is used by chance.
func randomPackage(r *rand.Rand, p int) string {
	text := "load(\"//:lib.star\", \"both\")\nword = option(\"word\", \"none\")\n"
	lines := []string{
		"both(\"lib\", \"x\")\n", "file(name = \"opted\", content = word)\n", "file(name = \"f\", src = \"f0.txt\")\n", "template(name = \"t\", src = \"f1.txt\", vars = {})\n",
		"tree(name = \"d\", files = {\"d\": \"d\"})\n", "tree(name = \"g\", files = {f: f for f in glob([\"*.txt\", \"d/**/*.txt\"])})\n", "file(name = \"top\", src = \"//:top.txt\")\n",
		"template(name = \"of\", src = both(\"inner\", word), vars = {})\n",
	}
	for i, line := range lines {
		if r.IntN(3) > 0 || i == 0 {
			text += line
		}
	}
	if p > 0 {
		text += fmt.Sprintf("tree(name = \"below\", files = {\"x\": \"//p%d:lib\"})\n", r.IntN(p))
	}
	return text
}

// mutate makes one change.
func (h *history) mutate(r *rand.Rand) {
	pkg := fmt.Sprintf("ws/p%d/", r.IntN(4))
	switch r.IntN(9) {
	case 0:
		h.write(map[string]string{fmt.Sprint(pkg, "f", r.IntN(2), ".txt"): fmt.Sprint(r.Uint32())})
	case 1:
		h.write(map[string]string{fmt.Sprint(pkg, "new", r.IntN(9), ".txt"): "n"})
	case 2:
		h.write(map[string]string{pkg + "d/e/g.txt": fmt.Sprint(r.Uint32())})
	case 3:
		h.write(map[string]string{"ws/b9.toml": fmt.Sprintf("[options]\nword = \"w%d\"\n", r.IntN(3))})
	case 4:
		h.write(map[string]string{"ws/lib.star": fmt.Sprintf("WORD = \"l%d\"\n\n# moved\ndef both(name, text):\n    return file(name = name, content = text + WORD)\n", r.IntN(3))})
	case 5:
		h.write(map[string]string{"ws/top.txt": fmt.Sprintf("t%d\n", r.IntN(3))})
	case 6:
		h.write(map[string]string{pkg + "B9BUILD.star": randomPackage(r, 0)})
	case 7:
		_ = os.Chmod(filepath.Join(h.top, pkg, "f0.txt"), 0o755)
	case 8:
		_ = os.Remove(filepath.Join(h.top, pkg, "f2.txt"))
	}
}

// keys builds a copy of the workspace, and returns the keys of the steps of its targets
// and the modes of their results.
func (h *history) keys(name string) map[string]string {
	h.Helper()
	dir, events := filepath.Join(h.T.TempDir(), name), filepath.Join(h.T.TempDir(), "events")
	if out, err := exec.Command("cp", "-a", h.dir, dir).CombinedOutput(); err != nil {
		h.Fatalf("%v: %s", err, out)
	}
	status, out, errs := h.inside("-C", dir, "--store", h.store, "build", "//...", "--json", "--events", events)
	if status != 0 {
		h.Fatalf("status %d: %s", status, errs)
	}
	var doc struct {
		Results []struct{ Label, Path string }
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		h.Fatal(err)
	}
	f, err := os.Open(events)
	if err != nil {
		h.Fatal(err)
	}
	defer f.Close()
	keys := map[string]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var e struct{ Label, Key string }
		if err := json.Unmarshal(lines.Bytes(), &e); err == nil && e.Key != "" {
			keys[e.Label] = e.Key
		}
	}
	found := map[string]string{}
	for _, res := range doc.Results {
		path := res.Path
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		st, err := os.Stat(path)
		if err != nil || keys[res.Label] == "" {
			h.Fatalf("%s: no key among %v, %v", res.Label, slices.Sorted(maps.Keys(keys)), err)
		}
		found[res.Label] = keys[res.Label] + st.Mode().String()
	}
	return found
}
