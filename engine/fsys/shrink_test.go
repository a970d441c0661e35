package fsys

import (
	"fmt"
	"math/rand"
	"testing"
	"time"

	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/tree"
)

// TestShrinkRandomFillings shrinks and grows file systems with random content
// and geometry; e2fsck and the content must agree every time.
func TestShrinkRandomFillings(t *testing.T) {
	fsystest.Need(t, "mke2fs", "resize2fs", "e2fsck")
	dir := t.TempDir()
	for seed := range int64(20) {
		rnd := rand.New(rand.NewSource(seed))
		img := fmt.Sprintf("%s/%d.img", dir, seed)
		files := randomFiles(rnd)
		o := ext4.Options{Free: int64(rnd.Intn(40 << 20)), BlockSize: []int{1024, 2048, 4096}[rnd.Intn(3)], Reserved: float64(rnd.Intn(6))}
		if rnd.Intn(3) == 0 {
			o.Features = []string{"^has_journal"}
		}
		if err := ext4.Make(t.Context(), img, o, tree.FromFiles(files, time.Time{})); err != nil {
			t.Fatal(seed, err)
		}
		fsystest.Run(t, "e2fsck", "-fn", img)
		extra := int64(rnd.Intn(2)) * int64(rnd.Intn(8<<20))
		n, err := Shrink(t.Context(), img, extra)
		if err != nil {
			t.Fatal(seed, err)
		}
		fsystest.Run(t, "e2fsck", "-fn", img)
		if n != fileSize(t, img) || n != size(t, img) {
			t.Errorf("%d: size %d, file %d, file system %d", seed, n, fileSize(t, img), size(t, img))
		}
		if err := Resize(t.Context(), img, n+int64(rnd.Intn(64<<20))); err != nil {
			t.Fatal(seed, err)
		}
		fsystest.Run(t, "e2fsck", "-fn", img)
		compareReader(t, opened(t, img, 0), files)
	}
}

func randomFiles(rnd *rand.Rand) []tree.File {
	var files []tree.File
	for i := range 20 + rnd.Intn(200) {
		b := make([]byte, rnd.Intn(1<<uint(4+rnd.Intn(15))))
		rnd.Read(b)
		files = append(files, tree.File{Path: fmt.Sprintf("d%d/e%d/f%d", rnd.Intn(5), rnd.Intn(9), i), Data: b})
	}
	return files
}
