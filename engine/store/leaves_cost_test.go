package store

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/layer"
)

// TestAStepHoldsOneTable changes one block of images of which 1 and 16 GiB are data, as the
// tables say, and counts the memory that the new table takes: the text of the image's and little
// besides, however large the image is. 40 bytes for each block of 64 KiB are 10 MiB at 16 GiB.
func TestAStepHoldsOneTable(t *testing.T) {
	for _, gib := range []int64{1, 16} {
		size := gib << 30
		s, table := newStore(t), digest.NewTable(size)
		for i := range digest.Blocks(size) {
			table.Add([]digest.Leaf{{Index: i, Sum: [32]byte{1, byte(i), byte(i >> 8), byte(i >> 16)}}})
		}
		base, text := table.Digest(), uint64(len(table.Text()))
		s.keepLeaves(base, table)
		image, trailer := oneBlock(t, base, size)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		changed, near, err := s.leavesOf(t.Context(), base, trailer, image)
		if err != nil {
			t.Fatal(err)
		}
		d := changed.Digest()
		s.keepLeaves(d, changed, near...)
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > text+text/10+2<<20 {
			t.Errorf("%d GiB: %d bytes are taken, and the table has %d", gib, took, text)
		}
		l, err := s.loadLeaves(d)
		if err != nil || len(l.Since(table)) != 1 {
			t.Errorf("%d GiB: the table that is kept: %v", gib, err)
		}
	}
}

// oneBlock is an image of size bytes, read as a difference of one block to base.
func oneBlock(t *testing.T, base Digest, size int64) (blob.Blob, *layer.Trailer) {
	t.Helper()
	f := must[*os.File](t)(os.Create(filepath.Join(t.TempDir(), "image")))
	check(t, f.Truncate(size))
	must[int](t)(f.WriteAt([]byte("changed"), 5*digest.BlockSize))
	image := must[blob.Blob](t)(blob.Open(f.Name()))
	t.Cleanup(func() { image.Close(); f.Close() })
	return image, &layer.Trailer{Base: base, Size: size, Kept: size, Runs: []layer.Run{{Start: 5, Count: 1, Kind: layer.Here}}}
}
