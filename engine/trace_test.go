package engine

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"b9.build/b9/engine/store"
)

func sampleTrace() *Trace {
	d := store.Sum([]byte("x"))
	return &Trace{
		Made: time.Unix(1, 2), Names: d, Shelves: store.Shelves{0: 7, 255: 1 << 63},
		Listed: []Stamp{{Path: "/", Sign: "1:2"}},
		Files:  []string{"a/B9BUILD.star"},
		Parts: []TracedPart{
			{
				Name: "a/B9BUILD.star", Needs: []string{"lib.star"}, Options: []string{"o string \"\" []"}, Printed: "printed\n", Steps: 3,
				Stamps:  []Stamp{{Path: "/a b", Sign: "1:2"}, {Path: "/gone", Sign: absent}},
				Sources: []TracedSource{{"source-file/1", `{"Path":"/a"}`, d}},
				Results: []Placed{{Label: "//a:b", Output: "/", Path: "/out/a/b", Sign: "3:4", Size: 5, Object: store.Object{Kind: store.Tree, Digest: d, Size: 5}, Stored: true}},
			},
			{Name: "lib.star"},
		},
		Tools: []TracedTool{{Tool{Name: "mke2fs", VersionArgs: []string{"-V"}}, "mke2fs 1\n"}},
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

func TestResultsAreListedOnce(t *testing.T) {
	a, b, other := Placed{Label: "//:a", Output: "out"}, Placed{Label: "//:b", Output: "out"}, Placed{Label: "//:a", Output: "log"}
	tr := &Trace{Files: []string{""}, Parts: []TracedPart{{Results: []Placed{a, b, a, other, b}}}}
	if got, want := results(tr), []Placed{a, b, other}; !reflect.DeepEqual(got, want) {
		t.Errorf("results that are placed nowhere: %v, want %v", got, want)
	}
}

func TestWhatChangedWithinTheGrainIsRacy(t *testing.T) {
	const ms = int64(time.Millisecond)
	for _, c := range []struct {
		stamp Stamp
		grain time.Duration
		want  bool
	}{
		{Stamp{Sign: "1", Age: 99 * ms}, 0, true},
		{Stamp{Sign: "1", Age: 101 * ms}, 0, false},
		{Stamp{Sign: "1", Age: 1999 * ms, Coarse: true}, 0, true},
		{Stamp{Sign: "1", Age: 2001 * ms, Coarse: true}, 0, false},
		{Stamp{Sign: "1", Age: -ms}, 1, true}, // changed after stat was asked, or by another clock
		{Stamp{Sign: "1", Age: ms}, 1, false},
		{Stamp{Sign: "1", Age: 2001 * ms}, time.Hour, true},
		{Stamp{Sign: absent}, time.Hour, false},
	} {
		if got := Racy([]Stamp{{Sign: "1", Age: int64(2 * time.Hour)}, c.stamp}, c.grain); got != c.want {
			t.Errorf("%+v within %v: racy is %v", c.stamp, c.grain, got)
		}
	}
}

func TestAStampKnowsTheAgeOfTheChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	before := time.Now()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l := StampOf(path)
	const coarse = int64(time.Second) // a file system's time may lag behind
	if since := time.Since(before); l.Age < 0 || l.Age > int64(since)+coarse {
		t.Errorf("the file is %v old %v after it was made", time.Duration(l.Age), since)
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

func results(t *Trace) (list []Placed) {
	for r := range t.Results() {
		list = append(list, *r)
	}
	return list
}
