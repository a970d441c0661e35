package yaml_test

import (
	"strings"
	"testing"

	"b9.build/b9/engine/content/internal/oracle"
	"b9.build/b9/engine/content/yaml"
)

func parse(t testing.TB, file, text string) *yaml.Node {
	t.Helper()
	d, err := yaml.Parse(file, text)
	if err != nil {
		t.Fatal(err)
	}
	return d.Root
}

// TestWritesWhatPyYAMLReadsEqual has PyYAML read what was written of every
// document that can be read.
func TestWritesWhatPyYAMLReadsEqual(t *testing.T) {
	oracle.Need(t, "yaml", "python3-yaml")
	var written, want []string
	for _, doc := range append(oracle.Documents(), "long: "+strings.Repeat("word ", 60)+"\nkey "+strings.Repeat("x", 150)+": 1\n") {
		d, err := yaml.Parse("f", doc)
		if err != nil {
			continue
		}
		text, err := d.Root.YAML()
		if err != nil {
			t.Errorf("%q: %v", doc, err)
			continue
		}
		again, err := yaml.Parse("again", text)
		if err != nil || oracle.Canon(again.Root) != oracle.Canon(d.Root) {
			t.Errorf("%q was written as %q: %v", doc, text, err)
		}
		written, want = append(written, text), append(want, oracle.Canon(d.Root))
	}
	var got []string
	oracle.Run(t, oracle.PythonCanon+`
import yaml
def read(doc):
    try: return canon(yaml.safe_load(doc))
    except Exception as e: return "error: " + str(e)
print(json.dumps([read(doc) for doc in json.load(sys.stdin)]))
`, written, &got)
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%.200q is read as\n%.300s\nwant %.300s", written[i], got[i], want[i])
		}
	}
	t.Logf("%d documents", len(got))
}

