package content

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

func parseErl(t testing.TB, text string, vars map[string]ErlTerm) []ErlTerm {
	t.Helper()
	terms, err := ParseErl("x", text, ErlOptions{Vars: vars})
	if err != nil {
		t.Fatal(err)
	}
	return terms
}

// TestErlNewerSyntax reads what Erlang knows since release 27.
func TestErlNewerSyntax(t *testing.T) {
	for text, want := range map[string]string{
		"\"\"\"\n  one\n    \"two\" \\n\n\n  \"\"\".": `"one\n  \"two\" \\n\n".`,
		"\"\"\"\n\"\"\".":                  "[].",
		"\"\"\"\" \n  \"\"\"\n  \"\"\"\".": `"\"\"\"".`,
		"~\"a\\tb\".":                      `<<"a\tb">>.`,
		"~B[a\\tb].":                       `<<"a\\tb">>.`,
		"{~s|a\\tb|, ~S/a\\t/, ~b'é', ~\"\"\"\n\\\n\"\"\"}.": "{\"a\\tb\",\"a\\\\t\",<<\"é\"/utf8>>,<<\"\\\\\">>}.",
		"[16#0.8, 2#1.01#e3, 16#f.f_f#e-1, 36#z.i].":         "[0.5,10.0,0.999755859375,35.5].",
	} {
		got := strings.TrimPrefix(string(FormatErl(parseErl(t, text, nil))), "%% -*- coding: utf-8 -*-\n")
		if got != want+"\n" {
			t.Errorf("%q is %s want %s", text, got, want)
		}
	}
}

