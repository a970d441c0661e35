package engine

import (
	"reflect"
	"testing"
	"time"

	"b9/engine/store"
)

func sampleTrace() *Trace {
	d := store.Sum([]byte("x"))
	return &Trace{
		Made: time.Unix(1, 2), Steps: 3, Printed: "printed\n", Names: d,
		Looks:   []Look{{Path: "/a b", Sign: "1:2"}, {Path: "/gone", Sign: absent}},
		Sources: []TracedSource{{"engine.FileSource", `{"Path":"/a"}`, d}},
		Tools:   []TracedTool{{Tool{"mke2fs", []string{"-V"}}, "mke2fs 1\n"}},
		Results: []TracedResult{{"//a:b", "/", "/out/a/b", "3:4", 5, store.Object{Kind: store.Tree, Digest: d, Size: 5}, true}},
	}
}

func TestTraceIsReadAsItWasWritten(t *testing.T) {
	want := sampleTrace()
	data := want.Encode()
	got, err := DecodeTrace(data)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v (%v), want %+v", got, err, want)
	}
	for n := range data {
		if _, err := DecodeTrace(data[:n]); err == nil {
			t.Errorf("the first %d of %d bytes were taken for a trace", n, len(data))
		}
	}
}

func FuzzDecodeTrace(f *testing.F) {
	f.Add(sampleTrace().Encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		tr, err := DecodeTrace(data)
		if err != nil {
			return
		}
		again, err := DecodeTrace(tr.Encode())
		if err != nil || !reflect.DeepEqual(again, tr) {
			t.Errorf("%+v became %+v (%v)", tr, again, err)
		}
	})
}
