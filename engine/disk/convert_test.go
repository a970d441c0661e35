package disk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"b9.build/b9/engine/disk/image"
)

// TestSameBytes writes everything twice, with different numbers of processors,
// directories and times.
func TestSameBytes(t *testing.T) {
	src := mustOpen(t, scattered(t, 3, 12<<20/raced), "raw", image.OpenOptions{})
	for _, v := range variants {
		var files [2]string
		for i := range files {
			files[i] = filepath.Join(t.TempDir(), "out."+v.format)
			func() {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1 + 3*i))
				if err := Convert(context.Background(), src, files[i], v.format, v.o); err != nil {
					t.Fatal(err)
				}
			}()
		}
		a, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(files[1]); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: two results differ (%v)", v.name, err)
		}
	}
}

// slow is an image of data that cancels, fails or just counts when it is read.
type slow struct {
	size int64
	read func(off int64) error
}

func (s slow) Size() int64 { return s.size }

func (s slow) Close() error { return nil }

func (s slow) Extent(off int64) (image.Extent, error) {
	if off >= s.size {
		return image.Extent{}, io.EOF
	}
	return image.Extent{Start: off, Length: s.size - off, State: image.Data}, nil
}

func (s slow) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		p[i] = byte(off>>16) + 1
	}
	return len(p), s.read(off)
}

// TestNothingLeft interrupts conversions and looks at what they leave.
func TestNothingLeft(t *testing.T) {
	broken := errors.New("broken")
	for _, v := range variants {
		dir := t.TempDir()
		dst := filepath.Join(dir, "out")
		if err := os.WriteFile(dst, []byte("old"), 0o666); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		fail := slow{1 << 30, func(off int64) error {
			if off >= 20<<20/raced {
				return broken
			}
			return nil
		}}
		if err := Convert(ctx, fail, dst, v.format, v.o); !errors.Is(err, broken) {
			t.Errorf("%s: %v, want %v", v.name, err, broken)
		}
		stop := slow{1 << 30, func(off int64) error {
			if off >= 20<<20/raced {
				cancel()
			}
			return nil
		}}
		if err := Convert(ctx, stop, dst, v.format, v.o); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want %v", v.name, err, context.Canceled)
		}
		cancel()
		onlyOld(t, dir, dst)
	}
}

func onlyOld(t *testing.T, dir, dst string) {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 1 {
		t.Errorf("left in the directory: %v, %v", names, err)
	}
	if b, err := os.ReadFile(dst); err != nil || string(b) != "old" {
		t.Errorf("destination: %q, %v", b, err)
	}
}

// TestReplace overwrites a file, in one step, with and without Sync.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	dst := filepath.Join(dir, "out")
	for _, sync := range []bool{false, true} {
		if err := Convert(context.Background(), image.Bytes("new"), dst, "raw", image.WriteOptions{Sync: sync}); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(dst); err != nil || string(b) != "new" {
			t.Errorf("%q, %v", b, err)
		}
		if names, _ := os.ReadDir(dir); len(names) != 1 {
			t.Errorf("%v", names)
		}
	}
	err := Convert(context.Background(), image.Bytes("new"), filepath.Join(dir, "no", "x"), "raw", image.WriteOptions{})
	if err == nil || !strings.Contains(err.Error(), "no such file or directory") {
		t.Error(err)
	}
}

// TestOptionErrors gives options that a format has not.
func TestOptionErrors(t *testing.T) {
	for _, c := range []struct {
		format string
		o      image.WriteOptions
		want   string
	}{
		{"raw", image.WriteOptions{Compress: "zstd"}, "format raw has no compression"},
		{"qcow2", image.WriteOptions{Compress: "zsdt"}, `unknown compression "zsdt" (have zlib, zstd): did you mean "zstd"?`},
		{"qcow2", image.WriteOptions{Subformat: "x"}, "format qcow2 has no subformat"},
		{"vmdk", image.WriteOptions{Subformat: "streamoptimized"}, `unknown vmdk subformat "streamoptimized" (have monolithicSparse, streamOptimized, monolithicFlat): did you mean "streamOptimized"?`},
		{"vmdk", image.WriteOptions{Adapter: "lsilogik"}, `unknown vmdk adapter "lsilogik" (have lsilogic, buslogic, ide, legacyESX): did you mean "lsilogic"?`},
		{"vmdk", image.WriteOptions{Name: "a\"b"}, `a vmdk can't record the file name "a\"b"`},
	} {
		err := Convert(context.Background(), image.Bytes("x"), filepath.Join(t.TempDir(), "out"), c.format, c.o)
		if err == nil || !strings.HasSuffix(err.Error(), ": "+c.want) {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

// TestHuge converts a terabyte of nothing with a few bytes in it.
func TestHuge(t *testing.T) {
	path := blank(t, 1<<40)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{0, 1<<39 + 5, 1<<40 - 3} {
		if _, err := f.WriteAt([]byte("abc"), off); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	for _, v := range variants {
		start := time.Now()
		out, back := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "back")
		if err := convertFile(path, "raw", out, v.format, v.o); err != nil {
			t.Fatal(err)
		}
		there := time.Since(start)
		var st syscall.Stat_t
		if err := syscall.Stat(out, &st); err != nil || st.Blocks > 12000 {
			t.Errorf("%s: %d blocks, %v", v.name, st.Blocks, err)
		}
		if err := convertFile(out, v.format, back, "raw", image.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %v there, %v back", v.name, there, time.Since(start)-there)
		img := mustOpen(t, back, "raw", image.OpenOptions{})
		got := make([]byte, 3)
		for _, off := range []int64{0, 1<<39 + 5, 1<<40 - 3} {
			if _, err := img.ReadAt(got, off); err != nil || string(got) != "abc" {
				t.Errorf("%s: %q, %v", v.name, got, err)
			}
		}
		if err := syscall.Stat(back, &st); err != nil || st.Blocks > 1000 {
			t.Errorf("%s: %d blocks, %v", v.name, st.Blocks, err)
		}
	}
}

// TestBoundedMemory converts more than it may hold.
func TestBoundedMemory(t *testing.T) {
	for _, v := range variants {
		var most atomic.Uint64
		read := func(off int64) error {
			if off%(32<<20) == 0 {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most.Store(max(most.Load(), m.HeapInuse))
			}
			return nil
		}
		if err := Convert(context.Background(), slow{max(192<<20/raced, 96<<20), read}, filepath.Join(t.TempDir(), "out"), v.format, v.o); err != nil {
			t.Fatal(err)
		}
		if got := most.Load(); got > 64<<20 {
			t.Errorf("%s: %d MiB in the heap", v.name, got>>20)
		}
		t.Logf("%s: %d MiB", v.name, most.Load()>>20)
	}
}

// TestProgress sees progress that ends at the end.
func TestProgress(t *testing.T) {
	for _, size := range []int64{0, 5 << 20} {
		var last, total int64
		o := image.WriteOptions{Progress: func(done, all int64) {
			if done < last {
				t.Errorf("%d after %d", done, last)
			}
			last, total = done, all
		}}
		img := mustOpen(t, scattered(t, 5, size), "raw", image.OpenOptions{})
		if err := Convert(context.Background(), image.Section(img, 0, size), filepath.Join(t.TempDir(), "out"), "qcow2", o); err != nil {
			t.Fatal(err)
		}
		if last != size || total != size {
			t.Errorf("%d of %d, want %d", last, total, size)
		}
	}
}
