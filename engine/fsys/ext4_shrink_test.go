package fsys

import (
	"fmt"
	"math/rand"
	"testing"
	"time"
)

// TestShrinkRandomFillings shrinks and grows file systems with random content
// and geometry; e2fsck and the content must agree every time.
func TestShrinkRandomFillings(t *testing.T) {
	need(t, "mke2fs", "resize2fs", "e2fsck")
	dir := t.TempDir()
	for seed := range int64(20) {
		rnd := rand.New(rand.NewSource(seed))
		img := fmt.Sprintf("%s/%d.img", dir, seed)
		files := randomFiles(rnd)
		o := Ext4Options{Free: int64(rnd.Intn(40 << 20)), BlockSize: []int{1024, 2048, 4096}[rnd.Intn(3)], Reserved: float64(rnd.Intn(6))}
		if rnd.Intn(3) == 0 {
			o.Features = []string{"^has_journal"}
		}
		if err := MakeExt4(ctxOf(t), img, o, FromFiles(files, time.Time{})); err != nil {
			t.Fatal(seed, err)
		}
		run(t, "e2fsck", "-fn", img)
		extra := int64(rnd.Intn(2)) * int64(rnd.Intn(8<<20))
		size, err := Shrink(ctxOf(t), img, extra)
		if err != nil {
			t.Fatal(seed, err)
		}
		run(t, "e2fsck", "-fn", img)
		if size != fileSize(t, img) || size != extSize(t, img) {
			t.Errorf("%d: size %d, file %d, file system %d", seed, size, fileSize(t, img), extSize(t, img))
		}
		if err := Resize(ctxOf(t), img, size+int64(rnd.Intn(64<<20))); err != nil {
			t.Fatal(seed, err)
		}
		run(t, "e2fsck", "-fn", img)
		compareReader(t, opened(t)(OpenReader(img, 0, 0)), files)
	}
}

func randomFiles(rnd *rand.Rand) []File {
	var files []File
	for i := range 20 + rnd.Intn(200) {
		b := make([]byte, rnd.Intn(1<<uint(4+rnd.Intn(15))))
		rnd.Read(b)
		files = append(files, File{Path: fmt.Sprintf("d%d/e%d/f%d", rnd.Intn(5), rnd.Intn(9), i), Data: b})
	}
	return files
}
