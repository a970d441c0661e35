package fsystest

import (
	"bytes"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/tree"
)

// BuildTree makes a directory with everything a root file system can hold. The
// order in which names are made differs with seed.
func BuildTree(t testing.TB, dir string, seed int64) {
	t.Helper()
	NeedRoot(t)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewSource(seed))
	steps := []func(){
		func() { Write(t, dir+"/etc/passwd", "root:x:0:0\n") },
		func() { Write(t, dir+"/empty", "") },
		func() { Write(t, dir+"/block", strings.Repeat("b", 4096)) },
		func() { Write(t, dir+"/zeros", string(make([]byte, 20000))) },
		func() { Write(t, dir+"/big", strings.Repeat("0123456789abcde\n", 400_000)) },
		func() { WriteSparse(t, dir+"/sparse", seed%2 == 0) },
		func() { os.Symlink("etc/passwd", dir+"/short") },
		func() { os.Symlink(strings.Repeat("x", 59), dir+"/link59") },
		func() { os.Symlink(strings.Repeat("x", 60), dir+"/link60") },
		func() { os.Symlink(strings.Repeat("long/", 300), dir+"/linklong") },
		func() { unix.Mknod(dir+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) },
		func() { unix.Mknod(dir+"/blk", unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))) },
		func() { unix.Mkfifo(dir+"/fifo", 0o640) },
		func() { unix.Mknod(dir+"/sock", unix.S_IFSOCK|0o755, 0) },
		func() { os.Mkdir(dir+"/tmp", 0o755); os.Chmod(dir+"/tmp", 0o777|os.ModeSticky) },
		func() { Write(t, dir+"/"+strings.Repeat("n", 255), "long name") },
		func() { Write(t, dir+"/höhe \n\x01", "odd name") },
		func() {
			for _, i := range rnd.Perm(800) {
				Write(t, fmt.Sprintf("%s/many/file-%04d-%s", dir, i, strings.Repeat("z", i%60)), fmt.Sprint(i))
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
	Write(t, dir+"/suid", "#!")
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
		Run(t, "setfacl", "-m", "u:1234:rwx,g:99:r", dir+"/etc")
		Run(t, "setfacl", "-d", "-m", "u:1234:rwx", dir+"/etc")
	}
	filepath.Walk(dir, func(p string, _ os.FileInfo, _ error) error {
		when := unix.NsecToTimespec(1_600_000_000_123_456_789 + int64(len(p)-len(dir))*1e9)
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW)
	})
	far := unix.NsecToTimespec(time.Date(2200, 1, 1, 0, 0, 0, 5, time.UTC).UnixNano())
	unix.UtimesNano(dir+"/empty", []unix.Timespec{far, far})
}

// WriteSparse makes the same bytes with holes or without.
func WriteSparse(t testing.TB, path string, holes bool) {
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

func ManyFiles(n int) tree.Content {
	var files []tree.File
	for i := range n {
		files = append(files, tree.File{Path: fmt.Sprintf("d/%d", i), Data: []byte("x")})
	}
	return tree.FromFiles(files, time.Time{})
}
