// Package oracle compares what b9 reads with what Python's readers read, for
// the tests of the packages around.
//
//	Need, Run            a program for the Python that cloud-init runs on
//	Canon, PythonCanon   a value as text, equal on both sides
//	Documents            YAML that readers disagree about
//	SameAsPyYAML         compares readers of YAML
package oracle

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"b9.build/b9/engine/content/internal/mutate"
	"b9.build/b9/engine/content/yaml"
)

const python = "/usr/bin/python3"

// Need skips the test where the modules are not installed.
func Need(t testing.TB, modules, debian string) {
	t.Helper()
	if err := exec.Command(python, "-c", "import "+modules).Run(); err != nil {
		t.Skipf("%s can't import %s (Debian package %s): %v", python, modules, debian, err)
	}
}

// Run feeds in as JSON to a program and decodes the JSON it prints.
func Run(t testing.TB, program string, in, out any) {
	t.Helper()
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "-c", program)
	cmd.Stdin = strings.NewReader(string(text))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	printed, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	if err := json.Unmarshal(printed, out); err != nil {
		t.Fatalf("%v\n%s", err, printed)
	}
}

// PythonCanon defines canon(v), which renders a value as Canon in Go does.
const PythonCanon = `
import sys, json, struct, datetime, logging
logging.disable(logging.CRITICAL)
def canon(v):
    if v is None: return "null"
    if isinstance(v, bool): return "true" if v else "false"
    if isinstance(v, int): return "i%d" % v
    if isinstance(v, float): return "nan" if v != v else "f" + struct.pack(">d", v).hex()
    if isinstance(v, str): return json.dumps(v)
    if isinstance(v, bytes): return "b" + v.hex()
    if isinstance(v, datetime.datetime):
        s = v.replace(tzinfo=None, microsecond=0).isoformat()
        if v.microsecond: s += (".%06d" % v.microsecond).rstrip("0")
        if v.tzinfo:
            m = int(v.utcoffset().total_seconds()) // 60
            s += "Z" if m == 0 else "%s%02d:%02d" % ("-" if m < 0 else "+", abs(m)//60, abs(m)%60)
        return "t" + s
    if isinstance(v, datetime.date): return "t" + v.isoformat()
    if isinstance(v, dict): return "{" + ",".join(canon(k)+":"+canon(x) for k, x in v.items()) + "}"
    if isinstance(v, list): return "[" + ",".join(canon(x) for x in v) + "]"
    raise ValueError("other type")
`

// Canon renders a value with its types and the order of its keys.
func Canon(n *yaml.Node) string {
	switch v := n.Value.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return "i" + strconv.FormatInt(v, 10)
	case *big.Int:
		return "i" + v.String()
	case float64:
		if math.IsNaN(v) {
			return "nan"
		}
		return fmt.Sprintf("f%016x", math.Float64bits(v))
	case string:
		var b strings.Builder
		b.WriteByte('"')
		for _, r := range v {
			switch {
			case r == '"' || r == '\\':
				b.WriteByte('\\')
				b.WriteRune(r)
			case strings.ContainsRune("\n\t\r\b\f", r):
				b.WriteString(map[rune]string{'\n': `\n`, '\t': `\t`, '\r': `\r`, '\b': `\b`, '\f': `\f`}[r])
			case r > 0xffff:
				fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
			case r < ' ' || r > 0x7e:
				fmt.Fprintf(&b, `\u%04x`, r)
			default:
				b.WriteRune(r)
			}
		}
		return b.String() + `"`
	case yaml.Bytes:
		return fmt.Sprintf("b%x", string(v))
	case yaml.Time:
		return "t" + string(v)
	case []*yaml.Node:
		var all []string
		for _, c := range v {
			all = append(all, Canon(c))
		}
		return "[" + strings.Join(all, ",") + "]"
	}
	var all []string
	for _, f := range n.Value.(yaml.Fields) {
		all = append(all, Canon(f.Key)+":"+Canon(f.Value))
	}
	return "{" + strings.Join(all, ",") + "}"
}

