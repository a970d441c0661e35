package disk

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/disktest"
	"b9.build/b9/engine/internal/sparse"
)

// tool skips the test where a program is missing, and says which.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

// run runs a program that must succeed and returns its output.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(tool(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// scattered makes a raw file of size bytes with data, zeros and holes of odd sizes.
func scattered(t testing.TB, seed uint64, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), fmt.Sprintf("s%d.raw", seed))
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(seed, 1))
	for off := int64(0); off < size; {
		n := min(1+r.Int64N(1<<uint(4+r.IntN(18))), size-off)
		if kind := r.IntN(4); kind > 0 {
			if _, err := f.WriteAt(disktest.Contents(r, kind, n), off); err != nil {
				t.Fatal(err)
			}
		}
		off += n
	}
	return path
}

func mustOpen(t testing.TB, path, format string, o image.OpenOptions) image.Image {
	t.Helper()
	img, err := Open(path, format, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { img.Close() })
	return img
}

// variants are all ways to write an image.
var variants = []struct {
	name, format string
	o            image.WriteOptions
}{
	{"raw", "raw", image.WriteOptions{}},
	{"qcow2", "qcow2", image.WriteOptions{}},
	{"qcow2-zlib", "qcow2", image.WriteOptions{Compress: "zlib"}},
	{"qcow2-zstd", "qcow2", image.WriteOptions{Compress: "zstd"}},
	{"vmdk", "vmdk", image.WriteOptions{}},
	{"vmdk-stream", "vmdk", image.WriteOptions{Subformat: "streamOptimized"}},
	{"vdi", "vdi", image.WriteOptions{}},
	{"vhd", "vhd", image.WriteOptions{}},
	{"vhd-fixed", "vhd", image.WriteOptions{Subformat: "fixed"}},
	{"vhdx", "vhdx", image.WriteOptions{}},
}

var sizes = []int64{0, 1, 511, 512, 1000, 65536, 65537, 1 << 20, 3<<20 + 512, 40<<20 + 12345}

// TestWriteAgainstQemu lets qemu-img judge what each writer made.
func TestWriteAgainstQemu(t *testing.T) {
	tool(t, "qemu-img")
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			for i, size := range sizes {
				if size == 0 && v.format != "raw" && v.format != "qcow2" && v.format != "vdi" {
					continue // there is no such disk
				}
				src := scattered(t, uint64(i), size)
				dst := filepath.Join(t.TempDir(), "out."+v.format)
				if err := Convert(context.Background(), mustOpen(t, src, "raw", image.OpenOptions{}), dst, v.format, v.o); err != nil {
					t.Fatalf("size %d: %v", size, err)
				}
				judge(t, src, dst, v.format)
				back := filepath.Join(t.TempDir(), "back.raw")
				if err := Convert(context.Background(), mustOpen(t, dst, v.format, image.OpenOptions{}), back, "raw", image.WriteOptions{}); err != nil {
					t.Fatalf("size %d, back: %v", size, err)
				}
				sameBytes(t, src, back)
			}
		})
	}
}

// judge compares the raw file src with dst, and checks dst.
func judge(t *testing.T, src, dst, format string) {
	t.Helper()
	if info, _ := os.Stat(src); info.Size() > 0 {
		run(t, "qemu-img", "compare", "-f", "raw", "-F", qemuName(format), src, dst)
	}
	if format != "raw" && format != "vhd" { // QEMU has no check for those
		run(t, "qemu-img", "check", "-f", format, dst)
	}
}

// qemuName is what QEMU calls a format.
func qemuName(format string) string {
	if format == "vhd" {
		return "vpc"
	}
	return format
}

// sameBytes allows b to be longer by zeros up to a full sector.
func sameBytes(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	if len(y)-len(x) > 511 || !bytes.HasPrefix(y, x) || !sparse.IsZero(y[len(x):]) {
		t.Fatalf("%s (%d bytes) and %s (%d bytes) differ", a, len(x), b, len(y))
	}
}
