package content

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"slices"
	"strings"
	"testing"

	"b9/engine/position"
)

// parserTarget is a parser of foreign text and what it must hold for every text.
type parserTarget struct {
	name   string
	seeds  []string
	tokens string // what mutations put in, between spaces; a line feed is always among them
	holds  func(t testing.TB, text string) (valid bool)
}

// parserTargets is the table of all parsers of this package.
func parserTargets() []parserTarget {
	return []parserTarget{
		{"yaml", yamlSeeds(), ": - ? [ ] { } , & * ! | > ' \" % # << ~ --- ... &a *a !!int !!str !!binary |2- >+ 0x 1:30 1e3 2001-01-01 yes \\x41 \\ \u2028 \ufeff é", holdsYAML},
		{"cloud-config", handDocuments(), ": - [ ] { } ' \" ? 0644 yes 1:30 true ~ 1.5 \"x\" [] {} users: path: content: &a *a", holdsYAML},
		{"network-config", networkSeeds(), ": - [ ] { } ' \" yes 1 2 ~ 10.0.0.1/8 ::1 52:54:00:12:34:56 match: addresses: routes: dhcp4: version: network: config: disabled", holdsNetwork},
		{"json", []string{`{"a": [1, 2.5, "x"]}`, `[true, false, null, -1e3, "\u00e9\ud83d\ude00\n"]`, `{"a": {"a": []}, "a": 2}`}, "{ } [ ] , : \" \\u \\ud800 -0 1e400 true null 0x \ufeff é", holdsJSON},
		{"toml", []string{"a.b = 1\n[t]\nx = {y = 2001-01-01}\n[[l]]\n", "a = \"\"\"\nx\"\"\"\n", "x = [1, 0x1f, 1_0.5e3, inf]\n[a.\"b c\".d]\nt = 07:32:00\nd = 1979-05-27T07:32:00Z\n[[p]]\n[[p.q]]\n"}, "= . , [ ] [[ ]] { } \" ' \"\"\" ''' # 0x 0o _ inf nan true 1979-05-27 07:32:00 \\u00e9 a b", holdsTOML},
		{"erlang", slices.DeleteFunc(erlCases(), func(s string) bool { return len(s) > 300 }), ". , | { } [ ] ( ) #{ => << >> : / - + $ \\ ' \" \"\"\" % fun a b 16# 1.5e3 _ ~s ${a} ${b} /binary /utf8 :8 \\x{ é coding:latin-1", holdsErl},
		{"template", []string{"a ${b} c", "$${x}", "$$${x}", "${", "${a\n}", "\xff${é}", "$$$$${{{}}}"}, "$ ${ $${ } a ${a} ${b_1} _ 1 é", holdsTemplate},
		{"user-data", []string{"#cloud-config\na: 1\n", "#include http://x\n", "## template: jinja\n#!/bin/sh\n", "Content-Type: text/plain\nMIME-Version: 1.0\n\nx", "\x1f\x8b", " #!x\r\n--=====b9-",
			"#cloud-config-archive\n- type: text/cloud-config\n  content: |\n    a: 1\n- '#!x'\n", "#cloud-config-jsonp\n[{\"op\": \"add\", \"path\": \"/a\"}]",
			"Content-Type: multipart/mixed; boundary=x\nMIME-Version: 1.0\n\n--x\nContent-Type: text/cloud-config\nContent-Transfer-Encoding: base64\n\nYTogMQ==\n--x--\n"}, "# #! #include #cloud-config ## template: jinja mime-version: \r \t é \x00 --=====b9-", holdsUserData},
		{"merge_how", []string{"list(append)+dict(recurse_list)+str()", "dict(replace)+list()", "m_list(no-replace, append)", "strict"}, "( ) + , list dict str append replace _ -", holdsMergeHow()},
	}
}

func parserTargetOf(name string) parserTarget {
	all := parserTargets()
	return all[slices.IndexFunc(all, func(p parserTarget) bool { return p.name == name })]
}

func (p parserTarget) fuzz(f *testing.F) {
	for _, s := range p.seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) { p.holds(t, text) })
}

func FuzzYAML(f *testing.F)          { parserTargetOf("yaml").fuzz(f) }
func FuzzCloudConfig(f *testing.F)   { parserTargetOf("cloud-config").fuzz(f) }
func FuzzNetworkConfig(f *testing.F) { parserTargetOf("network-config").fuzz(f) }
func FuzzJSON(f *testing.F)          { parserTargetOf("json").fuzz(f) }
func FuzzTOML(f *testing.F)          { parserTargetOf("toml").fuzz(f) }
func FuzzErl(f *testing.F)           { parserTargetOf("erlang").fuzz(f) }
func FuzzTemplate(f *testing.F)      { parserTargetOf("template").fuzz(f) }
func FuzzUserData(f *testing.F)      { parserTargetOf("user-data").fuzz(f) }
func FuzzMergeHow(f *testing.F)      { parserTargetOf("merge_how").fuzz(f) }

func yamlSeeds() []string {
	return slices.DeleteFunc(yamlDocuments(), func(s string) bool { return len(s) > 400 })
}

func networkSeeds() []string {
	good, bad := networkDocuments()
	return append(good, bad...)
}

// holdsInside: a mistake lies inside the text.
func holdsInside(t testing.TB, text string, err error) {
	e, ok := err.(*position.Error)
	if !ok {
		return
	}
	if lines := countLines(text); e.Line < 1 || e.Line > lines || e.Col < 1 {
		t.Fatalf("%q of %d lines: %v", text, lines, err)
	}
}

