package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/sshdtest"
)

// kind is a kind of repository. The contract holds for all in kinds.
type kind struct {
	name string
	make func(t *testing.T) site
}

// site is a place for repositories.
type site struct {
	dir  string // where the repository's files are on this machine
	loc  Location
	opts Options
}

func kinds() []kind {
	return []kind{
		{"directory", func(t *testing.T) site {
			dir := filepath.Join(t.TempDir(), "repo")
			return site{dir, Location{Path: dir}, Options{State: t.TempDir()}}
		}},
		{"ssh", func(t *testing.T) site {
			return siteOn(t, sshdtest.New(t))
		}},
	}
}

// each runs a test for every kind of repository, beside other tests. What
// follows the call in a test may run first.
func each(t *testing.T, test func(t *testing.T, s site)) {
	t.Parallel()
	for _, k := range kinds() {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			test(t, k.make(t))
		})
	}
}

// create makes a repository.
func (s site) create(t *testing.T) *Repo {
	t.Helper()
	r, err := Create(t.Context(), s.loc, s.opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// elsewhere opens the repository as another machine does.
func (s site) elsewhere(t *testing.T) *Repo {
	t.Helper()
	s.opts.State = t.TempDir()
	r, err := Open(t.Context(), s.loc, s.opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// sample makes a sparse image: a part that compresses, one that does not, a
// block that is there twice, and an end within a block. The same seed gives the same bytes.
func sample(t *testing.T, seed uint64, blocks int) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), fmt.Sprintf("image%d", seed)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rng := rand.New(rand.NewPCG(seed, 1))
	block := make([]byte, blockSize)
	for i := range blocks {
		if i%5 == 3 {
			continue // a hole
		}
		for j := range block {
			block[j] = byte(rng.Uint32())
			if i%2 == 0 {
				block[j] &= 3
			}
		}
		at := int64(i) * blockSize
		if i > blocks/2 {
			at += 1 << 20
		}
		if _, err := f.WriteAt(block, at); err != nil {
			t.Fatal(err)
		}
	}
	f.WriteAt(block, 1<<20+int64(blocks)*blockSize)
	if err := f.Truncate(2<<20 + int64(blocks)*blockSize + 77); err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("the end"), 2<<20+int64(blocks)*blockSize+70)
	return f.Name()
}

// change returns a copy of an image with other data in some blocks.
func change(t *testing.T, path string, blocks ...int) string {
	t.Helper()
	data := slurp(t, path)
	for _, b := range blocks {
		copy(data[b*blockSize:], fmt.Sprintf("changed %s %d", path, b))
	}
	out := filepath.Join(t.TempDir(), "changed")
	if err := os.WriteFile(out, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return out
}

func slurp(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sameFiles(t *testing.T, got, want string) {
	t.Helper()
	if !bytes.Equal(slurp(t, got), slurp(t, want)) {
		t.Fatalf("%s does not have the content of %s", got, want)
	}
}

func push(t *testing.T, r *Repo, name, path string) (Version, Transfer) {
	t.Helper()
	v, tr, err := r.Push(t.Context(), PushSpec{Name: name, Path: path, Format: "raw", FileSystems: []string{"ext4"}})
	if err != nil {
		t.Fatal(err)
	}
	return v, tr
}

func pull(t *testing.T, r *Repo, v Version, bases ...string) (string, Transfer) {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "pulled")
	tr, err := r.Pull(t.Context(), v, dst, PullOptions{Bases: bases})
	if err != nil {
		t.Fatal(err)
	}
	return dst, tr
}

func TestPushAndPull(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		image := sample(t, 1, 3000)
		v, tr := push(t, r, "web", image)
		if tr.New+tr.Reused+tr.Holes != tr.Total || tr.New == 0 || tr.Holes < 2<<20-blockSize || tr.Sent == 0 {
			t.Errorf("transfer does not add up: %+v", tr)
		}
		if d, size, _ := digest.Path(t.Context(), image, 0); v.Digest != d || v.Size != size || v.Name != "web" || v.Format != "raw" {
			t.Errorf("version %+v is not of %s, %d bytes", v, d, size)
		}
		other := s.elsewhere(t)
		found, err := other.Resolve(t.Context(), Selector{Name: "web"})
		if err != nil || found.Digest != v.Digest {
			t.Fatalf("resolve: %+v, %v", found, err)
		}
		dst, got := pull(t, other, found)
		sameFiles(t, dst, image)
		if got.New != tr.New+tr.Reused { // a block that was there twice is settled twice
			t.Errorf("pull moved %d bytes, the push %d", got.New, tr.New+tr.Reused)
		}
		var st syscall.Stat_t
		if err := syscall.Stat(dst, &st); err != nil || st.Blocks*512 > v.Data+64<<10 {
			t.Errorf("pulled file takes %d bytes for %d of data", st.Blocks*512, v.Data)
		}
	})
}

