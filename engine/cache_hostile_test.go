package engine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"b9.build/b9/engine"
	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/store"
)

// liar is an engine.Cache whose records are well-formed, and wrong.
type liar struct {
	t       *testing.T
	outputs func(store.Object) []store.Output
	asked   int
}

const lie = "what the cache has"

func (l *liar) object() store.Object {
	path := filepath.Join(l.t.TempDir(), "lie")
	if err := os.WriteFile(path, []byte(lie), 0o600); err != nil {
		l.t.Fatal(err)
	}
	d, size, err := digest.Path(l.t.Context(), path, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	return store.Object{Kind: store.File, Digest: d, Size: size}
}

func (l *liar) Lookup(_ context.Context, key store.Digest) ([]byte, bool) {
	l.asked++
	data, err := store.EncodeRecord(&store.Record{Key: key, Label: "//:x", Kind: "x/1", Outputs: l.outputs(l.object())})
	if err != nil {
		l.t.Error(err)
	}
	return data, true
}

func (l *liar) Fetch(_ context.Context, _ store.Digest, dir string) bool {
	for n := range 3 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("output-", n)), []byte(lie), 0o600); err != nil {
			l.t.Error(err)
		}
	}
	return true
}

func (l *liar) Publish(context.Context, store.Digest, []byte, []engine.CachedFile) {}

// TestLyingCache builds with a cache whose records can't be those of the step:
// the step runs.
func TestLyingCache(t *testing.T) {
	for name, outputs := range map[string]func(store.Object) []store.Output{
		"none":    func(store.Object) []store.Output { return nil },
		"another": func(o store.Object) []store.Output { return []store.Output{{Name: "another", Object: o}} },
		"twice": func(o store.Object) []store.Output {
			return []store.Output{{Name: "", Object: o}, {Name: "", Object: o}}
		},
		"others twice": func(o store.Object) []store.Output {
			return []store.Output{{Name: "", Object: o}, {Name: "x", Object: o}, {Name: "x", Object: o}}
		},
		"a tree": func(o store.Object) []store.Output {
			return []store.Output{{Name: "", Object: store.Object{Kind: store.Tree, Digest: o.Digest, Size: o.Size}}}
		},
		"another content": func(o store.Object) []store.Output {
			o.Digest[0]++
			return []store.Output{{Name: "", Object: o}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			l := &liar{t: t, outputs: outputs}
			last := node(t, "//:last", &join{Text: "last"}, node(t, "//:first", &join{Text: "first"}, b.source(t, "a", "a")))
			r, err := b.engine(engine.Config{Cache: l}).Build(t.Context(), last)
			if err != nil || l.asked == 0 {
				t.Fatalf("%v, after %d questions", err, l.asked)
			}
			if r.Cached != 0 {
				t.Errorf("%d steps came from the cache", r.Cached)
			}
		})
	}
}
