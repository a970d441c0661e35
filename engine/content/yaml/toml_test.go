package yaml_test

import (
	"testing"

	"b9.build/b9/engine/content/internal/oracle"
	"b9.build/b9/engine/content/yaml"
)

// TestPythonReadsTOMLEqual has Python read the TOML that was written of every
// document that can be written so.
func TestPythonReadsTOMLEqual(t *testing.T) {
	oracle.Need(t, "tomllib", "python3")
	odd := "a: \"x'''\\n\\\"\\\"\\\"y\\\\\\t\\r\\x7f\"\n'k \"q': {it's: C:\\x}\nf: [1.0e+300, .inf, 0.1]\n"
	var written, want []string
	for _, doc := range append(oracle.Documents(), odd) {
		d, err := yaml.Parse("f", doc)
		if err != nil {
			continue
		}
		text, err := d.Root.TOML()
		if err != nil {
			continue
		}
		again, err := yaml.ParseTOML("again", text)
		if err != nil {
			t.Errorf("%q was written as %q: %v", doc, text, err)
			continue
		}
		written, want = append(written, text), append(want, oracle.Canon(again.Root))
	}
	var got []string
	oracle.Run(t, oracle.PythonCanon+`
import tomllib
def read(doc):
    try: return canon(tomllib.loads(doc))
    except Exception as e: return "error: " + str(e)
print(json.dumps([read(doc) for doc in json.load(sys.stdin)]))
`, written, &got)
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%.200q is read as\n%.300s\nwant %.300s", written[i], got[i], want[i])
		}
	}
	if len(got) < 50 {
		t.Errorf("only %d documents were written", len(got))
	}
}
