package image

import (
	"bytes"
	"io"
	"testing"

	"b9.build/b9/engine/internal/seedtest"
)

// TestWithin compares parts of images with the same bytes between zeros.
func TestWithin(t *testing.T) {
	r := seedtest.Random(t)
	for range 300 {
		data := make([]byte, 1+r.IntN(5000))
		for i := range data {
			data[i] = byte(1 + r.IntN(255))
		}
		want := make([]byte, len(data))
		var parts [][2]int64
		for at := r.Int64N(100); at < int64(len(data)); at += 1 + r.Int64N(900) {
			to := at + 1 + r.Int64N(600)
			parts = append(parts, [2]int64{at, to})
			copy(want[at:min(to, int64(len(want)))], data[at:])
			at = to
		}
		img := Within(Bytes(data), parts)
		got := make([]byte, len(data)+10)
		if n, err := img.ReadAt(got, 0); n != len(data) || err != io.EOF || !bytes.Equal(got[:n], want) {
			t.Fatalf("parts %v: read %d bytes, %v", parts, n, err)
		}
		off := r.Int64N(int64(len(data)))
		some := make([]byte, 1+r.IntN(len(data)-int(off)))
		if n, err := img.ReadAt(some, off); n != len(some) || err != nil || !bytes.Equal(some, want[off:off+int64(n)]) {
			t.Fatalf("parts %v: at %d read %d of %d bytes, %v", parts, off, n, len(some), err)
		}
		for at := int64(0); at < img.Size(); {
			e, err := img.Extent(at)
			if err != nil || e.Start != at || e.Length < 1 || (e.State == Hole) != (want[at] == 0) || e.End() > img.Size() {
				t.Fatalf("parts %v: at %d %+v, %v", parts, at, e, err)
			}
			at = e.End()
		}
		if _, err := img.Extent(img.Size()); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
	}
}
