package build

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// editedFiles are packages that need each other in every way there is: libraries, labels,
// groups, handles of another file, globs, sources of other packages, and options.
func editedFiles() map[string]string {
	files := map[string]string{
		"b9.toml":  "",
		"lib.star": "def text(who):\n    return \"1 \" + who + \"\\n\"\n",
		"mid.star": "load(\":lib.star\", \"text\")\nshared = file(content = text(\"mid\"))\n",
	}
	for i := range 10 {
		at := fmt.Sprintf("p%d/", i)
		files[at+"B9BUILD.star"] = fmt.Sprintf("print(\"p%d\")\nfile(name = \"own\", content = \"p%d\\n\")\n", i, i)
		files[at+"data.txt"] = fmt.Sprintf("data %d\n", i)
	}
	files["p1/B9BUILD.star"] += "load(\"//:lib.star\", \"text\")\nfile(name = \"lib\", content = text(\"p1\"))\n"
	files["p2/B9BUILD.star"] += "load(\"//:mid.star\", \"shared\")\ntemplate(name = \"mid\", content = \"<${x}>\", vars = {\"x\": shared})\n"
	files["p3/B9BUILD.star"] += "digest(name = \"of2\", file = \"//p2:own\")\ngroup(name = \"both\", targets = [\":own\", \"//p4:own\"])\n"
	files["p4/B9BUILD.star"] += "template(name = \"far\", src = \"//p5:data.txt\", vars = {})\n"
	files["p5/B9BUILD.star"] += "tree(name = \"globbed\", srcs = glob([\"*.txt\"]))\n"
	files["p6/B9BUILD.star"] += "file(name = \"opt\", content = option(\"who\", default = \"you\"))\n"
	files["p7/B9BUILD.star"] += "digest(name = \"of3\", file = \"//p3:of2\")\n"
	files["p8/B9BUILD.star"] += "file(name = \"same\", content = option(\"who\", default = \"you\"))\n"
	files["p9/sub/B9BUILD.star"] = "digest(name = \"sum\", file = \"//p9:data.txt\")\n"
	return files
}

func newEditedTest(t *testing.T) *againTest {
	at := &againTest{t, t.TempDir(), filepath.Join(t.TempDir(), "store"), 1}
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for name, text := range editedFiles() {
		at.write(name, text)
	}
	return at
}

// told is what a build prints, without its time.
type told struct{ out, errors, lines string }

// try builds, and returns what it told, whether parts of the build before were believed,
// and how many steps ran and were found.
func (t *againTest) try(options ...string) (what told, rest bool, executed, cached int) {
	t.Helper()
	b, out, progress := t.maker(options...)
	defer b.Close()
	b.JSON = false
	err := b.run(context.Background())
	rest = b.before != nil
	if err != nil && strings.Contains(err.Error(), "is declared differently at") {
		return told{errors: "declared differently"}, rest, 0, 0 // which of them is told hangs on who came first
	}
	if err != nil {
		return told{errors: err.Error()}, rest, 0, 0
	}
	var evaluated []string
	for line := range strings.Lines(progress.String()) {
		if strings.Contains(line, ".star:") || strings.Contains(line, "  left over: ") || strings.Contains(line, " of an earlier build of ") {
			evaluated = append(evaluated, line)
		}
		if i := strings.Index(line, " executed"); i >= 0 {
			fmt.Sscanf(line[strings.LastIndexAny(line[:i], " :")+1:], "%d executed, %d cached", &executed, &cached)
		}
	}
	return told{out: out.String(), lines: sortedLines(evaluated)}, rest, executed, cached
}

// compare holds a build with the trace of the one before against one without any: it
// tells the same, leaves the same results, and has run all that was to be run.
func (t *againTest) compare(what string, options ...string) (rest bool) {
	t.Helper()
	got, rest, executed, cached := t.try(options...)
	notes, aside := filepath.Join(t.store, "notes"), filepath.Join(t.store, "..", "aside")
	if err := os.Rename(notes, aside); err != nil {
		t.Fatal(err)
	}
	want, _, again, all := t.try(options...)
	if err := os.RemoveAll(notes); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(aside, notes); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: by parts %v, %d steps ran and %d were found %s", what, rest, executed, cached, got.errors)
	if got != want {
		t.Fatalf("%s: told\n%+v\nwithout a trace\n%+v", what, got, want)
	}
	if again != 0 || executed+cached != all {
		t.Fatalf("%s: %d steps ran and %d were found, without a trace after that %d and %d", what, executed, cached, again, all)
	}
	return rest
}