func TestOnlyNewDataTravels(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		image := sample(t, 2, 3000)
		first, full := push(t, r, "web", image)
		changed := change(t, image, 10, 700)
		second, tr := push(t, r, "web", changed)
		if tr.New != 2*blockSize || tr.Sent > full.Sent/50 {
			t.Errorf("two changed blocks: %d bytes new, %d sent", tr.New, tr.Sent)
		}
		// What another image has is not sent again either.
		if _, tr := push(t, r, "db", image); tr.New != 0 {
			t.Errorf("the same content under another name: %d bytes new", tr.New)
		}
		other := s.elsewhere(t)
		dst, _ := pull(t, other, first)
		next, tr := pull(t, other, second, dst)
		sameFiles(t, next, changed)
		if tr.Received > full.Sent/10 || tr.Reused == 0 {
			t.Errorf("pull with a base: %+v", tr)
		}
		again, err := other.Pull(t.Context(), second, next, PullOptions{})
		if err != nil || again.Received != 0 || again.Reused != second.Size {
			t.Errorf("pull of what is there: %+v, %v", again, err)
		}
	})
}

func TestNewestWins(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		image := sample(t, 3, 20)
		var published []Version
		for i := range 3 {
			v, _, err := r.Push(t.Context(), PushSpec{Name: "web", Path: change(t, image, i), Version: fmt.Sprintf("v%d", i)})
			if err != nil {
				t.Fatal(err)
			}
			published = append(published, v)
		}
		list, err := s.elsewhere(t).List(t.Context(), "web")
		if err != nil || len(list) != 3 || list[0].Version != "v2" || list[2].Version != "v0" {
			t.Fatalf("list: %+v, %v", list, err)
		}
		for _, sel := range []Selector{{Name: "web", Version: "v1"}, {Name: "web", Digest: published[1].Digest}} {
			if v, err := r.Resolve(t.Context(), sel); err != nil || v.Version != "v1" {
				t.Errorf("%s: %+v, %v", sel, v, err)
			}
		}
		if _, err := r.Resolve(t.Context(), Selector{Name: "web", Version: "v7"}); !errors.Is(err, ErrNotFound) {
			t.Errorf("a version that is not there: %v", err)
		}
		if err := r.Remove(t.Context(), published[2]); err != nil {
			t.Fatal(err)
		}
		if v, err := s.elsewhere(t).Resolve(t.Context(), Selector{Name: "web"}); err != nil || v.Version != "v1" {
			t.Errorf("after v2 was removed: %+v, %v", v, err)
		}
	})
}

func TestPushAgain(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		image := sample(t, 4, 200)
		v, _ := push(t, r, "web", image)
		if again, tr := push(t, r, "web", image); again.Version != v.Version || tr.New != 0 {
			t.Errorf("the same once more: %+v, %+v", again, tr)
		}
		spec := PushSpec{Name: "web", Path: image, Version: "1.0", Format: "raw"}
		if _, _, err := r.Push(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		if v, _, err := r.Push(t.Context(), spec); err != nil || v.Version != "1.0" {
			t.Errorf("the same version once more: %+v, %v", v, err)
		}
		spec.Path = change(t, image, 0)
		if _, _, err := r.Push(t.Context(), spec); !errors.Is(err, ErrVersionTaken) {
			t.Errorf("another content for a version: %v", err)
		}
	})
}

