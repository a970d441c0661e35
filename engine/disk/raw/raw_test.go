package raw

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/internal/blob"
)

// written writes img to a new raw file and returns its bytes.
func written(t *testing.T, img image.Image) []byte {
	t.Helper()
	w, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := (Format{}).Write(context.Background(), w, img, image.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(w.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOddSizesAreKept(t *testing.T) {
	for _, n := range []int{0, 1, 511, 4096, 4097, 1<<20 + 3} {
		want := bytes.Repeat([]byte("data"), n/4+1)[:n]
		if got := written(t, image.Bytes(want)); !bytes.Equal(got, want) {
			t.Errorf("%d bytes became %d others", n, len(got))
		}
	}
}

func TestAHoleStaysOne(t *testing.T) {
	w, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	src := &image.Joined{Length: 8 << 20, Parts: []image.Part{{Start: 4 << 20, Length: 4096, Img: image.Bytes(bytes.Repeat([]byte("x"), 4096))}}}
	if err := (Format{}).Write(context.Background(), w, src, image.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	img, err := blob.FromFile(w)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if e, err := img.Extent(0); err != nil || e.State != image.Hole || e.Length != 4<<20 {
		t.Errorf("first extent %+v, %v; want a hole of 4 MiB", e, err)
	}
	if e, err := img.Extent(4 << 20); err != nil || e.State != image.Data {
		t.Errorf("extent of the data %+v, %v", e, err)
	}
}
