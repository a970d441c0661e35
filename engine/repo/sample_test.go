package repo

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestUnrelatedBase gives a pull bases of which only those are read in whole that
// seem to have something of the image.
func TestUnrelatedBase(t *testing.T) {
	t.Parallel()
	s := kinds()[0].make(t)
	r := s.create(t)
	image := sample(t, 9, 3000)
	v, _ := push(t, r, "web", image)
	for _, c := range []struct {
		name  string
		size  int64
		noise bool
		at    int64 // where the image is in the base; 0: nowhere
		used  bool
	}{
		{"other data only", 80 << 20, true, 0, false},
		{"somewhere in other data", 80 << 20, true, 41 << 20, true},
		{"behind a long hole", 1 << 40, false, 1<<40 - 64<<20, true},
		{"small", 60 << 20, true, 45 << 20, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := baseFile(t, c.size, c.noise, c.at, image)
			dst, tr := pull(t, s.elsewhere(t), v, base)
			sameFiles(t, dst, image)
			if used := tr.Reused > tr.New; used != c.used {
				t.Errorf("used: %v, %+v", used, tr)
			}
		})
	}
}

// TestSampleSpares shows that a base without promise is left: a block that it
// does have, where no sample is taken, is fetched.
func TestSampleSpares(t *testing.T) {
	t.Parallel()
	s := kinds()[0].make(t)
	r := s.create(t)
	image := sample(t, 9, 3000)
	v, _ := push(t, r, "web", image)
	base := baseFile(t, 80<<20, true, 0, image)
	f, err := os.OpenFile(base, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(slurp(t, image)[:blockSize], 79<<20); err != nil {
		t.Fatal(err)
	}
	if _, tr := pull(t, s.elsewhere(t), v, base); tr.Reused >= blockSize {
		t.Errorf("the base was read to its end: %+v", tr)
	}
}

// baseFile makes a file of the given size, with noise or a hole, and an image in it.
func baseFile(t *testing.T, size int64, noise bool, at int64, image string) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "base"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	rng := rand.NewChaCha8([32]byte{1})
	buf := make([]byte, 1<<20)
	for off := int64(0); noise && off < size; off += int64(len(buf)) {
		rng.Read(buf)
		if _, err := f.WriteAt(buf, off); err != nil {
			t.Fatal(err)
		}
	}
	if at > 0 {
		if _, err := f.WriteAt(slurp(t, image), at); err != nil {
			t.Fatal(err)
		}
	}
	return f.Name()
}
