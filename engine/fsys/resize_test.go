package fsys

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/fsys/vfat"
)

// filled makes an image with about 40 MB of files, scattered by deleting.
func filled(t testing.TB, path string, size int64) {
	t.Helper()
	var files []tree.File
	for i := range 400 {
		files = append(files, tree.File{Path: fmt.Sprintf("d%d/f%d", i%7, i), Data: []byte(strings.Repeat(fmt.Sprintf("%09d\n", i), 10_000))})
	}
	if err := ext4.Make(t.Context(), path, ext4.Options{Size: size, Label: "r"}, tree.FromFiles(files, time.Time{})); err != nil {
		t.Fatal(err)
	}
}

func size(t testing.TB, path string) int64 {
	t.Helper()
	info, err := Probe(path, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size
}

func TestResize(t *testing.T) {
	fsystest.Need(t, "mke2fs", "resize2fs", "e2fsck", "tar")
	img := t.TempDir() + "/r.img"
	filled(t, img, 100<<20)
	before := tarOf(t, mountOnce(t, img))
	for _, n := range []int64{3 << 30, 3<<30 + 5, 200 << 20, 100 << 20, 120<<20 + 512} {
		if err := Resize(t.Context(), img, n, nil); err != nil {
			t.Fatal(err)
		}
		if got := fileSize(t, img); got != n {
			t.Errorf("file has %d bytes, want %d", got, n)
		}
		if got := size(t, img); got != n/4096*4096 {
			t.Errorf("file system has %d bytes, want %d", got, n)
		}
		fsystest.Run(t, "e2fsck", "-fn", img)
	}
	if after := tarOf(t, mountOnce(t, img)); after != before {
		t.Error("content changed", firstDifference(before, after))
	}
}

// mountOnce gives a copy, so that the image can go on changing.
func mountOnce(t testing.TB, img string) string {
	fsystest.NeedRoot(t)
	copied := filepath.Join(t.TempDir(), "copy.img")
	fsystest.Run(t, "cp", "--sparse=always", img, copied)
	return mountImage(t, copied)
}

func TestResizeRefusesBeforeItWrites(t *testing.T) {
	fsystest.Need(t, "mke2fs", "resize2fs", "e2fsck")
	img := t.TempDir() + "/r.img"
	filled(t, img, 100<<20)
	before := sum(t, img)
	err := Resize(t.Context(), img, 20<<20, nil)
	fsystest.WantError(t, err, "20MiB is too small: the file system needs at least 4", " bytes)")
	fsystest.WantError(t, Resize(t.Context(), img, 100, nil), "less than one block")
	if sum(t, img) != before {
		t.Error("a refused resize changed the image")
	}
	told := regexp.MustCompile(`\((\d+) bytes\)`).FindStringSubmatch(err.Error())
	least, err := strconv.ParseInt(told[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := Resize(t.Context(), img, least, nil); err != nil {
		t.Fatal(err)
	}
	fsystest.Run(t, "e2fsck", "-fn", img)
}

func TestResizeOther(t *testing.T) {
	dir := t.TempDir()
	fsystest.Write(t, dir+"/raw", strings.Repeat("x", 1<<20))
	fsystest.WantError(t, Resize(t.Context(), dir+"/raw", 1<<21, nil), "without a known file system")
	if err := vfat.Make(t.Context(), dir+"/fat", vfat.Options{Size: 1 << 20}, nil); err != nil {
		t.Fatal(err)
	}
	fsystest.WantError(t, Resize(t.Context(), dir+"/fat", 1<<21, nil), "it holds vfat")
	if err := ResizeImageOnly(dir+"/fat", 3<<20); err != nil || fileSize(t, dir+"/fat") != 3<<20 {
		t.Error(err, fileSize(t, dir+"/fat"))
	}
	fsystest.WantError(t, ResizeImageOnly(dir+"/fat", 0), "at least 1")
}

func TestResizeCutOff(t *testing.T) {
	fsystest.Need(t, "mke2fs")
	img := t.TempDir() + "/r.img"
	filled(t, img, 100<<20)
	os.Truncate(img, 50<<20)
	fsystest.WantError(t, Resize(t.Context(), img, 200<<20, nil), "cut off")
}

func TestShrink(t *testing.T) {
	fsystest.Need(t, "mke2fs", "resize2fs", "e2fsck")
	began, dir := time.Now(), t.TempDir()
	img := dir + "/r.img"
	filled(t, img, 1<<30)
	fsystest.Run(t, "cp", "--sparse=always", img, dir+"/again.img")
	n, err := Shrink(t.Context(), img, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n != fileSize(t, img) || n != size(t, img) || n > 80<<20 {
		t.Errorf("size %d, file %d, file system %d", n, fileSize(t, img), size(t, img))
	}
	fsystest.Run(t, "e2fsck", "-fn", img)
	larger, err := Shrink(t.Context(), dir+"/again.img", 10<<20+1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if larger != n+10<<20+4096 || larger != fileSize(t, dir+"/again.img") {
		t.Errorf("minimum %d plus 10M is %d", n, larger)
	}
	fsystest.Run(t, "e2fsck", "-fn", dir+"/again.img")
	filled(t, dir+"/b.img", 1<<30)
	if _, err := Shrink(t.Context(), dir+"/b.img", 0, nil); err != nil {
		t.Fatal(err)
	}
	sameBytes(t, img, dir+"/b.img")
	noPresent(t, img, began)
}

func TestTrim(t *testing.T) {
	fsystest.NeedRoot(t)
	fsystest.Need(t, "mke2fs", "e2fsck", "mount")
	dir := t.TempDir()
	img := dir + "/r.img"
	filled(t, img, 1<<30)
	mnt := dir + "/mnt"
	os.Mkdir(mnt, 0o700)
	mountLoop(t, "loop", img, mnt)
	func() {
		defer unmountLoop(t, img, mnt)
		os.RemoveAll(mnt + "/d3")
		fsystest.Write(t, mnt+"/new", "kept")
	}()
	before := tarOf(t, mountOnce(t, img))
	freed, err := Trim(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	if freed < 5<<20 {
		t.Errorf("freed %d bytes, want most of 5.7 MB", freed)
	}
	fsystest.Run(t, "e2fsck", "-fn", img)
	if after := tarOf(t, mountOnce(t, img)); after != before {
		t.Error("content changed", firstDifference(before, after))
	}
}

func TestResizeCancelled(t *testing.T) {
	fsystest.Need(t, "mke2fs", "resize2fs", "e2fsck")
	img := t.TempDir() + "/r.img"
	filled(t, img, 100<<20)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Resize(ctx, img, 200<<20, nil); err == nil {
		t.Error("no error")
	}
}
