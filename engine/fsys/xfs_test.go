package fsys

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/btrfs"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/fsys/xfs"
)

// kernelTree makes a tree of everything that the kernel's XFS and btrfs hold, in
// directories of all forms: in an inode, a block, blocks with one index, and with a tree.
func kernelTree(t *testing.T, dir string, seed int64) {
	buildTree(t, dir, seed)
	err := errors.Join(os.Remove(dir+"/linklong"), os.Symlink(strings.Repeat("long/", 200)+"xyz", dir+"/link1003"), os.MkdirAll(dir+"/some", 0o755))
	for i := range 300 {
		n := i
		if seed%2 == 0 {
			n = 299 - i
		}
		err = errors.Join(err, os.WriteFile(fmt.Sprintf("%s/some/%d", dir, n), nil, 0o644))
	}
	for i, size := range []int{1, 50, 100, 255, 256, 1500} {
		name := fmt.Sprintf("%s/attr%d", dir, i)
		err = errors.Join(err, os.WriteFile(name, []byte("a"), 0o644), os.Symlink("attr", name+"-link"))
		for k := range 3 {
			_ = unix.Lsetxattr(name+"-link", fmt.Sprint("trusted.", k), bytes.Repeat([]byte{'l'}, min(size, 1000)), 0)
			err = errors.Join(err, unix.Setxattr(name, fmt.Sprintf("user.%s%d", strings.Repeat("k", i*10), k), bytes.Repeat([]byte{'v'}, size/(k+1)), 0))
		}
	}
	if err != nil {
		t.Skipf("this machine's temporary directory cannot hold the tree: %v", err)
	}
	finishTree(t, dir)
}

// TestXFS holds the kernel's view and xfs_repair's of a filled xfs against its source,
// and the bytes against those from a directory in which everything was made in another
// order.
func TestXFS(t *testing.T) {
	fsystest.Need(t, "mkfs.xfs", "xfs_repair", "tar", "mount")
	dir := t.TempDir()
	kernelTree(t, dir+"/src", 5)
	kernelTree(t, dir+"/other", 6)
	o := xfs.Options{Label: "twelve bytes", Time: time.Unix(1000, 0), Free: 40 << 20}
	img := dir + "/img"
	err := errors.Join(xfs.Make(t.Context(), img, o, tree.FromDir(dir+"/src")), xfs.Make(t.Context(), dir+"/again", o, tree.FromDir(dir+"/other")))
	if err != nil {
		t.Fatal(err)
	}
	fsystest.Run(t, "cmp", img, dir+"/again")
	if err := Check(t.Context(), img); err != nil {
		t.Error(err)
	}
	info, err := Probe(img, 0, 0)
	if err != nil || info.Type != "xfs" || info.Label != o.Label || info.Size != fileSize(t, img) || info.Free < o.Free {
		t.Errorf("%+v, %v, %d bytes", info, err, fileSize(t, img))
	}
	compareBlkid(t, img, info)
	want := tarOf(t, dir+"/src")
	if got := withoutSGI(tarOf(t, mountImage(t, img))); got != want {
		t.Error("the kernel:", firstDifference(want, got))
	}
	readsAs(t, img, dir+"/src")
}

// withoutSGI leaves out the second name that the kernel has for access control lists.
func withoutSGI(text string) string {
	return regexp.MustCompile(` SCHILY\.xattr\.trusted\.SGI_ACL_\w+="(\\.|[^"\\])*"`).ReplaceAllString(text, "")
}

