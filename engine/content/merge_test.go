package content

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"b9.build/b9/engine/content/internal/oracle"
	"b9.build/b9/engine/content/yaml"
)

func mustParse(t testing.TB, file, text string) *yaml.Node {
	t.Helper()
	d, err := yaml.Parse(file, text)
	if err != nil {
		t.Fatal(err)
	}
	return d.Root
}

// mergeTexts merges YAML texts, which get the names a, b, c ...
func mergeTexts(t testing.TB, strategy string, texts ...string) (string, error) {
	t.Helper()
	var docs []*yaml.Node
	for i, text := range texts {
		docs = append(docs, mustParse(t, string(rune('a'+i)), text))
	}
	n, err := Merge(strategy, docs)
	if err != nil || n == nil {
		return "", err
	}
	return oracle.Canon(n), nil
}

func TestMerge(t *testing.T) {
	tests := []struct{ strategy, a, b, want string }{
		{"strict", "x: 1\ny: [a]\n", "y: [b]\nz: 2\n", `{"x":i1,"y":["a","b"],"z":i2}`},
		{"strict", "x: {a: 1}\n", "x: {a: 1, b: 2}\n", `{"x":{"a":i1,"b":i2}}`},
		{"strict", "", "x: 1", `{"x":i1}`},
		{"strict", "x: 1", "", `{"x":i1}`},
		{"strict", "x: ~", "x: null", `{"x":null}`},
		{"original", "x: a\n", "x: b\n", `{"x":"ab"}`},
		{"original", "x: 1\n", "x: 1\n", `{"x":[i1,i1]}`},
		{"original", "x: [1]\n", "x: a\n", `{"x":[i1,"a"]}`},
		{"original", "x: a\n", "x: [1]\n", `{"x":["a",i1]}`},
		{"original", "x: {a: 1}\n", "x: true\n", `{"x":[{"a":i1},true]}`},
		{"original", "x: {a: [1], b: s}\n", "x: {a: [2], b: t}\n", `{"x":{"a":[i1,i2],"b":"st"}}`},
		{"cloud-init", "x: [1]\ny: {a: 1}\n", "x: [2]\ny: {b: 1}\n", `{"x":[i2],"y":{"b":i1}}`},
		{"list(append)+dict(recurse_list)+str()", "x: [1]\n", "x: [2]\n", `{"x":[i1,i2]}`},
		{"list(append)+dict(recurse_list)+str()", "x: [1]\n", "x: [2]\nmerge_how: ''\n", `{"x":[i1,i2]}`},
		{"cloud-init", "x: [1]\nmerge_how: ' + '\n", "x: [2]\nmerge_type: []\n", `{"x":[i2]}`},
	}
	for _, tt := range tests {
		if got, err := mergeTexts(t, tt.strategy, tt.a, tt.b); err != nil || got != tt.want {
			t.Errorf("%s of %q and %q: got %s, %v; want %s", tt.strategy, tt.a, tt.b, got, err, tt.want)
		}
	}
}

func TestMergeErrors(t *testing.T) {
	tests := []struct{ strategy, a, b, want string }{
		{"strict", "x: 1\ny: {z: a}\n", "y: {z: b}\nx: 2\n", "b:1:8: y.z is \"b\" here and \"a\" at a:2:8: remove one of them, or name a strategy that decides\n" +
			"b:2:4: x is 2 (int) here and 1 (int) at a:1:4: remove one of them, or name a strategy that decides"},
		{"strict", "x: [1]\n", "x: {a: 1}\n", "b:1:4: x is a mapping of 1 here and a list of 1 at a:1:4: remove one of them, or name a strategy that decides"},
		{"strict", "x: 1\n", "x: 1.0\n", "b:1:4: x is 1.0 (float) here and 1 (int) at a:1:4: remove one of them, or name a strategy that decides"},
		{"cloud-init", "x: 1\n", "[a]\n", "b:1:1: cloud-init merges mappings only, got list"},
		{"cloud-init", "x: 1\n", "merge_how: lst()\n", `b:1:12: merge_how: unknown merger "lst" (have dict, list, str)`},
		{"list(append)+dict(no-replace,recurse_lst)", "", "", `unknown setting "recurse_lst" of dict (have replace, no_replace, recurse_list, recurse_array, recurse_str, allow_delete): did you mean "recurse_list"?`},
		{" + ", "", "", `unknown strategy " + " (have strict, original, cloud-init)`},
		{"sloppy", "", "", `unknown strategy "sloppy" (have strict, original, cloud-init, or a merge_how such as "list(append)+dict(recurse_list)+str()")`},
	}
	for _, tt := range tests {
		if _, err := mergeTexts(t, tt.strategy, tt.a, tt.b); err == nil || err.Error() != tt.want {
			t.Errorf("%s of %q and %q: got %v\nwant %s", tt.strategy, tt.a, tt.b, err, tt.want)
		}
	}
}

