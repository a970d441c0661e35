package outline_test

import (
	"slices"
	"testing"

	"go.starlark.net/syntax"

	"b9.build/b9/builtins/lang/outline"
)

const text = `
file(name = "a", content = "not")
group("b", targets = ["c"])
def rule(name, size = "1G", *rest, mode, **more):
    image(name = name, size = size)
    file("inner")
def _private(x): pass
if True:
    tree(files = {"x": "y"}, name = "d")
`

// TestOutline reads what a file tells without being evaluated.
func TestOutline(t *testing.T) {
	file, err := (&syntax.FileOptions{TopLevelControl: true}).Parse("x.star", text, 0)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct{ got, want []string }{
		"targets":    {outline.Targets(file), []string{"a", "b", "inner", "d"}},
		"functions":  {outline.Functions(file), []string{"rule"}},
		"parameters": {outline.Parameters(file, "rule"), []string{"name", "size", "mode"}},
		"no such":    {outline.Parameters(file, "other"), nil},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: got %q, want %q", what, c.got, c.want)
		}
	}
}
