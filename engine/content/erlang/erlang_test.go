package erlang

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func parseText(t testing.TB, text string, vars map[string]Term) []Term {
	t.Helper()
	terms, err := Parse("x", text, Options{Vars: vars})
	if err != nil {
		t.Fatal(err)
	}
	return terms
}

// TestNewerSyntax reads what Erlang knows since release 27.
func TestNewerSyntax(t *testing.T) {
	for text, want := range map[string]string{
		"\"\"\"\n  one\n    \"two\" \\n\n\n  \"\"\".": `"one\n  \"two\" \\n\n".`,
		"\"\"\"\n\"\"\".":                  "[].",
		"\"\"\"\" \n  \"\"\"\n  \"\"\"\".": `"\"\"\"".`,
		"~\"a\\tb\".":                      `<<"a\tb">>.`,
		"~B[a\\tb].":                       `<<"a\\tb">>.`,
		"{~s|a\\tb|, ~S/a\\t/, ~b'é', ~\"\"\"\n\\\n\"\"\"}.": "{\"a\\tb\",\"a\\\\t\",<<\"é\"/utf8>>,<<\"\\\\\">>}.",
		"[16#0.8, 2#1.01#e3, 16#f.f_f#e-1, 36#z.i].":         "[0.5,10.0,0.999755859375,35.5].",
	} {
		got := strings.TrimPrefix(string(Format(parseText(t, text, nil))), "%% -*- coding: utf-8 -*-\n")
		if got != want+"\n" {
			t.Errorf("%q is %s want %s", text, got, want)
		}
	}
}

