package display

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain text ~":                     "plain text ~",
		"\x1b[1;31mred\x1b[0m":             "red",
		"\x1b[2J\x1b[Hhome\x1b[?25l":       "home",
		"\u009b2Jc1":                       "c1",
		"\x1b]0;title\aafter":              "after",
		"\x1b]8;;http://x\x1b\\link":       "link",
		"\x1b]52;c;aGk=\u009ctext":         "text",
		"\x1b]0;no end":                    "",
		"\x1bPq#0\x1b\\six":                "six",
		"\x1b]0;cut\x1b[31mshort":          "short",
		"\x1b(Bcharset":                    "charset",
		"\x1bcreset":                       "reset",
		"\x1b":                             "",
		"\x1b[":                            "",
		"\x1b[31":                          "",
		"10%\r20%\r30%":                    "30%",
		"done\r":                           "done",
		"a\nb":                             "b",
		"a\tb":                             "a       b",
		"bell\a back\b nul\x00 del\x7f":    "bell back nul del",
		"bad \xff\xfe utf8":                "bad \ufffd\ufffd utf8",
		"right\u202eto left \u2066x\u200b": "rightto left x",
		"line\u2028sep":                    "linesep",
		"grüße, 日本語, e\u0301 \U0001f600":   "grüße, 日本語, e\u0301 \U0001f600",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

// Whatever a program prints, no control character comes through, and a line
// stays within its columns.
func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "text", "\x1b[31mred", "\x1b]0;t\a", "\u009b1m", "a\rb", "\xff\x1b", "\x1bP\x1b", "日本\t語"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Clean(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !visible(r) }) {
			t.Errorf("Clean(%q) = %q", s, got)
		}
		if again := Clean(got); again != got {
			t.Errorf("cleaning %q twice gives %q", got, again)
		}
		text, width := cut(got, 10)
		if width > 10 || !strings.HasPrefix(got, text) {
			t.Errorf("cut(%q) = %q, %d", got, text, width)
		}
	})
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		in    string
		cols  int
		want  string
		width int
	}{
		{"hello", 10, "hello", 5}, {"hello", 3, "hel", 3}, {"日本語", 5, "日本", 4}, {"e\u0301e\u0301", 1, "e\u0301", 1}, {"x", 0, "", 0}, {"x", -1, "", 0},
	} {
		if got, width := cut(c.in, c.cols); got != c.want || width != c.width {
			t.Errorf("cut(%q, %d) = %q, %d; want %q, %d", c.in, c.cols, got, width, c.want, c.width)
		}
	}
}

func TestShorten(t *testing.T) {
	if got := shorten("//a/very/long/label:name", 15); got != "//a/ve...l:name" {
		t.Errorf("got %q", got)
	}
	if got := shorten("//short", 15); got != "//short" {
		t.Errorf("got %q", got)
	}
}

func TestTimes(t *testing.T) {
	for _, c := range []struct {
		d           time.Duration
		clock, took string
	}{
		{0, "0:00", "0.00 s"}, {42 * time.Millisecond, "0:00", "0.04 s"}, {42100 * time.Millisecond, "0:42", "42.1 s"},
		{59990 * time.Millisecond, "0:59", "1 min 0 s"}, {125 * time.Second, "2:05", "2 min 5 s"}, {3723 * time.Second, "1:02:03", "1 h 2 min"},
	} {
		if clock(c.d) != c.clock || Took(c.d) != c.took {
			t.Errorf("%v: %s, %s; want %s, %s", c.d, clock(c.d), Took(c.d), c.clock, c.took)
		}
	}
}

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{"//web:root": "//web:root", "//web:root (resize)": "'//web:root (resize)'", "a'b": `'a'\''b'`, "//x:y[/data]": "'//x:y[/data]'"} {
		if got := ShellWord(in); got != want {
			t.Errorf("shellWord(%q) = %s, want %s", in, got, want)
		}
	}
}
