package lang

import (
	"strings"
	"testing"
)

func TestParseLabel(t *testing.T) {
	base := Label{Pkg: "a/b"}
	tests := []struct{ in, want string }{
		{"//pkg:name", "//pkg:name"},
		{"//pkg", "//pkg:pkg"},
		{"//a/b/c", "//a/b/c:c"},
		{"//:name", "//:name"},
		{":name", "//a/b:name"},
		{"//x/y.star:name", "//x/y.star:name"},
		{"//x/y.star", "//x/y.star"},
		{"//y.star:n", "//y.star:n"},
		{"//x/B9BUILD.star:n", "//x:n"},
		{"//pkg:name[/data]", "//pkg:name[/data]"},
		{"//pkg[/data]", "//pkg:pkg[/data]"},
		{":name[/]", "//a/b:name[/]"},
		{"//pkg:conf/app.cfg", "//pkg:conf/app.cfg"},
		{"//größe/ü:ä", "//größe/ü:ä"},
	}
	for _, tt := range tests {
		l, err := parseLabel(tt.in, base)
		if err != nil || l.String() != tt.want {
			t.Errorf("parseLabel(%q) = %q, %v; want %q", tt.in, l, err, tt.want)
		}
	}
}

func TestParseLabelInFile(t *testing.T) {
	l, err := parseLabel(":disk", Label{Pkg: "examples", File: "debian.star"})
	if want := "//examples/debian.star:disk"; err != nil || l.String() != want {
		t.Errorf("got %q, %v; want %q", l, err, want)
	}
}

func TestParseLabelErrors(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", `bad label "": a label begins with "//" or ":"`},
		{"name", `bad label "name": a label begins with "//" or ":"`},
		{"/pkg:x", `bad label "/pkg:x": a label begins with "//" or ":"`},
		{"//", `bad label "//": a target of the root package needs a name: "//:name"`},
		{"//a:", `bad label "//a:": the name after ":" is missing`},
		{"///a", `bad label "///a": package path "/a" has an empty part`},
		{"//a//b", `bad label "//a//b": package path "a//b" has an empty part`},
		{"//a/:b", `bad label "//a/:b": package path "a/" has an empty part`},
		{"//../a", `bad label "//../a": package path "../a" must not contain ".."`},
		{"//a:../b", `bad label "//a:../b": name "../b" must not contain ".."`},
		{"//a/./b", `bad label "//a/./b": package path "a/./b" must not contain "."`},
		{"//...", `bad label "//...": "..." is a pattern and names no single target`},
		{"//a:b:c", `bad label "//a:b:c": name "b:c" must not contain ':'`},
		{`//a\b:c`, `bad label "//a\\b:c": package path "a\\b" must not contain '\\'`},
		{"//a:b\n", `bad label "//a:b\n": "b\n" contains a character that does not print`},
		{"//a:\xff", `bad label "//a:\xff": "\xff" is not UTF-8`},
		{"//a:b[", `bad label "//a:b[": "[" without "]" at the end`},
		{"//a:b[]", `bad label "//a:b[]": an output is written as "[/data]" at the end`},
		{"//a:b[x]]", `bad label "//a:b[x]]": an output is written as "[/data]" at the end`},
		{"@b9//x:y", `bad label "@b9//x:y": only load() takes the label of a library`},
	}
	for _, tt := range tests {
		if l, err := parseLabel(tt.in, Label{}); err == nil || err.Error() != tt.want {
			t.Errorf("parseLabel(%q) = %q, %v\nwant %s", tt.in, l, err, tt.want)
		}
	}
}

func TestParsePattern(t *testing.T) {
	tests := []struct {
		in, dir, label string
		all, recursive bool
	}{
		{"//...", "x", "//", false, true},
		{"...", "x/y", "//x/y", false, true},
		{"a/...", "x", "//x/a", false, true},
		{"//a/b/...", "", "//a/b", false, true},
		{"//a:all", "", "//a", true, false},
		{":all", "x", "//x", true, false},
		{"//a/b.star:all", "", "//a/b.star", true, false},
		{"web", "x", "//x/web:web", false, false},
		{"./web", "x", "//x/web:web", false, false},
		{"../web", "x", "//web:web", false, false},
		{"..:t", "x", "//:t", false, false},
		{".:t", "x", "//x:t", false, false},
		{".", "x", "//x:x", false, false},
		{"e/d.star:t[/data]", "", "//e/d.star:t[/data]", false, false},
		{"e/d.star", "", "//e/d.star", false, false},
		{":t", "x/y", "//x/y:t", false, false},
	}
	for _, tt := range tests {
		p, err := parsePattern(tt.in, tt.dir)
		if err != nil || p.Label.String() != tt.label || p.All != tt.all || p.Recursive != tt.recursive || p.String() != tt.in {
			t.Errorf("parsePattern(%q, %q) = %q all %v recursive %v, %v", tt.in, tt.dir, p.Label, p.All, p.Recursive, err)
		}
	}
}

func TestBelowRoot(t *testing.T) {
	tests := []struct{ in, want string }{
		{"/ws/e/d.star:t", "//e/d.star:t"},
		{"/ws/e", "//e"},
		{"/ws:t", "//:t"},
		{"/wsx/e", "/wsx/e"},
		{"//e:t", "//e:t"},
		{"e/d.star", "e/d.star"},
	}
	for _, tt := range tests {
		if got := belowRoot(tt.in, "/ws"); got != tt.want {
			t.Errorf("belowRoot(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// FuzzLabel holds that a label that parses is canonical after one rendering,
// and never leads out of the root.
func FuzzLabel(f *testing.F) {
	for _, s := range []string{"//a:b", ":x[/d]", "//a/b.star:c", "//../x", "@b9//x", "//a/...", "a/b:c", "", "[", "//B9BUILD.star"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := parseLabel(s, Label{Pkg: "p", File: "q.star"})
		if err == nil {
			again, err := parseLabel(l.String(), Label{})
			if err != nil || again != l {
				t.Fatalf("%q gave %#v, which gave %#v, %v", s, l, again, err)
			}
			checkInside(t, l)
		}
		if p, err := parsePattern(s, "x/y"); err == nil {
			checkInside(t, p.Label)
		}
	})
}

func checkInside(t *testing.T, l Label) {
	t.Helper()
	for _, p := range []string{l.Pkg, l.File, l.Name} {
		for part := range strings.SplitSeq(p, "/") {
			if part == ".." || strings.ContainsAny(p, "\\\x00") || strings.HasPrefix(p, "/") {
				t.Fatalf("%#v leads out", l)
			}
		}
	}
}
