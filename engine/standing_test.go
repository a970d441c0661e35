package engine

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"b9.build/b9/engine/store"
)

// TestManyResultsStandByTheirShelves asks the store about directories in place of objects
// where there are many results, and about objects as soon as a directory changed.
func TestManyResultsStandByTheirShelves(t *testing.T) {
	t.Parallel()
	st, err := store.Open(filepath.Join(t.TempDir(), "store"), store.Options{Grain: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(copied, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	there, err := st.Import(t.Context(), copied)
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(copied, link); err != nil {
		t.Fatal(err)
	}
	e := New(Config{Store: st})
	defer e.Close()
	missing := there
	missing.Digest[31] ^= 1 // on the same shelf, and not there
	trace := func(n int, r Placed) *Trace {
		r.Sign, r.Stored = observe(r.Path), true
		part := TracedPart{Name: "f"}
		for range n {
			part.Results = append(part.Results, r)
		}
		return &Trace{Made: time.Now(), Files: []string{"f"}, Parts: []TracedPart{part}}
	}
	known := func(s Standing) bool { return s.Shelves[there.Digest[0]] != 0 }
	var s Standing
	for tr := trace(manyObjects, Placed{Path: copied, Object: there}); !known(s); time.Sleep(time.Millisecond) {
		if s = e.Standing(t.Context(), tr); !s.Stands(tr) {
			t.Fatal("what is there does not stand")
		}
	}
	if !s.News {
		t.Error("the first look at the shelves is no news")
	}
	for _, c := range []struct {
		what string
		of   *Trace
		want bool
	}{
		{"an object on a shelf as it was", trace(manyObjects, Placed{Path: copied, Object: missing}), true},
		{"one of few", trace(manyObjects-1, Placed{Path: copied, Object: missing}), false},
		{"a tree", trace(manyObjects, Placed{Path: copied, Object: store.Object{Kind: store.Tree, Digest: missing.Digest}}), false},
		{"what a link leads to", trace(manyObjects, Placed{Path: link, Object: missing}), false},
		{"what is placed nowhere", trace(manyObjects, Placed{Object: missing}), false},
	} {
		if c.of.Shelves = s.Shelves; e.Standing(t.Context(), c.of).Stands(c.of) != c.want {
			t.Errorf("%s: it stands: %v", c.what, !c.want)
		}
	}
	gone := trace(manyObjects, Placed{Path: copied, Object: there})
	gone.Shelves = s.Shelves
	if now := e.Standing(t.Context(), gone); !now.Stands(gone) || now.News {
		t.Error("what is as it was does not stand, or is news")
	}
	if err := os.Remove(st.Path(there.Digest)); err != nil {
		t.Fatal(err)
	}
	if e.Standing(t.Context(), gone).Stands(gone) {
		t.Error("a result stands of which the object is gone")
	}
}
