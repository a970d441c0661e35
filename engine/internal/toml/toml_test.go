package toml

import (
	"fmt"
	"strings"
	"testing"

	"b9.build/b9/engine/internal/position"
)

// outline renders entries with the positions and the texts of what they cover.
func outline(text string, entries []Entry) string {
	var b strings.Builder
	var value func(v Value) string
	entry := func(e Entry) string {
		var keys []string
		for _, k := range e.Keys {
			keys = append(keys, fmt.Sprintf("%s@%d:%d", k.Name, k.At.Line, k.At.Col))
		}
		return strings.Join(keys, ".") + " " + value(e.Value)
	}
	value = func(v Value) string {
		var all []string
		for _, f := range v.Fields {
			all = append(all, entry(f))
		}
		for _, item := range v.Items {
			all = append(all, value(item))
		}
		if len(all) == 0 {
			return text[v.Span.From:v.Span.To]
		}
		return "(" + strings.Join(all, ", ") + ")"
	}
	for _, e := range entries {
		fmt.Fprintf(&b, "%d %s| %s\n", e.Kind, entry(e), text[e.Span.From:e.Span.To])
	}
	return b.String()
}

func TestEntries(t *testing.T) {
	const text = "# c\nz = 1 # one\n  \"é\".\"b c\" = { y = [2, {x = 'q'}], w.v = 3 }\n[ t . u ] # h\nk = \"\"\"\n[no]\n\"\"\"\n\n[[l]]\n[[l.m]]\nd = 2001-01-01\n"
	const want = `3 z@2:1 1| z = 1
3 é@3:3.b c@3:7 (y@3:17 (2, (x@3:26 'q')), w@3:37.v@3:39 3)| "é"."b c" = { y = [2, {x = 'q'}], w.v = 3 }
1 t@4:3.u@4:7 | t . u
3 k@5:1 """
[no]
"""| k = """
[no]
"""
2 l@9:3 | l
2 l@10:3.m@10:5 | l.m
3 d@11:1 2001-01-01| d = 2001-01-01
`
	d, err := Parse("f", text)
	if err != nil {
		t.Fatal(err)
	}
	got := outline(text, d.Entries)
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if v := Lookup(d.Values, "é", "b c", "w", "v"); v != int64(3) {
		t.Errorf("looked up %v", v)
	}
	if v := Lookup(d.Values, "z", "none"); v != nil {
		t.Errorf("below a number there is %v", v)
	}
}

// TestSpansOfValues finds what a value covers, of lists and tables, too.
func TestSpansOfValues(t *testing.T) {
	const text = "a = [ 1, [2] ] # c\n\"b =\" =\t{ x = [3] }\nc.d = [\n 1, # ]\n]\ne = 'f' # g\nh = []\n"
	d, err := Parse("f", text)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range d.Entries {
		got = append(got, text[e.Value.Span.From:e.Value.Span.To])
	}
	if want := "[ 1, [2] ]|{ x = [3] }|[\n 1, # ]\n]|'f'|[]"; strings.Join(got, "|") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// nested is n arrays or inline tables in each other.
func nested(open, value, end string, n int) string {
	return strings.Repeat(open, n) + value + strings.Repeat(end, n)
}

func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"a = 1\na = 2\n":                         "f:2:1: ",
		"a = \n":                                 "f:1:",
		"[a]\nb = 1\n[a]\n":                      "f:3:",
		"\na = " + nested("[", "1", "]", 201):    "f:2:1: nested more than 200 deep",
		"a = " + nested("{b = ", "1", "}", 201):  "f:1:1: nested more than 200 deep",
		"a = " + strings.Repeat("[", 1e6):        "f:1:10005: arrays and inline tables are nested more than",
		"a" + strings.Repeat(".a", 300) + " = 1": "f:1:1: nested more than 200 deep",
		"x = '''\n'''\ny = \"\xff\"\n":           "f:3:",
		"s = \"a\\\"[[[\" # [[[\nt = [1, ]\n[":   "f:3:",
	} {
		_, err := Parse("f", text)
		if _, ok := err.(*position.Error); !ok || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "toml: ") {
			t.Errorf("%.40q: got %v, want %s", text, err, want)
		}
	}
}

func TestTheDeepestThatIsAllowed(t *testing.T) {
	for _, text := range []string{"[t]\na = " + nested("[", "1", "]", MaxDepth), "a" + strings.Repeat(".a", MaxDepth) + " = 1"} {
		if _, err := Parse("f", text); err != nil {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a.b = 1\n[t]\nx = {y = 2001-01-01, 'z' = [[1], {q = 1}]}\n[[l]]\n")
	f.Add("a = \"\"\"\n[\\\"x\"\"\"\n[a.\"b c\".d]\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Parse("f", text)
		if err != nil {
			return
		}
		for _, e := range d.Entries {
			if len(e.Keys) == 0 || e.Span.From < 0 || e.Span.To <= e.Span.From || e.Span.To > len(text) {
				t.Fatalf("%q: %+v", text, e)
			}
		}
		outline(text, d.Entries)
	})
}
