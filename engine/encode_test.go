package engine

import (
	"bytes"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"b9.build/b9/engine/store"
)

func sampleActions() Actions {
	return Actions{"sample/1": func() Action { return &sample{} }, "other/2": func() Action { return &sample{} }}
}

func TestAnEncodedActionIsTheSame(t *testing.T) {
	n := 7
	for _, text := range []string{"", "plain <&>", "\x00\xff\xfe", "\uFFFD", "a\uFFFDff\xffz\uFFFD", "ü\u2028"} {
		want := &sample{
			Text: text, List: []string{text, ""}, Env: map[string]string{text: "1", "k": text}, Deep: []struct{ A, B string }{{text, "b"}},
			On: true, N: -1 << 63, F: 0.1, Ptr: &n, Bytes: []byte(text + "\x80"), Free: "not in the key " + text,
		}
		data, err := EncodeAction(want)
		if err != nil {
			t.Fatal(err)
		}
		again, err := EncodeAction(want)
		if err != nil || !bytes.Equal(data, again) {
			t.Errorf("encoded twice: %s and %s, %v", data, again, err)
		}
		got, err := DecodeAction(sampleActions(), data)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v became %+v (%v) by way of %s", want, got, err, data)
		}
		if keyOf(t, got) != keyOf(t, want) {
			t.Errorf("%q: another key", text)
		}
	}
	if reflect.ValueOf(sample{}).NumField() != 10 {
		t.Error("sample changed: extend this test")
	}
}

func TestWhatCannotBeEncodedOrDecoded(t *testing.T) {
	for want, a := range map[string]Action{"is not exported": &hidden{secret: "x"}, "is no plain value": &opaque{}} {
		if _, err := EncodeAction(a); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%T: error %v, want %q", a, err, want)
		}
	}
	for text, want := range map[string]string{
		`{"kind":"other/1","fields":{}}`:                             `unknown kind of action "other/1"`,
		`{"kind":"sample/1","fields":{"New":1}}`:                     `unknown field "New"`,
		`{"kind":"sample/1","fields":{},"more":1}`:                   `unknown field "more"`,
		`{"kind":"sample/1","fields":{}} {}`:                         "more behind it",
		`{"kind":"sample/1","fields":{"Text":"` + "\uFFFD" + `zz"}}`: "bad escape",
		`{"kind":"sample/1","fields":{"Text":"` + "\uFFFD" + `"}}`:   "bad escape",
		`{"kind":"other/2","fields":{}}`:                             `its fields make it "sample/1"`,
		`null`:                                                       `unknown kind of action ""`,
		`[]`:                                                         "encoded action",
	} {
		if a, err := DecodeAction(sampleActions(), []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v and error %v, want %q", text, a, err, want)
		}
	}
}

func FuzzDecodeAction(f *testing.F) {
	data, err := EncodeAction(&sample{Text: "\xff\uFFFD", Env: map[string]string{"a": "b"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"kind":"sample/1","fields":{"List":["a"],"F":1e300}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := DecodeAction(sampleActions(), data)
		if err != nil {
			return
		}
		text, err := EncodeAction(a)
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeAction(sampleActions(), text)
		if err != nil || !reflect.DeepEqual(again, a) {
			t.Errorf("%+v became %+v (%v)", a, again, err)
		}
	})
}

// TestATreeThatChangesWhileItIsCopied runs a copy whose key was made of another
// state of the directory.
func TestATreeThatChangesWhileItIsCopied(t *testing.T) {
	st, err := store.Open(filepath.Join(t.TempDir(), "store"), store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	src := &TreeSource{Path: t.TempDir(), Rel: "src", Exclude: []string{"*.o"}}
	n, err := NewNode(src, NodeOptions{Label: "//:src", Outputs: []Output{{Kind: store.Tree}}})
	if err != nil {
		t.Fatal(err)
	}
	e := New(Config{Store: st})
	now, err := src.Fingerprint(t.Context(), e.world)
	if err != nil {
		t.Fatal(err)
	}
	before := store.Sum([]byte("before"))
	for _, c := range []struct {
		fingerprint store.Digest
		want        string
	}{{now, ""}, {before, "source directory src was changed while it was copied: nothing was stored, build again"}} {
		job := &Job{node: n, engine: e, dir: t.TempDir(), fingerprint: &c.fingerprint}
		if err := src.Run(t.Context(), job); (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}
