package engine

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"b9.build/b9/engine/store"
)

// TestPlacedChangesLineByLine holds what is written of placed results against a map of all,
// over random changes, and what is read of some paths against what is read of all.
func TestPlacedChangesLineByLine(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	model := map[string]string{}
	for range 300 {
		lines := map[string]string{}
		changes := map[string]placedChange{}
		for range random.IntN(4) {
			rel := fmt.Sprintf("p%d/%s", random.IntN(4), []string{"a", "a b", "a.b", "é"}[random.IntN(4)])
			lines[rel], changes[rel] = "", placedChange{rel: rel}
			if random.IntN(3) > 0 {
				r := Placed{Object: store.Object{Digest: store.Digest{byte(random.IntN(3))}}, Mode: 0o644, Sign: "1:2"}
				lines[rel], changes[rel] = r.lines(rel), placedChange{rel: rel, to: &r}
			}
		}
		var text bytes.Buffer
		err := writeChanged(&text, dir, slices.Collect(maps.Values(changes)))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, placedFile), text.Bytes(), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		for rel, line := range lines {
			if model[rel] = line; line == "" {
				delete(model, rel)
			}
		}
		want := ""
		for _, rel := range slices.Sorted(maps.Keys(model)) {
			want += model[rel]
		}
		if text.String() != want {
			t.Fatalf("after %q:\n%s\nwant\n%s", slices.Collect(maps.Keys(lines)), &text, want)
		}
	}
	all, err := PlacedIn(dir)
	only := map[string]bool{"p0/a b": true, "p3/é": true, "none": true}
	some, serr := readPlaced(dir, among(only))
	if err != nil || serr != nil || len(all) != len(model) {
		t.Fatalf("read %d of %d: %v, %v", len(all), len(model), err, serr)
	}
	if maps.DeleteFunc(all, func(rel string, _ Placed) bool { return !only[rel] }); !maps.Equal(some, all) {
		t.Errorf("of some paths %v is read, of all %v", some, all)
	}
}
