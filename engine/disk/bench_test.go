package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/disktest"
)

// benchSource makes a raw disk of B9_BENCH_MIB MiB (default 256) in B9_BENCH_DIR:
// three fifths data, half of that incompressible. B9_BENCH_IMAGE names a raw disk
// to take instead, which is made first, to stay, where there is none.
func benchSource(b *testing.B) (dir, path string) {
	b.Helper()
	size := int64(256)
	if s := os.Getenv("B9_BENCH_MIB"); s != "" {
		var err error
		if size, err = strconv.ParseInt(s, 10, 64); err != nil {
			b.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp(os.Getenv("B9_BENCH_DIR"), "disk-bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	if path = os.Getenv("B9_BENCH_IMAGE"); path == "" {
		path = filepath.Join(dir, "src.raw")
	}
	if _, err := os.Stat(path); err == nil {
		return dir, path
	}
	if err := fillBench(path, size<<20); err != nil {
		b.Fatal(err)
	}
	return dir, path
}

// packedSource makes a raw disk of size bytes in dir, three fifths of which are
// this machine's own programs, libraries and documents.
func packedSource(b *testing.B, dir string, size int64) string {
	b.Helper()
	path := filepath.Join(dir, "real.raw")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const run = 1 << 20
	real, runs := realData(b, size/5*3+run), int64(0)
	for off := int64(0); off+run <= size; off += run {
		if off/run%5 >= 3 {
			continue
		}
		if _, err := f.WriteAt(real[runs*run:][:run], off); err != nil {
			b.Fatal(err)
		}
		runs++
	}
	if err := f.Truncate(size); err != nil {
		b.Fatal(err)
	}
	return path
}

func fillBench(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r := rand.New(rand.NewPCG(1, 2))
	const run = 1 << 20
	noise := make([]byte, run)
	for off := int64(0); off+run <= size; off += run {
		kind := r.IntN(10)
		if kind >= 6 {
			continue
		}
		for i := 0; i < run && kind < 3; i += 8 {
			v := r.Uint64()
			for k := range 8 {
				noise[i+k] = byte(v >> (8 * k))
			}
		}
		body := noise
		if kind >= 3 {
			body = disktest.BenchText(r, run)
		}
		if _, err := f.WriteAt(body, off); err != nil {
			return err
		}
	}
	return f.Truncate(size)
}

// benchCases pair a conversion with the best flags of qemu-img. Those that
// compress take a disk a quarter as large, with real data.
var benchCases = []struct {
	name, from, to string
	o              image.WriteOptions
	args           []string
}{
	{"RawToRaw", "raw", "raw", image.WriteOptions{}, nil},
	{"RawToQcow2", "raw", "qcow2", image.WriteOptions{}, nil},
	{"RawToVmdk", "raw", "vmdk", image.WriteOptions{}, nil},
	{"Qcow2ToRaw", "qcow2", "raw", image.WriteOptions{}, nil},
	{"VmdkToRaw", "vmdk", "raw", image.WriteOptions{}, nil},
	{"RawToQcow2Zlib", "raw", "qcow2", image.WriteOptions{Compress: "zlib"}, []string{"-c"}},
	{"RawToQcow2Zstd", "raw", "qcow2", image.WriteOptions{Compress: "zstd"}, []string{"-c", "-o", "compression_type=zstd"}},
	{"RawToStream", "raw", "vmdk", image.WriteOptions{Subformat: "streamOptimized"}, []string{"-o", "subformat=streamOptimized"}},
}

// BenchmarkConvert runs each conversion here, by qemu-img, and as a plain copy of
// the same disk, in turn, and reports the medians in milliseconds and the ratio
// of the first two, by the clock and in processor time, which other work on the
// machine disturbs less. For figures that mean something: -benchtime 9x.
func BenchmarkConvert(b *testing.B) {
	dir, src := benchSource(b)
	info, err := os.Stat(src)
	if err != nil {
		b.Fatal(err)
	}
	outputs := outputs{dir: dir, leastFree: 2 * info.Size()}
	plain, real := src, packedSource(b, dir, info.Size()/4)
	for _, c := range benchCases {
		src := plain
		if c.o.Compress+c.o.Subformat != "" {
			src = real
		}
		from := src
		if c.from != "raw" {
			from = filepath.Join(dir, "src."+c.from)
			if err := convertFile(src, "raw", from, c.from, image.WriteOptions{}); err != nil {
				b.Fatal(err)
			}
		}
		args := append([]string{"convert", "-m", "16", "-W", "-f", c.from, "-O", c.to}, c.args...)
		b.Run(c.name, func(b *testing.B) {
			var ours, theirs, copies, ourCPU, theirCPU []float64
			var size, theirSize float64
			for b.Loop() {
				before := ownCPU(b)
				out := outputs.next(b)
				ours = append(ours, timed(func() error { return convertFile(from, c.from, out, c.to, c.o) }, b))
				ourCPU = append(ourCPU, ownCPU(b)-before)
				size = sizeOf(b, out)
				out = outputs.next(b)
				qemu := exec.Command("qemu-img", append(slices.Clip(args), from, out)...)
				theirs = append(theirs, timed(qemu.Run, b))
				theirCPU = append(theirCPU, milliseconds(qemu.ProcessState.UserTime()+qemu.ProcessState.SystemTime()))
				theirSize = sizeOf(b, out)
				out = outputs.next(b)
				copies = append(copies, timed(exec.Command("cp", "--sparse=auto", src, out).Run, b))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(ours), "b9-ms")
			b.ReportMetric(median(theirs), "qemu-ms")
			b.ReportMetric(median(copies), "cp-ms")
			b.ReportMetric(median(ours)/median(theirs), "ratio")
			b.ReportMetric(median(ourCPU)/median(theirCPU), "cpu-ratio")
			b.ReportMetric(size/theirSize, "size-ratio")
		})
	}
}

// timed returns how many milliseconds f takes, once the disk has nothing left to
// do from what was before: else each pays for the dirty pages of its predecessor.
func timed(f func() error, b *testing.B) float64 {
	unix.Sync()
	start := time.Now()
	if err := f(); err != nil {
		b.Fatal(err)
	}
	return milliseconds(time.Since(start))
}

// outputs names the files that are written. Each stays until a dozen newer ones
// have come, or room is short: to delete it at once would free its pages, which a
// virtual machine may give back to its host, and to get them again costs more
// than to fill them, for whoever happens to come next.
type outputs struct {
	dir       string
	last      int   // the newest
	oldest    int   // that is still there
	leastFree int64 // bytes
}

func (o *outputs) next(b *testing.B) string {
	const kept = 12
	o.last++
	for o.oldest < o.last && (o.last-o.oldest >= kept || o.free(b) < o.leastFree) {
		if err := os.Remove(o.name(o.oldest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			b.Fatal(err)
		}
		o.oldest++
	}
	return o.name(o.last)
}

func (o *outputs) free(b *testing.B) int64 {
	var s unix.Statfs_t
	if err := unix.Statfs(o.dir, &s); err != nil {
		b.Fatal(err)
	}
	return int64(s.Bavail) * s.Bsize
}

func (o *outputs) name(n int) string { return filepath.Join(o.dir, fmt.Sprintf("out%d", n)) }

// sizeOf returns the size of a file in bytes.
func sizeOf(b *testing.B, path string) float64 {
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	return float64(info.Size())
}

func convertFile(src, from, dst, to string, o image.WriteOptions) error {
	img, err := Open(src, from, image.OpenOptions{})
	if err != nil {
		return err
	}
	defer img.Close()
	return Convert(context.Background(), img, dst, to, o)
}
