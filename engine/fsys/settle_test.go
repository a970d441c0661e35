package fsys

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/internal/blob"
)

// kinds of ext file systems by options of Make.
func extKinds() map[string]ext4.Options {
	return map[string]ext4.Options{
		"ext4":        {Size: 64 << 20},
		"1 KiB":       {Size: 64 << 20, BlockSize: 1024, Features: []string{"metadata_csum_seed"}},
		"no journal":  {Size: 64 << 20, Features: []string{"^has_journal"}},
		"ext3":        {Size: 64 << 20, Features: []string{"^extent,^huge_file,^flex_bg,^metadata_csum,^64bit,^dir_nlink,^extra_isize"}},
		"small inode": {Size: 64 << 20, InodeSize: 128, Features: []string{"^metadata_csum,uninit_bg"}},
	}
}

// visit mounts an image for do.
func visit(t testing.TB, img string, do func(mnt string)) {
	t.Helper()
	mnt := t.TempDir()
	mountLoop(t, "loop,noatime", img, mnt)
	defer unmountLoop(t, img, mnt)
	do(mnt)
}

// TestSettleForgetsMounts: an image that was mounted, and not written to, is again
// what it was.
func TestSettleForgetsMounts(t *testing.T) {
	fsystest.NeedRoot(t)
	fsystest.Need(t, "mke2fs", "e2fsck", "mount")
	at := time.Unix(1_700_000_000, 0)
	for name, o := range extKinds() {
		t.Run(name, func(t *testing.T) {
			img, o := filepath.Join(t.TempDir(), "i.img"), o
			o.Time = at
			if err := ext4.Make(t.Context(), img, o, tree.FromFiles(variedFiles(), at)); err != nil {
				t.Fatal(err)
			}
			if err := Settle(t.Context(), img, nil, time.Now().Add(time.Hour), at); err != nil { // mke2fs counts what it writes
				t.Fatal(err)
			}
			before := sum(t, img)
			for range 3 { // the first one also sets features of the journal
				visit(t, img, func(mnt string) {
					if _, err := os.ReadFile(filepath.Join(mnt, "etc/hostname")); err != nil && !os.IsNotExist(err) {
						t.Error(err)
					}
				})
			}
			if sum(t, img) == before {
				t.Fatal("a mount leaves no trace here")
			}
			if err := Settle(t.Context(), img, nil, time.Now().Add(time.Hour), at); err != nil {
				t.Fatal(err)
			}
			if sum(t, img) != before {
				t.Error("a mount left traces")
			}
		})
	}
}

// TestSettleClampsTimes: what was written gets the build's time in all four times of
// its inode, and nothing else does.
func TestSettleClampsTimes(t *testing.T) {
	fsystest.NeedRoot(t)
	fsystest.Need(t, "mke2fs", "e2fsck", "mount", "debugfs")
	at := time.Unix(1_700_000_000, 0)
	for name, o := range extKinds() {
		t.Run(name, func(t *testing.T) {
			img := filepath.Join(t.TempDir(), "i.img")
			files := []tree.File{{Path: "old", Data: []byte("x"), Time: time.Unix(1_600_000_000, 5000)}, {Path: "d/kept", Data: []byte("x")}}
			if err := ext4.Make(t.Context(), img, o, tree.FromFiles(files, time.Unix(1_500_000_000, 0))); err != nil {
				t.Fatal(err)
			}
			before, told := img+".before", img+".told"
			fsystest.Run(t, "cp", "--sparse=always", img, before)
			began := time.Now().Add(-time.Second)
			visit(t, img, func(mnt string) {
				fsystest.Write(t, mnt+"/d/new", "new")
				os.Chtimes(mnt+"/old", time.Now(), time.Unix(1_600_000_000, 5000)) // changes its change time
				fsystest.Write(t, mnt+"/future", "new")
				os.Chtimes(mnt+"/future", time.Time{}, time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC))
			})
			fsystest.Run(t, "cp", "--sparse=always", img, told)
			parts := written(t, before, img)
			if err := Settle(t.Context(), img, nil, began, at); err != nil {
				t.Fatal(err)
			}
			unread := sum(t, told)
			if err := Settle(t.Context(), told, Parts{}, began, at); err != nil || sum(t, told) == sum(t, img) {
				t.Errorf("inodes that were not written are clamped: %v", err)
			} else if unread == sum(t, told) {
				t.Error("the superblock is left as it was")
			}
			if err := Settle(t.Context(), told, parts, began, at); err != nil || sum(t, told) != sum(t, img) {
				t.Errorf("where it is told what was written it becomes another image: %v", err)
			}
			whole(t, img)
			r := opened(t, img, 0)
			fine := int64(5000)
			if o.InodeSize == 128 {
				fine = 0
			}
			for path, want := range map[string]time.Time{
				"d/new": at, "d": at, "future": at, "d/kept": time.Unix(1_500_000_000, 0), "old": time.Unix(1_600_000_000, fine),
			} {
				if info, err := r.Lstat(path); err != nil || !info.ModTime().Equal(want) {
					t.Errorf("%s: %v, want %v (%v)", path, info.ModTime(), want, err)
				}
			}
			for _, path := range []string{"/d/new", "/old", "/future"} {
				for line := range strings.Lines(fsystest.Run(t, "debugfs", "-R", "stat "+path, img)) {
					if strings.Contains(line, "time: ") && !strings.Contains(line, " 2023") && !strings.Contains(line, " 2020") {
						t.Errorf("%s has %s", path, line)
					}
				}
			}
		})
	}
}

