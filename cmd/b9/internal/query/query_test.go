package query

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/lang"
)

// open is the world of a workspace with these files.
func open(t *testing.T, files map[string]string) World {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ws, err := lang.Open(t.Context(), lang.Config{Root: root, Dir: root, Arguments: true, Manual: true, Operations: builtins.Operations(builtins.Settings{})})
	if err != nil {
		t.Fatal(err)
	}
	return World{
		Targets: func(pattern string) ([]*lang.Target, error) {
			g, err := ws.Resolve(t.Context(), []string{pattern})
			if err != nil {
				return nil, err
			}
			return g.Targets, nil
		},
		Path: func(name string) (string, error) { return name, nil },
	}
}

func eval(t *testing.T, w World, text string) []string {
	t.Helper()
	e, err := Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	list, err := Eval(e, w)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	names := []string{}
	for _, target := range list {
		names = append(names, target.Title)
	}
	return names
}

// The judge: the same language over a matrix of distances, computed by Floyd and
// Warshall's algorithm, with sets as vectors of bits. It shares nothing with what it
// judges but the names of functions.

const (
	nodes = 14
	far   = 1 << 20
)

type judge struct {
	dist [nodes][nodes]int
	rng  *rand.Rand
}

type bits [nodes]bool

func name(i int) string { return fmt.Sprintf("//p%d:n%d", i%3, i) }

// random makes a graph in which every arrow leads to a smaller number, and its build files.
func random(rng *rand.Rand) (*judge, map[string]string) {
	j := &judge{rng: rng}
	files := map[string]string{"b9.toml": ""}
	for i := range nodes {
		var needs []string
		for k := range nodes {
			j.dist[i][k] = far
			if k == i {
				j.dist[i][k] = 0
			} else if k < i && rng.IntN(4) == 0 {
				j.dist[i][k] = 1
				needs = append(needs, fmt.Sprintf("%q", name(k)))
			}
		}
		file, call := fmt.Sprintf("p%d/B9BUILD.star", i%3), fmt.Sprintf("file(name = \"n%d\", content = \"c%d\")\n", i, i)
		if needs != nil {
			call = fmt.Sprintf("group(name = \"n%d\", targets = [%s])\n", i, strings.Join(needs, ", "))
		}
		files[file] += call
	}
	for k := range nodes {
		for i := range nodes {
			for l := range nodes {
				j.dist[i][l] = min(j.dist[i][l], j.dist[i][k]+j.dist[k][l])
			}
		}
	}
	return j, files
}

// near are the nodes that are at most so many steps from the set, along arrows or against.
func (j *judge) near(of, among bits, depth int, against bool) (out bits) {
	for a := range nodes {
		for b := range nodes {
			from, to := a, b
			if against {
				from, to = b, a
			}
			out[b] = out[b] || of[a] && among[a] && among[b] && j.dist[from][to] <= depth
		}
	}
	return out
}

var all = func() (b bits) {
	for i := range b {
		b[i] = true
	}
	return b
}()

// expression makes a random one, and what it stands for.
func (j *judge) expression(depth int) (string, bits) {
	if depth == 0 {
		i := j.rng.IntN(nodes)
		var one bits
		one[i] = true
		return name(i), one
	}
	a, as := j.expression(depth - 1)
	b, bs := j.expression(j.rng.IntN(depth))
	steps := j.rng.IntN(4)
	var out bits
	switch j.rng.IntN(10) {
	case 0:
		return fmt.Sprintf("deps(%s)", a), j.near(as, all, far-1, false)
	case 1:
		return fmt.Sprintf("deps(%s, %d)", a, steps), j.near(as, all, steps, false)
	case 2:
		return fmt.Sprintf("rdeps(%s, %s)", a, b), j.near(bs, j.near(as, all, far-1, false), far-1, true)
	case 3:
		return fmt.Sprintf("rdeps(%s, %s, %d)", a, b, steps), j.near(bs, j.near(as, all, far-1, false), steps, true)
	case 4:
		down := j.near(as, all, far-1, false)
		up := j.near(bs, all, far-1, true)
		for i := range out {
			out[i] = down[i] && up[i]
		}
		return fmt.Sprintf("allpaths(%s, %s)", a, b), out
	case 5, 6:
		for i := range out {
			out[i] = as[i] || bs[i]
		}
		return fmt.Sprintf("(%s %s %s)", a, []string{"+", "union"}[j.rng.IntN(2)], b), out
	case 7:
		for i := range out {
			out[i] = as[i] && !bs[i]
		}
		return fmt.Sprintf("(%s %s %s)", a, []string{"-", "except"}[j.rng.IntN(2)], b), out
	case 8:
		for i := range out {
			out[i] = as[i] && bs[i]
		}
		return fmt.Sprintf("(%s %s %s)", a, []string{"^", "intersect"}[j.rng.IntN(2)], b), out
	}
	for i := range out {
		out[i] = as[i] && i%3 == 1
	}
	return fmt.Sprintf("let x = %s in filter('^//p1:', $x)", a), out
}

func (b bits) names() (list []string) {
	for i, has := range b {
		if has {
			list = append(list, name(i))
		}
	}
	slices.Sort(list)
	return list
}

