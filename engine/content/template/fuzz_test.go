package template

import (
	"strings"
	"testing"

	"b9.build/b9/engine/content/internal/mutate"
)

// targets are the parsers of this package.
func targets() []mutate.Target {
	return []mutate.Target{
		{
			Name:   "template",
			Seeds:  []string{"a ${b} c", "$${x}", "$$${x}", "${", "${a\n}", "\xff${é}", "$$$$${{{}}}"},
			Tokens: "$ ${ $${ } a ${a} ${b_1} _ 1 é",
			Holds:  holds,
		},
	}
}

func Fuzz(f *testing.F) { mutate.Fuzz(f, targets(), "template") }

func TestMutations(t *testing.T) { mutate.Run(t, targets()) }

// holds: a template whose every name expands to its own reference
// gives back the text it was made from.
func holds(t testing.TB, text string) bool {
	tmpl, err := Parse("f", text, nil)
	if err != nil {
		mutate.Inside(t, text, err)
		return false
	}
	values := map[string]string{}
	for _, name := range names(tmpl) {
		if !IsName(name) {
			t.Fatalf("name %q", name)
		}
		values[name] = "${" + name + "}"
	}
	var b strings.Builder
	if err := tmpl.Execute(&b, values); err != nil {
		t.Fatal(err)
	}
	if want := strings.ReplaceAll(text, "$${", "${"); b.String() != want {
		t.Fatalf("%q became %q", text, b.String())
	}
	return true
}

// names lists the names that a template refers to.
func names(t *Text) []string {
	var all []string
	for _, p := range t.parts {
		if p.name != "" {
			all = append(all, p.name)
		}
	}
	return all
}