// randomYAML writes a value with few keys, so that documents meet.
func randomYAML(r *rand.Rand, depth int) string {
	switch n := r.IntN(9); {
	case n < 3 && depth > 0:
		var parts []string
		for _, k := range r.Perm(4)[:r.IntN(4)] {
			parts = append(parts, fmt.Sprintf("%c: %s", 'a'+k, randomYAML(r, depth-1)))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case n < 6 && depth > 0:
		var parts []string
		for range r.IntN(4) {
			parts = append(parts, randomYAML(r, depth-1))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	default:
		return []string{"x", "yz", "''", "1", "2.5", "true", "null", "'1'"}[r.IntN(8)]
	}
}

func randomMergeHow(r *rand.Rand) string {
	settings := []string{"append", "prepend", "replace", "no_replace", "recurse_list", "recurse_array", "recurse_dict", "recurse_str", "allow_delete", "bogus"}
	names := []string{"list", "dict", "str"}
	pick := func() []string {
		var some []string
		for _, i := range r.Perm(len(settings))[:r.IntN(4)] {
			some = append(some, settings[i])
		}
		return some
	}
	var parts []string
	form := r.IntN(4)
	for _, i := range r.Perm(3)[:r.IntN(4)] { // none is as good as no merge_how
		switch form {
		case 0:
			parts = append(parts, fmt.Sprintf("{name: %s, settings: [%s]}", names[i], strings.Join(pick(), ", ")))
		case 1:
			parts = append(parts, "["+strings.Join(append([]string{names[i]}, pick()...), ", ")+"]")
		case 2:
			parts = append(parts, fmt.Sprintf("{name: %s, settings: %s}", names[i], strings.Join(append(pick(), "x"), " ")))
		default:
			parts = append(parts, names[i]+"("+strings.Join(pick(), ",")+")")
		}
	}
	if form == 3 {
		return "'" + strings.Join(parts, "+") + "'"
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// TestMergesAsCloudInit merges random parts of user-data with every kind of
// merge_how, and compares with what cloud-init itself makes of them.
func TestMergesAsCloudInit(t *testing.T) {
	oracle.Need(t, "cloudinit.mergers", "cloud-init")
	r := rand.New(rand.NewPCG(4, 2))
	cases := make([][]string, 1500)
	for i := range cases {
		for range 2 + r.IntN(2) {
			var text strings.Builder
			if r.IntN(4) > 0 {
				fmt.Fprintf(&text, "%s: %s\n", []string{"merge_how", "merge_type"}[r.IntN(2)], randomMergeHow(r))
			}
			for _, k := range r.Perm(4)[:1+r.IntN(3)] {
				fmt.Fprintf(&text, "%c: %s\n", 'a'+k, randomYAML(r, 3))
			}
			cases[i] = append(cases[i], text.String())
		}
	}
	var want []string
	oracle.Run(t, oracle.PythonCanon+`
from cloudinit import mergers, util
def merge(parts):
    buf = {}
    for p in parts:
        y = util.load_yaml(p)
        how = mergers.dict_extract_mergers(y) or mergers.string_extract_mergers("dict(replace)+list()+str()")
        buf = mergers.construct(how).merge(buf, y)
    return buf
out = []
for parts in json.load(sys.stdin):
    try: out.append(canon(merge(parts)))
    except Exception as e: out.append("error: " + repr(e))
print(json.dumps(out))
`, cases, &want)
	refused := 0
	for i, parts := range cases {
		got, err := mergeTexts(t, "cloud-init", parts...)
		switch {
		case strings.HasPrefix(want[i], "error: "):
			refused++
			if err == nil {
				t.Errorf("%q\n got %s\nwant %s", parts, got, want[i])
			}
		case err != nil || got != want[i]:
			t.Errorf("%q\n got %s, %v\nwant %s", parts, got, err, want[i])
		}
	}
	t.Logf("%d merges, of which cloud-init refuses %d", len(cases), refused)
}
