package fsys

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/tree"
)

// buildTree makes a directory with everything a root file system can hold. The
// order in which names are made differs with seed.
func buildTree(t testing.TB, dir string, seed int64) {
	t.Helper()
	fsystest.NeedRoot(t)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewSource(seed))
	steps := []func(){
		func() { fsystest.Write(t, dir+"/etc/passwd", "root:x:0:0\n") },
		func() { fsystest.Write(t, dir+"/empty", "") },
		func() { fsystest.Write(t, dir+"/block", strings.Repeat("b", 4096)) },
		func() { fsystest.Write(t, dir+"/zeros", string(make([]byte, 20000))) },
		func() { fsystest.Write(t, dir+"/big", strings.Repeat("0123456789abcde\n", 400_000)) },
		func() { writeSparse(t, dir+"/sparse", seed%2 == 0) },
		func() { os.Symlink("etc/passwd", dir+"/short") },
		func() { os.Symlink(strings.Repeat("x", 59), dir+"/link59") },
		func() { os.Symlink(strings.Repeat("x", 60), dir+"/link60") },
		func() { os.Symlink(strings.Repeat("long/", 300), dir+"/linklong") },
		func() { unix.Mknod(dir+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) },
		func() { unix.Mknod(dir+"/blk", unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))) },
		func() { unix.Mkfifo(dir+"/fifo", 0o640) },
		func() { unix.Mknod(dir+"/sock", unix.S_IFSOCK|0o755, 0) },
		func() { os.Mkdir(dir+"/tmp", 0o755); os.Chmod(dir+"/tmp", 0o777|os.ModeSticky) },
		func() { fsystest.Write(t, dir+"/"+strings.Repeat("n", 255), "long name") },
		func() { fsystest.Write(t, dir+"/höhe \n\x01", "odd name") },
		func() { fsystest.Write(t, dir+"/no \xff text\xfe/\xc3", "bytes") },
		func() {
			for _, i := range rnd.Perm(800) {
				fsystest.Write(t, fmt.Sprintf("%s/many/file-%04d-%s", dir, i, strings.Repeat("z", i%60)), fmt.Sprint(i))
			}
		},
	}
	rnd.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	for _, s := range steps {
		s()
	}
	finishTree(t, dir)
}

func finishTree(t testing.TB, dir string) {
	fsystest.Write(t, dir+"/suid", "#!")
	os.Chown(dir+"/suid", 70000, 80001)
	os.Chmod(dir+"/suid", 0o755|os.ModeSetuid|os.ModeSetgid)
	os.Link(dir+"/etc/passwd", dir+"/etc/passwd-")
	os.Link(dir+"/etc/passwd", dir+"/many/hard")
	os.Link(dir+"/short", dir+"/short2")
	capability := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	for _, x := range []tree.Xattr{
		{Name: "security.capability", Value: capability}, {Name: "user.small", Value: []byte("v")}, {Name: "user.empty", Value: nil},
		{Name: "user.large", Value: bytes.Repeat([]byte("L"), 1500)}, {Name: "trusted.t", Value: []byte("trusted")},
	} {
		if err := unix.Setxattr(dir+"/suid", x.Name, x.Value, 0); err != nil {
			t.Skipf("this machine's temporary directory cannot hold %s: %v", x.Name, err)
		}
	}
	unix.Setxattr(dir+"/etc", "user.dir", []byte("on a directory"), 0)
	if _, err := exec.LookPath("setfacl"); err == nil {
		fsystest.Run(t, "setfacl", "-m", "u:1234:rwx,g:99:r", dir+"/etc")
		fsystest.Run(t, "setfacl", "-d", "-m", "u:1234:rwx", dir+"/etc")
	}
	filepath.Walk(dir, func(p string, _ os.FileInfo, _ error) error {
		when := unix.NsecToTimespec(1_600_000_000_123_456_789 + int64(len(p)-len(dir))*1e9)
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW)
	})
	far := unix.NsecToTimespec(time.Date(2200, 1, 1, 0, 0, 0, 5, time.UTC).UnixNano())
	unix.UtimesNano(dir+"/empty", []unix.Timespec{far, far})
}

// writeSparse makes the same bytes with holes or without.
func writeSparse(t testing.TB, path string, holes bool) {
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !holes {
		f.Write(make([]byte, 20<<20))
	}
	for i := range 700 {
		f.WriteAt([]byte("data"), int64(i)*17_000)
	}
	f.Truncate(20<<20 + 7)
}

func seedFiles() []tree.File {
	return []tree.File{
		{Path: "meta-data", Data: []byte("instance-id: i-1\n")},
		{Path: "user-data", Data: []byte("#cloud-config\n{}\n")},
		{Path: "network-config", Data: []byte("version: 2\n")},
	}
}

// varied files: names of all kinds, sizes around every boundary.
func variedFiles() []tree.File {
	rnd := rand.New(rand.NewSource(7))
	files := seedFiles()
	for i, size := range []int{0, 1, 511, 512, 513, 2047, 2048, 2049, 40_000, 300_001} {
		b := make([]byte, size)
		rnd.Read(b)
		files = append(files, tree.File{Path: fmt.Sprintf("sizes/s%d.bin", i), Data: b, Time: time.Unix(1_700_000_000+int64(i)*3600, 0)})
	}
	for i := range 300 {
		files = append(files, tree.File{Path: fmt.Sprintf("many/a rather long name number %d.text", i), Data: []byte(fmt.Sprint(i))})
	}
	return append(files,
		tree.File{Path: "UPPER.TXT", Data: []byte("8.3")}, tree.File{Path: "lower.txt", Data: []byte("8.3 in small")},
		tree.File{Path: ".hidden", Data: []byte("h")}, tree.File{Path: "two.dots.gz", Data: []byte("d")},
		tree.File{Path: "grüße/日本語 🚀.txt", Data: []byte("u")}, tree.File{Path: "a/b/c/d/e/f/g/h/i/j/deep", Data: []byte("deep")},
		tree.File{Path: strings.Repeat("n", 200), Data: []byte("long")}, tree.File{Path: "empty", Mode: fs.ModeDir | 0o755},
		tree.File{Path: "readonly", Mode: 0o444, Data: []byte("r")}, tree.File{Path: "plus+and[brackets]", Data: []byte("p")})
}

// manyFiles is a directory d of n files with one byte each.
func manyFiles(n int) tree.Content {
	var files []tree.File
	for i := range n {
		files = append(files, tree.File{Path: fmt.Sprintf("d/%d", i), Data: []byte("x")})
	}
	return tree.FromFiles(files, time.Time{})
}
