package layer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/seedtest"
	"b9.build/b9/engine/internal/sparse"
)

// random writes runs of data into a new file of so many bytes, and leaves holes.
func random(t testing.TB, r *rand.Rand, size int64) *os.File {
	t.Helper()
	f := create(t)
	check(t, f.Truncate(size))
	for range 1 + r.IntN(6) {
		off, n := span(r, size)
		_, err := f.WriteAt(noise(r, n), off)
		check(t, err)
	}
	return f
}

func noise(r *rand.Rand, n int64) []byte {
	b := make([]byte, n+7)
	for i := int64(0); i < n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b[:n]
}

// span draws a part of an image: as a rule it begins or ends within a block, often at
// the bounds of one, or of a page.
func span(r *rand.Rand, size int64) (off, n int64) {
	edge := func() int64 {
		x := r.Int64N(size + 1)
		switch r.IntN(4) {
		case 0:
			x -= x % BlockSize
		case 1:
			x -= x % 4096
		case 2:
			x += r.Int64N(3) - 1
		}
		return min(max(x, 0), size)
	}
	a, b := edge(), edge()
	if r.IntN(3) == 0 {
		b = min(size, a+r.Int64N(5000))
	}
	return min(a, b), max(a, b) - min(a, b)
}

// plain is a file to which is done what is done to a fork.
type plain struct{ *os.File }

func (p plain) Zero(off, n int64) error {
	info, err := p.Stat()
	if err != nil {
		return err
	}
	return sparse.Zero(context.Background(), p.File, off, min(n, info.Size()-off))
}

// step does one thing to both, drawn by chance.
func step(t *testing.T, r *rand.Rand, f *Fork, p plain) {
	t.Helper()
	size := f.Size()
	off, n := span(r, size)
	switch r.IntN(8) {
	default:
		data := noise(r, n)
		if r.IntN(8) == 0 {
			clear(data)
		}
		_, err := f.WriteAt(data, off)
		_, perr := p.WriteAt(data, off)
		check(t, errors.Join(err, perr))
	case 0, 1, 2:
		check(t, errors.Join(f.Zero(off, n), p.Zero(off, n)))
	case 3:
		off = r.Int64N(2*BlockSize) + size*r.Int64N(5)/4
		check(t, errors.Join(f.Truncate(off), p.Truncate(off)))
	case 4:
		data := noise(r, 1+r.Int64N(BlockSize))
		_, err := f.WriteAt(data, size+r.Int64N(BlockSize))
		check(t, err)
		_, err = p.WriteAt(data, f.Size()-int64(len(data)))
		check(t, err)
	}
}

func content(t *testing.T, f *os.File) []byte {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	check(t, err)
	return b
}

// equal fails unless b has the content want, in all ways in which it can be read.
func equal(t *testing.T, r *rand.Rand, b blob.Blob, want []byte) {
	t.Helper()
	got, err := blob.ReadAll(b, 1<<30)
	check(t, err)
	if !bytes.Equal(got, want) {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		t.Fatalf("of %d bytes, which are to be %d, byte %d (%d in block %d) is wrong", len(got), len(want), at, at%BlockSize, at/BlockSize)
	}
	for off := int64(0); ; {
		e, err := b.Extent(off)
		if err == io.EOF {
			if off != b.Size() {
				t.Fatalf("extents end at %d of %d", off, b.Size())
			}
			break
		}
		if err != nil || e.Start != off || e.Length < 1 || e.State != blob.Data && !sparse.IsZero(want[off:e.End()]) {
			t.Fatalf("extent at %d: %+v, %v", off, e, err)
		}
		off = e.End()
	}
	for range 20 {
		off, n := span(r, b.Size()+100)
		p := make([]byte, n)
		k, err := b.ReadAt(p, off)
		if end := min(off+n, b.Size()); off < b.Size() && (k != int(end-off) || !bytes.Equal(p[:k], want[off:end]) || (err == io.EOF) != (end < off+n)) {
			t.Fatalf("%d bytes at %d of %d: %d, %v", n, off, b.Size(), k, err)
		}
		direct(t, b, want, off, n)
	}
}

// direct reads by the descriptor that has the bytes, where one has.
func direct(t *testing.T, b blob.Blob, want []byte, off, n int64) {
	t.Helper()
	fd, ok := Direct(b, off, int(n))
	if !ok {
		return
	}
	p := make([]byte, n)
	if k, err := unix.Pread(int(fd), p, off); err != nil || k != int(n) || !bytes.Equal(p, want[off:off+n]) {
		t.Fatalf("%d bytes at %d are not in the file that has them: %d, %v", n, off, k, err)
	}
}

