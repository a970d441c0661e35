package store

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

// TestResultsChangeLineByLine holds the list that is written line by line against one that is
// put together from a map, over random changes: new, other and no objects, labels that sort
// apart once they are quoted, and a list that is damaged.
func TestResultsChangeLineByLine(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	model := map[string]string{}
	var list []byte
	for range 300 {
		lines := map[string]string{}
		for range random.IntN(4) {
			label := fmt.Sprintf("//p%d:%s", random.IntN(4), []string{"a", "a b", "a\n", "é", `"`, "~"}[random.IntN(6)])
			lines[strconv.Quote(label)] = ""
			if random.IntN(3) > 0 {
				lines[strconv.Quote(label)] = resultLine(label, []Object{{File, Digest{byte(random.IntN(3))}, 1}})
			}
		}
		if random.IntN(20) == 0 {
			list, model = bytes.Replace(list, []byte(" 1 "), []byte(" 9 "), 1), map[string]string{}
		}
		for label, line := range lines {
			if model[label] = line; line == "" {
				delete(model, label)
			}
		}
		list = withResults("/w", list, lines)
		want := resultsTag + `"/w"` + "\n"
		for _, label := range slices.Sorted(maps.Keys(model)) {
			want += model[label] + "\n"
		}
		if string(list) != want {
			t.Fatalf("after %q:\n%s\nwant\n%s", slices.Collect(maps.Keys(lines)), list, want)
		}
	}
}