func TestYAMLStaysReadable(t *testing.T) {
	const in = "# a comment\nz: 1\na:\n- b: |\n    #!/bin/sh\n    echo hi\n  c: [1, \"0644\", yes, 2001-01-01]\n"
	const want = "z: 1\na:\n  - b: |\n      #!/bin/sh\n      echo hi\n    c:\n      - 1\n      - \"0644\"\n      - true\n      - 2001-01-01\n"
	if got, err := parse(t, "f", in).YAML(); err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestJSONAndTOML(t *testing.T) {
	tests := []struct{ in, json, toml string }{
		{"b: 1\na: x\n", "{\n  \"b\": 1,\n  \"a\": \"x\"\n}\n", "b = 1\na = 'x'\n"},
		{"a: {c: [1, 2.5, yes], d: {}}\nb: z\n", "{\n  \"a\": {\n    \"c\": [\n      1,\n      2.5,\n      true\n    ],\n    \"d\": {}\n  },\n  \"b\": \"z\"\n}\n",
			"b = 'z'\n\n[a]\nc = [1, 2.5, true]\n\n[a.d]\n"},
		{"a: [{x: 1, y: {z: [{q: 1}]}}, {x: 2}]\n", "", "[[a]]\nx = 1\n\n[a.y]\n\n[[a.y.z]]\nq = 1\n\n[[a]]\nx = 2\n"},
		{"a b: |\n  x\"\n  y\nt: 2001-12-14 21:59:43.10 -5\nm: [1, {a.b: 2}]\n", "", "'a b' = \"\"\"\nx\"\ny\n\"\"\"\nt = 2001-12-14T21:59:43.1-05:00\nm = [1, {'a.b' = 2}]\n"},
	}
	for _, tt := range tests {
		n := parse(t, "f", tt.in)
		if got, err := n.JSON(); tt.json != "" && (err != nil || got != tt.json) {
			t.Errorf("%q as JSON: %q, %v", tt.in, got, err)
		}
		got, err := n.TOML()
		if err != nil || got != tt.toml {
			t.Errorf("%q as TOML: %q, %v\nwant %q", tt.in, got, err, tt.toml)
		}
		if again, err := yaml.ParseTOML("f", got); err != nil || !yaml.Equal(again.Root, n) {
			t.Errorf("%q is read as %v, %v", got, again, err)
		}
	}
}

func TestJSONErrors(t *testing.T) {
	tests := []struct{ in, want string }{
		{"{\"a\": 1,\n \"b\": tru}", "f:2:7: invalid character '}' in literal true (expecting 'e')"},
		{"{\"a\": [1, 2}", "f:1:12: invalid character '}' after array element"},
		{"{\"a\": 1", "f:1:8: the document ends too early"},
		{"[1]\n[2]", "f:2:1: there is more behind the end of the document"},
		{"[1e999]", "f:1:2: 1e999 is out of range"},
		{strings.Repeat("[", 300), "f:1:202: nested more than 200 deep"},
	}
	for _, tt := range tests {
		if _, err := yaml.ParseJSON("f", tt.in); err == nil || err.Error() != tt.want {
			t.Errorf("%.40q: got %v, want %s", tt.in, err, tt.want)
		}
	}
}

func TestJSONReads(t *testing.T) {
	d, err := yaml.ParseJSON("f", "{\"b\": [1, 2.0, 1e2, -0, null, true, \"\\u00e9\\/\"],\n \"a\": {}, \"b\": 12345678901234567890}")
	if err != nil || oracle.Canon(d.Root) != `{"b":i12345678901234567890,"a":{}}` || len(d.Warnings) != 1 {
		t.Fatalf("%v %v", d, err)
	}
	if got := d.Warnings[0].Error(); got != `f:2:11: the key "b" is there already at f:1:7: only this last one counts` {
		t.Error(got)
	}
}

func TestTOMLReads(t *testing.T) {
	d, err := yaml.ParseTOML("f", "z = 1\na.b = 'x'\n\n[t]\nk = [1, {q = 2, p = 3}]\nd = 2001-01-01\n[[l]]\nn = 1\n[l.sub]\nm = 2\n[[l]]\n\"a\\u00e9\" = 1979-05-27T07:32:00-08:00\n")
	want := `{"z":i1,"a":{"b":"x"},"t":{"k":[i1,{"q":i2,"p":i3}],"d":t2001-01-01},"l":[{"n":i1,"sub":{"m":i2}},{"a\u00e9":t1979-05-27T07:32:00-08:00}]}`
	if err != nil || oracle.Canon(d.Root) != want {
		t.Fatalf("%v\n got %s\nwant %s", err, oracle.Canon(d.Root), want)
	}
	if at := d.Root.Value.(yaml.Fields).Get("t").Value.(yaml.Fields).Get("d").At.String(); at != "f:6:1" {
		t.Error(at)
	}
	if _, err := yaml.ParseTOML("f", "a = 1\nb = \n"); err == nil || !strings.HasPrefix(err.Error(), "f:2:") {
		t.Error(err)
	}
	if _, err := yaml.ParseTOML("f", "a = "+strings.Repeat("[", 300)+strings.Repeat("]", 300)); err == nil || err.Error() != "f:1:1: nested more than 200 deep" {
		t.Error(err)
	}
}

func TestWriteErrors(t *testing.T) {
	tests := []struct{ format, in, want string }{
		{"json", "a: .nan\n", "f:1:4: .nan can't be written as JSON"},
		{"json", "1: a\n'1': b\n", `f:2:1: two keys would both be written as "1"`},
		{"toml", "a: [~]\n", "f:1:5: null can't be written as TOML"},
		{"toml", "[a]\n", "f:1:1: a TOML document is a mapping, got list"},
		{"toml", "a: 123456789012345678901\n", "f:1:4: 123456789012345678901 does not fit into the 64 bits of TOML"},
	}
	for _, tt := range tests {
		n := parse(t, "f", tt.in)
		_, err := n.JSON()
		if tt.format == "toml" {
			_, err = n.TOML()
		}
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s of %q: got %v, want %s", tt.format, tt.in, err, tt.want)
		}
	}
}

// TestAliasesAreBounded holds that a document that grows without bound when
// its aliases are written out is refused at once.
func TestAliasesAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 20; i++ {
		b.WriteString(strings.NewReplacer("N", string(rune('a'+i)), "M", string(rune('a'+i-1))).Replace("N: &N [*M, *M, *M, *M, *M, *M, *M, *M, *M, *M]\n"))
	}
	text := strings.Replace(b.String(), "a0: &a0", "a: &a", 1)
	if _, err := yaml.Parse("f", text); err == nil || !strings.Contains(err.Error(), "with its aliases written out") {
		t.Error(err)
	}
	if _, err := yaml.Parse("f", "&a [*a]"); err == nil || err.Error() != "f:1:5: the alias *a refers to the value it is part of" {
		t.Error(err)
	}
	if _, err := yaml.Parse("f", strings.Repeat("[", 100000)); err == nil {
		t.Error("deep nesting was accepted")
	}
}