// TestAgainstTheJudge asks both about random graphs.
func TestAgainstTheJudge(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 15))
		j, files := random(rng)
		w := open(t, files)
		for range 40 {
			text, want := j.expression(1 + rng.IntN(3))
			got := eval(t, w, text)
			slices.Sort(got)
			if !slices.Equal(got, want.names()) {
				t.Fatalf("seed %d: %s is %v, want %v", seed, text, got, want.names())
			}
		}
		from, to := rng.IntN(nodes), rng.IntN(nodes)
		path := eval(t, w, fmt.Sprintf("somepath(%s, %s)", name(from), name(to)))
		if want := j.dist[from][to] + 1; len(path) != want && !(want > far && len(path) == 0) {
			t.Fatalf("seed %d: the path from %s to %s is %v, want %d targets", seed, name(from), name(to), path, want)
		}
		for i, at := range path {
			if i > 0 && j.dist[number(path[i-1])][number(at)] != 1 || i == 0 && at != name(from) || i == len(path)-1 && at != name(to) {
				t.Fatalf("seed %d: %v is no path from %s to %s", seed, path, name(from), name(to))
			}
		}
	}
}

func number(name string) (i int) {
	_, text, _ := strings.Cut(name, ":n")
	fmt.Sscan(text, &i)
	return i
}

// TestFunctions asks one workspace what random graphs have not.
func TestFunctions(t *testing.T) {
	w := open(t, map[string]string{
		"b9.toml": "", "a.txt": "a", "conf/one": "1", "conf/two": "2",
		"lib.star": "def make(name):\n    file(name = name, content = name)\n",
		"B9BUILD.star": `load(":lib.star", "make")
make("made")
file(name = "a", src = "a.txt", mode = 0o755, tags = ["slow", "manual"])
tree(name = "both", files = {"a": ":a", "b": ":made", "x": file(content = "x")})
image(name = "image", size = "16M", content = "conf")
`,
	})
	for text, want := range map[string][]string{
		"//... + //:a":                       {"//:made", "//:a", "//:both", "//:image"},
		"kind('file rule', //...)":           {"//:made", "//:a"},
		"kind(source, deps(//...))":          {"//:a.txt", "//:conf"},
		"kind('^file', deps(//:both, 1))":    {"//:a", "//:made", "//:both (file)"},
		"attr(tags, slow, //...)":            {"//:a"},
		"attr(size, '^16M$', //...)":         {"//:image"},
		"attr(content, '^m', //...)":         {"//:made"},
		"attr(nothing, '', //...)":           {},
		"labels(files, //:both)":             {"//:a", "//:made", "//:both (file)"},
		"labels(src, //...)":                 {"//:a.txt"},
		"owner(a.txt)":                       {"//:a"},
		"owner(conf/two)":                    {"//:image"},
		"owner(lib.star)":                    {"//:made"},
		"owner(B9BUILD.star) intersect //:a": {"//:a"},
		"set(//:a //:both)":                  {"//:a", "//:both"},
		"set()":                              {},
		"some(//...)":                        {"//:made"},
		"some(//..., 2)":                     {"//:made", "//:a"},
		"//... - //:a ^ //:both":             {"//:both"}, // to the left, all alike
		"//... - (//:a ^ //:both)":           {"//:made", "//:a", "//:both", "//:image"},
		"somepath(//:both, //:a.txt)":        {"//:both", "//:a", "//:a.txt"},
		"somepath(//:image, //:a)":           {},
		"let x = //:a in let y = $x in $y":   {"//:a"},
		`deps("//:a")`:                       {"//:a.txt", "//:a"},
		"deps(//:a)-//:a":                    {"//:a.txt"},
	} {
		if got := eval(t, w, text); !slices.Equal(got, want) {
			t.Errorf("%s is %q, want %q", text, got, want)
		}
	}
}

// TestMistakes reads what is wrong with an expression.
func TestMistakes(t *testing.T) {
	w := open(t, map[string]string{"b9.toml": "", "B9BUILD.star": `file(name = "a", content = "")`})
	for text, want := range map[string]string{
		"deps(":              `at 6: the expression ends, want a target, a pattern or a function: deps(EXPR[, DEPTH])`,
		"deps(//:a, x)":      `at 12: unexpected "x", want a whole number`,
		"deps(//:a, 1, 2)":   `at 13: unexpected ",", want ")"`,
		"dep(//:a)":          `at 1: there is no function "dep": did you mean "deps"?`,
		"//:a +":             `at 7: the expression ends, want a target`,
		"//:a //:b":          `at 6: unexpected "//:b", want an operator, or the end`,
		"$x":                 `at 1: nothing defines $x`,
		"let x = //:a in $y": `at 17: nothing defines $y`,
		"'//:a":              `at 1: the quote ' has no other`,
		"//:a; x":            `at 5: unexpected character ';'`,
		"kind('(', //...)":   `"(" is no regular expression`,
		"//:b":               `has no target "b"`,
		"some(//:a, 0)":      `at 12: unexpected "0", want a whole number of at least 1`,
		"some(//:a - //:a)":  `there is none to choose`,
		"rdeps(//:a)":        `at 11: unexpected ")", want ",": rdeps(UNIVERSE, EXPR[, DEPTH])`,
		"filter(//:a":        `at 12: the expression ends, want ","`,
	} {
		e, err := Parse(text)
		if err == nil {
			_, err = Eval(e, w)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// TestHelp has every function in the help.
func TestHelp(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "help.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(functions())) {
		call, _, _ := strings.Cut(functions()[name].usage, ":")
		if !strings.Contains(string(text), name+call) {
			t.Errorf("help.txt does not have %s%s", name, call)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"deps(//:a, 1) + 'x'", "let x = a in $x ^ set(a b)", "kind(\"", "(((", "-", "some(a,"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if e, err := Parse(text); err == nil && e == nil {
			t.Error("neither an expression nor an error")
		}
	})
}