// scalars are plain scalars that readers of YAML disagree about.
func scalars() []string {
	return strings.Split(`yes|Yes|YES|yEs|y|Y|n|no|No|on|On|ON|oN|off|OFF|true|True|TRUE|tRue|false|null|Null|NULL|nULL|~|~~|nil|None
0|-0|+0|1|-1|+1|00|01|0644|-0644|+0777|08|09|0o644|0644_|0_|0_7|_1|1_|1_000|1__0|0x1F|0X1F|0x_1|-0xff|0xg|0b101|0b1_0|0b2|-0b1|1e3|1E3|1e+3|1.|1.0|1.5|1.10|-1.5|+.5|.5|-.5|.5_|._5|1._5|1_0.5|1.5e3|1.5e+3|1.5E-3|.5e+3|1.e+3|1.5e+400|.inf|.Inf|.INF|-.inf|+.inf|.iNf|.nan|.NaN|-.nan
1:30|1:3|1:60|01:30|0:30|12:30:45|-1:30|+1:30|190:20:30|190:20:30.15|1:30.|1:30.5_5|0:0:0.5|22:22|1:2:3:4|1_0:30
123456789012345678901234567890|-9223372036854775808|9223372036854775808|0xffffffffffffffffffff|0777777777777777777777777
2001-01-01|2001-1-1|2001-1-1 1:00:00|2001-12-14T21:59:43.10-05:00|2001-12-14t21:59:43.123456789Z|2001-12-14 21:59:43.10 -5|2001-12-14 21:59:43|2001-12-14 21:59|2001-12-14T21:59:43+00:00|2001-12-14T21:59:43+05:30|2001-12-14T21:59:43.|2001-13-01|2001-02-29|2000-02-29|0000-01-01|2001-12-14T25:00:00Z|2001-12-14T21:59:60Z|2001-12-14T21:59:43+24:00|2001-12-14T21:59:43-00:90
<<|=|.|..|-|--|+|:a|a:b|a#b|-a|?a|1.2.3|192.0.2.1|::1|10:20:aa|a b|a-b|/etc|https://x.y/z?a=b#c|%a|a%|@a|!|&a|*a|é|a  b`, "|")
}

