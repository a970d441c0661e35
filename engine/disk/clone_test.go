package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/partition"
)

// cloneDir names, in a child of TestClone, where the file system is mounted.
const cloneDir = "B9_TEST_CLONE_DIR"

// TestClone takes partitions out of a disk, puts disks together and replaces a
// partition on file systems that can share blocks, and lets their count of free
// blocks say whether they did. Each runs in a process with mounts of its own,
// which are gone with it.
func TestClone(t *testing.T) {
	if dir := os.Getenv(cloneDir); dir != "" {
		cloneThere(t, dir)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	for _, mkfs := range []string{"mkfs.xfs -q -m reflink=1", "mkfs.btrfs -q"} {
		args := strings.Fields(mkfs)
		t.Run(args[0], func(t *testing.T) {
			t.Parallel()
			tool(t, args[0])
			image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
			if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 400<<20)); err != nil {
				t.Fatal(err)
			}
			run(t, args[0], append(args[1:], image)...)
			cmd := exec.Command(os.Args[0], "-test.run=^TestClone$", "-test.count=1", "-test.v")
			cmd.Env = append(os.Environ(), cloneDir+"="+dir, cloneDir+"_IMAGE="+image)
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Unshareflags: syscall.CLONE_NEWNS}
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestClone") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// mountLoop mounts an image, which is detached with its last mount.
func mountLoop(t *testing.T, image, dir string) {
	t.Helper()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	// mount(8) looks for a free loop device and may lose it to another test.
	for try := 0; ; try++ {
		out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput()
		if err == nil {
			return
		}
		if try == 50 {
			t.Fatalf("mount: %v: %s", err, out)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func cloneThere(t *testing.T, dir string) {
	mountLoop(t, os.Getenv(cloneDir+"_IMAGE"), dir)
	t.Chdir(dir)
	const size = 96 << 20 // of which half is data that is nowhere twice
	if err := fillDense("src.raw", size); err != nil {
		t.Fatal(err)
	}
	src := mustOpen(t, "src.raw", "raw", image.OpenOptions{})
	for _, c := range []struct {
		name       string
		off, tail  int64
		least, max int64 // MiB that are taken
	}{
		{"whole", 0, 0, 0, 2},
		{"aligned", 1 << 20, 1 << 20, 0, 2},
		{"odd end", 1 << 20, 1536, 0, 2},
		{"unaligned", 63 * 512, 0, 40, 60},
	} {
		part := image.Section(src, c.off, size-c.off-c.tail)
		took := taken(t, dir, func() error {
			return Convert(context.Background(), part, "part.raw", "raw", image.WriteOptions{})
		})
		got := mustOpen(t, "part.raw", "raw", image.OpenOptions{})
		if at, err := Compare(context.Background(), part, got); at >= 0 || err != nil {
			t.Errorf("%s: they differ at %d: %v", c.name, at, err)
		}
		if took < c.least || took > c.max {
			t.Errorf("%s took %d MiB, want %d to %d", c.name, took, c.least, c.max)
		}
		os.Remove("part.raw")
	}
	cloneDisk(t, dir, src)
}

// cloneDisk puts the source into a disk, and then again into its partition.
func cloneDisk(t *testing.T, dir string, src image.Image) {
	table, _, err := partition.Layout([]partition.Spec{{Size: src.Size() + 1<<20}}, partition.LayoutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		out := mustOpen(t, "disk.raw", "raw", image.OpenOptions{})
		p := table.Partitions[0]
		if at, err := Compare(context.Background(), image.Section(out, p.Start, src.Size()), src); at >= 0 || err != nil {
			t.Errorf("the partition differs at %d: %v", at, err)
		}
		if again, err := partition.ReadTable(out, 0); err != nil || len(again.Partitions) != 1 {
			t.Errorf("%+v, %v", again, err)
		}
	}
	took := taken(t, dir, func() error {
		return Assemble(context.Background(), "disk.raw", table, map[int]image.Image{1: src}, nil)
	})
	check()
	took += taken(t, dir, func() error { return Replace(context.Background(), "disk.raw", "1", src) })
	check()
	if took > 3 {
		t.Errorf("a disk and a replaced partition took %d MiB", took)
	}
}

// fillDense writes a file of which every other mebibyte is data.
func fillDense(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1<<20)
	for off := int64(0); off < size; off += 2 << 20 {
		for i := 0; i < len(b); i += 16 {
			copy(b[i:], fmt.Sprintf("%016x", off+int64(i)))
		}
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
	}
	return errors.Join(f.Truncate(size), f.Sync())
}

// taken returns by how many MiB the free space of the file system at dir shrinks.
func taken(t *testing.T, dir string, f func() error) int64 {
	t.Helper()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	free := func() int64 {
		var s unix.Statfs_t
		if err := errors.Join(unix.Syncfs(int(d.Fd())), unix.Fstatfs(int(d.Fd()), &s)); err != nil {
			t.Fatal(err)
		}
		return int64(s.Bfree) * s.Bsize >> 20
	}
	before := free()
	if err := f(); err != nil {
		t.Fatal(err)
	}
	return before - free()
}
