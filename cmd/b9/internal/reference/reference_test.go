package reference

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/style"
)

// TestLanguage compares the table with what the interpreter has to call.
func TestLanguage(t *testing.T) {
	noCalls := []string{"and", "break", "continue", "def", "elif", "else", "for", "if", "in", "lambda", "load", "not", "or", "pass", "return", "False", "None", "True", "json", "testing"}
	want := slices.DeleteFunc(style.LanguageNames(), func(name string) bool { return slices.Contains(noCalls, name) })
	want = append(want, "json.decode", "json.encode", "json.encode_indent", "json.indent",
		"testing.attempt", "testing.diff", "testing.golden", "testing.made", "testing.search", "testing.shown")
	slices.Sort(want)
	var have []string
	for _, e := range Language().Entries {
		if have = append(have, e.Name); e.Doc == "" || strings.HasSuffix(e.Doc, ".") {
			t.Errorf("%s is described as %q", e.Name, e.Doc)
		}
	}
	if !slices.Equal(have, want) {
		t.Errorf("described are\n%q, the language has\n%q", have, want)
	}
}

func TestDocstring(t *testing.T) {
	text, args := docstring("A site.\n\n    More\n    of it:\n\n        site(\"a\")\n\n    Args:\n      name: its name.\n      size: how large\n        it is: 1G.\n\n      **options: the rest.\n\n    Returns:\n      the handle.\n    ")
	if want := "A site.\n\nMore\nof it:\n\n    site(\"a\")\n\nReturns: the handle."; text != want {
		t.Errorf("the text is\n%s", text)
	}
	want := []Argument{{"name", "its name."}, {"size", "how large it is: 1G."}, {"**options", "the rest."}}
	if !slices.Equal(args, want) {
		t.Errorf("the arguments are %q", args)
	}
}

// TestLibrariesAreDocumented wants every function of a library, and each of its
// parameters, to be described.
func TestLibrariesAreDocumented(t *testing.T) {
	parts, err := Libraries()
	if err != nil || len(parts) < 4 {
		t.Fatal(len(parts), err)
	}
	for _, p := range parts {
		if p.Doc == "" || len(p.Entries) == 0 {
			t.Errorf("%s says nothing of itself", p.Name)
		}
		for _, e := range p.Entries {
			if e.Doc == "" {
				t.Errorf("%s of %s is not described", e.Name, p.Name)
			}
			for _, a := range e.Args {
				if !strings.Contains(e.Call, strings.TrimLeft(a.Name, "*")) || a.Doc == "" {
					t.Errorf("%s of %s: %q is described as %q", e.Name, p.Name, a.Name, a.Doc)
				}
			}
		}
	}
}

// TestForms finds every name in every form, and nothing that is none in a page.
func TestForms(t *testing.T) {
	libraries, err := Libraries()
	if err != nil {
		t.Fatal(err)
	}
	parts := append([]Part{Builtins(builtins.Operations(builtins.Settings{})), Language()}, libraries...)
	var page, markdown bytes.Buffer
	if err := HTML(&page, parts); err != nil {
		t.Fatal(err)
	}
	if err := Markdown(&markdown, parts); err != nil {
		t.Fatal(err)
	}
	list := List(parts)
	for _, p := range parts {
		for _, e := range p.Entries {
			if !strings.Contains(page.String(), `id="`+p.Name+":"+e.Name+`"`) || !strings.Contains(markdown.String(), "\n### "+e.Name+"\n") || !strings.Contains(list, "\n  "+e.Name+" ") {
				t.Errorf("%s of %s is missing", e.Name, p.Name)
			}
		}
	}
	if strings.Contains(page.String(), `href="http`) || strings.Contains(page.String(), "src=") {
		t.Error("the page loads something")
	}
}