// TestSame tells images that hold the same from such that do not.
func TestSame(t *testing.T) {
	fsystest.NeedRoot(t)
	fsystest.Need(t, "mke2fs", "mount")
	dir := t.TempDir()
	made, img := dir+"/made.img", dir+"/i.img"
	if err := ext4.Make(t.Context(), made, ext4.Options{Size: 64 << 20}, tree.FromDir(sourceTree(t))); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		do   func(mnt string) error
		same bool
	}{
		"nothing": {func(string) error { return nil }, true},
		"atime": {func(mnt string) error {
			info, err := os.Stat(mnt + "/a")
			if err != nil {
				return err
			}
			return os.Chtimes(mnt+"/a", time.Now(), info.ModTime())
		}, true},
		"one byte": {func(mnt string) error {
			info, err := os.Stat(mnt + "/a")
			if err != nil {
				return err
			}
			f, err := os.OpenFile(mnt+"/a", os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			if _, err := f.WriteAt([]byte("y"), 300_000); err != nil {
				return err
			}
			f.Close()
			return os.Chtimes(mnt+"/a", info.ModTime(), info.ModTime())
		}, false},
		"mode":  {func(mnt string) error { return os.Chmod(mnt+"/a", 0o600) }, false},
		"owner": {func(mnt string) error { return os.Lchown(mnt+"/link", 7, 7) }, false},
		"a name moves from one file of two names to another": {func(mnt string) error {
			info, err := os.Stat(mnt + "/d")
			if err != nil {
				return err
			}
			for _, p := range [][2]string{{"d/one", "d/t"}, {"d/three", "d/one"}, {"d/t", "d/three"}} {
				if err := os.Rename(mnt+"/"+p[0], mnt+"/"+p[1]); err != nil {
					return err
				}
			}
			return os.Chtimes(mnt+"/d", info.ModTime(), info.ModTime())
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			fsystest.Run(t, "cp", "--sparse=always", made, img)
			visit(t, img, func(mnt string) {
				if err := c.do(mnt); err != nil {
					t.Fatal(err)
				}
			})
			got, err := newPair(image(t, made), image(t, img), nil).same(t.Context())
			if err != nil || got != c.same {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

// sourceTree has a large file, a link, and two files of two names each.
func sourceTree(t testing.TB) string {
	dir := t.TempDir()
	fsystest.Write(t, dir+"/a", strings.Repeat("x", 500_000))
	fsystest.Write(t, dir+"/d/one", "equal")
	fsystest.Write(t, dir+"/d/three", "equal")
	fsystest.Write(t, dir+"/no \xff text", "bytes")
	for _, err := range []error{os.Symlink("a", dir+"/link"), os.Link(dir+"/d/one", dir+"/d/two"), os.Link(dir+"/d/three", dir+"/d/four")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	at := time.Unix(1_600_000_000, 0)
	for _, p := range []string{"a", "d/one", "d/three", "d"} {
		if err := os.Chtimes(dir+"/"+p, at, at); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// image opens a file as an image.
func image(t testing.TB, path string) blob.Blob {
	t.Helper()
	b, err := blob.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// TestCanonical writes one content into two images in different ways: laid out anew
// they are equal, keep everything that they hold, and change no more.
func TestCanonical(t *testing.T) {
	fsystest.NeedRoot(t)
	fsystest.Need(t, "mke2fs", "e2fsck", "mount", "cp", "chattr", "tune2fs")
	at := time.Unix(1_700_000_000, 0)
	for name, o := range extKinds() {
		t.Run(name, func(t *testing.T) {
			dir, src := t.TempDir(), t.TempDir()
			buildTree(t, src, 1)
			if o.BlockSize == 1024 {
				os.Remove(src + "/linklong") // longer than a block
			}
			o.Label, o.Reserved, o.UUID = "lab", 3, "12345678-1234-1234-1234-123456789abc"
			o.HashSeed = o.UUID
			var imgs [2]string
			for i := range imgs {
				img := filepath.Join(dir, string(rune('a'+i)))
				imgs[i] = img
				if err := ext4.Make(t.Context(), img, o, nil); err != nil {
					t.Fatal(err)
				}
				fsystest.Run(t, "tune2fs", "-c", "30", "-e", "remount-ro", img)
				visit(t, img, func(mnt string) {
					if i == 1 { // something that is gone again
						fsystest.Write(t, mnt+"/first/x", strings.Repeat("gone", 1<<20))
						fsystest.Run(t, "sync", "-f", mnt)
					}
					fsystest.Run(t, "cp", "-a", src+"/.", mnt)
					os.RemoveAll(mnt + "/first")
					fsystest.Write(t, mnt+"/locked", "x")
					fsystest.Run(t, "chattr", "+i", mnt+"/locked")
				})
			}
			for i, img := range imgs {
				want := stripTimes(listReader(t, opened(t, img, 0)))
				if err := Canonical(t.Context(), img, img+".new", at); err != nil {
					t.Fatal(err)
				}
				whole(t, img+".new")
				if got := stripTimes(listReader(t, opened(t, img+".new", 0))); got != want {
					t.Error("the content changed", firstDifference(want, got))
				}
				imgs[i] = img + ".new"
			}
			sameBytes(t, imgs[0], imgs[1])
			if err := Canonical(t.Context(), imgs[0], imgs[0]+".again", at); err != nil {
				t.Fatal(err)
			}
			sameBytes(t, imgs[0], imgs[0]+".again")
			if want, got := listReader(t, opened(t, imgs[0], 0)), listReader(t, opened(t, imgs[0]+".again", 0)); got != want {
				t.Error("the content changed", firstDifference(want, got))
			}
			settings := fsystest.Run(t, "tune2fs", "-l", imgs[0])
			for _, want := range []string{"Maximum mount count:      30", "Errors behavior:          Remount read-only", "lab", o.UUID} {
				if !strings.Contains(settings, want) {
					t.Errorf("%q is not in %s", want, settings)
				}
			}
			visit(t, imgs[0], func(mnt string) {
				if out := fsystest.Run(t, "lsattr", mnt+"/locked"); !strings.HasPrefix(out, "----i") {
					t.Errorf("the flags are %s", out)
				}
			})
		})
	}
}

// stripTimes removes what Canonical clamps from a listing.
func stripTimes(s string) string {
	return regexp.MustCompile(` -?\d+\.\d+ "`).ReplaceAllString(s, " TIME \"")
}

// TestCanonicalKeepsSwapFiles: the kernel swaps to no file with holes.
func TestCanonicalKeepsSwapFiles(t *testing.T) {
	fsystest.Need(t, "mke2fs", "mkswap", "filefrag")
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/src", make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	fsystest.Run(t, "mkswap", dir+"/src")
	files := []tree.File{{Path: "swapfile", Mode: 0o600, Source: dir + "/src"}}
	if err := ext4.Make(t.Context(), dir+"/i.img", ext4.Options{}, tree.FromFiles(files, time.Time{})); err != nil {
		t.Fatal(err)
	}
	if err := Canonical(t.Context(), dir+"/i.img", dir+"/new.img", time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	out := fsystest.Run(t, "debugfs", "-R", "stat /swapfile", dir+"/new.img")
	if !strings.Contains(out, "Blockcount: 2048") {
		t.Errorf("it has holes: %s", out)
	}
}

// TestCanonicalRefuses what it could not keep, before it writes anything.
func TestCanonicalRefuses(t *testing.T) {
	fsystest.Need(t, "mke2fs")
	dir := t.TempDir()
	for _, features := range []string{"bigalloc", "project,quota", "casefold", "ea_inode"} {
		img := dir + "/" + features
		fsystest.Run(t, "mke2fs", "-q", "-t", "ext4", "-F", "-O", features, img, "64M")
		fsystest.WantError(t, Canonical(t.Context(), img, img+".new", time.Time{}), "can't be laid out anew")
		fsystest.Gone(t, img+".new")
	}
	img := dir + "/tail"
	fsystest.Run(t, "mke2fs", "-q", "-t", "ext4", "-F", img, "64M")
	f, err := os.OpenFile(img, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{7}, 10), 70<<20); err != nil {
		t.Fatal(err)
	}
	fsystest.WantError(t, Canonical(t.Context(), img, img+".new", time.Time{}), "data behind its file system")
}
