package fsys

import (
	"errors"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/tree"
)

// TestShrinkRandomFillings shrinks and grows file systems with random content
// and geometry; e2fsck and the content must agree every time.
func TestShrinkRandomFillings(t *testing.T) {
	fsystest.Need(t, "mke2fs", "resize2fs", "e2fsck")
	dir := t.TempDir()
	for seed := range int64(20) {
		rnd := rand.New(rand.NewSource(seed))
		img := fmt.Sprintf("%s/%d.img", dir, seed)
		files := randomFiles(rnd)
		o := ext4.Options{Free: int64(rnd.Intn(40 << 20)), BlockSize: []int{1024, 2048, 4096}[rnd.Intn(3)], Reserved: float64(rnd.Intn(6))}
		if rnd.Intn(3) == 0 {
			o.Features = []string{"^has_journal"}
		}
		if err := ext4.Make(t.Context(), img, o, tree.FromFiles(files, time.Time{})); err != nil {
			t.Fatal(seed, err)
		}
		fsystest.Run(t, "e2fsck", "-fn", img)
		extra := int64(rnd.Intn(2)) * int64(rnd.Intn(8<<20))
		n, err := Shrink(t.Context(), img, extra, copied(t, img))
		if err != nil {
			t.Fatal(seed, err)
		}
		fsystest.Run(t, "e2fsck", "-fn", img)
		if n != fileSize(t, img) || n != size(t, img) {
			t.Errorf("%d: size %d, file %d, file system %d", seed, n, fileSize(t, img), size(t, img))
		}
		if err := Resize(t.Context(), img, n+int64(rnd.Intn(64<<20)), nil); err != nil {
			t.Fatal(seed, err)
		}
		fsystest.Run(t, "e2fsck", "-fn", img)
		compareReader(t, opened(t, img, 0), files)
	}
}

func randomFiles(rnd *rand.Rand) []tree.File {
	var files []tree.File
	for i := range 20 + rnd.Intn(200) {
		b := make([]byte, rnd.Intn(1<<uint(4+rnd.Intn(15))))
		rnd.Read(b)
		files = append(files, tree.File{Path: fmt.Sprintf("d%d/e%d/f%d", rnd.Intn(5), rnd.Intn(9), i), Data: b})
	}
	return files
}

// copied keeps a copy of an image, and returns what puts it back.
func copied(t testing.TB, img string) func() error {
	t.Helper()
	kept := filepath.Join(t.TempDir(), "kept.img")
	fsystest.Run(t, "cp", "--sparse=always", img, kept)
	return func() error {
		return errors.Join(os.Remove(img), exec.Command("cp", "--sparse=always", kept, img).Run())
	}
}

// TestChangedFileSystemsAreWhole shrinks and resizes file systems of every block
// size, as mke2fs makes them and filled by the kernel's own rules, and asks e2fsck
// what it would repair.
func TestChangedFileSystemsAreWhole(t *testing.T) {
	fsystest.Need(t, "mke2fs", "resize2fs", "e2fsck")
	src := t.TempDir()
	for i := range 300 {
		fsystest.Write(t, fmt.Sprintf("%s/d%d/f%d", src, i%9, i), strings.Repeat(fmt.Sprintf("%07d\n", i), 1000*(i%5)))
	}
	for _, o := range [][]string{
		{"-t", "ext4", "-b", "1024"}, {"-t", "ext4", "-b", "2048"}, {"-t", "ext4"}, {"-t", "ext4", "-b", "1024", "-O", "^has_journal"}, {"-t", "ext4", "-b", "1024", "-O", "^64bit,^flex_bg"},
		{"-t", "ext3", "-b", "1024"}, {"-t", "ext2", "-b", "1024"}, {"-t", "ext4", "-b", "4096", "-O", "bigalloc", "-C", "16384"}, {"-t", "ext4", "-b", "1024", "-O", "bigalloc"},
	} {
		t.Run(strings.Join(o, " "), func(t *testing.T) {
			img := t.TempDir() + "/i.img"
			fsystest.Run(t, "mke2fs", slices.Concat([]string{"-q", "-F", "-d", src}, o, []string{img, "200M"})...)
			want := listReader(t, opened(t, img, 0))
			again := copied(t, img)
			n, err := Shrink(t.Context(), img, 0, again)
			if err != nil {
				t.Fatal(err)
			}
			whole(t, img)
			if most := int64(70 << 20); n > most {
				t.Errorf("it was shrunk to %d bytes only", n)
			}
			for _, size := range []int64{150 << 20, 300 << 20, 250 << 20, 1 << 30} {
				if err := Resize(t.Context(), img, size, copied(t, img)); err != nil {
					t.Fatalf("to %d: %v", size, err)
				}
				whole(t, img)
			}
			if got := listReader(t, opened(t, img, 0)); got != want {
				t.Error("the content changed", firstDifference(want, got))
			}
			for _, size := range []int64{n + 3<<20, n} {
				if err := errors.Join(again(), Resize(t.Context(), img, size, again)); err != nil {
					t.Fatalf("to %d, as Shrink has reached %d: %v", size, n, err)
				}
				whole(t, img)
			}
			if got := listReader(t, opened(t, img, 0)); got != want {
				t.Error("the content changed", firstDifference(want, got))
			}
		})
	}
}

// whole fails the test unless e2fsck has nothing to say, by its own messages.
func whole(t testing.TB, img string) {
	t.Helper()
	out := fsystest.Run(t, "e2fsck", "-fn", img)
	for _, bad := range []string{"Fix? no", "Clear? no", "IGNORED", "WARNING"} {
		if strings.Contains(out, bad) {
			t.Fatalf("e2fsck would repair: %s", out)
		}
	}
}
