package yaml_test

import (
	"encoding/json"
	"math/big"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"b9.build/b9/engine/content/yaml"
)

// TestPyYAMLReadsBackEqual writes values that YAML readers are known to
// mistake, and has the YAML library that cloud-init uses read them.
func TestPyYAMLReadsBackEqual(t *testing.T) {
	python := "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import yaml").Run(); err != nil {
		t.Skipf("no PyYAML for %s (Debian package python3-yaml): %v", python, err)
	}
	texts := []string{
		"", " ", "yes", "No", "on", "0644", "1:30", "0x1F", "1_000", "1e3", "1.5", "null", "~", "#c", "a: b", "- a", "a #b", "trailing ", " leading",
		"two\nlines", "two\nlines\n", "two\n\nlines\n\n", "\nfirst empty", "  indented\nblock", "tab\there", "\ttab", "quote\"'s", "back\\slash", "ü ☃ 😀",
		"{a}", "[a]", "&a", "*a", "!a", "|", ">", "%a", "@a", "`a", "a\rb", "\x00\x01", "\u0085x", "2001-01-01", "=", "<<", ".", "...", "---", "a\n---\nb\n", "key: |\n  x\n", "\u2028", "é\n", "x\n ",
	}
	field := func(key string, value any) yaml.Field {
		return yaml.Field{Key: &yaml.Node{Value: key}, Value: &yaml.Node{Value: value}}
	}
	list := func(values ...any) (nodes []*yaml.Node) {
		for _, v := range values {
			nodes = append(nodes, &yaml.Node{Value: v})
		}
		return nodes
	}
	var all []any
	var m yaml.Fields
	for _, s := range texts {
		all = append(all, s)
		m = append(m, field("k"+s, s))
	}
	big, _ := new(big.Int).SetString("123456789012345678901234567890", 10)
	root := &yaml.Node{Value: yaml.Fields{
		field("texts", list(all...)), field("map", m), field("numbers", list(int64(-5), 0.1, 1e30, 1e-7, 3.0, big)),
		field("empty", list(list(), yaml.Fields{}, nil, true, false)),
	}}
	text, err := root.YAML()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "-c", "import yaml,json,sys; print(json.dumps(yaml.safe_load(sys.stdin.buffer.read().decode())))")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var got map[string]any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	for i, v := range got["texts"].([]any) {
		if v != texts[i] {
			t.Errorf("%q came back as %#v", texts[i], v)
		}
		if v := got["map"].(map[string]any)["k"+texts[i]]; v != texts[i] {
			t.Errorf("under its key %q came back as %#v", texts[i], v)
		}
	}
	if want := []any{-5.0, 0.1, 1e30, 1e-7, 3.0, 123456789012345678901234567890.0}; !reflect.DeepEqual(got["numbers"], want) {
		t.Errorf("numbers came back as %v, want %v", got["numbers"], want)
	}
	if want := []any{[]any{}, map[string]any{}, nil, true, false}; !reflect.DeepEqual(got["empty"], want) {
		t.Errorf("came back as %v, want %v", got["empty"], want)
	}
}
