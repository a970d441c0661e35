package builtins

import (
	"slices"
	"strings"
	"testing"

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
		if (op.make == nil) == (op.value == nil) {
			t.Errorf("%s: exactly one of make and value must be set", op.Name)
		}
		if op.Positional > len(op.Params) {
			t.Errorf("%s: %d positional of %d parameters", op.Name, op.Positional, len(op.Params))
		}
		if _, err := (&syntax.FileOptions{Set: true, TopLevelControl: true}).Parse(op.Name, op.Example, 0); op.Example == "" || err != nil {
			t.Errorf("%s: the example does not parse: %v", op.Name, err)
		}
		checkParams(t, op)
	}
	if !slices.IsSorted(names) {
		t.Errorf("the table is not sorted: %q", names)
	}
}

func checkParams(t *testing.T, op Operation) {
	seen := map[string]bool{}
	for _, p := range op.Params {
		if seen[p.Name] {
			t.Errorf("%s: two parameters %q", op.Name, p.Name)
		}
		seen[p.Name] = true
		if p.Doc == "" || strings.Contains(p.Doc, "\n") || strings.HasSuffix(p.Doc, ".") {
			t.Errorf("%s: Doc of %s is one line without a full stop, not %q", op.Name, p.Name, p.Doc)
		}
		if p.Type.String() == "" {
			t.Errorf("%s: %s has no type", op.Name, p.Name)
		}
		if p.Default != nil && p.Type.check(p.Default) != nil {
			t.Errorf("%s: the default of %s: %v", op.Name, p.Name, p.Type.check(p.Default))
		}
		if p.Enum != nil && p.Type.basic()&aString == 0 {
			t.Errorf("%s: %s has alternatives but is no string", op.Name, p.Name)
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
