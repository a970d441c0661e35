package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
)

// joined has 4 bytes of data at 2, of which the part wants 6, and 3 from the middle
// of another image at 10.
func joined() *Joined {
	return &Joined{Length: 16, Parts: []Part{
		{Start: 2, Length: 6, Img: Bytes("abcd")},
		{Start: 10, Length: 3, Img: Bytes("0123456"), Off: 2},
	}}
}

const joinedBytes = "\x00\x00abcd\x00\x00\x00\x00234\x00\x00\x00"

func TestJoinedReadsPartsAndZeros(t *testing.T) {
	j := joined()
	for off := range 16 {
		for n := range 20 {
			b := bytes.Repeat([]byte("x"), n)
			got, err := j.ReadAt(b, int64(off))
			want := joinedBytes[off:min(off+n, 16)]
			if string(b[:got]) != want || (err == io.EOF) != (off+n > 16) || err != nil && err != io.EOF {
				t.Fatalf("%d bytes at %d: %q, %v; want %q", n, off, b[:got], err, want)
			}
		}
	}
	if _, err := j.ReadAt(make([]byte, 1), -1); err == nil || err == io.EOF {
		t.Errorf("a read before the start: %v", err)
	}
}

// extents lists an image's extents as "state start length".
func extents(t *testing.T, img Image) (all []string) {
	for off := int64(0); off < img.Size(); {
		e, err := img.Extent(off)
		if err != nil || e.Start != off || e.Length < 1 {
			t.Fatalf("extent at %d: %+v, %v", off, e, err)
		}
		all = append(all, fmt.Sprint(e.State, " ", e.Start, " ", e.Length))
		off = e.End()
	}
	return all
}

func TestJoinedKnowsItsHoles(t *testing.T) {
	want := "hole 0 2,data 2 4,hole 6 2,hole 8 2,data 10 3,hole 13 3"
	if got := strings.Join(extents(t, joined()), ","); got != want {
		t.Errorf("extents %s, want %s", got, want)
	}
	for _, off := range []int64{-1, 16} {
		if _, err := joined().Extent(off); err != io.EOF {
			t.Errorf("extent at %d: %v", off, err)
		}
	}
}

func TestSectionReachesPastTheEnd(t *testing.T) {
	s := Section(Bytes("abcdef"), 4, 5)
	b := make([]byte, 5)
	if n, err := s.ReadAt(b, 0); n != 5 || err != nil || string(b) != "ef\x00\x00\x00" {
		t.Errorf("%d bytes %q, %v", n, b, err)
	}
	if got := strings.Join(extents(t, s), ","); got != "data 0 2,hole 2 3" {
		t.Errorf("extents %s", got)
	}
}

// closer counts how often it is closed.
type closer int

func (c *closer) Close() error { *c++; return nil }

func TestCloseClosesWhatIsOwned(t *testing.T) {
	var a, b closer
	j := &Joined{Closers: []io.Closer{&a, &b}}
	if err := j.Close(); err != nil || a != 1 || b != 1 {
		t.Errorf("closed %d and %d times, %v", a, b, err)
	}
}

// broken is an image whose check finds something.
type broken struct{ Bytes }

func (broken) Layout() Layout { return Layout{} }

func (broken) Check(_ context.Context, r *Report) error { r.Corrupt("bad"); return nil }

func TestACheckGoesThroughTheParts(t *testing.T) {
	j := &Joined{Length: 2, Parts: []Part{{Length: 1, Img: broken{Bytes("a")}}, {Start: 1, Length: 1, Img: Bytes("b")}}}
	var r Report
	if err := j.Check(context.Background(), &r); err != nil || r.Corruptions != 1 || len(r.Problems) != 1 {
		t.Errorf("report %+v, %v", r, err)
	}
}

func TestAReportHoldsFewSentences(t *testing.T) {
	var r Report
	for range 30 {
		r.Leak("leak")
		r.Corrupt("corruption %d", 1)
	}
	if r.Leaks != 30 || r.Corruptions != 30 || len(r.Problems) != maxProblems || r.Problems[1] != "corruption 1" {
		t.Errorf("report %+v", r)
	}
}

func TestRefuse(t *testing.T) {
	all := WriteOptions{Compress: "zlib", Subformat: "fixed", Backing: &Backing{}}
	for _, c := range []struct {
		o     WriteOptions
		known []Option
		want  string
	}{
		{WriteOptions{}, nil, ""},
		{all, []Option{Compression, Subformat, BackingFile}, ""},
		{all, nil, "format x has no compression"},
		{all, []Option{Compression}, "format x has no subformat"},
		{all, []Option{Compression, Subformat}, "format x has no backing file"},
	} {
		got := ""
		if err := c.o.Refuse("x", c.known...); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("known %v: %q, want %q", c.known, got, c.want)
		}
	}
}
