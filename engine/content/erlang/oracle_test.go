package erlang

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// consulted is what Erlang makes of one text.
type consulted struct {
	ok     bool
	flat   string // all terms, as ~tw writes their list
	pretty string // each term by ~tp
}

// consult has one Erlang process read many texts with file:consult/1.
func consult(t testing.TB, texts []string) []consulted {
	t.Helper()
	erl, err := exec.LookPath("erl")
	if err != nil {
		t.Skip("no erl (Debian package erlang-base)")
	}
	dir := t.TempDir()
	for i, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script := fmt.Sprintf(`
		{ok, Out} = file:open("out", [write, raw, delayed_write]),
		lists:foreach(fun(I) ->
			Line = case catch file:consult(integer_to_list(I)) of
				{ok, Terms} ->
					Flat = unicode:characters_to_binary(io_lib:format("~tw", [Terms])),
					Pretty = unicode:characters_to_binary([io_lib:format("~tp.~n", [T]) || T <- Terms]),
					[base64:encode(Flat), " ", base64:encode(Pretty)];
				_ -> "error"
			end,
			file:write(Out, [Line, "\n"])
		end, lists:seq(0, %d)),
		ok = file:close(Out), halt(0).`, len(texts)-1)
	cmd := exec.Command(erl, "+pc", "unicode", "-noshell", "-boot", "start_clean", "-eval", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("erl: %v\n%s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	if len(lines) != len(texts) {
		t.Fatalf("erl answered %d times to %d texts", len(lines), len(texts))
	}
	results := make([]consulted, len(lines))
	for i, line := range lines {
		flat, pretty, ok := strings.Cut(line, " ")
		if ok {
			results[i] = consulted{true, unbase64(t, flat), unbase64(t, pretty)}
		}
	}
	return results
}

func unbase64(t testing.TB, s string) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// flatTerms writes terms as ~tw writes their list.
func flatTerms(terms []Term) string {
	list := Term{kind: listTerm, items: terms}
	return flat(&list)
}

func flat(t *Term) string {
	switch t.kind {
	case stringTerm:
		var ints []string
		for _, r := range t.text {
			ints = append(ints, strconv.Itoa(int(r)))
		}
		return "[" + strings.Join(ints, ",") + "]"
	case binaryTerm:
		return "<<" + numbers(t) + ">>"
	case mapTerm:
		var pairs []string
		for _, p := range sortedPairs(t) {
			pairs = append(pairs, flat(&p[0])+" => "+flat(&p[1]))
		}
		return "#{" + strings.Join(pairs, ",") + "}"
	case listTerm:
		text := flatItems(t.items)
		if t.improper {
			last := len(t.items) - 1
			text = flatItems(t.items[:last]) + "|" + flat(&t.items[last])
		}
		return "[" + text + "]"
	case tupleTerm:
		return "{" + flatItems(t.items) + "}"
	}
	return leafText(t)
}

func flatItems(items []Term) string {
	var all []string
	for i := range items {
		all = append(all, flat(&items[i]))
	}
	return strings.Join(all, ",")
}

func sortedPairs(t *Term) [][2]Term {
	var pairs [][2]Term
	for i := 0; i+1 < len(t.items); i += 2 {
		pairs = append(pairs, [2]Term{t.items[i], t.items[i+1]})
	}
	slices.SortFunc(pairs, func(a, b [2]Term) int { return compare(&a[0], &b[0]) })
	return pairs
}

// compare is Erlang's order of terms as keys of a map: integers before floats.
func compare(a, b *Term) int {
	if c := cmp.Compare(rank(a), rank(b)); c != 0 {
		return c
	}
	switch a.kind {
	case intTerm:
		x, _ := new(big.Int).SetString(a.text, 10)
		y, _ := new(big.Int).SetString(b.text, 10)
		return x.Cmp(y)
	case floatTerm:
		x, _ := strconv.ParseFloat(a.text, 64)
		y, _ := strconv.ParseFloat(b.text, 64)
		return cmp.Compare(x, y)
	case atomTerm:
		return slices.Compare([]rune(a.text), []rune(b.text))
	case tupleTerm, mapTerm:
		if c := cmp.Compare(len(a.items), len(b.items)); c != 0 {
			return c
		}
	case stringTerm, listTerm:
		return slices.CompareFunc(listOf(a), listOf(b), func(x, y Term) int { return compare(&x, &y) })
	case binaryTerm:
		return cmp.Compare(a.text, b.text)
	}
	return slices.CompareFunc(a.items, b.items, func(x, y Term) int { return compare(&x, &y) })
}

func listOf(t *Term) []Term {
	if t.kind == listTerm {
		return t.items
	}
	var items []Term
	for _, r := range t.text {
		items = append(items, NewInt(strconv.Itoa(int(r))))
	}
	return items
}

func rank(t *Term) int {
	switch {
	case t.kind == listTerm && len(t.items) == 0 || t.kind == stringTerm && t.text == "":
		return 7
	case t.kind == stringTerm:
		return 8
	}
	return map[kind]int{intTerm: 1, floatTerm: 2, atomTerm: 3, funTerm: 4, tupleTerm: 5, mapTerm: 6, listTerm: 8, binaryTerm: 9}[t.kind]
}

// sorted is the term with the pairs of its maps in Erlang's order; shown
// reports whether Erlang would show a list in it as a string.
func sorted(t *Term) (s Term, shown bool) {
	s = *t
	s.items = slices.Clone(t.items)
	if t.kind == mapTerm {
		s.items = nil
		for _, p := range sortedPairs(t) {
			s.items = append(s.items, p[0], p[1])
		}
	}
	printableInts := t.kind == listTerm && len(t.items) > 0 && !t.improper
	for i := range s.items {
		n, err := strconv.Atoi(s.items[i].text)
		printableInts = printableInts && s.items[i].kind == intTerm && err == nil && n > 0 && n <= 0x10ffff && utf8.ValidRune(rune(n)) && isPrintable(rune(n))
		item, inner := sorted(&s.items[i])
		s.items[i], shown = item, shown || inner
	}
	return s, shown || printableInts
}

// generator makes texts of terms, most of them valid.
type generator struct {
	*rand.Rand
	b bytes.Buffer
}

func (g *generator) one(choices ...string) string { return choices[g.IntN(len(choices))] }

func (g *generator) write(s string) { g.b.WriteString(s) }

func (g *generator) space() {
	if g.IntN(6) == 0 {
		g.write(g.one(" ", "\n", "\t", "  ", "%c\n", "%% ü ] \"\n", "\u00a0", "\r\n", "\x01"))
	}
}

func (g *generator) document() string {
	g.b.Reset()
	if g.IntN(20) == 0 {
		g.write("%% -*- coding: utf-8 -*-\n")
	}
	for range g.IntN(4) {
		g.term(g.IntN(6))
		g.space()
		g.write("." + g.one("\n", " ", "\n\n", "%x\n", "\t"))
	}
	return g.b.String()
}

func (g *generator) term(depth int) {
	g.space()
	defer g.space()
	if depth <= 0 || g.IntN(4) == 0 {
		g.leaf()
		return
	}
	switch g.IntN(9) {
	case 0, 1:
		g.write("{")
		g.items(depth, g.IntN(5))
		g.write("}")
	case 2, 3, 4:
		g.list(depth)
	case 5:
		g.write("#{")
		for i := range g.IntN(4) {
			if i > 0 {
				g.write(",")
			}
			g.term(depth - 2)
			g.write("=>")
			g.term(depth - 1)
		}
		g.write("}")
	case 6:
		g.write("{" + g.one("kernel", "'a b'", "port", "a_very_long_name_of_an_application", "sasl") + ",")
		g.term(depth - 1)
		g.write("}")
	case 7:
		g.write("(")
		g.term(depth - 1)
		g.write(")")
	case 8:
		g.binary()
	}
}

func (g *generator) items(depth, n int) {
	for i := range n {
		if i > 0 {
			g.write(",")
		}
		g.term(depth - 1)
	}
}

func (g *generator) list(depth int) {
	n := g.IntN(8)
	g.write("[")
	g.items(depth, n)
	if n > 0 && g.IntN(5) == 0 {
		g.write("|")
		g.term(depth - 1)
	}
	g.write("]")
}

func (g *generator) leaf() {
	switch g.IntN(8) {
	case 0, 1:
		g.write(g.one("a", "ok", "true", "élan", "ß", "aB_1@x", "'quoted atom'", `'it\'s'`, "'\\n'", "''", "'☃'", "'Upper'", "'and'", "and", "undefined", "node@host", "a@", "'\u0000'"))
	case 2, 3:
		g.number()
	case 4, 5:
		g.string()
	case 6:
		g.write(g.one("$a", "$ ", `$\n`, "$é", "$☃", `$\x41`, `$\x{1F600}`, `$\^a`, `$\\`, "$%", `$"`, "$\n", `$\s`, `$\101`, "${", "$}", "$'", `$\377`, `$\8`, `$\xg`))
	case 7:
		g.write(g.one("[]", "{}", "#{}", "<<>>", "fun lists:map/2", "fun 'a b':c/0", "fun a/1", "X", "_", "fun m:f/255", "fun m:f/256", "a:b", "1 + 1", "fun m : f / 1"))
	}
}

func (g *generator) number() {
	g.write(g.one("", "", "", "-", "+", "- ", "--", "-+"))
	switch g.IntN(6) {
	case 0:
		g.write(strconv.Itoa(g.IntN(300)))
	case 1:
		g.write(g.one("0", "00", "007", "1_000", "1__0", "1_", "123456789012345678901234567890", "1000000000", "12_34_5"))
	case 2:
		g.write(g.one("16#ff", "16#FF_ff", "2#101", "36#zZ", "37#1", "1#0", "8#8", "16#", "1_6#a", "016#a", "16#ffffffffffffffffffff", "2#1_", "16#_1", "10#1_0"))
	case 3:
		g.write(strconv.FormatFloat(g.ExpFloat64()*float64(g.IntN(1000)+1), 'f', 1+g.IntN(6), 64))
	case 4:
		g.write(g.one("0.0", "1.0", "1.5e3", "1.0E-3", "1.0e+10", "1.0e400", "1.0e-400", "1.e5", "1e5", "1_0.2_5", "1.0e1_0", "123456789.0", "0.1", "0.00001", "100000.0",
			"9007199254740992.0", "1.0e22", "1.0e21", "12345678901234567890.0", "5.0e-324", "1.7976931348623157e308", "123.456", "1.0e", "1.0e-", "1.5_", "0.001", "0.0123", "0.00123", "1000.0", "12000.0", "1234000.0"))
	case 5:
		f := g.Float64()
		for range g.IntN(40) - 20 {
			f *= 10
		}
		for range g.IntN(30) {
			f /= 10
		}
		text := strconv.FormatFloat(f, 'e', g.IntN(17), 64)
		if !strings.Contains(text, ".") {
			text = strings.Replace(text, "e", ".0e", 1)
		}
		g.write(text)
	}
}

func (g *generator) string() {
	for range 1 + g.IntN(4)/3 {
		g.write(`"`)
		for range g.IntN(6) {
			g.write(g.one("a", "xyz", " ", "é", "☃", "😀", `\n`, `\"`, `\\`, `\x41`, `\x{263a}`, `\x{D800}`, `\x{110000}`, `\x{}`, `\xg1`, `\101`, `\7`, `\18`, `\^A`, `\^☃`, "\n", `\e`, `\d`, `\q`, "'", "%", `\é`, "\x01", "\u0085", "a long text with several words in it"))
		}
		g.write(`"`)
		g.space()
	}
}

func (g *generator) binary() {
	g.write("<<")
	for i := range g.IntN(4) {
		if i > 0 {
			g.write(",")
		}
		g.space()
		switch g.IntN(6) {
		case 0, 1:
			g.string()
		case 2:
			g.write(g.one("1", "-1", "255", "256", "123456789012345678901234567890", "-123456789012345678901234567890", "$a", "(1)", "0"))
		case 3:
			g.write(g.one("1.5", "-0.1", "1.0e300", "65504.0", "65520.0", "1.0e-8", "0.333", "6.0e-8"))
		case 4:
			g.write(g.one("<<1,2,3>>", "(<<1:4>>)", `<<"ab">>`, "<<>>", "<<5:3>>"))
		case 5:
			g.number()
		}
		if g.IntN(2) == 0 {
			g.write(":" + g.one("8", "1", "4", "12", "16", "32", "64", "0", "13", "100", "(8)", "$\\s", "all", "-8", "undefined"))
		}
		if g.IntN(2) == 0 {
			g.write("/" + g.one("utf8", "utf16", "utf32", "integer", "little", "big-signed", "utf16-little", "utf32-little", "binary", "bytes", "bits", "bitstring", "float", "float-little", "native",
				"integer-unit:8", "unit:4", "binary-unit:4", "binary-unit:1", "unit:8-little", "foo", "unit:0", "unit:256", "unit:257", "little-big", "signed-unsigned", "utf8-signed", "float-unit:2", "integer-float", "bytes-unit:8"))
		}
	}
	g.write(">>")
}

// mutated changes a few bytes, mostly so that the text is no longer valid.
func (g *generator) mutated(text string) string {
	b := []byte(text)
	for range 1 + g.IntN(2) {
		if len(b) == 0 {
			break
		}
		i := g.IntN(len(b))
		switch g.IntN(3) {
		case 0:
			b = slices.Delete(b, i, i+1)
		case 1:
			b = slices.Insert(b, i, g.one("{", "}", "[", "]", ",", ".", "\"", "'", "#", "<", ">", "=", "|", "$", "\\", "%", "a", "1", "-", "_", "A", "(", ")", ":", "/", " ")[0])
		case 2:
			b[i] = g.one("{", "}", "[", "]", ",", ".", "\"", "'", "#", "<", ">", "=", "|", "$", "\\", "%", "a", "1", "-", "_", "A", " ", "\xff")[0]
		}
	}
	return string(b)
}

// knownOnlyHere reports whether a text holds what only newer Erlangs read, or read
// otherwise, or a NUL byte, which only Erlang takes.
func knownOnlyHere(text string) bool {
	return strings.Contains(text, `"""`) || strings.Contains(text, "~") || strings.Contains(text, "\x00")
}

// TestErlangAgrees generates texts and has the real Erlang read them: what it
// reads is read here, and alike; what it refuses is refused. What was read
// is printed as Erlang's formatter does it, and reads back equal.
func TestErlangAgrees(t *testing.T) {
	g := generator{Rand: rand.New(rand.NewPCG(1, 2))}
	var texts []string
	for range 1500 {
		doc := g.document()
		texts = append(texts, doc, g.mutated(doc))
	}
	texts = append(texts, cases()...)
	texts = slices.DeleteFunc(texts, knownOnlyHere)
	var printed []string
	var printedFlat []string
	accepted := 0
	for i, want := range consult(t, texts) {
		terms, err := Parse("x", texts[i], Options{})
		switch {
		case want.ok != (err == nil):
			t.Errorf("%q: Erlang reads it: %v; here: %v", texts[i], want.ok, err)
		case want.ok:
			accepted++
			if got := flatTerms(terms); got != want.flat {
				t.Errorf("%q is read as %s, want %s", texts[i], got, want.flat)
			}
			checkLayout(t, texts[i], terms, want.pretty)
			printed, printedFlat = append(printed, string(Format(terms))), append(printedFlat, want.flat)
		}
	}
	t.Logf("%d of %d texts are valid", accepted, len(texts))
	for i, got := range consult(t, printed) {
		if !got.ok || got.flat != printedFlat[i] {
			t.Errorf("%q reads back as %s, want %s", printed[i], got.flat, printedFlat[i])
		}
	}
}

func checkLayout(t *testing.T, text string, terms []Term, want string) {
	t.Helper()
	var sortedTerms []Term
	for i := range terms {
		s, shown := sorted(&terms[i])
		if shown {
			return
		}
		sortedTerms = append(sortedTerms, s)
	}
	got := strings.TrimPrefix(string(Format(sortedTerms)), "%% -*- coding: utf-8 -*-\n")
	if got != want {
		t.Errorf("%q is printed as\n%s\nwant\n%s", text, got, want)
	}
}

// cases are texts of which the generator makes too few.
func cases() []string {
	return []string{
		"", "\n", "% only a comment", "a.", "a. ", "a.%", "a.b.", "a", "a .", ".", "a. .", "a..", "a. b. c.", "{a,b}.{c}.", "\xff.", "%% \xff\na.", "\ufeffa.",
		"%% coding: latin-1\n\"\xe9\".", "%% -*- coding: latin-1 -*-\n'\xe9\xdf'.", "\n% coding = latin-1\n\"\xe9\".", "\n\n%% coding: latin-1\n\"\xe9\".", "%% coding:latin-1x\n\"\xe9\".",
		"%% coding: latin-15\n\"\xe9\".", "%% encoding: latin-1\n\"\xe9\".", "%% coding latin-1 coding: latin-1\n\"\xe9\".", "%% coding: utf-8\n\"é\".", "%% Coding: latin-1\n\"\xe9\".", "%% coding: foo coding: latin-1\n\"\xe9\".",
		"[a|b].", "[a|[b]].", "[a|[b|c]].", "[a|\"bc\"].", "[a|[]].", "[|a].", "[a|].", "[a|b,c].", "[a,].", "{a,}.", "{,}.", "[a b].", "(a).", "((a)).", "().", "(a,b).",
		"-a.", "-\"a\".", "- -1.", "-(1).", "-(-1).", "-(+1).", "-$a.", "-0.", "-0.0.", "+0.0.", "+1.5.", "1+1.", "not true.", "-(-0).", "- % c\n 1.",
		"#{a=>1,a=>2}.", "#{a:=1}.", "#{1=>a,1.0=>b}.", "#{\"a\"=>1,[97]=>2}.", "#{#{a=>1,b=>2}=>x,#{b=>2,a=>1}=>y}.", "# {a=>1}.", "#a{}.", "#{a=>1,}.", "#{0.0=>a,-0.0=>b}.",
		"'a\nb'.", "'\\x{1F600}'.", "'\\^@'.", "'" + strings.Repeat("a", 255) + "'.", "'" + strings.Repeat("a", 256) + "'.", strings.Repeat("a", 256) + ".", "'" + strings.Repeat("☃", 255) + "'.",
		"<<1,>>.", "<<,>>.", "<< >>.", "<<1>>>.", "<<<<1>>/binary>>.", "<< <<1>>/binary >>.", "<<1:8:8>>.", "<<a>>.", "<<[1]>>.", "<<#{}>>.", "<<(\"ab\"):16>>.", "<<\"\"/binary>>.", "<<\"\"/utf8>>.", "<<\"\"/float>>.",
		"<<1/(utf8)>>.", "<<1/'utf8'>>.", "<<1/unit:8>>.", "<<1/unit:1_0>>.", "<<1:(2+3)>>.", "<<55296/utf8>>.", "<<1114112/utf8>>.", "<<-1/utf8>>.", "<<1:8/utf8>>.", "<<1.5:16/float>>.", "<<1.5:0/float>>.", "<<1:0>>.", "<<1:64/float>>.",
		"<<(<<1,2,3>>):2/binary>>.", "<<(<<1,2,3>>):4/binary>>.", "<<(<<1,2,3>>):all/binary>>.", "<<(<<1:7>>)/binary>>.", "<<(<<1:7>>)/bits>>.", "<<(<<1:7>>):7/bits, 1:1>>.", "<<- 1>>.", "<<-(1)>>.", "<<1:+8>>.", "<<1:$\b>>.",
		"<<123456789012345678901234567890:13/little>>.", "<<-5:11/little-signed>>.", "<<-123456789012345678901234567890:77/little>>.", "<<1:800>>.", "<<-1:801>>.", "<<-1:801/little>>.", "<<\"é☃\">>.", "<<\"é☃\":16>>.", "<<\"é☃\"/utf16-little>>.",
		"<<233>>.", "<<195,169>>.", "<<195,169,255>>.", "<<233,1>>.", "<<\"a\\n\\e\">>.", "<<127>>.", "<<128>>.", "<<160,65>>.", "<<\"" + strings.Repeat("0123456789", 12) + "\">>.", "<<" + strings.Repeat("1,200,", 60) + "1:4>>.",
		"{x,<<" + strings.Repeat("1,2,30,", 30) + "1>>}.", "[" + strings.Repeat("<<1,2,255,0>>,", 20) + "a].",
		"\"" + strings.Repeat("long ", 30) + "\".", "[\"" + strings.Repeat("long ", 30) + "\",a,b].", "\"a\" \"b\" % c\n\"c\".", "\"a\"$b.", "[$a,$b|$c].", "$a$b.", "$.", "$", "$\\", "\"\\", "\"abc", "'abc", "\"\\x\".", "\"\\x{41\".", "${a}.", "[${,a}].", "[${].", "{${,$}}.", "$ .",
		"fun a:b/1.", "fun a:b/-1.", "fun A:b/1.", "fun a:b/1.0.", "fun a:b/(1).", "fun a:b/16#f.", "fun a:b/$a.", "fun () -> a end.", "fun a:b.", "fun a : b / 1 .", "begin a end.", "if.", "a:b.", "a(b).", "a;b.", "a=b.", "A.", "_.", "?a.", "É.", "×.", "÷.", "ª.", "a\u0081b.", "a\u0081.", "☃.", "a☃.", "'\ufffe'.", "%\uffff\na.",
		"\"\\x{fffe}\".", "$\\x{ffff}.", "1.2.3.", "1.", "1. 2.", "1.a.", "1..2.", "16#.5.", "0.1e5.", "1_000.000_1.", "1.0e0005.",
		strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + ".", strings.Repeat("{a,", 60) + "b" + strings.Repeat("}", 60) + ".", strings.Repeat("[#{k=>", 30) + "v" + strings.Repeat("}]", 30) + ".",
		"[{kernel,[{logger_level,info},{logger,[{handler,default,logger_std_h,#{level=>info,config=>#{file=>\"/var/log/x.log\",max_no_bytes=>10485760},formatter=>{logger_formatter,#{template=>[time,\" \",level,\" \",msg,\"\\n\"]}}}}]},{inet_dist_listen_min,9100}]},{sasl,[{sasl_error_logger,{file,\"log/sasl.log\"}},{errlog_type,error}]}].",
	}
}
