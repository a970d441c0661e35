package backends

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

func TestOpenUnknown(t *testing.T) {
	_, err := Open("embeded", container.Config{})
	want := `unknown container backend "embeded" (have embedded, libvirt-lxc): did you mean "embedded"?`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	for _, name := range Names() {
		b, err := Open(name, container.Config{})
		if err != nil || b.Name() != name {
			t.Errorf("%s: %v, %v", name, b, err)
		}
	}
}

// TestFileSystems mounts what the kernel supports, and two copies of one
// image, which have the same identity, at a time.
func TestFileSystems(t *testing.T) {
	needTool(t, "busybox", "mke2fs", "e2fsck", "debugfs")
	b, _ := openBackend(t, container.Embedded)
	root := rootImage(t)
	for _, mkfs := range [][]string{
		{"mke2fs", "-q", "-t", "ext2", "-F"},
		{"mkfs.xfs", "-q", "-f"},
		{"mkfs.btrfs", "-q", "-f"},
	} {
		t.Run(mkfs[0], func(t *testing.T) {
			needTool(t, mkfs[0])
			image := sparse(t, 320<<20)
			command(t, mkfs[0], append(mkfs[1:], image)...)
			r := script(b, root, "echo data >/data/file; cat /data/file")
			r.spec.Mounts[0].ReadOnly = true
			r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: image, Target: "/tmp"})
			r.spec.Argv[2] = "echo data >/tmp/file"
			r.output(t)
			again := script(b, root, "cat /tmp/file /home/file")
			again.spec.Mounts[0].ReadOnly = true
			again.spec.Mounts = append(again.spec.Mounts, container.Mount{Source: image, Target: "/tmp"}, container.Mount{Source: copyImage(t, image), Target: "/home", ReadOnly: true})
			if mkfs[0] == "mkfs.btrfs" {
				again.spec.Argv[2], again.spec.Mounts = "cat /tmp/file /tmp/file", again.spec.Mounts[:2]
			}
			if got := again.output(t); got != "data\ndata\n" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestStartIsCheap keeps the library of libvirt from being opened at the start
// of every program that uses the package.
func TestStartIsCheap(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), roleVariable+"=libraries")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "libc.so") || strings.Contains(string(out), "libvirt") {
		t.Errorf("opened:\n%s", out)
	}
}

func BenchmarkTrue(b *testing.B) {
	for _, name := range Names() {
		b.Run(name, func(b *testing.B) {
			be, _ := openBackend(b, name)
			image := rootImage(b)
			quickest, before := time.Hour, processorTime(b)
			for b.Loop() {
				r, began := script(be, image, ""), time.Now()
				r.spec.Argv = []string{"/bin/true"}
				if res, err := be.Run(context.Background(), r.spec, r.io); err != nil || res.Code != 0 {
					b.Fatal(res, err)
				}
				quickest = min(quickest, time.Since(began))
			}
			// These two say something on a busy machine, too.
			b.ReportMetric(quickest.Seconds(), "s/quickest")
			b.ReportMetric((processorTime(b)-before).Seconds()/float64(b.N), "cpu-s/op")
		})
	}
}

// processorTime is what this process and those that it has waited for have used.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var sum int64
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var use unix.Rusage
		if err := unix.Getrusage(who, &use); err != nil {
			t.Fatal(err)
		}
		sum += use.Utime.Nano() + use.Stime.Nano()
	}
	return time.Duration(sum)
}

// sparse is an empty file of a size.
func sparse(t testing.TB, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sparse.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return path
}
