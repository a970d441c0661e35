package fsys

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/fsys/btrfs"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/tree"
)

// TestBtrfs holds the kernel's view and btrfs check's of a filled btrfs against its
// source, and the bytes against those from a directory in which everything was made in
// another order.
func TestBtrfs(t *testing.T) {
	fsystest.Need(t, "btrfs", "tar", "mount")
	dir := t.TempDir()
	kernelTree(t, dir+"/src", 5)
	kernelTree(t, dir+"/other", 6)
	o := btrfs.Options{Label: strings.Repeat("l", 255), Time: time.Unix(1000, 0), Free: 40 << 20}
	img := dir + "/img"
	err := errors.Join(btrfs.Make(t.Context(), img, o, tree.FromDir(dir+"/src")), btrfs.Make(t.Context(), dir+"/again", o, tree.FromDir(dir+"/other")))
	if err != nil {
		t.Fatal(err)
	}
	fsystest.Run(t, "cmp", img, dir+"/again")
	if err := Check(t.Context(), img); err != nil {
		t.Error(err)
	}
	info, err := Probe(img, 0, 0)
	if err != nil || info.Type != "btrfs" || info.Label != o.Label || info.Size != fileSize(t, img) || info.Free < o.Free {
		t.Errorf("%+v, %v, %d bytes", info, err, fileSize(t, img))
	}
	compareBlkid(t, img, info)
	want := tarOf(t, dir+"/src")
	if got := tarOf(t, mountImage(t, img)); got != want {
		t.Error("the kernel:", firstDifference(want, got))
	}
	readsAs(t, img, dir+"/src")
}

