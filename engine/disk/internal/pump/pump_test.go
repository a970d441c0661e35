package pump

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/mapped"
)

func create(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// source has 10 units of 4096 bytes in which unit i is full of i.
func source() image.Bytes {
	var b []byte
	for i := range 10 {
		b = append(b, bytes.Repeat([]byte{byte(i)}, 4096)...)
	}
	return b
}

func TestUnitsArePlacedInOrder(t *testing.T) {
	for _, c := range []struct {
		name  string
		under image.Image
		want  []int64
	}{
		{"zeros are left out", nil, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9}},
		{"what is equal beneath is left out", source()[:3*4096], []int64{3, 4, 5, 6, 7, 8, 9}},
		{"zeros over data are recorded", image.Bytes(bytes.Repeat([]byte{1}, 4096)), []int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
	} {
		var got []int64
		f := create(t)
		j := Job{Src: source(), Out: f, Unit: 4096, Under: c.under}
		j.Place = func(u *Unit) error {
			if (u.Kind == mapped.Zero) != (len(u.Body) == 0) {
				t.Errorf("%s: a unit of kind %d with %d bytes", c.name, u.Kind, len(u.Body))
			}
			u.At = int64(len(got)) * 4096
			got = append(got, u.Off/4096)
			return nil
		}
		if err := j.Run(context.Background()); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, int64(len(got))*4096-1); err != nil || last[0] != 9 {
			t.Errorf("%s: the file ends with %d, %v", c.name, last[0], err)
		}
	}
}

func TestAnErrorOfPlaceEndsTheJob(t *testing.T) {
	bad := errors.New("bad")
	j := Job{Src: source(), Out: create(t), Unit: 4096, Place: func(*Unit) error { return bad }}
	if err := j.Run(context.Background()); !errors.Is(err, bad) {
		t.Errorf("error %v", err)
	}
}

func TestCopyKeepsToItsPart(t *testing.T) {
	f := create(t)
	if err := f.Truncate(12 << 10); err != nil {
		t.Fatal(err)
	}
	if err := Copy(context.Background(), f, 4096, image.Bytes("text"), nil); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 12<<10)
	copy(want[4096:], "text")
	if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file has %d bytes (%v), or others", len(got), err)
	}
}

func TestWalkCutsAtPieces(t *testing.T) {
	src := &image.Joined{Length: 100, Parts: []image.Part{{Start: 13, Length: 40, Img: image.Bytes(make([]byte, 40))}, {Start: 95, Length: 5, Img: image.Bytes("12345")}}}
	var got []int64
	for e, err := range Walk(context.Background(), src, 8, 32) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Start, e.Length)
	}
	if want := []int64{8, 24, 32, 24, 88, 8, 96, 4}; !slices.Equal(got, want) {
		t.Errorf("runs %v, want %v", got, want)
	}
}
