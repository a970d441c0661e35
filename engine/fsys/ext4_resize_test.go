package fsys

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// filled makes an image with about 40 MB of files, scattered by deleting.
func filled(t testing.TB, path string, size int64) {
	t.Helper()
	var files []File
	for i := range 400 {
		files = append(files, File{Path: fmt.Sprintf("d%d/f%d", i%7, i), Data: []byte(strings.Repeat(fmt.Sprintf("%09d\n", i), 10_000))})
	}
	if err := MakeExt4(ctxOf(t), path, Ext4Options{Size: size, Label: "r"}, FromFiles(files, time.Time{})); err != nil {
		t.Fatal(err)
	}
}

func fileSize(t testing.TB, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

func extSize(t testing.TB, path string) int64 {
	t.Helper()
	info, err := Probe(path, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size
}

func TestResize(t *testing.T) {
	need(t, "mke2fs", "resize2fs", "e2fsck", "tar")
	img := t.TempDir() + "/r.img"
	filled(t, img, 100<<20)
	before := tarOf(t, mountOnce(t, img))
	for _, size := range []int64{3 << 30, 3<<30 + 5, 200 << 20, 100 << 20, 120<<20 + 512} {
		if err := Resize(ctxOf(t), img, size); err != nil {
			t.Fatal(err)
		}
		if got := fileSize(t, img); got != size {
			t.Errorf("file has %d bytes, want %d", got, size)
		}
		if got := extSize(t, img); got != size/4096*4096 {
			t.Errorf("file system has %d bytes, want %d", got, size)
		}
		run(t, "e2fsck", "-fn", img)
	}
	if after := tarOf(t, mountOnce(t, img)); after != before {
		t.Error("content changed", firstDifference(before, after))
	}
}

// mountOnce gives a copy, so that the image can go on changing.
func mountOnce(t testing.TB, img string) string {
	needRoot(t)
	copied := filepath.Join(t.TempDir(), "copy.img")
	run(t, "cp", "--sparse=always", img, copied)
	return mountImage(t, copied)
}

func TestResizeRefusesBeforeItWrites(t *testing.T) {
	need(t, "mke2fs", "resize2fs", "e2fsck")
	img := t.TempDir() + "/r.img"
	filled(t, img, 100<<20)
	before := sum(t, img)
	wantError(t, Resize(ctxOf(t), img, 20<<20), "20MiB is too small: the file system needs at least 4", " bytes)")
	wantError(t, Resize(ctxOf(t), img, 100), "less than one block")
	if sum(t, img) != before {
		t.Error("a refused resize changed the image")
	}
	least, err := MinSize(ctxOf(t), img)
	if err != nil {
		t.Fatal(err)
	}
	if err := Resize(ctxOf(t), img, least); err != nil {
		t.Fatal(err)
	}
	run(t, "e2fsck", "-fn", img)
}

func TestResizeOther(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/raw", strings.Repeat("x", 1<<20))
	wantError(t, Resize(ctxOf(t), dir+"/raw", 1<<21), "without a known file system")
	if err := MakeVFAT(ctxOf(t), dir+"/fat", VFATOptions{Size: 1 << 20}, nil); err != nil {
		t.Fatal(err)
	}
	wantError(t, Resize(ctxOf(t), dir+"/fat", 1<<21), "it holds vfat")
	if err := ResizeImageOnly(dir+"/fat", 3<<20); err != nil || fileSize(t, dir+"/fat") != 3<<20 {
		t.Error(err, fileSize(t, dir+"/fat"))
	}
	wantError(t, ResizeImageOnly(dir+"/fat", 0), "at least 1")
}

func TestResizeCutOff(t *testing.T) {
	need(t, "mke2fs")
	img := t.TempDir() + "/r.img"
	filled(t, img, 100<<20)
	os.Truncate(img, 50<<20)
	wantError(t, Resize(ctxOf(t), img, 200<<20), "cut off")
}

func TestShrink(t *testing.T) {
	need(t, "mke2fs", "resize2fs", "e2fsck")
	began, dir := time.Now(), t.TempDir()
	img := dir + "/r.img"
	filled(t, img, 1<<30)
	run(t, "cp", "--sparse=always", img, dir+"/again.img")
	size, err := Shrink(ctxOf(t), img, 0)
	if err != nil {
		t.Fatal(err)
	}
	if size != fileSize(t, img) || size != extSize(t, img) || size > 80<<20 {
		t.Errorf("size %d, file %d, file system %d", size, fileSize(t, img), extSize(t, img))
	}
	run(t, "e2fsck", "-fn", img)
	larger, err := Shrink(ctxOf(t), dir+"/again.img", 10<<20+1)
	if err != nil {
		t.Fatal(err)
	}
	if larger != size+10<<20+4096 || larger != fileSize(t, dir+"/again.img") {
		t.Errorf("minimum %d plus 10M is %d", size, larger)
	}
	run(t, "e2fsck", "-fn", dir+"/again.img")
	filled(t, dir+"/b.img", 1<<30)
	if _, err := Shrink(ctxOf(t), dir+"/b.img", 0); err != nil {
		t.Fatal(err)
	}
	sameBytes(t, img, dir+"/b.img")
	noPresent(t, img, began)
}

func TestTrim(t *testing.T) {
	needRoot(t)
	need(t, "mke2fs", "e2fsck", "mount")
	dir := t.TempDir()
	img := dir + "/r.img"
	filled(t, img, 1<<30)
	mnt := dir + "/mnt"
	os.Mkdir(mnt, 0o700)
	mountLoop(t, "loop", img, mnt)
	func() {
		defer unmountLoop(t, img, mnt)
		os.RemoveAll(mnt + "/d3")
		write(t, mnt+"/new", "kept")
	}()
	before := tarOf(t, mountOnce(t, img))
	freed, err := Trim(ctxOf(t), img)
	if err != nil {
		t.Fatal(err)
	}
	if freed < 5<<20 {
		t.Errorf("freed %d bytes, want most of 5.7 MB", freed)
	}
	run(t, "e2fsck", "-fn", img)
	if after := tarOf(t, mountOnce(t, img)); after != before {
		t.Error("content changed", firstDifference(before, after))
	}
}

func TestResizeCancelled(t *testing.T) {
	need(t, "mke2fs", "resize2fs", "e2fsck")
	img := t.TempDir() + "/r.img"
	filled(t, img, 100<<20)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Resize(ctx, img, 200<<20); err == nil {
		t.Error("no error")
	}
}

func TestMissingTool(t *testing.T) {
	var missing *ToolError
	if _, err := (toolRun{}).run(t.Context(), "no-such-mke2fs"); !errors.As(err, &missing) {
		t.Fatalf("a tool that does not exist: %v", err)
	}
	wantError(t, &ToolError{Name: "fsck.vfat", Package: debianPackage("fsck.vfat")}, "fsck.vfat is not installed: install the Debian package dosfstools")
}