// Documents are YAML texts of every form, valid and not.
func Documents() []string {
	docs := []string{
		"[-, -]\n", "{?a: b}\n", "[a]#b\n", "k: \"v\"#c\n", "%YAML 1.9 # new\n---\nv\n", "%UNKNOWN x\n---\nv\n", "%YAML 2.0\n---\nv\n", "%YAML 1.1\n%YAML 1.1\n---\nv\n", "# c\n...\n", "{k\n : v}\n", "--- >\nfolded\n", "{!!str : v}\n", "- |+\n   ", "- |\n x\n!int >+]", "- x\ny [", "- x\ny \"", "k: |\n  x\n    ", "k: &an:chor v\n", "&a", "&&a", "%TAG !e! tag:yaml.org,2002:\n---\n!e!int \"7\"\n", "%TAG ! tag:yaml.org,2002:\n---\n!str 7\n", "!<tag:yaml.org,2002:int> \"7\"\n", "!u!x v\n", "!!%73tr 7\n", "!!%zz 7\n", "!!%ff 7\n",
		"", "\n", "---\n", "---\n...\n", "# only\n", "--- a\n", "a\n---\nb\n", "a\n...\n", "a\n...\nb\n", "%YAML 1.1\n---\na: 1\n", "%YAML 1.2\n---\na: yes\n", "%TAG ! tag:x,2000:\n---\n!a b\n", "%FOO bar\n---\na\n",
		"a: 1\nb: 2\na: 3\n", "{a: 1, a: 2}", "1: a\n1.0: b\ntrue: c\n", "null: a\n~: b\n", "? a\n: b\n", "? a\n", "? [a]\n: b\n", "? {a: b}\n: c\n", "[a, b]: c\n", "2001-01-01: x\n",
		"a: &x {b: 1}\nc: *x\n", "a: &x [1, 2]\nb: [*x, *x]\n", "a: *x\n", "&a [*a]", "a: &x 1\n*x : b\n", "a: &x\nb: *x\n", "&x a: *x\n", "a: &x 1\nb: &x 2\nc: *x\n",
		"a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  c: 3\n", "d: {<<: {a: 1}, a: 2}\n", "d: {a: 2, <<: {a: 1}}\n", "d:\n  <<: [{a: 1, b: 1}, {b: 2, c: 2}]\n  d: 4\n", "<<: 1\n", "<<: [1]\n", "<<: {a: 1}\n<<: {a: 2, b: 3}\n", "\"<<\": {a: 1}\n", "<<: {<<: {a: 1}, b: 2}\nc: 3\n", "!!str <<: {a: 1}\n", "=: 1\n", "a: =\n", "a: <<\n", "- <<\n", "<<: []\n", "<<: ~\n",
		"!!str 12", "!!int \"12\"", "!!int abc", "!!int 0x1F", "!!float 1", "!!float a", "!!float .inf", "!!bool yes", "!!bool 'On'", "!!bool x", "!!null x", "!!null ''", "!!binary aGk=", "!!binary |\n  aGVs\n  bG8=\n", "!!binary a", "!!binary bG8=GVs", "!!binary a==b", "!!binary aG==k=", "!!binary aA=x=", "!!binary =", "!!binary b=", "!!binary aGkx=", "!!binary aGk=é", "!!timestamp 2001-01-01", "!!timestamp x", "!!str [a]", "!!seq a", "!!map {a: b}", "!!seq [a]", "!!map [a]", "!!python/unicode x", "!!python/object x", "!foo x", "! 12", "! \"12\"", "! [a]", "!<tag:yaml.org,2002:str> 12", "!!str", "!!int", "a: !!str\nb: 1\n", "!!str yes: 1",
		"a: |\n  x\n  y\n", "a: |-\n  x\n", "a: |+\n  x\n\n", "a: >\n  x\n  y\n\n  z\n", "a: >-\n  x\n   y\n  z\n", "a: |2\n   x\n", "a: |\n\tx\n", "a: |\n x\n  y\n z\nb: 1\n", "a: |\n\n\n  x\n", "- |\n x\n- >\n y\n", "a: | # c\n  x\n", "a: |9\n", "a: |x\n", "a: |\n  x\n y\n", "a: ''\n", "a: 'it''s'\n", "a: \"\\x41\\u00e9\\U0001F600\\n\\e\\0\\N\\_\\L\\P\\/\"\n", "a: \"\\q\"\n", "a: \"x\n  y\n\n  z\"\n", "a: 'x\n  y'\n", "a: \"x \\\n  y\"\n", "a: \"x\n", "a: 'x\n", "a: x\n  y\n  z\n", "a: x\n\n  y\n",
		"a: b: c\n", "a: - b\n", "a:\n- b\n- c\n", "a:\n  - b\n - c\n", "- a\nb: c\n", "a: 1\n b: 2\n", " a: 1\nb: 2\n", "a:\n  b: 1\n c: 2\n", "a:b", "a:\tb\n", "a: \tb\n", "\ta: b\n", "a:\n\tb: c\n", "- a\n-b\n", "-\ta\n", "- \ta\n", "- - a\n  - b\n", "-  - a\n   - b\n", "a: [b, c\n", "a: [b, c]]\n", "a: [b,, c]\n", "a: [b, c,]\n", "[a: b, c]\n", "[a, {b: c}]\n", "{a, b: c}\n", "{a: , b: }\n", "{a:1}\n", "{\"a\":1}\n", "{'a':1, b: 2}\n", "[a:b]\n", "{a: b:c}\n", "[http://x/y]\n", "{a: http://x:80/y}\n", "[\n a,\n b\n]\n", "a: [\nb\n]\n", "a: {\n}\n", "[? a : b]\n", "{? a : b}\n", "[a b, c  d]\n", "[-a, -1]\n", "[-]\n", "[- a]\n", "[:a]\n", "{:a: b}\n", "a: ,b\n", "a: [b]c\n", "a: {b: c} d\n", "a: \"b\" c\n", "a: 'b'#c\n", "a: b#c\n", "a: b #c\n", "#c\na: b\n", "a: # c\n  b\n", "a #c\n: b\n", "a:\n# c\n  b: c\n", "a: @b\n", "a: `b\n", "a: %b\n", "%a\n", "a: !b\n", "a: &b\n", "a: *\n", "a: &\n", "a: |\n  x\n--- b\n", "a: b\n---\n", "--- |\n x\n", "---a\n", "--- {a: b}\n", "...\n", "... a\n",
		"a: b\t\n", "a: b\t# c\n", "a: b # c\td\n", "a: 'x\ty'\n", "a: \"x\ty\"\n", "a: \"x\n\ty\"\n", "a: |\n  x\ty\n  \tz\nb: 1\n", "#\tc\na: b\n", "a: it's\tb\n", "- |\n\n  a\n\t\n- b\n", "a: \"x\" \t\n", "a:\n  b\tc\n", "a: \\\t\n", "a: |\t\n  x\n", "\t\na: b\n", "\t# c\na: b\n", "[a,\tb]\n", "{a:\tb}\n", "a: \"\\\"\t\"\n", "a: 'x''\ty'\n", "- !!str\tx\n", "a: &x\tb\n", "?\ta\n", "a: b  # it's\n", "a: b\n\t\n\n", "a: |\n  x\n\t\n", "a: 'x\n\t\n  y'\n",
		"a: b\r\nc: d\r\n", "a: b\rc: d\r", "\ufeffa: b\n", "a: \ufeffb\n", "a: \u0085b\n", "a: \u2028b\n", "a: \x00\n", "a: \x07\n", "a: \x7f\n", "a: \u0080\n", "a: \ufffe\n", "a: \"\u2028x\"\n", "a: \u00a0b\n", "é: ü\n", "a: 😀\n", "a\n\n\n", "a: 'x'\n'b': y\n", "\"a\": b\n", "? |\n  x\n: y\n", "a: [1, 2]: 3\n", "- ? a\n  : b\n- c: d\n", "a:\n  b:\n    c\n", "a:\n    b\n  c\n", "a: \"b\"\n: c\n", ": c\n", "- :\n", "? \n", "a: ? b\n", "-\n", "- \n- \n", "a:\n-\n-\n", "- a: 1\n  b: 2\n-\n  a: 3\n", "a:\n  - b: 1\n    c: 2\n", "#cloud-config\nruncmd:\n - [ls, -l, /]\n - echo hi\n - |\n   a\n   b\npackages:\n- x\n- [y, 1.10]\nwrite_files:\n- path: /x\n  permissions: 0644\n  content: |\n    a: b\n",
		strings.Repeat("[", 150) + strings.Repeat("]", 150), "a: " + strings.Repeat("x", 2000) + "\n", strings.Repeat("k", 1100) + ": v\n", "\"" + strings.Repeat("k", 1100) + "\": v\n", "[" + strings.Repeat("k", 1100) + ": v]\n", "? " + strings.Repeat("k", 1100) + "\n: v\n", "a\nb: c\n", "\"a\nb\": c\n", "[\"a\nb\": c]\n", "{\"a\nb\": c}\n", "{a\nb: c}\n", "{a\n: c}\n", "- &a b\n- !!str &a c\n- &a !!str d\n- *a\n", "- &a &b c\n", "- !!str !!int c\n", "&a\n- b\n", "a: &b\n  c: d\n", "a: !!map\n  c: d\n", "!!map\na: b\n", "--- !!map\na: b\n", "a: >\n\n\n  x\n\n   y\n\n  z\n\n\n", "a: >+\n  x\n\n\nb: c\n", "a: |1-\n  x\n", "a: |-1\n  x\n", "a: |0\n  x\n", "a: |11\n  x\n", "a: >\n  x\n  \ty\n  z\n",
	}
	for _, s := range scalars() {
		s = strings.Trim(s, "\n")
		docs = append(docs, s, "k: "+s+"\n", "- "+s, "["+s+"]", s+": v\n", "{k: "+s+", x: 1}")
	}
	return docs
}