// countLines is the number of lines to a reader that takes every Unicode line
// break for one.
func countLines(text string) int {
	n := 1
	for _, end := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} {
		n += strings.Count(text, end)
	}
	return n
}

// holdsYAML: positions lie in the text, and what is written of a document is
// read back equal.
func holdsYAML(t testing.TB, text string) bool {
	d, err := ParseYAML("f", text)
	if err != nil {
		holdsInside(t, text, err)
		return false
	}
	for _, w := range CheckCloudConfig(d.Root, d.Warnings) {
		if w.Place.Line < 1 || w.Place.Line > countLines(text) {
			t.Fatalf("a finding at line %d of %q", w.Place.Line, text)
		}
	}
	written, err := d.Root.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseYAML("f", written)
	if err != nil || !equalOrNaN(again.Root, d.Root) {
		t.Fatalf("%q was written as %q: %v", text, written, err)
	}
	return true
}

func holdsNetwork(t testing.TB, text string) bool {
	d, err := ParseYAML("f", text)
	if err != nil {
		return false
	}
	for _, f := range CheckNetworkConfig(d.Root, d.Warnings) {
		if f.Place.Line < 1 || f.Place.Line > countLines(text) || f.Msg == "" {
			t.Fatalf("%q: %+v", text, f)
		}
	}
	return true
}

// equalOrNaN compares also documents with a NaN, which equals nothing.
func equalOrNaN(a, b *Node) bool { return equalNodes(a, b) || canon(a) == canon(b) }

func holdsJSON(t testing.TB, text string) bool {
	d, err := ParseJSON("f", text)
	if err != nil {
		holdsInside(t, text, err)
		return false
	}
	written, err := d.Root.JSON()
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if again, err := ParseJSON("f", written); err != nil || !equalNodes(again.Root, d.Root) {
		t.Fatalf("%q was written as %q: %v", text, written, err)
	}
	return true
}

func holdsTOML(t testing.TB, text string) bool {
	d, err := ParseTOML("f", text)
	if err != nil {
		holdsInside(t, text, err)
		return false
	}
	written, err := d.Root.TOML()
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if again, err := ParseTOML("f", written); err != nil || !equalOrNaN(again.Root, d.Root) {
		t.Fatalf("%q was written as %q: %v", text, written, err)
	}
	return true
}

// holdsErl: what was read is printed so that it reads back equal and prints
// the same again.
func holdsErl(t testing.TB, text string) bool {
	vars := map[string]ErlTerm{"a": NewErlString("x"), "b": NewErlInt("1")}
	terms, err := ParseErl("x", text, ErlOptions{Vars: vars})
	if err != nil {
		holdsInside(t, text, err)
		return false
	}
	printed := FormatErl(terms)
	again, err := ParseErl("y", string(printed), ErlOptions{})
	if err != nil || len(again) != len(terms) {
		t.Fatalf("%q is printed as %q: %v", text, printed, err)
	}
	for i := range terms {
		if !terms[i].Equal(&again[i]) {
			t.Fatalf("%q is printed as %q", text, printed)
		}
	}
	if twice := FormatErl(again); !bytes.Equal(printed, twice) {
		t.Fatalf("%q is printed as %q and then as %q", text, printed, twice)
	}
	for _, s := range ErlStrategies() {
		_, _ = MergeErl([][]ErlTerm{terms, again}, ErlStrategy(s))
	}
	return true
}

// holdsTemplate: a template whose every name expands to its own reference
// gives back the text it was made from.
func holdsTemplate(t testing.TB, text string) bool {
	tmpl, err := ParseTemplate("f", text)
	if err != nil {
		holdsInside(t, text, err)
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

// holdsUserData: a text of any kind survives as a part of a message.
func holdsUserData(t testing.TB, text string) bool {
	kind := KindOf(text)
	findings, err := CheckUserData("u", text)
	for _, f := range findings {
		if f.Place.Line < 1 || f.Msg == "" {
			t.Fatalf("%q: %+v", text, f)
		}
	}
	if kind == MultiPart {
		return err == nil // taken as it is
	}
	m, err := mail.ReadMessage(strings.NewReader(Multipart([]Part{{Kind: kind, Text: text}, {Kind: kind, Text: text}})))
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for range 2 {
		p, err := parts.NextRawPart()
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		got, err := decodedPart(p)
		if err != nil || got != text {
			t.Fatalf("%q came back as %q: %v", text, got, err)
		}
	}
	return kind != UnknownPart
}

func decodedPart(p *multipart.Part) (string, error) {
	body := io.Reader(p)
	if p.Header.Get("Content-Transfer-Encoding") == "base64" {
		return decodeBase64(p)
	}
	got, err := io.ReadAll(body)
	return string(got), err
}

// holdsMergeHow: what is accepted can merge.
func holdsMergeHow() func(t testing.TB, text string) bool {
	var pairs [][]*Node
	for _, in := range [][2]string{{"a: [1, {b: x}]\n", "a: [2, {b: y}]\nc: z\n"}, {"a: x\n", "a: [y]\n"}} {
		a, _ := ParseYAML("a", in[0])
		b, _ := ParseYAML("b", in[1])
		pairs = append(pairs, []*Node{a.Root, b.Root})
	}
	return func(t testing.TB, text string) bool {
		if CheckStrategy(text) != nil {
			return false
		}
		for _, docs := range pairs {
			if _, err := Merge(text, docs); err != nil && err.Error() == "" {
				t.Fatalf("%q: an error that says nothing", text)
			}
		}
		return true
	}
}