// TestErlErrors holds the places and words of mistakes.
func TestErlErrors(t *testing.T) {
	vars := map[string]ErlTerm{"host": NewErlString("db1"), "list": {Kind: ErlList}}
	for text, want := range map[string]string{
		"[{a, 1},\n {b, }].":               `x:2:6: unexpected '}': want a term`,
		"[{a, 1},\n {b, 2].":               `x:2:7: unexpected ']': want "," or '}'`,
		"[{a, 1}\n":                        `x:1:1: '[' is not closed`,
		"{é, é} b.":                        `x:1:8: unexpected 'b': want a "." that ends the term`,
		"{a, b}":                           `x:1:7: the text ends here: want a "." that ends the term`,
		"a.b.":                             `x:1:3: unexpected 'b': want white space behind the "."`,
		"{and, 1}.":                        `x:1:2: and is a reserved word: the atom is written 'and'`,
		"{Name, 1}.":                       `x:1:2: Name is a variable: want a literal term; an atom that begins so is quoted: 'Name'`,
		"\"ab\ncd":                         `x:1:1: '"' is not closed`,
		"[\"\\x{110000}\"].":               `x:1:3: \x{110000} is no character`,
		"{37#1, 2}.":                       `x:1:2: bad base 37: a base is from 2 to 36`,
		"[a\xff].":                         `x:1:3: this is not UTF-8: save the text as UTF-8, or name its encoding in the first line: %% coding: latin-1`,
		"<<1/foo>>.":                       `x:1:3: unknown type foo of a segment (have integer, float, binary, bytes, bitstring, bits, utf8, utf16, utf32, signed, unsigned, big, little, native, unit:1 to unit:256)`,
		"<<1/little-big>>.":                `x:1:3: the types of the segment contradict each other: order little and big`,
		"<<1:99999999999>>.":               `x:1:5: a segment's size is a number from 0 to 2147483648`,
		"#{a => 1, b := 2}.":               `x:1:13: unexpected ':': want "=>"`,
		"fun a/1.":                         `x:1:1: the only literal fun is an external one, such as fun lists:map/2`,
		"{${hots}}.":                       `x:1:2: unknown name "hots" (have host, list): did you mean "host"?`,
		"\"a\" ${list}.":                   `x:1:5: the variable is a list: only a string or number can be joined with what stands beside it`,
		"\"\"\"\n  a\n b\n  \"\"\".":       `x:3:1: a line of a triple-quoted string is indented less than the line that closes it`,
		strings.Repeat("[", maxErlDepth+1): fmt.Sprintf("x:1:%d: terms are nested more than 10000 deep", maxErlDepth+1),
		strings.Repeat("(", 1<<20):         fmt.Sprintf("x:1:%d: terms are nested more than 10000 deep", maxErlDepth+1),
		strings.Repeat("<<", 1<<20):        fmt.Sprintf("x:1:%d: terms are nested more than 10000 deep", 2*maxErlDepth+1),
		strings.Repeat("1", maxErlDigits+1) + ".": "x:1:1: a number of more than 100000 digits",
		strings.Repeat("<<0:7999999>>. ", 2):      "x:1:18: the binaries of this text are larger than all of the text, by more than a megabyte",
	} {
		_, err := ParseErl("x", text, ErlOptions{Vars: vars})
		if len(text) > 60 {
			text = text[:60]
		}
		if err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

// TestErlVariables holds that a value stands as a term, and stays in its place.
func TestErlVariables(t *testing.T) {
	vars := map[string]ErlTerm{
		"evil": NewErlString(`"}, {admin, true}].` + "\n%"), "atom": NewErlAtom("it's"), "port": NewErlInt("80"), "bin": NewErlBinary("b"), "n": NewErlFloat(1.5),
	}
	text := `[{x, ${evil}}, {${atom}, -${port}}, "http://" "h" ${port} "/" ${evil}, <<"a", ${evil}/utf8, ${port}:16>>, ${bin}, [${port}|${n}], "${port}", '${port}', ${, $a].`
	want := "[{x,\"\\\"}, {admin, true}].\\n%\"},\n {'it\\'s',-80},\n \"http://h80/\\\"}, {admin, true}].\\n%\",\n <<97,34,125,44,32,123,97,100,109,105,110,44,32,116,114,117,101,125,93,46,10,\n   37,0,80>>,\n" +
		" <<\"b\">>,\n [80|1.5],\n \"${port}\",'${port}',123,97].\n"
	if got := string(FormatErl(parseErl(t, text, vars))); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestMergeErl holds what becomes of documents by each strategy.
func TestMergeErl(t *testing.T) {
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
		for strategy, want := range map[ErlStrategy]string{ErlStrict: tt.strict, ErlReplace: tt.replace, ErlOriginal: tt.original} {
			merged, err := MergeErl([][]ErlTerm{parseErl(t, tt.a, nil), parseErl(t, tt.b, nil)}, strategy)
			got := strings.TrimSuffix(string(FormatErl(merged)), "\n")
			if err != nil {
				got = conflict
			}
			if got != want {
				t.Errorf("%s: %s with %s is %s (%v), want %s", strategy, tt.a, tt.b, got, err, want)
			}
		}
	}
}

// TestMergeErlConflicts holds that both places are named.
func TestMergeErlConflicts(t *testing.T) {
	a, _ := ParseErl("a.config", "[{kernel,\n  [{port, 80}]}].", ErlOptions{})
	b, _ := ParseErl("b.config", "[{kernel, [{port, 81}]},\n {x, 1}, {x, 2}].", ErlOptions{})
	c, _ := ParseErl("values", "[{x, [1,2,3,4,5,6,7,8,9]}].", ErlOptions{Placeless: true})
	_, err := MergeErl([][]ErlTerm{a, b, c}, ErlStrict)
	want := `b.config:1:19: kernel.port is 81 here and 80 at a.config:2:11: make them equal, or let the later one win with the strategy "replace"
values: x is here and at b.config:2:2, in one of the two lists more than once: there must be one of each, unless the strategy is "replace" or "original"`
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	d, _ := ParseErl("d.config", "{a, 1}. {b, 2}.", ErlOptions{})
	_, err = MergeErl([][]ErlTerm{d, a}, ErlReplace)
	want = "a.config:1:1: a list or map can't be merged with a text of several terms, which begins at d.config:1:1: make both the one or the other"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// largeErl is a configuration of about n bytes.
func largeErl(n int) string {
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

// BenchmarkErl reads 10 MB of terms here and, in the same run and in turn, with
// the real file:consult/1, which reports how long it took.
func BenchmarkErl(b *testing.B) {
	text := largeErl(10 << 20)
	file := filepath.Join(b.TempDir(), "large.config")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	erl, _ := exec.LookPath("erl")
	var ours, theirs time.Duration
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		start := time.Now()
		parseErl(b, text, nil)
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

// BenchmarkErlFormat prints and merges the same amount.
func BenchmarkErlFormat(b *testing.B) {
	text := largeErl(10 << 20)
	terms := parseErl(b, text, nil)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		merged, err := MergeErl([][]ErlTerm{terms, parseErl(b, "[{app_1, [{new, 1}]}].", nil)}, ErlStrict)
		if err != nil {
			b.Fatal(err)
		}
		FormatErl(merged)
	}
}
