package repo

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/seedtest"
)

// shelf keeps images, and the hashes of their blocks, and counts what is read of them.
type shelf struct {
	paths  map[Digest]string
	tables map[Digest]*digest.Table
	read   atomic.Int64
}

func (s *shelf) Open(d Digest) (blob.Blob, error) {
	path, ok := s.paths[d]
	if !ok {
		return nil, fs.ErrNotExist
	}
	b, err := blob.Open(path)
	return counting{b, s}, err
}

func (s *shelf) Leaves(d Digest) (*digest.Table, bool) {
	t, ok := s.tables[d]
	return t, ok
}

// counting is a blob of which it is counted what is read.
type counting struct {
	blob.Blob
	s *shelf
}

func (c counting) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.Blob.ReadAt(p, off)
	c.s.read.Add(int64(n))
	return n, err
}

// put adds a file.
func (s *shelf) put(t *testing.T, path string) Digest {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	table, err := digest.Scan(t.Context(), f, info.Size(), 2)
	if err != nil {
		t.Fatal(err)
	}
	d := table.Digest()
	if s.paths == nil {
		s.paths, s.tables = map[Digest]string{}, map[Digest]*digest.Table{}
	}
	s.paths[d], s.tables[d] = path, table
	return d
}

// edited is a copy of an image that was written to, discarded in, cut or grown by chance.
func edited(t *testing.T, path string, random *rand.Rand) string {
	t.Helper()
	data := slurp(t, path)
	for range 1 + random.IntN(4) {
		at := random.IntN(len(data))
		n := min(1+random.IntN(100_000), len(data)-at)
		switch random.IntN(5) {
		case 0:
			clear(data[at : at+n])
		case 1:
			data = data[:max(len(data)-random.IntN(200_000), 9<<20)]
		case 2:
			data = append(data, make([]byte, random.IntN(200_000))...)
		case 3: // moved
			copy(data[at:], data[random.IntN(at+1):][:n])
		default:
			for i := at; i < at+n; i++ {
				data[i] = byte(random.Uint32())
			}
		}
	}
	to := filepath.Join(t.TempDir(), "edited")
	f, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	for off := 0; off < len(data); off += blockSize { // with holes
		block := data[off:min(off+blockSize, len(data))]
		if slices.ContainsFunc(block, func(b byte) bool { return b != 0 }) {
			_, err = f.WriteAt(block, int64(off))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Truncate(int64(len(data))), f.Close()); err != nil {
		t.Fatal(err)
	}
	return to
}

// Versions of which the hashes are known are published as others are: the same bytes come
// back, nothing is sent twice, and what did not change is not read.
func TestWhatDidNotChangeIsNotRead(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		random := seedtest.Random(t)
		r, kept := s.create(t), &shelf{}
		plain := site{"", Location{Path: filepath.Join(t.TempDir(), "plain")}, Options{}}
		other := plain.create(t)
		path := sample(t, 7, 4000)
		for i := range 8 {
			d := kept.put(t, path)
			kept.read.Store(0)
			v, tr, err := r.Push(t.Context(), PushSpec{Objects: kept, Digest: d, Name: "web", Format: "raw"})
			if err != nil || v.Digest != d {
				t.Fatalf("push %d: %v, %v", i, v, err)
			}
			_, want, err := other.Push(t.Context(), PushSpec{Path: path, Name: "web", Format: "raw"})
			if err != nil {
				t.Fatal(err)
			}
			if tr.Reused+tr.New != want.Reused+want.New || tr.Holes != want.Holes || tr.New > want.New+want.New/10+64*blockSize {
				t.Errorf("push %d moves %+v, a plain one %+v", i, tr, want)
			}
			if read := kept.read.Load(); i > 0 && read > v.Size*2/3 {
				t.Errorf("push %d has read %d bytes of %d", i, read, v.Size)
			}
			got, _ := pull(t, r, v)
			sameFiles(t, got, path)
			path = edited(t, path, random)
		}
		intact(t, r)
		// A step, in the same way.
		d := kept.put(t, path)
		if _, err := r.PublishStep(t.Context(), "k", []byte("record"), []StepFile{{Name: "output-0", Digest: d, Objects: kept}}); err != nil {
			t.Fatal(err)
		}
		intact(t, r)
	})
}

// What is kept is named by its digest, and what it holds is held against that.
func TestKeptObjectsThatAreWrong(t *testing.T) {
	s := kinds()[0].make(t)
	r, kept := s.create(t), &shelf{}
	path := sample(t, 3, 3000)
	d := kept.put(t, path)
	if _, _, err := r.Push(t.Context(), PushSpec{Objects: kept, Name: "web", Format: "raw"}); err == nil {
		t.Error("an object without a digest was published")
	}
	if _, _, err := r.Push(t.Context(), PushSpec{Objects: kept, Digest: digest.Sum([]byte("x")), Name: "web", Format: "raw"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an object that is gone: %v", err)
	}
	kept.paths[d] = change(t, path, 5)
	if _, _, err := r.Push(t.Context(), PushSpec{Objects: kept, Digest: d, Name: "web", Format: "raw"}); !errors.Is(err, ErrSource) {
		t.Errorf("an object that holds other bytes: %v", err)
	}
	if list := intact(t, r); len(list) > 0 {
		t.Errorf("published is %v", list)
	}
}
