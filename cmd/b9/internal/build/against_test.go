package build

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"b9.build/b9/engine"
	"b9.build/b9/engine/repo"
	"b9.build/b9/engine/store"
)

// act makes nothing; asking and published are acts of which no repository has the steps.
type (
	act       struct{ N int }
	asking    struct{ N int }
	published struct{ N int }
)

func (act) Kind() string                           { return "test/1" }
func (act) Run(context.Context, *engine.Job) error { return nil }

func (asking) Kind() string                           { return "asking/1" }
func (asking) Run(context.Context, *engine.Job) error { return nil }
func (asking) IsPrivate() bool                        { return true }

func (published) Kind() string                           { return "published/1" }
func (published) Run(context.Context, *engine.Job) error { return nil }
func (published) Stamps(*engine.World) []engine.Stamp    { return nil }
func (published) Lasts(context.Context, *engine.World, []*engine.Artifact) bool {
	return true
}

// refTo is a step whose label is its number.
func refTo(t *testing.T, i int, a engine.Action) engine.Ref {
	t.Helper()
	n, err := engine.NewNode(a, engine.NodeOptions{Label: fmt.Sprint("//:", i), Builtin: "test", Outputs: []engine.Output{{Kind: store.File}}})
	if err != nil {
		t.Fatal(err)
	}
	return n.Ref("")
}

// stepOf is a step of a repository.
func stepOf(t *testing.T, i, version int) repo.Step {
	t.Helper()
	key := store.Digest{byte(i), byte(version), 1}
	data, err := store.EncodeRecord(&store.Record{Key: key, Label: fmt.Sprint("//:", i)})
	if err != nil {
		t.Fatal(err)
	}
	return repo.Step{Key: key.String(), Record: data}
}

// TestPicked takes the newest record of each step, and looks no further than it must: not
// for what no repository has, and not through all that there ever was.
func TestPicked(t *testing.T) {
	p := newPicked([]engine.Ref{refTo(t, 1, act{}), refTo(t, 2, asking{}), refTo(t, 3, published{}), refTo(t, 4, act{})})
	var more []bool
	for _, step := range []repo.Step{stepOf(t, 9, 1), stepOf(t, 1, 2), {Key: "none"}, stepOf(t, 1, 1), stepOf(t, 4, 1)} {
		more = append(more, p.take(step))
	}
	if want := []bool{true, true, true, true, false}; !slices.Equal(more, want) || len(p.found) != 2 || p.found["//:1"].Key != (store.Digest{1, 2, 1}) {
		t.Errorf("it goes on %v, and found %v", more, p.found)
	}
	p, looked := newPicked([]engine.Ref{refTo(t, 1, act{})}), 0
	for step := stepOf(t, 9, 1); p.take(step) && looked <= maxLooked; looked++ {
	}
	if looked >= maxLooked {
		t.Errorf("it looked at %d steps", looked)
	}
}
