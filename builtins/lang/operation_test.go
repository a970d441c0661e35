package lang

import (
	"strings"
	"testing"

	"go.starlark.net/starlark"

	"b9.build/b9/builtins/internal/builtinstest"
)

// TestMalformedOperations holds that a table with a mistake opens no workspace.
func TestMalformedOperations(t *testing.T) {
	root := t.TempDir()
	builtinstest.WriteWorkspace(t, root, map[string]string{RootFile: ""})
	value := func(*Call) (starlark.Value, error) { return starlark.None, nil }
	ok := Operation{Name: "f", Params: []Param{{Name: "x", Type: String, Default: starlark.String("")}}, Positional: 1, Value: value}
	if _, err := Open(t.Context(), Config{Root: root, Operations: []Operation{ok}}); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Operation){
		"empty or taken":         func(o *Operation) { o.Name = "" },
		"exactly one":            func(o *Operation) { o.Value = nil },
		"are positional":         func(o *Operation) { o.Positional = 2 },
		"the parameter's name":   func(o *Operation) { o.Params = append(o.Params[:1:1], o.Params[0]) },
		"the default of x":       func(o *Operation) { o.Params = []Param{{Name: "x", Type: String, Default: starlark.None}} },
		"alternatives and is no": func(o *Operation) { o.Params = []Param{{Name: "x", Type: Int, Enum: []string{"a"}}} },
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