// TestErrors holds the places and words of mistakes.
func TestErrors(t *testing.T) {
	vars := map[string]Term{"host": NewString("db1"), "list": {kind: listTerm}}
	for text, want := range map[string]string{
		"[{a, 1},\n {b, }].":                   `x:2:6: unexpected '}': want a term`,
		"[{a, 1},\n {b, 2].":                   `x:2:7: unexpected ']': want "," or '}'`,
		"[{a, 1}\n":                            `x:1:1: '[' is not closed`,
		"{é, é} b.":                            `x:1:8: unexpected 'b': want a "." that ends the term`,
		"{a, b}":                               `x:1:7: the text ends here: want a "." that ends the term`,
		"a.b.":                                 `x:1:3: unexpected 'b': want white space behind the "."`,
		"{and, 1}.":                            `x:1:2: and is a reserved word: the atom is written 'and'`,
		"{Name, 1}.":                           `x:1:2: Name is a variable: want a literal term; an atom that begins so is quoted: 'Name'`,
		"\"ab\ncd":                             `x:1:1: '"' is not closed`,
		"[\"\\x{110000}\"].":                   `x:1:3: \x{110000} is no character`,
		"{37#1, 2}.":                           `x:1:2: bad base 37: a base is from 2 to 36`,
		"[a\xff].":                             `x:1:3: the byte 0xFF is not UTF-8 (in Latin-1 it is "ÿ"): save the text as UTF-8, or name its encoding in the first line: %% coding: latin-1`,
		"<<1/foo>>.":                           `x:1:3: unknown type foo of a segment (have integer, float, binary, bytes, bitstring, bits, utf8, utf16, utf32, signed, unsigned, big, little, native, unit:1 to unit:256)`,
		"<<1/little-big>>.":                    `x:1:3: the types of the segment contradict each other: order little and big`,
		"<<1:99999999999>>.":                   `x:1:5: a segment's size is a number from 0 to 2147483648`,
		"#{a => 1, b := 2}.":                   `x:1:13: unexpected ':': want "=>"`,
		"fun a/1.":                             `x:1:1: the only literal fun is an external one, such as fun lists:map/2`,
		"{${hots}}.":                           `x:1:2: unknown name "hots" (have host, list): did you mean "host"?`,
		"\"a\" ${list}.":                       `x:1:5: the variable is a list: only a string or number can be joined with what stands beside it`,
		"\"\"\"\n  a\n b\n  \"\"\".":           `x:3:1: a line of a triple-quoted string is indented less than the line that closes it`,
		strings.Repeat("[", maxDepth+1):        fmt.Sprintf("x:1:%d: terms are nested more than 10000 deep", maxDepth+1),
		strings.Repeat("(", 1<<20):             fmt.Sprintf("x:1:%d: terms are nested more than 10000 deep", maxDepth+1),
		strings.Repeat("<<", 1<<20):            fmt.Sprintf("x:1:%d: terms are nested more than 10000 deep", 2*maxDepth+1),
		strings.Repeat("1", maxDigits+1) + ".": "x:1:1: a number of more than 100000 digits",
		strings.Repeat("<<0:7999999>>. ", 2):   "x:1:18: the binaries of this text are larger than all of the text, by more than a megabyte",
	} {
		_, err := Parse("x", text, Options{Vars: vars})
		if len(text) > 60 {
			text = text[:60]
		}
		if err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

// TestVariables holds that a value stands as a term, and stays in its place.
func TestVariables(t *testing.T) {
	vars := map[string]Term{
		"evil": NewString(`"}, {admin, true}].` + "\n%"), "atom": NewAtom("it's"), "port": NewInt("80"), "bin": NewBinary("b"), "n": NewFloat(1.5),
	}
	text := `[{x, ${evil}}, {${atom}, -${port}}, "http://" "h" ${port} "/" ${evil}, <<"a", ${evil}/utf8, ${port}:16>>, ${bin}, [${port}|${n}], "${port}", '${port}', ${, $a].`
	want := "[{x,\"\\\"}, {admin, true}].\\n%\"},\n {'it\\'s',-80},\n \"http://h80/\\\"}, {admin, true}].\\n%\",\n <<97,34,125,44,32,123,97,100,109,105,110,44,32,116,114,117,101,125,93,46,10,\n   37,0,80>>,\n" +
		" <<\"b\">>,\n [80|1.5],\n \"${port}\",'${port}',123,97].\n"
	if got := string(Format(parseText(t, text, vars))); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestMerge holds what becomes of documents by each strategy.
func TestMerge(t *testing.T) {
	const conflict = "conflict"
	for _, tt := range []struct{ a, b, strict, replace, original string }{
		{"[{a,1},x].", "[{b,2},x].", "[{a,1},x,{b,2},x].", "[{a,1},x,{b,2},x].", "[{a,1},x,{b,2},x]."},
		{"[{k,[{a,1},{b,[1]}]}].", "[{k,[{b,[2]},{c,3}]}].", "[{k,[{a,1},{b,[1,2]},{c,3}]}].", "[{k,[{a,1},{b,[1,2]},{c,3}]}].", "[{k,[{a,1},{b,[1,2]},{c,3}]}]."},
		{"[{a,1}].", "[{a,1}].", "[{a,1}].", "[{a,1}].", "[{a,[1,1]}]."},
		{"[{a,1}].", "[{a,2}].", conflict, "[{a,2}].", "[{a,[1,2]}]."},
		{"[{a,[1]}].", "[{a,2}].", conflict, "[{a,2}].", "[{a,[1,2]}]."},
		{"[{a,1}].", "[{a,[2]}].", conflict, "[{a,[2]}].", "[{a,[1,2]}]."},
		{"[{a,\"x\"}].", "[{a,\"y\"}].", conflict, "[{a,\"y\"}].", "[{a,[\"x\",\"y\"]}]."},
		{"[{a,\"\"}].", "[{a,[b]}].", "[{a,[b]}].", "[{a,[b]}].", "[{a,[b]}]."},
		{"#{a=>1,b=>#{c=>1}}.", "#{b=>#{d=>2}}.", "#{a => 1,b => #{c => 1,d => 2}}.", "#{a => 1,b => #{c => 1,d => 2}}.", "#{a => 1,b => #{c => 1,d => 2}}."},
		{"{a,1}. {b,2}.", "{b,2}. {c,3}.", "{a,1}.\n{b,2}.\n{c,3}.", "{a,1}.\n{b,2}.\n{c,3}.", "{a,1}.\n{b,[2,2]}.\n{c,3}."},
		{"[{a,1},{a,2}].", "[{a,3}].", conflict, "[{a,3}].", "[{a,1},{a,2},{a,3}]."},
		{"[{a,1,x}].", "[{a,2,y}].", "[{a,1,x},{a,2,y}].", "[{a,1,x},{a,2,y}].", "[{a,1,x},{a,2,y}]."},
		{"[{\"a\",1}].", "[{[97],1}].", "[{\"a\",1}].", "[{\"a\",1}].", "[{\"a\",[1,1]}]."},
		{"", "[a].", "[a].", "[a].", "[a]."},
		{"[{a,[b|c]}].", "[{a,[b|c]}].", "[{a,[b|c]}].", "[{a,[b|c]}].", "[{a,[[b|c],[b|c]]}]."},
	} {
		for strategy, want := range map[string]string{strict: tt.strict, replace: tt.replace, original: tt.original} {
			merged, err := Merge([][]Term{parseText(t, tt.a, nil), parseText(t, tt.b, nil)}, strategy)
			got := strings.TrimSuffix(string(Format(merged)), "\n")
			if err != nil {
				got = conflict
			}
			if got != want {
				t.Errorf("%s: %s with %s is %s (%v), want %s", strategy, tt.a, tt.b, got, err, want)
			}
		}
	}
}

// TestMergeConflicts holds that both places are named.
func TestMergeConflicts(t *testing.T) {
	a, _ := Parse("a.config", "[{kernel,\n  [{port, 80}]}].", Options{})
	b, _ := Parse("b.config", "[{kernel, [{port, 81}]},\n {x, 1}, {x, 2}].", Options{})
	c, _ := Parse("values", "[{x, [1,2,3,4,5,6,7,8,9]}].", Options{Placeless: true})
	_, err := Merge([][]Term{a, b, c}, strict)
	want := `b.config:1:19: kernel.port is 81 here and 80 at a.config:2:11: make them equal, or let the later one win with the strategy "replace"
values: x is here and at b.config:2:2, in one of the two lists more than once: there must be one of each, unless the strategy is "replace" or "original"`
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	d, _ := Parse("d.config", "{a, 1}. {b, 2}.", Options{})
	_, err = Merge([][]Term{d, a}, replace)
	want = "a.config:1:1: a list or map can't be merged with a text of several terms, which begins at d.config:1:1: make both the one or the other"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// largeText is a configuration of about n bytes.
func largeText(n int) string {
	var b strings.Builder
	b.WriteString("%% made for a benchmark\n[")
	for i := 0; b.Len() < n; i++ {
		if i > 0 {
			b.WriteString(",\n ")
		}
		fmt.Fprintf(&b, `{app_%d, [{listen, [{"0.0.0.0", %d}, {'::', %d}]}, {ratio, %d.%d}, {path, "/var/lib/app/%d"}, {flags, [a, b, {c, true}]},
  {options, #{level => info, max => 16#%x, name => <<"app %d">>}}]}`, i, i%65536, i, i%10, i%7, i, i, i)
	}
	b.WriteString("].\n")
	return b.String()
}

// BenchmarkParse reads 10 MB of terms here and, in the same run and in turn, with
// the real file:consult/1, which reports how long it took.
func BenchmarkParse(b *testing.B) {
	text := largeText(10 << 20)
	file := filepath.Join(b.TempDir(), "large.config")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	erl, _ := exec.LookPath("erl")
	var ours, theirs time.Duration
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		start := time.Now()
		parseText(b, text, nil)
		ours += time.Since(start)
		if erl == "" {
			continue
		}
		b.StopTimer()
		theirs += consultTime(b, erl, file)
		b.StartTimer()
	}
	b.ReportMetric(ours.Seconds()/float64(b.N), "s/parse")
	if erl != "" {
		b.ReportMetric(theirs.Seconds()/float64(b.N), "s/consult")
		b.ReportMetric(float64(theirs)/float64(ours), "times-faster")
	}
}

func consultTime(b *testing.B, erl, file string) time.Duration {
	b.Helper()
	script := fmt.Sprintf(`{T, {ok, _}} = timer:tc(file, consult, [%q]), io:format("~w", [T]), halt(0).`, file)
	out, err := exec.Command(erl, "-noshell", "-boot", "start_clean", "-eval", script).Output()
	if err != nil {
		b.Fatal(err)
	}
	n, err := strconv.ParseInt(string(out), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(n) * time.Microsecond
}

// BenchmarkFormat prints and merges the same amount.
func BenchmarkFormat(b *testing.B) {
	text := largeText(10 << 20)
	terms := parseText(b, text, nil)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		merged, err := Merge([][]Term{terms, parseText(b, "[{app_1, [{new, 1}]}].", nil)}, strict)
		if err != nil {
			b.Fatal(err)
		}
		Format(merged)
	}
}
