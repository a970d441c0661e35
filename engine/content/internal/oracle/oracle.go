// Package oracle compares what b9 reads with what Python's readers read, for
// the tests of the packages around.
//
//	Need, Run            a program for the Python that cloud-init runs on
//	Canon, PythonCanon   a value as text, equal on both sides
//	Documents            YAML that readers disagree about
//	SameAsPyYAML         compares readers of YAML
package oracle

import (
	_ "embed" // for the documents
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
//
//go:embed canon.py
var PythonCanon string

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

// documents.txt holds YAML texts of every form, valid and not; scalars.txt plain
// scalars that readers of YAML disagree about. Both have a text in Go's quotes a
// line.
var (
	//go:embed documents.txt
	documents string
	//go:embed scalars.txt
	scalars string
)

// Documents are YAML texts of every form, valid and not.
func Documents() []string {
	docs := unquoted(documents)
	for _, s := range unquoted(scalars) {
		docs = append(docs, s, "k: "+s+"\n", "- "+s, "["+s+"]", s+": v\n", "{k: "+s+", x: 1}")
	}
	return docs
}

func unquoted(lines string) []string {
	var all []string
	for line := range strings.Lines(lines) {
		text, err := strconv.Unquote(strings.TrimSuffix(line, "\n"))
		if err != nil {
			panic(fmt.Sprintf("%s: %v", line, err))
		}
		all = append(all, text)
	}
	return all
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
		if !utf8.ValidString(s) || strings.HasPrefix(s, "\ufeff") { // which Parse refuses
			continue
		}
		if _, err := yaml.Parse("f", s); err == nil {
			m.Keep(s)
		}
		docs = append(docs, s)
	}
	return docs
}
