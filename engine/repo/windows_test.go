package repo

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestWindows cuts contents of many shapes and puts them together again.
func TestWindows(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		c := content{}
		at := int64(0)
		for range rng.IntN(2000) {
			r := run{at + rng.Int64N(100), 1 + rng.IntN(packBlocks), rng.IntN(1 + rng.IntN(500)), 0}
			at = r.at + int64(r.count)
			c.runs = append(c.runs, r)
		}
		c.size = (at + rng.Int64N(10)) * blockSize
		var runs int
		end := int64(0)
		all := c.windows()
		for _, w := range all {
			blocks := 0
			for i, r := range w.runs {
				blocks += r.count
				if r != c.runs[runs+i] || r.at < w.from || r.at+int64(r.count) > w.to || !w.packs[r.pack] {
					t.Fatalf("run %+v is not where it belongs, in %d..%d", r, w.from, w.to)
				}
			}
			runs += len(w.runs)
			if w.from != end || blocks > windowBlocks || len(w.packs) > windowPacks || w.whole != (len(all) == 1) {
				t.Fatalf("window %d..%d after %d: %d blocks, %d packs, whole %v", w.from, w.to, end, blocks, len(w.packs), w.whole)
			}
			end = w.to
		}
		if runs != len(c.runs) || end != blocksIn(c.size) {
			t.Fatalf("%d of %d runs, up to %d of %d", runs, len(c.runs), end, blocksIn(c.size))
		}
	}
}

// TestManyPacks pulls an image that lies in more packs than a window takes:
// anew, over what another image's pull left, and with a base in which the
// data lies elsewhere.
func TestManyPacks(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	s := site{dir, Location{Path: dir}, Options{State: t.TempDir()}}
	r := s.create(t)
	const packs = windowPacks + 3
	image := noise(t, 1, 2*packs*blockSize)
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for n := range int64(packs) {
		if _, err := f.WriteAt([]byte("changed"), 2*n*blockSize); err != nil {
			t.Fatal(err)
		}
		if n%2 == 1 { // a hole between
			if _, err := f.WriteAt(make([]byte, blockSize), (2*n+1)*blockSize); err != nil {
				t.Fatal(err)
			}
		}
		push(t, r, "web", image)
	}
	v, _ := push(t, r, "web", image)
	c, err := r.Check(t.Context(), true)
	if err != nil || len(c) > 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	other := s.elsewhere(t)
	dst := filepath.Join(t.TempDir(), "pulled")
	pull := func(bases ...string) Transfer {
		t.Helper()
		tr, err := other.Pull(t.Context(), v, dst, PullOptions{Bases: bases})
		if err != nil || tr.New+tr.Reused+tr.Holes != tr.Total || tr.Total != v.Size {
			t.Fatalf("%+v, %v", tr, err)
		}
		sameFiles(t, dst, image)
		if err := os.Remove(dst); err != nil {
			t.Fatal(err)
		}
		return tr
	}
	if tr := pull(); tr.New != v.Data {
		t.Errorf("anew: %+v of %d", tr, v.Data)
	}
	b := slurp(t, noise(t, 7, int(v.Size)+5*blockSize))
	copy(b[40*blockSize:], slurp(t, image)[40*blockSize:80*blockSize])
	if err := os.WriteFile(filepath.Join(filepath.Dir(dst), ".pulled.b9-pull"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	if tr := pull(); tr.Reused != 30*blockSize {
		t.Errorf("over a part of 40 blocks, of which 10 are holes: %+v", tr)
	}
	if tr := pull(image); tr.New != 0 {
		t.Errorf("with itself as a base: %+v", tr)
	}
}
