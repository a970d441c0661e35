package fsys

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// buildTree makes a directory with everything a root file system can hold. The
// order in which names are made differs with seed.
func buildTree(t testing.TB, dir string, seed int64) {
	t.Helper()
	needRoot(t)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewSource(seed))
	steps := []func(){
		func() { write(t, dir+"/etc/passwd", "root:x:0:0\n") },
		func() { write(t, dir+"/empty", "") },
		func() { write(t, dir+"/block", strings.Repeat("b", 4096)) },
		func() { write(t, dir+"/zeros", string(make([]byte, 20000))) },
		func() { write(t, dir+"/big", strings.Repeat("0123456789abcde\n", 400_000)) },
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
		func() { write(t, dir+"/"+strings.Repeat("n", 255), "long name") },
		func() { write(t, dir+"/höhe \n\x01", "odd name") },
		func() {
			for _, i := range rnd.Perm(800) {
				write(t, fmt.Sprintf("%s/many/file-%04d-%s", dir, i, strings.Repeat("z", i%60)), fmt.Sprint(i))
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
	write(t, dir+"/suid", "#!")
	os.Chown(dir+"/suid", 70000, 80001)
	os.Chmod(dir+"/suid", 0o755|os.ModeSetuid|os.ModeSetgid)
	os.Link(dir+"/etc/passwd", dir+"/etc/passwd-")
	os.Link(dir+"/etc/passwd", dir+"/many/hard")
	os.Link(dir+"/short", dir+"/short2")
	capability := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	for _, x := range []xattr{
		{"security.capability", capability}, {"user.small", []byte("v")}, {"user.empty", nil},
		{"user.large", bytes.Repeat([]byte("L"), 1500)}, {"trusted.t", []byte("trusted")},
	} {
		if err := unix.Setxattr(dir+"/suid", x.name, x.value, 0); err != nil {
			t.Skipf("this machine's temporary directory cannot hold %s: %v", x.name, err)
		}
	}
	unix.Setxattr(dir+"/etc", "user.dir", []byte("on a directory"), 0)
	if _, err := exec.LookPath("setfacl"); err == nil {
		run(t, "setfacl", "-m", "u:1234:rwx,g:99:r", dir+"/etc")
		run(t, "setfacl", "-d", "-m", "u:1234:rwx", dir+"/etc")
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

func TestExt4KeepsEverything(t *testing.T) {
	need(t, "mke2fs", "e2fsck", "tar")
	dir := t.TempDir()
	buildTree(t, dir+"/src", 1)
	want := tarOf(t, dir+"/src")
	for name, o := range map[string]Ext4Options{
		"default":  {Size: 256 << 20, Label: "root"},
		"fitted":   {Label: "fitted", Free: 3 << 20},
		"2k":       {BlockSize: 2048, Size: 200 << 20},
		"ext3ish":  {Size: 300 << 20, Features: []string{"^extent", "^64bit", "^metadata_csum", "^flex_bg"}},
		"uninit":   {Size: 300 << 20, Features: []string{"^metadata_csum", "uninit_bg"}},
		"ext2ish":  {Size: 3 << 30, Features: []string{"^has_journal", "^extent", "^64bit", "^metadata_csum", "^resize_inode", "^filetype"}},
		"seed":     {Size: 300 << 20, Features: []string{"metadata_csum_seed", "orphan_file", "inline_data", "casefold"}},
		"sparse2":  {Size: 3 << 30, Features: []string{"sparse_super2", "^resize_inode"}, Inodes: 3000},
		"reserved": {Free: 1 << 20, Reserved: 5, InodeRatio: 4096},
	} {
		t.Run(name, func(t *testing.T) {
			img := filepath.Join(dir, name+".img")
			if err := MakeExt4(ctxOf(t), img, o, FromDir(dir+"/src")); err != nil {
				t.Fatal(err)
			}
			run(t, "e2fsck", "-fn", img)
			if err := Check(ctxOf(t), img); err != nil {
				t.Error(err)
			}
			if strings.Contains(strings.Join(o.Features, " "), "casefold") {
				return // the kernel here may lack it
			}
			mnt := mountImage(t, img)
			if got := tarOf(t, mnt); got != want {
				t.Error("the mounted file system differs from its source", firstDifference(want, got))
			}
		})
	}
}

func TestExt4SameContentSameBytes(t *testing.T) {
	need(t, "mke2fs", "tar")
	began, dir := time.Now(), t.TempDir()
	buildTree(t, dir+"/one", 1)
	buildTree(t, dir+"/elsewhere/and deeper", 2)
	o := Ext4Options{Size: 64 << 20, Label: "same"}
	if err := MakeExt4(ctxOf(t), dir+"/a.img", o, FromDir(dir+"/one")); err != nil {
		t.Fatal(err)
	}
	if err := MakeExt4(ctxOf(t), dir+"/b.img", o, FromDir(dir+"/elsewhere/and deeper")); err != nil {
		t.Fatal(err)
	}
	if a, b := tarOf(t, dir+"/one"), tarOf(t, dir+"/elsewhere/and deeper"); a != b {
		t.Fatal("the test's own trees differ", firstDifference(a, b))
	}
	sameBytes(t, dir+"/a.img", dir+"/b.img")
	noPresent(t, dir+"/a.img", began)
	fit := Ext4Options{Label: "same"}
	if err := MakeExt4(ctxOf(t), dir+"/c.img", fit, FromDir(dir+"/one")); err != nil {
		t.Fatal(err)
	}
	if err := MakeExt4(ctxOf(t), dir+"/d?.img", fit, FromDir(dir+"/elsewhere/and deeper")); err != nil {
		t.Fatal(err)
	}
	sameBytes(t, dir+"/c.img", dir+"/d?.img")
	noPresent(t, dir+"/c.img", began)
}

// noPresent fails the test when a time in the superblock or in one of the
// first inodes of an ext4 file system, which e2fsprogs writes, lies in the time
// since the test began.
func noPresent(t *testing.T, img string, began time.Time) {
	t.Helper()
	need(t, "debugfs")
	present := func(sec int64) bool { return sec >= began.Unix() && sec <= time.Now().Unix() }
	f, err := os.Open(img)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var super [1024]byte
	if _, err := f.ReadAt(super[:], 1024); err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]int{"mount": 0x2c, "write": 0x30, "check": 0x40, "creation": 0x108} {
		if sec := binary.LittleEndian.Uint32(super[at:]); present(int64(sec)) {
			t.Errorf("%s: the superblock's time of %s is %v", img, name, time.Unix(int64(sec), 0))
		}
	}
	var commands strings.Builder
	for n := range 16 {
		fmt.Fprintf(&commands, "stat <%d>\n", n+1)
	}
	script := filepath.Join(t.TempDir(), "commands")
	write(t, script, commands.String())
	times := regexp.MustCompile(`(\w+time): 0x([0-9a-f]{8})`).FindAllStringSubmatch(run(t, "debugfs", "-f", script, img), -1)
	if len(times) < 16*3 {
		t.Errorf("%s: debugfs tells %d times of 16 inodes", img, len(times))
	}
	for _, found := range times {
		if sec, err := strconv.ParseInt(found[2], 16, 64); err != nil || present(sec) {
			t.Errorf("%s: %s is %v (%v)", img, found[1], time.Unix(sec, 0), err)
		}
	}
}

// onlyReader hides that a file is a file.
type onlyReader struct{ io.Reader }

func TestExt4FromTar(t *testing.T) {
	need(t, "mke2fs", "tar", "gzip", "zstd")
	dir := t.TempDir()
	buildTree(t, dir+"/src", 3)
	os.Remove(dir + "/src/sock")                              // tar has no sockets
	exec.Command("setfacl", "-b", "-k", dir+"/src/etc").Run() // and GNU tar its own form of lists
	when := unix.NsecToTimespec(1_600_000_000_000_000_000)
	unix.UtimesNano(dir+"/src", []unix.Timespec{when, when})
	archive := dir + "/src.tar"
	tarArgs := []string{"-C", dir + "/src", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--format=posix", "-cf"}
	run(t, "tar", append(tarArgs, archive, ".")...)
	run(t, "tar", append(append([]string{"--sparse"}, tarArgs...), dir+"/sparse.tar", ".")...)
	run(t, "gzip", "-1k", archive)
	run(t, "zstd", "-q1k", archive)
	o := Ext4Options{Size: 64 << 20}
	want := dir + "/dir.img"
	if err := MakeExt4(ctxOf(t), want, o, FromDir(dir+"/src")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"src.tar", "sparse.tar", "src.tar.gz", "src.tar.zst"} {
		img := dir + "/tar.img"
		if err := MakeExt4(ctxOf(t), img, o, FromTarFile(filepath.Join(dir, name))); err != nil {
			t.Fatal(err)
		}
		sameBytes(t, want, img)
	}
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := MakeExt4(ctxOf(t), dir+"/pipe.img", o, FromTar(onlyReader{f})); err != nil {
		t.Fatal(err)
	}
	sameBytes(t, want, dir+"/pipe.img")
	left, _ := filepath.Glob(dir + "/.b9-*")
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestExt4Refusals(t *testing.T) {
	need(t, "mke2fs")
	dir := t.TempDir()
	write(t, dir+"/src/file", strings.Repeat("x", 9<<20))
	img := dir + "/x.img"
	for _, c := range []struct {
		o    Ext4Options
		c    Content
		want []string
	}{
		{Ext4Options{Size: 8 << 20, Label: "12345678901234567"}, nil, []string{"label", "17 bytes", "16"}},
		{Ext4Options{Size: 8 << 20, Features: []string{"warp"}}, nil, []string{"mke2fs: Invalid filesystem option set: warp"}},
		{Ext4Options{Size: 8 << 20}, FromDir(dir + "/src"), []string{"does not fit into 8M", "needs 1"}},
		{Ext4Options{Size: 64 << 20, Features: []string{"bigalloc"}}, FromDir(dir + "/src"), []string{"bigalloc"}},
		{Ext4Options{Size: 8 << 20, UUID: "x"}, nil, []string{"UUID"}},
		{Ext4Options{}, nil, []string{"size is missing"}},
		{Ext4Options{Size: 8 << 20, BlockSize: 777}, nil, []string{"block size 777"}},
		{Ext4Options{Size: 64 << 20}, FromDir(dir + "/absent"), []string{"absent", "no such file"}},
		{Ext4Options{Size: 64 << 20}, FromTar(strings.NewReader(strings.Repeat("no tar", 1000))), []string{"tar archive", "invalid tar header"}},
		{Ext4Options{Size: 64 << 20, Inodes: 12}, manyFiles(200), []string{"inodes"}},
	} {
		err := MakeExt4(ctxOf(t), img, c.o, c.c)
		wantError(t, err, c.want...)
		gone(t, img)
	}
	if left, _ := filepath.Glob(dir + "/.b9-*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func manyFiles(n int) Content {
	var files []File
	for i := range n {
		files = append(files, File{Path: fmt.Sprintf("d/%d", i), Data: []byte("x")})
	}
	return FromFiles(files, time.Time{})
}

func TestExt4Cancelled(t *testing.T) {
	need(t, "mke2fs")
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	zeros := &zeroReader{stop: 10 << 20, cancel: cancel}
	endless := File{Path: "endless", Size: 1 << 40, Open: func() (io.ReadCloser, error) { return io.NopCloser(onlyReader{zeros}), nil }}
	err := MakeExt4(ctx, dir+"/x.img", Ext4Options{Size: 64 << 20}, FromFiles([]File{endless}, time.Time{}))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if zeros.read < zeros.stop || zeros.read > zeros.stop+4<<20 {
		t.Errorf("%d bytes were read; it was cancelled after %d", zeros.read, zeros.stop)
	}
	gone(t, dir+"/x.img")
}

// zeroReader is zeros without end. It calls cancel once stop bytes were read.
type zeroReader struct {
	read, stop int64
	cancel     func()
}

func (z *zeroReader) Read(b []byte) (int, error) {
	clear(b)
	if z.read += int64(len(b)); z.read >= z.stop {
		z.cancel()
	}
	return len(b), nil
}

func TestExt4ChangedWhileRead(t *testing.T) {
	need(t, "mke2fs")
	dir := t.TempDir()
	for _, real := range []int{5, 15} {
		f := File{Path: "f", Size: 10, Open: func() (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(strings.Repeat("x", real))), nil
		}}
		err := MakeExt4(ctxOf(t), dir+"/x.img", Ext4Options{Size: 8 << 20}, FromFiles([]File{f}, time.Time{}))
		wantError(t, err, "/f", "changed while it was read")
		gone(t, dir+"/x.img")
	}
}

func TestExt4StaysSparse(t *testing.T) {
	need(t, "mke2fs")
	img := t.TempDir() + "/x.img"
	if err := MakeExt4(ctxOf(t), img, Ext4Options{Size: 1 << 40}, manyFiles(10)); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(img, &st); err != nil {
		t.Fatal(err)
	}
	if used := st.Blocks * 512; used > 40<<20 || st.Size != 1<<40 {
		t.Errorf("a file system of %d bytes takes %d", st.Size, used)
	}
}

func TestExt4DeepAndWide(t *testing.T) {
	need(t, "mke2fs", "e2fsck")
	var files []File
	p := ""
	for range 300 {
		p += "/directory"
		files = append(files, File{Path: p, Mode: os.ModeDir | 0o755})
	}
	for i := range 70_000 {
		files = append(files, File{Path: fmt.Sprintf("wide/%d", i), Mode: os.ModeDir | 0o755})
	}
	img := t.TempDir() + "/x.img"
	if err := MakeExt4(ctxOf(t), img, Ext4Options{}, FromFiles(files, time.Unix(1e9, 0))); err != nil {
		t.Fatal(err)
	}
	run(t, "e2fsck", "-fn", img)
}

func TestExt4ClampTimes(t *testing.T) {
	need(t, "mke2fs", "debugfs")
	img := t.TempDir() + "/x.img"
	limit := time.Unix(1_600_000_000, 0)
	files := []File{{Path: "late", Time: time.Unix(1_700_000_000, 5)}, {Path: "early", Time: time.Unix(1_500_000_000, 0)}}
	o := Ext4Options{Size: 8 << 20, Time: limit, ClampTimes: true}
	if err := MakeExt4(ctxOf(t), img, o, FromFiles(files, limit)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"late": "0x5f5e1000:00000000", "early": "0x59682f00:00000000", "lost+found": "0x5f5e1000:00000000"} {
		if out := run(t, "debugfs", "-R", "stat /"+name, img); !strings.Contains(out, "mtime: "+want) {
			t.Errorf("%s: want mtime %s in\n%s", name, want, out)
		}
	}
}
