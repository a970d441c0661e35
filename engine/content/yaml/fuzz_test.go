package yaml_test

import (
	"slices"
	"testing"

	"b9.build/b9/engine/content/internal/mutate"
	"b9.build/b9/engine/content/internal/oracle"
	"b9.build/b9/engine/content/yaml"
)

// targets are the parsers of this package.
func targets() []mutate.Target {
	return []mutate.Target{
		{
			Name:   "yaml",
			Seeds:  seeds(),
			Tokens: ": - ? [ ] { } , & * ! | > ' \" % # << ~ --- ... &a *a !!int !!str !!binary |2- >+ 0x 1:30 1e3 2001-01-01 yes \\x41 \\ \u2028 \ufeff é",
			Holds:  holdsYAML,
		},
		{
			Name:   "json",
			Seeds:  []string{`{"a": [1, 2.5, "x"]}`, `[true, false, null, -1e3, "\u00e9\ud83d\ude00\n"]`, `{"a": {"a": []}, "a": 2}`},
			Tokens: "{ } [ ] , : \" \\u \\ud800 -0 1e400 true null 0x \ufeff é",
			Holds:  holdsJSON,
		},
		{
			Name:   "toml",
			Seeds:  []string{"a.b = 1\n[t]\nx = {y = 2001-01-01}\n[[l]]\n", "a = \"\"\"\nx\"\"\"\n", "x = [1, 0x1f, 1_0.5e3, inf]\n[a.\"b c\".d]\nt = 07:32:00\nd = 1979-05-27T07:32:00Z\n[[p]]\n[[p.q]]\n"},
			Tokens: "= . , [ ] [[ ]] { } \" ' \"\"\" ''' # 0x 0o _ inf nan true 1979-05-27 07:32:00 \\u00e9 a b",
			Holds:  holdsTOML,
		},
	}
}

func Fuzz(f *testing.F)     { mutate.Fuzz(f, targets(), "yaml") }
func FuzzJSON(f *testing.F) { mutate.Fuzz(f, targets(), "json") }
func FuzzTOML(f *testing.F) { mutate.Fuzz(f, targets(), "toml") }

func TestMutations(t *testing.T) { mutate.Run(t, targets()) }

func seeds() []string {
	return slices.DeleteFunc(oracle.Documents(), func(s string) bool { return len(s) > 400 })
}

// holdsYAML: positions lie in the text, and what is written of a document is
// read back equal.
func holdsYAML(t testing.TB, text string) bool {
	d, err := yaml.Parse("f", text)
	if err != nil {
		mutate.Inside(t, text, err)
		return false
	}
	for _, w := range d.Warnings {
		if w.At.Line < 1 || w.At.Line > mutate.Lines(text) {
			t.Fatalf("a warning at line %d of %q", w.At.Line, text)
		}
	}
	written, err := d.Root.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := yaml.Parse("f", written)
	if err != nil || !equalOrNaN(again.Root, d.Root) {
		t.Fatalf("%q was written as %q: %v", text, written, err)
	}
	return true
}

// equalOrNaN compares also documents with a NaN, which equals nothing.
func equalOrNaN(a, b *yaml.Node) bool { return yaml.Equal(a, b) || oracle.Canon(a) == oracle.Canon(b) }

func holdsJSON(t testing.TB, text string) bool {
	d, err := yaml.ParseJSON("f", text)
	if err != nil {
		mutate.Inside(t, text, err)
		return false
	}
	written, err := d.Root.JSON()
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if again, err := yaml.ParseJSON("f", written); err != nil || !yaml.Equal(again.Root, d.Root) {
		t.Fatalf("%q was written as %q: %v", text, written, err)
	}
	return true
}

func holdsTOML(t testing.TB, text string) bool {
	d, err := yaml.ParseTOML("f", text)
	if err != nil {
		mutate.Inside(t, text, err)
		return false
	}
	written, err := d.Root.TOML()
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if again, err := yaml.ParseTOML("f", written); err != nil || !equalOrNaN(again.Root, d.Root) {
		t.Fatalf("%q was written as %q: %v", text, written, err)
	}
	return true
}