func TestStepCache(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		a, b := sample(t, 5, 100), sample(t, 6, 3)
		if _, err := r.LookupStep(t.Context(), "key1"); !errors.Is(err, ErrNotFound) {
			t.Errorf("a step that is not there: %v", err)
		}
		files := []StepFile{{Name: "root", Path: a}, {Name: "log", Path: b}}
		if _, err := r.PublishStep(t.Context(), "key1", []byte("record"), files); err != nil {
			t.Fatal(err)
		}
		if tr, err := r.PublishStep(t.Context(), "key1", []byte("other"), files); err != nil || tr.New != 0 {
			t.Errorf("publish once more: %+v, %v", tr, err)
		}
		next := []StepFile{{Name: "root", Path: change(t, a, 7)}}
		if tr, err := s.elsewhere(t).PublishStep(t.Context(), "key2", nil, next); err != nil || tr.New != blockSize {
			t.Errorf("a step that changed one block: %+v, %v", tr, err)
		}
		other := s.elsewhere(t)
		step, err := other.LookupStep(t.Context(), "key1")
		if err != nil || string(step.Record) != "record" || len(step.Objects) != 2 {
			t.Fatalf("%+v, %v", step, err)
		}
		for i, want := range []string{a, b} {
			dst := filepath.Join(t.TempDir(), "object")
			if _, err := other.Fetch(t.Context(), step.Objects[i], dst, PullOptions{}); err != nil {
				t.Fatal(err)
			}
			sameFiles(t, dst, want)
		}
	})
}

func TestNoRepository(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		if _, err := Open(t.Context(), s.loc, s.opts); !errors.Is(err, errNoRepository) {
			t.Errorf("nothing there: %v", err)
		}
		r := s.create(t)
		again, err := Create(t.Context(), s.loc, s.opts)
		if err != nil || again.view.id != r.view.id {
			t.Fatalf("create what is there: %v", err)
		}
		again.Close()
		b, _ := line{Op: opFormat, Format: formatVersion + 1, ID: "x"}.encode()
		if err := os.WriteFile(filepath.Join(s.dir, logName), b, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), s.loc, s.opts); err == nil || errors.Is(err, errNoRepository) {
			t.Errorf("a later format: %v", err)
		}
	})
}

func TestCancelledPush(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		image := sample(t, 7, 20000) // two packs
		ctx, cancel := context.WithCancel(t.Context())
		r.opts.Progress = func(Progress) { cancel() }
		if _, _, err := r.Push(ctx, PushSpec{Name: "web", Path: image}); !errors.Is(err, context.Canceled) {
			t.Fatalf("cancelled: %v", err)
		}
		r.opts.Progress = nil
		if list, err := r.List(t.Context(), ""); err != nil || len(list) != 0 {
			t.Errorf("after a cancelled push: %v, %v", list, err)
		}
		v, _ := push(t, r, "web", image) // on a new connection
		dst, _ := pull(t, r, v)
		sameFiles(t, dst, image)
	})
}

// TestHugeHole moves an image that is nothing but a hole and a few blocks
// far apart: neither side may count through it.
func TestHugeHole(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		mnt := mounted(t, 64) // not every file system holds such a file
		path := filepath.Join(mnt, "huge")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		const size = 6 << 40
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		for _, at := range []int64{0, 1 << 40, 1<<40 + 3*blockSize, size - 2} {
			if _, err := f.WriteAt([]byte{byte(at>>40) + 1, 2}, at); err != nil {
				t.Fatal(err)
			}
		}
		v, tr := push(t, r, "huge", path)
		if tr.Holes != size-4*blockSize || v.Data != 4*blockSize {
			t.Errorf("%+v, %d of data", tr, v.Data)
		}
		dst := filepath.Join(mnt, "pulled")
		if _, err := s.elsewhere(t).Pull(t.Context(), v, dst, PullOptions{}); err != nil {
			t.Fatal(err)
		}
		if d, n, err := digest.Path(t.Context(), dst, 0); err != nil || d != v.Digest || n != size {
			t.Errorf("%s, %d bytes, %v", d, n, err)
		}
	})
}
