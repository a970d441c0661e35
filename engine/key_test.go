package engine

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/store"
)

type sample struct {
	Text  string
	List  []string
	Env   map[string]string
	Deep  []struct{ A, B string }
	On    bool
	N     int64
	F     float64
	Ptr   *int
	Bytes []byte
	Free  string `key:"-"`
}

func (*sample) Kind() string                    { return "sample/1" }
func (*sample) Run(context.Context, *Job) error { return nil }

func keyOf(t *testing.T, a Action) store.Digest {
	t.Helper()
	n, err := NewNode(a, NodeOptions{Label: "//:x", Outputs: []Output{{Kind: store.File}}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := new(keyMaker).key(n, keyInput{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestEveryValueHasItsOwnKey(t *testing.T) {
	zero, one := 0, 1
	values := []*sample{
		{}, {Text: "a"}, {List: []string{"a"}}, {List: []string{"a", ""}}, {List: []string{"", "a"}}, {List: []string{"a,b"}}, {List: []string{"a", "b"}},
		{Env: map[string]string{"a": "b"}}, {Env: map[string]string{"ab": ""}}, {Env: map[string]string{"a": "", "b": ""}},
		{Deep: []struct{ A, B string }{{"x", "y"}}}, {Deep: []struct{ A, B string }{{"xy", ""}}}, {Deep: []struct{ A, B string }{{}, {}}},
		{On: true}, {N: 1}, {N: -1}, {F: 1}, {F: 0.1}, {Ptr: &zero}, {Ptr: &one}, {Bytes: []byte("a")}, {Bytes: []byte{0}},
	}
	seen := map[store.Digest]int{}
	for i, v := range values {
		d := keyOf(t, v)
		if j, ok := seen[d]; ok {
			t.Errorf("values %d and %d have one key", i, j)
		}
		seen[d] = i
	}
	if keyOf(t, &sample{Free: "x"}) != keyOf(t, &sample{}) {
		t.Error(`a field tagged key:"-" is in the key`)
	}
	if keyOf(t, &sample{Env: map[string]string{"a": "1", "b": "2", "c": "3"}}) != keyOf(t, &sample{Env: map[string]string{"c": "3", "b": "2", "a": "1"}}) {
		t.Error("the order of a map is in the key")
	}
}

type hidden struct{ secret string }

func (*hidden) Kind() string                    { return "hidden/1" }
func (*hidden) Run(context.Context, *Job) error { return nil }

type opaque struct{ F func() }

func (*opaque) Kind() string                    { return "opaque/1" }
func (*opaque) Run(context.Context, *Job) error { return nil }

func TestWhatCannotBeInAKeyIsAnError(t *testing.T) {
	for want, a := range map[string]Action{"not exported": &hidden{secret: "x"}, "can't be part of a key": &opaque{}} {
		n, err := NewNode(a, NodeOptions{Label: "//:x", Outputs: []Output{{Kind: store.File}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := new(keyMaker).key(n, keyInput{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%T: error %v, want %q", a, err, want)
		}
	}
}

func TestPartsNameTheFields(t *testing.T) {
	n, err := NewNode(&sample{List: []string{"a", "b"}, Env: map[string]string{"P": "v"}}, NodeOptions{Label: "//:x", Outputs: []Output{{Kind: store.File}}})
	if err != nil {
		t.Fatal(err)
	}
	parts, _, err := nodeParts(n, keyInput{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, p := range parts {
		got[p.Name] = p.Value
	}
	want := map[string]string{"kind": "sample/1", "List": "2", "List[0]": "a", "List[1]": "b", `Env["P"]`: "v", "N": "0"}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("part %s is %q, want %q (all: %v)", name, got[name], value, got)
		}
	}
	if reflect.ValueOf(sample{}).NumField() != 10 {
		t.Error("sample changed: extend TestEveryValueHasItsOwnKey")
	}
}

func BenchmarkKey(b *testing.B) {
	n, err := NewNode(&sample{Text: "text", List: []string{"a", "b", "c"}, Env: map[string]string{"a": "b"}}, NodeOptions{Label: "//:x", Outputs: []Output{{Kind: store.File}}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := new(keyMaker).key(n, keyInput{}); err != nil {
			b.Fatal(err)
		}
	}
}

// TestTheTimeIsInTheKey: what a step writes depends on it. The usual time is no
// part, so that keys of before stand.
func TestTheTimeIsInTheKey(t *testing.T) {
	n, err := NewNode(&sample{}, NodeOptions{Label: "//:x", Outputs: []Output{{Kind: store.File}}})
	if err != nil {
		t.Fatal(err)
	}
	at := func(epoch time.Time) store.Digest {
		d, err := new(keyMaker).key(n, keyInput{epoch: epoch})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	usual := keyOf(t, &sample{})
	if at(time.Unix(0, 0)) != usual || at(time.Time{}) != usual {
		t.Error("the usual time changes the key")
	}
	day := time.Unix(86400, 0)
	if at(day) == usual || at(day) == at(day.Add(time.Second)) || at(day) != at(day.UTC()) {
		t.Error("the time is not in the key, or its zone is")
	}
}