func TestRandomEditsAreSeenAsWithoutATrace(t *testing.T) {
	test := newEditedTest(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	test.compare("first")
	parts := 0
	for round := range 40 {
		what := test.edit(random, round)
		var options []string
		if round%7 == 6 {
			options = []string{"who=them"}
		}
		test.grain = 1
		if round%5 == 4 {
			test.grain = 1 << 62 // nothing that is read now can be trusted
		}
		if round%9 == 8 {
			test.twice(options...)
		}
		if round%11 == 10 {
			test.damage(random)
		}
		if test.compare(fmt.Sprintf("round %d: %s", round, what), options...) {
			parts++
		}
	}
	if parts == 0 {
		t.Error("no build went by parts")
	}
}

// twice runs two builds at once.
func (t *againTest) twice(options ...string) {
	t.Helper()
	var both sync.WaitGroup
	for range 2 {
		b, _, _ := t.maker(options...)
		defer b.Close()
		both.Go(func() { _ = b.run(context.Background()) }) // what is wrong, the next build tells
	}
	both.Wait()
}

// damage changes a byte of each trace, or cuts it.
func (t *againTest) damage(random *rand.Rand) {
	t.Helper()
	notes, _ := filepath.Glob(filepath.Join(t.store, "notes", "*"))
	for _, note := range notes {
		data, err := os.ReadFile(note)
		if err != nil {
			t.Fatal(err)
		}
		data[random.IntN(len(data))] ^= 1 << random.IntN(8)
		if random.IntN(2) == 0 {
			data = data[:random.IntN(len(data))]
		}
		if err := os.WriteFile(note, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAChangedFileCostsWhatNeedsIt says which files' targets are evaluated after a change.
func TestAChangedFileCostsWhatNeedsIt(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"p0/B9BUILD.star", "p0"},
		{"lib.star", "p1 p2 p3 p7"},     // of p2 through mid.star
		{"mid.star", "p2 p3 p7"},        //
		{"p2/B9BUILD.star", "p2 p3 p7"}, // p7 through p3
		{"p4/B9BUILD.star", "p3 p4 p7"}, // a group
		{"p5/data.txt", "p3 p4 p5 p7"},  // a source of another package, and a glob
		{"p9/data.txt", "p9/sub"},
		{"b9-out/p6/own", "p6"},
		{"new/B9BUILD.star", "new"},
		{"p8/x.txt", ""}, // a directory that was searched, and nothing else
	} {
		test := newEditedTest(t)
		test.settle()
		if files := test.evaluated(); files != nil {
			t.Errorf("without a change %q are evaluated", files)
		}
		old, _ := os.ReadFile(filepath.Join(test.dir, c.file))
		text := string(old) + "# \n"
		if old == nil && c.want != "" {
			text = "file(name = \"x\", content = \"x\")\n"
		}
		test.write(c.file, text)
		if got := strings.Join(test.evaluated(), " "); got != c.want {
			t.Errorf("%s: evaluated %q, want %q", c.file, got, c.want)
		}
	}
}

// evaluated are the packages whose targets a build would evaluate; nil for one that is told
// by its trace alone.
func (t *againTest) evaluated() []string {
	t.Helper()
	b, _, _ := t.maker()
	defer b.Close()
	if r, err := b.again(context.Background()); r != nil || err != nil {
		return nil
	}
	e, err := b.evaluate(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	packages := []string{}
	for _, target := range e.graph.Targets {
		packages = append(packages, filepath.Dir(target.File()))
	}
	return slices.Compact(packages)
}

// edit changes something in the workspace, its results or the store.
func (t *againTest) edit(random *rand.Rand, round int) (what string) {
	t.Helper()
	t.tick()
	at := filepath.Join(t.dir, fmt.Sprintf("p%d", random.IntN(10)))
	build, files := filepath.Join(at, "B9BUILD.star"), editedFiles()
	rel, _ := filepath.Rel(t.dir, build)
	put := func(path, text string) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	edits := map[string]func(){
		"another target": func() {
			put(build, files[rel]+fmt.Sprintf("file(name = \"new%d\", content = \"%d\")\n", round%3, round))
		},
		"a comment":              func() { put(build, files[rel]+fmt.Sprintf("# %d\n", round)) },
		"other content":          func() { put(build, strings.Replace(files[rel], "\"p", fmt.Sprintf("\"%d p", round%4), 1)) },
		"a mistake":              func() { put(build, files[rel]+"file(name = \"own\")\n") },
		"an option that differs": func() { put(build, files[rel]+"option(\"who\", default = \"others\")\n") },
		"a removed package":      func() { os.RemoveAll(at) },
		"a new package": func() {
			put(filepath.Join(at, "more", "B9BUILD.star"), fmt.Sprintf("file(name = \"m\", content = \"%d\")\n", round))
		},
		"a library": func() {
			put(filepath.Join(t.dir, "lib.star"), strings.Replace(files["lib.star"], "1", fmt.Sprint(round%3), 1))
		},
		"a source":         func() { put(filepath.Join(at, "data.txt"), fmt.Sprint(round)) },
		"another source":   func() { put(filepath.Join(at, fmt.Sprintf("x%d.txt", round%2)), fmt.Sprint(round)) },
		"a result":         func() { put(filepath.Join(t.dir, "b9-out", filepath.Base(at), "own"), "changed") },
		"a removed result": func() { os.Remove(filepath.Join(t.dir, "b9-out", filepath.Base(at), "own")) },
		"nothing":          func() {},
		"a load of a target": func() {
			put(build, files[rel]+"load(\"//:mid.star\", \"shared\")\ntemplate(name = \"m\", content = \"${x}\", vars = {\"x\": shared})\n")
		},
	}
	names := sortedKeys(edits)
	what = names[random.IntN(len(names))]
	edits[what]()
	if round%4 == 3 { // all is put right again
		for name, text := range files {
			if data, err := os.ReadFile(filepath.Join(t.dir, name)); err != nil || string(data) != text {
				put(filepath.Join(t.dir, name), text)
			}
		}
		what += ", and all put right"
	}
	return what + " in " + filepath.Base(at)
}

func sortedLines(lines []string) string {
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
