package fsys

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/tree"
)

func copyOut(t testing.TB, img, name, dst, as string, o CopyOptions) error {
	t.Helper()
	r := opened(t, img, 0)
	root, err := os.OpenRoot(dst)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	return Copy(t.Context(), r, name, root, as, o)
}

// TestCopyKeepsEverything copies a whole tree out and compares it with what
// went in.
func TestCopyKeepsEverything(t *testing.T) {
	fsystest.Need(t, "mke2fs", "tar")
	dir := t.TempDir()
	buildTree(t, dir+"/src", 9)
	img := dir + "/img"
	if err := ext4.Make(t.Context(), img, ext4.Options{}, tree.FromDir(dir+"/src")); err != nil {
		t.Fatal(err)
	}
	var skipped []string
	o := CopyOptions{Owners: true, Skipped: func(name, why string) { skipped = append(skipped, name) }}
	if err := copyOut(t, img, ".", dir, "out", o); err != nil {
		t.Fatal(err)
	}
	if want, got := tarOf(t, dir+"/src"), tarOf(t, dir+"/out"); want != got {
		t.Error(firstDifference(want, got))
	}
	if len(skipped) != 1 || skipped[0] != "sock" {
		t.Errorf("skipped %v", skipped)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir+"/out/sparse", &st); err != nil || st.Blocks*512 > 8<<20 {
		t.Errorf("the copy of a sparse file takes %d bytes, %v", st.Blocks*512, err)
	}
	if err := copyOut(t, img, "etc", dir, "out/etc", o); err != nil { // once more, over it
		t.Error(err)
	}
	list, _ := os.ReadDir(dir + "/out/etc")
	for _, e := range list {
		if strings.HasPrefix(e.Name(), ".b9") {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

// TestCopyStaysInside lays links where they could lead the copy astray.
func TestCopyStaysInside(t *testing.T) {
	fsystest.Need(t, "mke2fs")
	dir := t.TempDir()
	img := dir + "/img"
	files := []tree.File{{Path: "d/file", Data: []byte("new")}, {Path: "evil", Mode: fs.ModeSymlink, Link: dir + "/outside"}, {Path: "set", Mode: fs.ModeSetuid | 0o755}}
	if err := ext4.Make(t.Context(), img, ext4.Options{}, tree.FromFiles(files, time.Time{})); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"outside", "dst"} {
		os.Mkdir(dir+"/"+d, 0o755)
	}
	fsystest.Write(t, dir+"/outside/file", "old")
	os.Symlink("../outside", dir+"/dst/d")
	os.Symlink("../outside/file", dir+"/dst/f")
	if err := copyOut(t, img, "d", dir+"/dst", "d", CopyOptions{}); err == nil {
		t.Error("a directory was copied through a link")
	}
	if err := copyOut(t, img, "d/file", dir+"/dst", "d/file", CopyOptions{}); err == nil {
		t.Error("a file was copied through a link")
	}
	if err := copyOut(t, img, "d/file", dir+"/dst", "f", CopyOptions{}); err != nil {
		t.Error(err)
	}
	if b, _ := os.ReadFile(dir + "/outside/file"); string(b) != "old" {
		t.Errorf("the file outside holds %q", b)
	}
	if err := copyOut(t, img, ".", dir+"/dst", "all", CopyOptions{}); err != nil {
		t.Error(err)
	}
	if st, err := os.Lstat(dir + "/dst/all/set"); err != nil || st.Mode() != 0o755 {
		t.Errorf("setuid without owners: %v, %v", st, err)
	}
	if st, err := os.Lstat(dir + "/dst/all/evil"); err != nil || st.Mode().Type() != fs.ModeSymlink {
		t.Errorf("a link is %v, %v", st, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := opened(t, img, 0)
	root, _ := os.OpenRoot(dir)
	defer root.Close()
	fsystest.WantError(t, Copy(ctx, r, "d", root, "cancelled", CopyOptions{}), "canceled")
}

// TestCopyLargeXattr copies an attribute that not every destination has room for.
func TestCopyLargeXattr(t *testing.T) {
	fsystest.Need(t, "mke2fs", "debugfs")
	fsystest.NeedRoot(t)
	dir := t.TempDir()
	img, value := filepath.Join(dir, "img"), strings.Repeat("large", 2000)
	fsystest.Write(t, filepath.Join(dir, "src/f"), "text")
	fsystest.Write(t, filepath.Join(dir, "value"), value)
	fsystest.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "16384", "-d", filepath.Join(dir, "src"), img, "32M")
	fsystest.Run(t, "debugfs", "-w", "-R", "ea_set -f "+filepath.Join(dir, "value")+" /f user.large", img)
	r := opened(t, img, 0)
	if list, err := r.Xattrs("f"); err != nil || list["user.large"] != value {
		t.Fatalf("%d bytes of user.large, %v", len(list["user.large"]), err)
	}
	to := t.TempDir()
	var skipped []string
	err := copyOut(t, img, "f", to, "f", CopyOptions{Owners: true, Skipped: func(name, why string) { skipped = append(skipped, name+" "+why) }})
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(value)+1)
	n, _ := unix.Getxattr(filepath.Join(to, "f"), "user.large", got)
	if len(skipped) == 0 && string(got[:max(n, 0)]) != value {
		t.Errorf("the attribute has %d bytes, and nobody was told", n)
	}
	if len(skipped) > 0 && !strings.Contains(skipped[0], "f keeps its extended attribute user.large to itself") {
		t.Error(skipped)
	}
}

// TestCopySkipsHoles copies a file that is a hole but for its end: the holes are
// not read, which a copy of a disk of many gigabytes would feel.
func TestCopySkipsHoles(t *testing.T) {
	fsystest.Need(t, "mke2fs")
	dir := t.TempDir()
	img := dir + "/img"
	src := dir + "/src/f"
	fsystest.Write(t, src, "")
	if err := os.Truncate(src, 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := ext4.Make(t.Context(), img, ext4.Options{Size: 16 << 20}, tree.FromDir(dir+"/src")); err != nil {
		t.Fatal(err)
	}
	f, err := opened(t, img, 0).Open("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if next, err := f.(tree.HoleSkipper).NextData(4096); err != nil || next != 1<<30 {
		t.Errorf("data follows at %d, %v, want none before the end", next, err)
	}
	if err := copyOut(t, img, "f", dir, "out", CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := fileSize(t, dir+"/out"); n != 1<<30 {
		t.Errorf("the copy has %d bytes", n)
	}
}

// broken can't open one of its files.
type broken struct {
	tree.Reader
	name string
}

func (b broken) Open(name string) (fs.File, error) {
	if name == b.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: unix.EIO}
	}
	return b.Reader.Open(name)
}

// TestCopiedDirectoryAppearsWhole copies a directory of which a file can't be read: no
// part of it is left. One that is there is added to, and keeps what it had. What a copy
// that was killed left is removed by the next.
func TestCopiedDirectoryAppearsWhole(t *testing.T) {
	fsystest.Need(t, "mke2fs")
	dir := t.TempDir()
	for _, name := range []string{"src/d/a", "src/d/sub/b", "src/d/z", "there/kept"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(name), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	img := filepath.Join(dir, "img")
	if err := ext4.Make(t.Context(), img, ext4.Options{}, tree.FromDir(dir+"/src")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	r := broken{opened(t, img, 0), "d/z"}
	list := func(dir string) (names string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names += e.Name() + " "
		}
		return names
	}
	const before = "img src there "
	for _, as := range []string{"new", "there"} {
		if err := Copy(t.Context(), r, "d", root, as, CopyOptions{}); !errors.Is(err, unix.EIO) {
			t.Errorf("as %s: %v", as, err)
		}
	}
	if got := list(dir); got != before {
		t.Errorf("after errors there is %s, want %s", got, before)
	}
	if got := list(dir + "/there"); got != "kept " && got != "a kept sub " {
		t.Errorf("what was there has %s", got)
	}
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, fmt.Sprintf("%s%d-1", tempPrefix, dead.Process.Pid), "half"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.name = ""
	if err := Copy(t.Context(), r, "d", root, "new", CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := list(dir); got != "img new src there " {
		t.Errorf("afterwards there is %s", got)
	}
}
