package builtins

import (
	"slices"
	"strings"
	"testing"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// TestOperationsAreDocumented holds every built-in to the form that help and
// the reference are made from.
func TestOperationsAreDocumented(t *testing.T) {
	var names []string
	for _, op := range Operations(Settings{}) {
		op.Params = op.AllParams()
		names = append(names, op.Name)
		summary, _, _ := strings.Cut(op.Doc, "\n")
		if summary == "" || strings.HasSuffix(summary, ".") || len(summary) > 120 {
			t.Errorf("%s: the first line of Doc is a phrase of at most 120 letters without a full stop, not %q", op.Name, summary)
		}
		if _, err := (&syntax.FileOptions{Set: true, TopLevelControl: true}).Parse(op.Name, op.Example, 0); op.Example == "" || err != nil {
			t.Errorf("%s: the example does not parse: %v", op.Name, err)
		}
		checkDocumentation(t, op)
	}
	if !slices.IsSorted(names) {
		t.Errorf("the table is not sorted: %q", names)
	}
}

func checkDocumentation(t *testing.T, op Operation) {
	seen := map[string]bool{}
	for _, p := range op.Params {
		seen[p.Name] = true
		if p.Doc == "" || strings.Contains(p.Doc, "\n") || strings.HasSuffix(p.Doc, ".") {
			t.Errorf("%s: Doc of %s is one line without a full stop, not %q", op.Name, p.Name, p.Doc)
		}
		if p.Type.String() == "" {
			t.Errorf("%s: %s has no type", op.Name, p.Name)
		}
	}
	if op.make != nil && (!seen["name"] || !seen["visibility"] || !seen["doc"]) {
		t.Errorf("%s: lacks a common parameter", op.Name)
	}
}

func TestTypeNames(t *testing.T) {
	for want, typ := range map[string]Type{
		"string":                            aString,
		"string or int":                     aString | anInt,
		"file (handle, label or path)":      aFile,
		"string or list of strings":         aString | listOf(aString),
		"dict of files or directories":      dictOf(aFile | aTree),
		"list of ints or dict of strings":   listOf(anInt) | dictOf(aString),
		"dict of directories or writable()": dictOf(aTree | aWritable),
		"any value":                         aValue,
	} {
		if got := typ.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestGuardedNamesCannotBeWritten holds that no build file can name a guard.
func TestGuardedNamesCannotBeWritten(t *testing.T) {
	for _, name := range []string{guardMul, guardMod, guardAttr} {
		if e, err := (&syntax.FileOptions{}).ParseExpr("x", name, 0); err == nil {
			t.Errorf("%q is an expression: %T", name, e)
		}
	}
}

// TestMalformedOperations holds that a table with a mistake opens no workspace.
func TestMalformedOperations(t *testing.T) {
	root := t.TempDir()
	writeWorkspace(t, root, map[string]string{RootFile: ""})
	value := func(*Call) (starlark.Value, error) { return starlark.None, nil }
	ok := Operation{Name: "f", Params: []Param{{Name: "x", Type: aString, Default: starlark.String("")}}, Positional: 1, value: value}
	if _, err := Open(t.Context(), Config{Root: root, Operations: []Operation{ok}}); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Operation){
		"empty or taken":         func(o *Operation) { o.Name = "" },
		"exactly one":            func(o *Operation) { o.value = nil },
		"are positional":         func(o *Operation) { o.Positional = 2 },
		"the parameter's name":   func(o *Operation) { o.Params = append(o.Params[:1:1], o.Params[0]) },
		"the default of x":       func(o *Operation) { o.Params = []Param{{Name: "x", Type: aString, Default: starlark.None}} },
		"alternatives and is no": func(o *Operation) { o.Params = []Param{{Name: "x", Type: anInt, Enum: []string{"a"}}} },
	} {
		op := ok
		change(&op)
		if _, err := Open(t.Context(), Config{Root: root, Operations: []Operation{op}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if _, err := Open(t.Context(), Config{Root: root, Operations: []Operation{ok, ok}}); err == nil {
		t.Error("two operations of one name")
	}
}
