package builtins

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"b9.build/b9/builtins/internal/builtinstest"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/builtins/share"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// TestEveryParameterHasAnEffect walks over the parameters of every operation. For
// each the table has two calls that differ in it, and what comes of them has to
// differ, too: what is built, how it is placed, what is printed, or the mistake.
// A parameter that is not in the table fails.
//
// What can't be made here, in containers, from archives or repositories, has its
// tests in scripts, which the table names.
func TestEveryParameterHasAnEffect(t *testing.T) {
	e, table := newEffects(t), parameterCalls()
	for _, op := range Operations(Settings{}) {
		t.Run(op.Name, func(t *testing.T) {
			t.Parallel()
			calls, ok := table[op.Name]
			if !ok {
				t.Fatalf("no calls of %s", op.Name)
			}
			for _, p := range op.Params {
				e.check(t, &op, calls, p.Name)
			}
			for name := range calls.args {
				if !hasParam(op.Params, name) {
					t.Errorf("%s has no parameter %s", op.Name, name)
				}
			}
			if op.Make != nil && op.Name != "shared" { // which finds nothing here
				e.checkCommon(t, &op, calls)
			}
		})
	}
}

func hasParam(params []lang.Param, name string) bool {
	for _, p := range params {
		if p.Name == name {
			return true
		}
	}
	return false
}

// callsOf are calls of one operation: form is a build file with the target x, in
// which %s stands for the arguments.
type callsOf struct {
	form string
	args map[string][2]string // by parameter: two lists of arguments

	// The parameters without arguments here are in these scripts, below the
	// repository's root, which say what comes of each.
	scripts []string

	declared bool // the steps can't run here: what they are declared to do differs
}

// effects builds what calls ask for.
type effects struct {
	st      *store.Store
	archive string // a tar archive
}

func newEffects(t *testing.T) *effects {
	st, err := store.Open(t.TempDir(), store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "empty", Mode: 0o644}), w.Close()); err != nil {
		t.Fatal(err)
	}
	return &effects{st, archive.String()}
}

func (e *effects) check(t *testing.T, op *lang.Operation, calls callsOf, param string) {
	t.Helper()
	args, ok := calls.args[param]
	switch {
	case ok:
		one, two := e.outcome(t, op, calls, args[0]), e.outcome(t, op, calls, args[1])
		if one == two {
			t.Errorf("%s(%s) and %s(%s) make the same:\n%s", op.Name, args[0], op.Name, args[1], one)
		}
		if strings.HasPrefix(one, "mistake") && strings.HasPrefix(two, "mistake") && param != "help" {
			t.Errorf("%s: neither call of %s makes anything: %s%s", op.Name, param, one, two)
		}
	case param == "name" && op.Make != nil:
	case !mentioned(t, calls.scripts, op.Name, param):
		t.Errorf("%s(%s=) has no test that sees its effect: add two calls, or a script", op.Name, param)
	}
}

// mentioned reports whether a script has a call of the operation with the
// parameter.
func mentioned(t *testing.T, scripts []string, op, param string) bool {
	t.Helper()
	call := regexp.MustCompile(`(?s)\b` + op + `\(.*?\b` + param + ` = `)
	for _, name := range scripts {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if call.Match(text) {
			return true
		}
	}
	return false
}

// checkCommon checks the parameters that every step has.
func (e *effects) checkCommon(t *testing.T, op *lang.Operation, calls callsOf) {
	t.Helper()
	var args string
	for _, pair := range calls.args {
		if args = pair[0]; !strings.HasPrefix(e.outcome(t, op, callsOf{form: calls.form, declared: true}, args), "mistake") {
			break
		}
	}
	text := strings.Replace(calls.form, "%s", args, 1)
	for what, change := range map[string]func(string) string{
		"name": func(s string) string { return regexp.MustCompile(`\bname = "x"`).ReplaceAllString(s, `name = "y"`) },
		"visibility": func(s string) string {
			return regexp.MustCompile(`\bname = "x"`).ReplaceAllString(s, `name = "x", visibility = ["private"]`)
		},
		"place": func(s string) string {
			return regexp.MustCompile(`\bname = "x"`).ReplaceAllString(s, `name = "x", place = []`)
		},
		"out": func(s string) string {
			first := ""
			if g := e.graph(t, s, "//:x"); g != nil {
				first = g.Targets[0].Refs[0].Output
			}
			return regexp.MustCompile(`\bname = "x"`).ReplaceAllString(s, fmt.Sprintf(`name = "x", out = {%q: "elsewhere"}`, first))
		},
		"tags": func(s string) string {
			return regexp.MustCompile(`\bname = "x"`).ReplaceAllString(s, `name = "x", tags = ["manual"]`)
		},
		"doc": func(s string) string {
			return regexp.MustCompile(`\bname = "x"`).ReplaceAllString(s, `name = "x", doc = "told"`)
		},
	} {
		pattern := "//:x"
		switch what {
		case "visibility":
			pattern = "//other:user"
		case "tags":
			pattern = "//:all"
		}
		one, two := e.linked(t, text, pattern), e.linked(t, change(text), pattern)
		if strings.HasPrefix(one, "mistake") || one == two {
			t.Errorf("%s(%s=) changes nothing: %s, %s", op.Name, what, one, two)
		}
	}
}

