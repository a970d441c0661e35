package b9_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/lang"
)

// TestPartsHaveParameters finds, for every part of the key of every kind of action that a
// call records, the parameter that it comes from, which is what `b9 explain` names.
func TestPartsHaveParameters(t *testing.T) {
	fixTools(t)
	k := newKeyTable(t, unpackWorkspace(t, filepath.Join("testdata", "golden", "keys.txtar")))
	k.add(k.steps("//...")...)
	constant := []string{ // nothing that a call says changes them
		"bootstrap Image.Archive", "bootstrap Image.Compress", "bootstrap Image.FAT", "bootstrap Image.FS", "bootstrap Image.Sector", "bootstrap Image.Strip",
		"base64 Form", "gzip Form", "file Keep", "file Path", "image ImageOnly",
		"cloud_init Parts", "tree Entries", "tree Rules", // numbers of elements, which are told
	}
	operations := builtins.Operations(builtins.Settings{})
	for _, e := range k.entries {
		i := slices.IndexFunc(operations, func(o lang.Operation) bool { return o.Name == e.node.Builtin() })
		if i < 0 {
			continue
		}
		for _, p := range e.parts {
			switch word, _, _ := strings.Cut(p.Name, " "); word {
			case "b9", "kind", "time", "output", "fingerprint", "tool", "input":
				continue
			}
			if _, ok := operations[i].OriginOf(e.node.Action(), p.Name); !ok && !slices.Contains(constant, e.node.Builtin()+" "+p.Name) {
				t.Errorf("%s %s: no parameter of %s() is said to be behind the part %s", e.node.Action().Kind(), e.node.Label(), e.node.Builtin(), p.Name)
			}
		}
	}
}