// TestBtrfsRead reads what the kernel has written: compressed in both ways that b9 knows,
// in an item, over holes, in a snapshot, and in one that lies in the subvolume of which it
// was taken; what is compressed with lzo is refused by name.
func TestBtrfsRead(t *testing.T) {
	fsystest.NeedRoot(t)
	fsystest.Need(t, "btrfs", "mkfs.btrfs", "mount")
	dir := t.TempDir()
	img, root, copied := dir+"/img", dir+"/mnt", dir+"/copied"
	fsystest.Write(t, img, "")
	if err := errors.Join(os.Truncate(img, 200<<20), os.Mkdir(root, 0o755)); err != nil {
		t.Fatal(err)
	}
	fsystest.Run(t, "mkfs.btrfs", "-q", img)
	mountLoop(t, "loop", img, root)
	mounted := true
	t.Cleanup(func() {
		if mounted {
			fsystest.Run(t, "umount", root)
		}
	})
	fsystest.Run(t, "btrfs", "subvolume", "create", root+"/sub")
	for _, how := range []string{"zlib", "zstd", "none"} {
		fsystest.Run(t, "mount", "-o", "remount,compress-force="+how, root)
		for name, n := range map[string]int{"small": 100, "block": 5000, "long": 100_000} {
			fsystest.Write(t, root+"/sub/"+how+"/"+name, strings.Repeat(how+name+"\n", n))
		}
		f, err := os.OpenFile(root+"/sub/"+how+"/long", os.O_RDWR, 0)
		if err == nil {
			_, err = f.WriteAt([]byte("in the middle"), 300_001)
			_, more := f.WriteAt([]byte("behind a hole"), 9_000_000)
			err = errors.Join(err, more, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	fsystest.Run(t, "btrfs", "subvolume", "snapshot", root+"/sub", root+"/snapshot")
	nested := nestedSnapshot(t, root)
	fsystest.Run(t, "cp", "-a", root, copied)
	mounted = false
	unmountLoop(t, img, root)
	// The kernel gives an empty directory the time at which it was looked at.
	fsystest.Run(t, "touch", "-r", copied+"/"+nested, copied+"/"+nested+"/b")
	readsAs(t, img, copied)
	mountLoop(t, "loop,compress-force=lzo", img, root)
	mounted = true
	fsystest.Write(t, root+"/lzo", strings.Repeat("lzo", 100_000))
	mounted = false
	unmountLoop(t, img, root)
	r := openReader(t, img)
	_, err := r.Open("lzo")
	fsystest.WantError(t, err, "open lzo: it is compressed with lzo")
}

// nestedSnapshot makes a snapshot of a subvolume with another one in it, where snapper
// puts it: there it has itself no more.
func nestedSnapshot(t *testing.T, root string) string {
	t.Helper()
	fsystest.Run(t, "btrfs", "subvolume", "create", root+"/a")
	fsystest.Run(t, "btrfs", "subvolume", "create", root+"/a/b")
	fsystest.Write(t, root+"/a/b/file", "of b")
	if err := os.Chown(root+"/a", 7, 8); err != nil {
		t.Fatal(err)
	}
	fsystest.Run(t, "btrfs", "subvolume", "snapshot", root+"/a", root+"/a/b/s")
	if list, err := os.ReadDir(root + "/a/b/s/b"); err != nil || len(list) > 0 {
		t.Fatalf("the kernel shows %v, %v", list, err)
	}
	return "a/b/s"
}

func TestBtrfsAttributes(t *testing.T) {
	fsystest.Need(t, "btrfs")
	files, want := largeAttributes()
	for name, value := range want {
		want[name] = value[:min(len(value), 16_000)]
	}
	img := t.TempDir() + "/img"
	files[0].Xattrs, files[1].Xattrs = want, want
	if err := btrfs.Make(t.Context(), img, btrfs.Options{}, tree.FromFiles(files, time.Time{})); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), img); err != nil {
		t.Error(err)
	}
	hasAttributes(t, img, want)
}

// TestBtrfsRefuses: what does not fit, and what no btrfs holds.
func TestBtrfsRefuses(t *testing.T) {
	for want, file := range map[string]tree.File{
		"/link: it is a link of 4096 bytes":  {Path: "link", Mode: fs.ModeSymlink, Link: strings.Repeat("x", 4096)},
		"not system.odd":                     {Path: "f", Xattrs: map[string]string{"system.odd": "x"}},
		"has 16300 bytes, btrfs holds 16222": {Path: "f", Xattrs: map[string]string{"user.a": strings.Repeat("x", 16300)}},
		"is larger than btrfs holds":         {Path: "dev", Mode: fs.ModeDevice, Minor: 1 << 20},
	} {
		path := t.TempDir() + "/img"
		fsystest.WantError(t, btrfs.Make(t.Context(), path, btrfs.Options{}, tree.FromFiles([]tree.File{file}, time.Time{})), want)
		fsystest.Gone(t, path)
	}
	path := t.TempDir() + "/img"
	fsystest.WantError(t, btrfs.Make(t.Context(), path, btrfs.Options{Size: 108 << 20}, nil), "size 108MiB is below the least, 109MiB")
	large := tree.FromFiles([]tree.File{{Path: "full", Data: []byte(strings.Repeat("x", 100<<20))}}, time.Time{})
	fsystest.WantError(t, btrfs.Make(t.Context(), path, btrfs.Options{Size: 109 << 20}, large), "the content does not fit into 109MiB: ", " are enough")
	fsystest.WantError(t, btrfs.Make(t.Context(), path, btrfs.Options{Size: 109 << 20, Free: 1300 << 20}, large), ": 1502MiB are enough")
	for want, list := range map[string]map[string]string{
		`subvolume "/home" is no path`:            {"/home": "rw"},
		`unknown type "w" (have rw, ro, default`:  {"home": "w"},
		"only one subvolume can be the default":   {"a": "default", "b": "default-ro"},
		"subvolume full/x: /full is no directory": {"full/x": "rw"},
		"256 bytes long, btrfs holds 255":         {"a/" + strings.Repeat("n", 256): "rw"},
		`subvolume "a\x00b": a name has a NUL`:    {"a\x00b": "rw"},
		"the path is longer than 4095 bytes":      {strings.Repeat("name/", 819) + "n": "rw"},
	} {
		file := tree.FromFiles([]tree.File{{Path: "full"}}, time.Time{})
		fsystest.WantError(t, btrfs.Make(t.Context(), path, btrfs.Options{Subvolumes: list}, file), want)
	}
	fsystest.Gone(t, path)
}

// TestBtrfsSubvolumes holds what the kernel makes of subvolumes: their types, the default
// one, what is in them.
func TestBtrfsSubvolumes(t *testing.T) {
	fsystest.NeedRoot(t)
	fsystest.Need(t, "btrfs", "mount")
	dir := t.TempDir()
	img := dir + "/img"
	files := []tree.File{{Path: "@/etc/name", Data: []byte("root")}, {Path: "@/var/log/x", Data: []byte("log")}, {Path: "home/me", Data: []byte("me"), UID: 1000},
		{Path: "home/link", Link: "@/etc/name"}}
	o := btrfs.Options{Subvolumes: map[string]string{"@": "default", "@/var/log": "rw", "home": "rw", "snapshots": "ro"}}
	if err := btrfs.Make(t.Context(), img, o, tree.FromFiles(files, time.Unix(1000, 0))); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), img); err != nil {
		t.Error(err)
	}
	root := mountImage(t, img) // the default one
	for name, want := range map[string]string{"etc/name": "root", "var/log/x": "log"} {
		if b, err := os.ReadFile(root + "/" + name); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	got := fsystest.Run(t, "btrfs", "subvolume", "list", "-a", root)
	for _, want := range []string{"path <FS_TREE>/@\n", "path @/var/log\n", "path <FS_TREE>/home\n", "path <FS_TREE>/snapshots\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	if got := fsystest.Run(t, "btrfs", "subvolume", "list", "-r", root); !strings.Contains(got, "snapshots") || strings.Contains(got, "home") {
		t.Errorf("read-only are %s", got)
	}
	if got := fsystest.Run(t, "btrfs", "subvolume", "get-default", root); !strings.Contains(got, "path @") {
		t.Errorf("the default is %s", got)
	}
}