// unchanged fails unless all blocks that differ from the base are in the runs.
func unchanged(t *testing.T, runs []Run, base, now []byte) {
	t.Helper()
	for b := int64(0); b*BlockSize < int64(len(now)); b++ {
		from, to := b*BlockSize, min(int64(len(now)), (b+1)*BlockSize)
		in := slices.ContainsFunc(runs, func(r Run) bool { return r.Start <= b && b < r.End() })
		if was := at(base, from, to); !in && !bytes.Equal(was, now[from:to]) && !sparse.IsZero(now[min(to, max(from, int64(len(base)))):to]) {
			t.Fatalf("block %d differs from the base and is in no run of %v", b, runs)
		}
	}
}

// at is a part of an image, which zeros follow.
func at(b []byte, from, to int64) []byte {
	part := make([]byte, to-from)
	copy(part, b[min(from, int64(len(b))):])
	return part
}

// A fork reads as a plain file to which the same was done; its differences, over those
// of the forks before it, do so, too; and so does a fork that is continued.
func TestForksAreLikePlainFiles(t *testing.T) {
	r := seedtest.Random(t)
	for range 6 {
		base := random(t, r, 1+r.Int64N(12*BlockSize))
		model := plain{random(t, r, 1)}
		check(t, os.WriteFile(model.Name(), content(t, base), 0o600))
		var layers []*os.File
		for range 1 + r.IntN(5) {
			diff, before := create(t), content(t, model.File)
			f, err := New(chain(t, base, layers), digest.Sum(before), diff)
			check(t, err)
			for i := range 25 {
				step(t, r, f, model)
				if i == 12 {
					_, err := f.Finish()
					check(t, err)
					if r.IntN(2) == 0 {
						continue // a fork is written to after that, too
					}
					f, err = Continue(chain(t, base, layers), again(t, diff))
					check(t, err)
				}
				equal(t, r, f, content(t, model.File))
			}
			unchanged(t, f.Runs(), before, content(t, model.File))
			trailer, err := f.Finish()
			check(t, err)
			if got, err := Read(diff); err != nil || !reflect.DeepEqual(got, trailer) || got.Base != digest.Sum(before) {
				t.Fatalf("the trailer is read %+v, %v; want %+v", got, err, trailer)
			}
			layers = append(layers, diff)
			equal(t, r, chain(t, base, layers), content(t, model.File))
		}
	}
}

// chain composes files that are left to the test.
func chain(t *testing.T, base *os.File, files []*os.File) blob.Blob {
	t.Helper()
	var layers []Layer
	for _, f := range files {
		trailer, err := Read(f)
		check(t, err)
		layers = append(layers, Layer{trailer, again(t, f)})
	}
	b, err := Compose(open(t, base), layers...)
	check(t, err)
	t.Cleanup(func() { b.Close() })
	return b
}

// What is written takes its place on the disk, and what is made zero none.
func TestPlaceOnTheDisk(t *testing.T) {
	base, diff := create(t), create(t)
	check(t, base.Truncate(1<<40))
	_, err := base.WriteAt(bytes.Repeat([]byte("x"), 64*BlockSize), 0)
	check(t, err)
	f, err := New(open(t, base), digest.Digest{}, diff)
	check(t, err)
	taken := func() int64 {
		var st unix.Stat_t
		check(t, errors.Join(diff.Sync(), unix.Stat(diff.Name(), &st)))
		return st.Blocks * 512
	}
	_, err = f.WriteAt([]byte("y"), 1<<39)
	check(t, err)
	if n := taken(); n == 0 || n >= BlockSize {
		t.Errorf("a byte in a hole of the base takes %d bytes", n)
	}
	_, err = f.WriteAt(bytes.Repeat([]byte("y"), 32*BlockSize), 0)
	check(t, err)
	full := taken()
	check(t, f.Zero(0, 16*BlockSize))
	if n := taken(); n > full-16*BlockSize {
		t.Errorf("%d bytes before, %d after 16 blocks were discarded", full, n)
	}
	check(t, f.Zero(16*BlockSize+4096, 8192))
	if n := taken(); n > full-16*BlockSize-8192 {
		t.Errorf("%d bytes before, %d after 8192 bytes of a block were discarded, too", full, n)
	}
	check(t, f.Zero(0, 1<<40))
	if n := taken(); n != 0 {
		t.Errorf("%d bytes after everything was discarded", n)
	}
}