// workspace writes a build file and all that the calls refer to.
func (e *effects) workspace(t *testing.T, build string) string {
	t.Helper()
	root, efi := t.TempDir(), efiProgram(t)
	builtinstest.WriteWorkspace(t, root, map[string]string{
		"k.efi": efi, "l.efi": efi + "behind its end", "m.efi": strings.Replace(efi, "\xc3\xc3", "\x90\x90", 1),
		lang.RootFile: "", "B9BUILD.star": strings.NewReplacer("ROOT", root, "ALPHA", quotedSum("alpha\n"), "BETA", quotedSum("beta\n"), "GAMMA", quotedSum("gamma\n")).Replace(build),
		"archive": e.archive, "linked/file": "1\n",
		"a.txt": "alpha ${v}\n", "b.txt": "beta\n", "c.txt": "gamma\n", "plain.txt": "alpha\n", "yes.yaml": "a: yes\n",
		"dir/one": "1\n", "dir/two": "2\n", "other/B9BUILD.star": `group(name = "user", targets = ["//:x"])`,
	})
	if err := os.Symlink("../dir/one", filepath.Join(root, "linked", "link")); err != nil {
		t.Fatal(err)
	}
	return root
}

// efiProgram is a small program of UEFI.
func efiProgram(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "engine", "efi", "testdata", "program.efi"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func quotedSum(text string) string {
	return fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256([]byte(text))))
}

// graph is what a build file has for a target, nil with mistakes in it.
func (e *effects) graph(t *testing.T, build, pattern string) *lang.Graph {
	t.Helper()
	w, err := openTest(t.Context(), lang.Config{Root: e.workspace(t, build)})
	if err != nil {
		t.Fatal(err)
	}
	g, _ := w.Resolve(t.Context(), []string{pattern})
	return g
}

// linked is what a build file says of a target, without building it.
func (e *effects) linked(t *testing.T, build, pattern string) string {
	t.Helper()
	w, err := openTest(t.Context(), lang.Config{Root: e.workspace(t, build)})
	if err != nil {
		t.Fatal(err)
	}
	g, err := w.Resolve(t.Context(), []string{pattern})
	if err != nil {
		return "mistake: " + err.Error()
	}
	if len(g.Targets) == 0 {
		return "no target"
	}
	text := g.Targets[0].Title + " " + g.Targets[0].Doc
	for _, p := range g.Targets[0].Placements() {
		text += " " + p.Path
	}
	return text
}

// outcome is all that is seen of a call.
func (e *effects) outcome(t *testing.T, op *lang.Operation, calls callsOf, args string) string {
	t.Helper()
	root := e.workspace(t, strings.Replace(calls.form, "%s", args, 1))
	text := e.build(t, root, calls.declared)
	return strings.ReplaceAll(text, root, "ROOT")
}

func (e *effects) build(t *testing.T, root string, declared bool) string {
	t.Helper()
	var seen bytes.Buffer
	images := share.NewImages(share.Config{}, root)
	w, err := openTest(t.Context(), lang.Config{Root: root, Stderr: &seen, Configured: map[string]string{"o": "2"}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := w.Resolve(t.Context(), []string{"//:x"})
	if err != nil {
		return "mistake: " + err.Error()
	}
	eng := engine.New(engine.Config{Store: e.st, Services: []any{images}, Events: func(ev engine.Event) {
		if ev.Type == engine.StepLog {
			fmt.Fprintln(&seen, ev.Line)
		}
	}})
	defer eng.Close()
	var refs []engine.Ref
	for _, target := range g.Targets {
		refs = append(refs, target.Refs...)
	}
	if declared {
		for _, ref := range refs {
			data, err := engine.EncodeAction(ref.Node.Action())
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&seen, "%s %d inputs\n", data, len(ref.Node.Inputs()))
		}
		return seen.String()
	}
	result, err := eng.Build(context.Background(), refs...)
	if err != nil {
		return "mistake: " + err.Error()
	}
	for _, ref := range refs {
		out, err := ref.Node.Declared(ref.Output)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&seen, "%+v %s\n", out, result.Artifact(ref).Object().Digest)
	}
	return seen.String()
}
