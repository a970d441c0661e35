package outline_test

import (
	"fmt"
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

// TestArgument finds the arguments of a call, by name and by place.
func TestArgument(t *testing.T) {
	file, err := outline.Parse("x.star", []byte("group(\"b\", targets = [\n    \"c\"])\nf(x, *y, a = 1); g(a = 2)\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		line, col int
		name      string
		index     int
		want      string
	}{
		{1, 6, "targets", 1, "x.star:1:12"},
		{1, 6, "name", 0, "x.star:1:7"},
		{1, 6, "name", -1, ""},
		{3, 2, "a", -1, "x.star:3:10"},
		{3, 19, "a", -1, "x.star:3:20"},
		{3, 3, "a", -1, ""},
		{2, 6, "targets", 1, ""},
	} {
		line, col, ok := outline.Argument(file, c.line, c.col, c.name, c.index)
		if got := fmt.Sprintf("x.star:%d:%d", line, col); ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%s of the call at %d:%d: %v %v, want %q", c.name, c.line, c.col, got, ok, c.want)
		}
	}
}
