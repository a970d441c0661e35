package ext4_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/fsys"
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
	if err := ext4.Make(fsystest.CtxOf(t), path, ext4.Options{Size: size, Label: "r"}, tree.FromFiles(files, time.Time{})); err != nil {
		t.Fatal(err)
	}
}

func size(t testing.TB, path string) int64 {
	t.Helper()
	info, err := fsys.Probe(path, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size
}

func TestResize(t *testing.T) {
	fsystest.Need(t, "mke2fs", "resize2fs", "e2fsck", "tar")
	img := t.TempDir() + "/r.img"
	filled(t, img, 100<<20)
	before := fsystest.TarOf(t, mountOnce(t, img))
	for _, n := range []int64{3 << 30, 3<<30 + 5, 200 << 20, 100 << 20, 120<<20 + 512} {
		if err := fsys.Resize(fsystest.CtxOf(t), img, n); err != nil {
			t.Fatal(err)
		}
		if got := fsystest.FileSize(t, img); got != n {
			t.Errorf("file has %d bytes, want %d", got, n)
		}
		if got := size(t, img); got != n/4096*4096 {
			t.Errorf("file system has %d bytes, want %d", got, n)
		}
		fsystest.Run(t, "e2fsck", "-fn", img)
	}
	if after := fsystest.TarOf(t, mountOnce(t, img)); after != before {
		t.Error("content changed", fsystest.FirstDifference(before, after))
	}
}

// mountOnce gives a copy, so that the image can go on changing.
func mountOnce(t testing.TB, img string) string {
	fsystest.NeedRoot(t)
	copied := filepath.Join(t.TempDir(), "copy.img")
	fsystest.Run(t, "cp", "--sparse=always", img, copied)
	return fsystest.MountImage(t, copied)
}

func TestResizeRefusesBeforeItWrites(t *testing.T) {
	fsystest.Need(t, "mke2fs", "resize2fs", "e2fsck")
	img := t.TempDir() + "/r.img"
	filled(t, img, 100<<20)
	before := fsystest.Sum(t, img)
	fsystest.WantError(t, fsys.Resize(fsystest.CtxOf(t), img, 20<<20), "20MiB is too small: the file system needs at least 4", " bytes)")
	fsystest.WantError(t, fsys.Resize(fsystest.CtxOf(t), img, 100), "less than one block")
	if fsystest.Sum(t, img) != before {
		t.Error("a refused resize changed the image")
	}
	least, err := fsys.MinSize(fsystest.CtxOf(t), img)
	if err != nil {
		t.Fatal(err)
	}
	if err := fsys.Resize(fsystest.CtxOf(t), img, least); err != nil {
		t.Fatal(err)
	}
	fsystest.Run(t, "e2fsck", "-fn", img)
}

func TestResizeOther(t *testing.T) {
	dir := t.TempDir()
	fsystest.Write(t, dir+"/raw", strings.Repeat("x", 1<<20))
	fsystest.WantError(t, fsys.Resize(fsystest.CtxOf(t), dir+"/raw", 1<<21), "without a known file system")
	if err := vfat.Make(fsystest.CtxOf(t), dir+"/fat", vfat.Options{Size: 1 << 20}, nil); err != nil {
		t.Fatal(err)
	}
	fsystest.WantError(t, fsys.Resize(fsystest.CtxOf(t), dir+"/fat", 1<<21), "it holds vfat")
	if err := fsys.ResizeImageOnly(dir+"/fat", 3<<20); err != nil || fsystest.FileSize(t, dir+"/fat") != 3<<20 {
		t.Error(err, fsystest.FileSize(t, dir+"/fat"))
	}
	fsystest.WantError(t, fsys.ResizeImageOnly(dir+"/fat", 0), "at least 1")
}

func TestResizeCutOff(t *testing.T) {
	fsystest.Need(t, "mke2fs")
	img := t.TempDir() + "/r.img"
	filled(t, img, 100<<20)
	os.Truncate(img, 50<<20)
	fsystest.WantError(t, fsys.Resize(fsystest.CtxOf(t), img, 200<<20), "cut off")
}

func TestShrink(t *testing.T) {
	fsystest.Need(t, "mke2fs", "resize2fs", "e2fsck")
	began, dir := time.Now(), t.TempDir()
	img := dir + "/r.img"
	filled(t, img, 1<<30)
	fsystest.Run(t, "cp", "--sparse=always", img, dir+"/again.img")
	n, err := fsys.Shrink(fsystest.CtxOf(t), img, 0)
	if err != nil {
		t.Fatal(err)
	}
	if n != fsystest.FileSize(t, img) || n != size(t, img) || n > 80<<20 {
		t.Errorf("size %d, file %d, file system %d", n, fsystest.FileSize(t, img), size(t, img))
	}
	fsystest.Run(t, "e2fsck", "-fn", img)
	larger, err := fsys.Shrink(fsystest.CtxOf(t), dir+"/again.img", 10<<20+1)
	if err != nil {
		t.Fatal(err)
	}
	if larger != n+10<<20+4096 || larger != fsystest.FileSize(t, dir+"/again.img") {
		t.Errorf("minimum %d plus 10M is %d", n, larger)
	}
	fsystest.Run(t, "e2fsck", "-fn", dir+"/again.img")
	filled(t, dir+"/b.img", 1<<30)
	if _, err := fsys.Shrink(fsystest.CtxOf(t), dir+"/b.img", 0); err != nil {
		t.Fatal(err)
	}
	fsystest.SameBytes(t, img, dir+"/b.img")
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
	fsystest.MountLoop(t, "loop", img, mnt)
	func() {
		defer fsystest.UnmountLoop(t, img, mnt)
		os.RemoveAll(mnt + "/d3")
		fsystest.Write(t, mnt+"/new", "kept")
	}()
	before := fsystest.TarOf(t, mountOnce(t, img))
	freed, err := fsys.Trim(fsystest.CtxOf(t), img)
	if err != nil {
		t.Fatal(err)
	}
	if freed < 5<<20 {
		t.Errorf("freed %d bytes, want most of 5.7 MB", freed)
	}
	fsystest.Run(t, "e2fsck", "-fn", img)
	if after := fsystest.TarOf(t, mountOnce(t, img)); after != before {
		t.Error("content changed", fsystest.FirstDifference(before, after))
	}
}

func TestResizeCancelled(t *testing.T) {
	fsystest.Need(t, "mke2fs", "resize2fs", "e2fsck")
	img := t.TempDir() + "/r.img"
	filled(t, img, 100<<20)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := fsys.Resize(ctx, img, 200<<20); err == nil {
		t.Error("no error")
	}
}