// Several write, discard and read at once, each in a place of its own.
func TestConcurrentUse(t *testing.T) {
	r := seedtest.Random(t)
	base, model := random(t, r, 64*BlockSize), plain{create(t)}
	check(t, os.WriteFile(model.Name(), content(t, base), 0o600))
	f, err := New(open(t, base), digest.Digest{}, create(t))
	check(t, err)
	var all sync.WaitGroup
	for worker := range int64(8) {
		r := rand.New(rand.NewPCG(r.Uint64(), 1))
		all.Go(func() { // in every eighth piece of 10,000 bytes
			for range 100 {
				off := (r.Int64N(52)*8 + worker) * 10_000
				data := noise(r, 1+r.Int64N(10_000))
				_, err := f.WriteAt(data, off)
				_, perr := model.WriteAt(data, off)
				n := r.Int64N(10_000)
				if err := errors.Join(err, perr, f.Zero(off, n), model.Zero(off, n)); err != nil {
					t.Error(err)
				}
				got := make([]byte, len(data))
				if _, err := f.ReadAt(got, off); err != nil || !bytes.Equal(got[min(n, int64(len(got))):], data[min(n, int64(len(data))):]) {
					t.Errorf("at %d is not what was written there: %v", off, err)
				}
			}
		})
	}
	all.Wait()
	equal(t, r, f, content(t, model.File))
}

// fullDisk opens an empty file on a file system of so many bytes.
func fullDisk(t *testing.T, size string) *os.File {
	t.Helper()
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Skipf("no file system can be mounted: %v", err)
	}
	defer unix.Close(fs)
	check(t, errors.Join(unix.FsconfigSetString(fs, "size", size), unix.FsconfigCreate(fs)))
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	check(t, err)
	defer unix.Close(mount)
	fd, err := unix.Openat(mount, "f", unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	check(t, err)
	f := os.NewFile(uintptr(fd), "full")
	t.Cleanup(func() { f.Close() })
	return f
}

// A write that fails leaves blocks that came from the base as they were, and what was
// written before; with room again all goes on.
func TestFullDisk(t *testing.T) {
	r := seedtest.Random(t)
	base := random(t, r, 40*BlockSize)
	_, err := base.WriteAt(noise(r, 20*BlockSize), 0)
	check(t, err)
	check(t, sparse.Punch(base, 30*BlockSize, 10*BlockSize))
	model := content(t, base)
	f, err := New(open(t, base), digest.Digest{}, fullDisk(t, "1m"))
	check(t, err)
	failed := 0
	for range 150 {
		off, n := span(r, f.Size())
		data := make([]byte, n)
		if r.IntN(4) == 0 {
			err = f.Zero(off, n) // what is left of a block has to be copied
		} else {
			copy(data, noise(r, n))
			_, err = f.WriteAt(data, off)
		}
		if err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			failed++
			data = either(t, f, off, data, model[off:off+n])
		}
		copy(model[off:], data)
	}
	if failed == 0 {
		t.Error("the disk was never full")
	}
	equal(t, r, f, model)
}

// either reads what a change that failed left: each byte is what it was or was to be.
func either(t *testing.T, f *Fork, off int64, data, old []byte) []byte {
	t.Helper()
	got := make([]byte, len(data))
	if _, err := f.ReadAt(got, off); err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if got[i] != data[i] && got[i] != old[i] {
			t.Fatalf("byte %d after a failed write at %d is neither old nor new", i, off)
		}
	}
	return got
}

func TestComposeRefuses(t *testing.T) {
	base, diff := example(t)
	trailer, err := Read(diff)
	check(t, err)
	if _, err := Compose(open(t, base), slices.Repeat([]Layer{{trailer, diff}}, MaxDepth+1)...); err == nil || !strings.Contains(err.Error(), "65 differences") {
		t.Errorf("too many differences: %v", err)
	}
	check(t, base.Truncate(299_999))
	if _, err := Compose(open(t, base), Layer{trailer, diff}); !errors.Is(err, ErrDamaged) {
		t.Errorf("a base that is too short: %v", err)
	}
	if _, err := Continue(open(t, base), diff); !errors.Is(err, ErrDamaged) {
		t.Errorf("a base that is too short, continued: %v", err)
	}
	if _, err := Continue(open(t, base), base); !errors.Is(err, ErrDamaged) {
		t.Errorf("what is no difference, continued: %v", err)
	}
}