func openReader(t *testing.T, img string) tree.Reader {
	t.Helper()
	f, err := os.Open(img)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	r, err := NewReader(f, fileSize(t, img))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// readsAs holds what the reader finds in an image against a directory.
func readsAs(t *testing.T, img, dir string) {
	t.Helper()
	got, err := tree.FromReader(openReader(t, img)).Load(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	want, err := tree.FromDir(dir).Load(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if same, err := tree.Equal(t.Context(), want, got, nil); err != nil || !same {
		t.Errorf("the reader finds something else: %v", err)
	}
}

// largeAttributes are more than this machine's own file system may hold.
func largeAttributes() ([]tree.File, map[string]string) {
	values := map[string]string{}
	for i, n := range []int{255, 256, 3000, 5000, 60_000, 65_536} {
		values[fmt.Sprint("user.", i)] = strings.Repeat(string(rune('a'+i)), n)
	}
	return []tree.File{{Path: "f", Data: []byte("x"), Xattrs: values}, {Path: "d", Mode: fs.ModeDir | 0o755, Xattrs: values},
		{Path: "null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3, Xattrs: map[string]string{"trusted.t": strings.Repeat("t", 400)}}}, values
}

// hasAttributes holds what the kernel says of an image of largeAttributes.
func hasAttributes(t *testing.T, img string, want map[string]string) {
	t.Helper()
	dir := mountImage(t, img)
	b := make([]byte, 1<<17)
	for _, name := range []string{"/f", "/d"} {
		for key, value := range want {
			if n, err := unix.Lgetxattr(dir+name, key, b); err != nil || string(b[:n]) != value {
				t.Errorf("%s: %s has %d bytes, want %d: %v", name, key, n, len(value), err)
			}
		}
	}
	if n, err := unix.Lgetxattr(dir+"/null", "trusted.t", b); err != nil || n != 400 {
		t.Errorf("/null: %d bytes, %v", n, err)
	}
}

func TestXFSAttributes(t *testing.T) {
	fsystest.Need(t, "mkfs.xfs", "xfs_repair")
	files, want := largeAttributes()
	img := t.TempDir() + "/img"
	if err := xfs.Make(t.Context(), img, xfs.Options{}, tree.FromFiles(files, time.Time{})); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), img); err != nil {
		t.Error(err)
	}
	hasAttributes(t, img, want)
	many := tree.File{Path: "f", Xattrs: map[string]string{}}
	for i := range 300 {
		many.Xattrs[fmt.Sprint("user.", i)] = "v"
	}
	fsystest.WantError(t, xfs.Make(t.Context(), img, xfs.Options{}, tree.FromFiles([]tree.File{many}, time.Time{})), "its 300 attributes are more than the one block")
}

// TestXFSRead reads what the kernel has written, in many pieces and into room that was
// set aside; while its log waits it is refused.
func TestXFSRead(t *testing.T) {
	fsystest.NeedRoot(t)
	fsystest.Need(t, "mkfs.xfs", "mount", "fallocate")
	for _, options := range [][]string{{}, {"-n", "size=16384", "-b", "size=1024"}} {
		dir := t.TempDir()
		img, root := dir+"/img", dir+"/mnt"
		fsystest.Write(t, img, "")
		if err := errors.Join(os.Truncate(img, 400<<20), os.Mkdir(root, 0o755)); err != nil {
			t.Fatal(err)
		}
		fsystest.Run(t, "mkfs.xfs", append([]string{"-q", img}, options...)...)
		mountLoop(t, "loop", img, root)
		fsystest.Write(t, root+"/dir/file", "data")
		fsystest.Run(t, "fallocate", "-l", "1M", root+"/room")
		writeSparse(t, root+"/sparse", true)
		for i := range 500 {
			fsystest.Write(t, fmt.Sprint(root, "/many/", i), "")
		}
		copied := t.TempDir()
		fsystest.Run(t, "cp", "-a", root+"/.", copied)
		unmountLoop(t, img, root)
		readsAs(t, img, copied)
		mountLoop(t, "loop", img, root)
		fsystest.Write(t, root+"/new", "new")
		fsystest.Run(t, "sync", "-f", root)
		crashed := dir + "/crashed"
		fsystest.Run(t, "cp", "--sparse=always", img, crashed)
		unmountLoop(t, img, root)
		f, err := os.Open(crashed)
		if err != nil {
			t.Fatal(err)
		}
		_, err = NewReader(f, fileSize(t, crashed))
		fsystest.WantError(t, err, "its log waits to be replayed")
		f.Close()
	}
}

// TestXFSOld reads version 4, without checksums, of which the kernel may have no driver.
func TestXFSOld(t *testing.T) {
	fsystest.Need(t, "mkfs.xfs")
	dir := t.TempDir()
	fsystest.Write(t, dir+"/data", strings.Repeat("data", 5000))
	proto := "/stand\n0 0\nd--755 3 1\nfile ---644 5 6 " + dir + "/data\nlink l--777 0 0 file\nmany d--755 0 0\n"
	for i := range 300 {
		proto += fmt.Sprintf("n%d b--644 0 0 8 %d\n", i, i)
	}
	fsystest.Write(t, dir+"/proto", proto+"$\n$\n")
	img := dir + "/img"
	fsystest.Write(t, img, "")
	if err := os.Truncate(img, 400<<20); err != nil {
		t.Fatal(err)
	}
	fsystest.Run(t, "mkfs.xfs", "-q", "-m", "crc=0", "-p", dir+"/proto", img)
	r := openReader(t, img)
	b, err := fs.ReadFile(r, "link")
	if err != nil || len(b) != 20_000 || string(b[:8]) != "datadata" {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	list, err := r.ReadDir("many")
	if err != nil || len(list) != 300 {
		t.Fatalf("%d entries, %v", len(list), err)
	}
	info, err := list[299].Info()
	if a := info.Sys().(*tree.Attr); err != nil || a.Major != 8 || info.Name() != fmt.Sprint("n", a.Minor) {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestLargeDirectories: the kernel finds every name of a directory whose index has
// levels, and an inode tree of several blocks.
func TestLargeDirectories(t *testing.T) {
	fsystest.NeedRoot(t)
	fsystest.Need(t, "mkfs.xfs", "xfs_repair", "btrfs", "mount")
	const n = 30_000
	for kind, make := range map[string]func(path string) error{
		"xfs":   func(path string) error { return xfs.Make(t.Context(), path, xfs.Options{}, manyFiles(n)) },
		"btrfs": func(path string) error { return btrfs.Make(t.Context(), path, btrfs.Options{}, manyFiles(n)) },
	} {
		img := t.TempDir() + "/img"
		if err := make(img); err != nil {
			t.Fatal(err)
		}
		if err := Check(t.Context(), img); err != nil {
			t.Error(err)
		}
		dir := mountImage(t, img)
		list, err := os.ReadDir(dir + "/d")
		if err != nil || len(list) != n {
			t.Errorf("%s: %d names, %v", kind, len(list), err)
		}
		for i := 0; i < n; i += 997 {
			if b, err := os.ReadFile(fmt.Sprint(dir, "/d/", i)); err != nil || string(b) != "x" {
				t.Errorf("%s: %d: %q, %v", kind, i, b, err)
			}
		}
	}
}

// TestGrows makes file systems larger that b9 and their own programs made, empty and
// used, by a little and by much. The checker and the kernel agree.
func TestGrows(t *testing.T) {
	fsystest.NeedRoot(t)
	fsystest.Need(t, "mkfs.xfs", "xfs_repair", "mkfs.btrfs", "btrfs", "mount")
	content := tree.FromFiles([]tree.File{{Path: "f", Data: []byte("kept")}}, time.Time{})
	for _, kind := range []string{"xfs", "btrfs"} {
		for _, foreign := range []bool{false, true} {
			dir := t.TempDir()
			img, root := dir+"/img", dir+"/mnt"
			fsystest.Write(t, img, "")
			err := errors.Join(os.Truncate(img, 320<<20), os.Mkdir(root, 0o755))
			switch {
			case foreign:
				fsystest.Run(t, "mkfs."+kind, "-q", img)
				mountLoop(t, "loop", img, root)
				for i := range 800 { // and pieces of free space
					fsystest.Write(t, fmt.Sprint(root, "/", i), strings.Repeat("x", 5000))
				}
				fsystest.Run(t, "sync", "-f", root)
				for i := 0; i < 800; i += 2 {
					err = errors.Join(err, os.Remove(fmt.Sprint(root, "/", i)))
				}
				fsystest.Write(t, root+"/f", "kept")
				unmountLoop(t, img, root)
			case kind == "xfs":
				err = errors.Join(err, xfs.Make(t.Context(), img, xfs.Options{Size: 320 << 20}, content))
			default:
				err = errors.Join(err, btrfs.Make(t.Context(), img, btrfs.Options{Size: 320 << 20}, content))
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, size := range []int64{321<<20 + 5000, 360 << 20, 1 << 30, 1<<30 + 200<<20} {
				if err := Resize(t.Context(), img, size, nil); err != nil {
					t.Fatalf("%s to %d: %v", kind, size, err)
				}
				info, err := Probe(img, 0, 0)
				if err != nil || info.Size > size || info.Size < size-64*4096 {
					t.Errorf("%s has %d bytes of %d: %v", kind, info.Size, size, err)
				}
				if err := Check(t.Context(), img); err != nil {
					t.Errorf("%s of %d: %v", kind, size, err)
				}
			}
			mountLoop(t, "loop", img, root)
			b, err := os.ReadFile(root + "/f")
			fsystest.Run(t, "dd", "if=/dev/zero", "of="+root+"/large", "bs=1M", "count=600", "status=none")
			unmountLoop(t, img, root)
			if err != nil || string(b) != "kept" {
				t.Errorf("%s: %q, %v", kind, b, err)
			}
			if err := Check(t.Context(), img); err != nil {
				t.Errorf("%s, filled: %v", kind, err)
			}
			fsystest.WantError(t, Resize(t.Context(), img, 320<<20, nil), "a "+kind+" can't become smaller than", "make it anew")
			_, err = Shrink(t.Context(), img, 0, nil)
			fsystest.WantError(t, err, "a "+kind+" can't become smaller: make it anew")
		}
	}
}

// TestXFSRefuses: what does not fit, and what no XFS holds.
func TestXFSRefuses(t *testing.T) {
	fsystest.Need(t, "mkfs.xfs")
	for want, file := range map[string]tree.File{
		"/link: it is a link of 1024 bytes": {Path: "link", Mode: fs.ModeSymlink, Link: strings.Repeat("x", 1024)},
		"its time is before 1901":           {Path: "old", Time: time.Unix(-1<<32, 0)},
		"not system.odd":                    {Path: "f", Xattrs: map[string]string{"system.odd": "x"}},
		"is larger than xfs holds":          {Path: "dev", Mode: fs.ModeDevice, Minor: 1 << 18},
	} {
		path := t.TempDir() + "/img"
		fsystest.WantError(t, xfs.Make(t.Context(), path, xfs.Options{}, tree.FromFiles([]tree.File{file}, time.Time{})), want)
		fsystest.Gone(t, path)
	}
	path := t.TempDir() + "/img"
	fsystest.WantError(t, xfs.Make(t.Context(), path, xfs.Options{Size: 299 << 20}, nil), "size 299MiB is below the least, 300MiB")
	large := tree.FromFiles([]tree.File{{Path: "large", Source: fsystest.SparseFile(t, 1<<20)}, {Path: "full", Data: bytes.Repeat([]byte("x"), 240<<20)}}, time.Time{})
	fsystest.WantError(t, xfs.Make(t.Context(), path, xfs.Options{Size: 300 << 20}, large), "the content does not fit into 300MiB: ", " are enough")
	fsystest.Gone(t, path)
}

// TestStaysAsItIs: what b9 can't make larger is told as such, and is what it was.
func TestStaysAsItIs(t *testing.T) {
	fsystest.Need(t, "mkfs.xfs")
	content := tree.FromFiles([]tree.File{{Path: "f", Data: []byte("kept")}}, time.Time{})
	for want, make := range map[string]func(img string) error{
		"it has features with which b9 does not make an xfs larger: mount it and call xfs_growfs": func(img string) error {
			fsystest.Write(t, img, "")
			err := os.Truncate(img, 320<<20)
			fsystest.Run(t, "mkfs.xfs", "-q", "-m", "rmapbt=1", img)
			return err
		},
		"its log waits to be replayed": func(img string) error {
			const logRoot = 64<<10 + 0x60
			if err := btrfs.Make(t.Context(), img, btrfs.Options{Size: 320 << 20}, content); err != nil {
				return err
			}
			f, err := os.OpenFile(img, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte{1}, logRoot)
			return errors.Join(err, f.Close())
		},
	} {
		img := t.TempDir() + "/img"
		if err := make(img); err != nil {
			t.Fatal(err)
		}
		fsystest.Run(t, "cp", "--sparse=always", img, img+"-before")
		err := Resize(t.Context(), img, 400<<20, nil)
		fsystest.WantError(t, err, "it can't be made larger as it is: "+want)
		if !errors.Is(err, ErrCantGrow) {
			t.Errorf("%v is no ErrCantGrow", err)
		}
		fsystest.Run(t, "cmp", img, img+"-before")
	}
}