// SameAsPyYAML holds that what cloud-init's YAML reader accepts is read equal,
// and what it refuses is refused.
func SameAsPyYAML(t *testing.T, docs []string) {
	t.Helper()
	Need(t, "yaml, cloudinit.safeyaml", "cloud-init")
	var want []string
	Run(t, PythonCanon+`
from cloudinit import safeyaml
out = []
for doc in json.load(sys.stdin):
    try: out.append(canon(safeyaml.load(doc)))
    except RecursionError: out.append("error: recursion")
    except Exception as e: out.append("error: " + str(e).replace("\n", " "))
print(json.dumps(out))
`, docs, &want)
	bad := 0
	for i, doc := range docs {
		got := ""
		if d, err := yaml.Parse("f", doc); err != nil {
			got = "error: " + err.Error()
		} else {
			got = Canon(d.Root)
		}
		if got != want[i] && !(strings.HasPrefix(got, "error: ") && strings.HasPrefix(want[i], "error: ")) {
			bad++
			t.Errorf("%.80q\n got %.200s\nwant %.200s", doc, got, want[i])
		}
	}
	t.Logf("%d documents, %d differ", len(docs), bad)
}

// MutatedYAML makes n documents of those that a fuzz target begins with; a few
// less, since not every one is UTF-8.
func MutatedYAML(target mutate.Target, n int) []string {
	var docs []string
	m := mutate.New(target)
	for range n {
		s := m.Next()
		if !utf8.ValidString(s) {
			continue
		}
		if _, err := yaml.Parse("f", s); err == nil {
			m.Keep(s)
		}
		docs = append(docs, s)
	}
	return docs
}
