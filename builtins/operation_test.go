package builtins

import (
	"slices"
	"strings"
	"testing"

	"go.starlark.net/syntax"

	"b9.build/b9/builtins/lang"
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

func checkDocumentation(t *testing.T, op lang.Operation) {
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
	if op.Make != nil && (!seen["name"] || !seen["visibility"] || !seen["doc"] || !seen["tags"]) {
		t.Errorf("%s: lacks a common parameter", op.Name)
	}
}
