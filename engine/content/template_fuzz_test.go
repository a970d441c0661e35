package content

import (
	"strings"
	"testing"

	"b9/engine/content/internal/mutate"
)

// templateTargets are the parsers of this package.
func templateTargets() []mutate.Target {
	return []mutate.Target{
		{
			Name:   "template",
			Seeds:  []string{"a ${b} c", "$${x}", "$$${x}", "${", "${a\n}", "\xff${é}", "$$$$${{{}}}"},
			Tokens: "$ ${ $${ } a ${a} ${b_1} _ 1 é",
			Holds:  holdsTemplate,
		},
	}
}

func FuzzTemplate(f *testing.F) { mutate.Fuzz(f, templateTargets(), "template") }

func TestMutationsTemplate(t *testing.T) { mutate.Run(t, templateTargets()) }

// holdsTemplate: a template whose every name expands to its own reference
// gives back the text it was made from.
func holdsTemplate(t testing.TB, text string) bool {
	tmpl, err := ParseTemplate("f", text)
	if err != nil {
		mutate.Inside(t, text, err)
		return false
	}
	values := map[string]string{}
	for _, name := range tmpl.Names() {
		if !IsTemplateName(name) {
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
