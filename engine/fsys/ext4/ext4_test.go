package ext4_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/tree"
)

func TestExt4KeepsEverything(t *testing.T) {
	fsystest.Need(t, "mke2fs", "e2fsck", "tar")
	dir := t.TempDir()
	fsystest.BuildTree(t, dir+"/src", 1)
	want := fsystest.TarOf(t, dir+"/src")
	for name, o := range map[string]ext4.Options{
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
			if err := ext4.Make(fsystest.CtxOf(t), img, o, tree.FromDir(dir+"/src")); err != nil {
				t.Fatal(err)
			}
			fsystest.Run(t, "e2fsck", "-fn", img)
			if err := fsys.Check(fsystest.CtxOf(t), img); err != nil {
				t.Error(err)
			}
			if strings.Contains(strings.Join(o.Features, " "), "casefold") {
				return // the kernel here may lack it
			}
			mnt := fsystest.MountImage(t, img)
			if got := fsystest.TarOf(t, mnt); got != want {
				t.Error("the mounted file system differs from its source", fsystest.FirstDifference(want, got))
			}
		})
	}
}

func TestExt4SameContentSameBytes(t *testing.T) {
	fsystest.Need(t, "mke2fs", "tar")
	began, dir := time.Now(), t.TempDir()
	fsystest.BuildTree(t, dir+"/one", 1)
	fsystest.BuildTree(t, dir+"/elsewhere/and deeper", 2)
	o := ext4.Options{Size: 64 << 20, Label: "same"}
	if err := ext4.Make(fsystest.CtxOf(t), dir+"/a.img", o, tree.FromDir(dir+"/one")); err != nil {
		t.Fatal(err)
	}
	if err := ext4.Make(fsystest.CtxOf(t), dir+"/b.img", o, tree.FromDir(dir+"/elsewhere/and deeper")); err != nil {
		t.Fatal(err)
	}
	if a, b := fsystest.TarOf(t, dir+"/one"), fsystest.TarOf(t, dir+"/elsewhere/and deeper"); a != b {
		t.Fatal("the test's own trees differ", fsystest.FirstDifference(a, b))
	}
	fsystest.SameBytes(t, dir+"/a.img", dir+"/b.img")
	noPresent(t, dir+"/a.img", began)
	fit := ext4.Options{Label: "same"}
	if err := ext4.Make(fsystest.CtxOf(t), dir+"/c.img", fit, tree.FromDir(dir+"/one")); err != nil {
		t.Fatal(err)
	}
	if err := ext4.Make(fsystest.CtxOf(t), dir+"/d?.img", fit, tree.FromDir(dir+"/elsewhere/and deeper")); err != nil {
		t.Fatal(err)
	}
	fsystest.SameBytes(t, dir+"/c.img", dir+"/d?.img")
	noPresent(t, dir+"/c.img", began)
}

// noPresent fails the test when a time in the superblock or in one of the
// first inodes of an ext4 file system, which e2fsprogs writes, lies in the time
// since the test began.
func noPresent(t *testing.T, img string, began time.Time) {
	t.Helper()
	fsystest.Need(t, "debugfs")
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
	fsystest.Write(t, script, commands.String())
	times := regexp.MustCompile(`(\w+time): 0x([0-9a-f]{8})`).FindAllStringSubmatch(fsystest.Run(t, "debugfs", "-f", script, img), -1)
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
	fsystest.Need(t, "mke2fs", "tar", "gzip", "zstd")
	dir := t.TempDir()
	fsystest.BuildTree(t, dir+"/src", 3)
	os.Remove(dir + "/src/sock")                              // tar has no sockets
	exec.Command("setfacl", "-b", "-k", dir+"/src/etc").Run() // and GNU tar its own form of lists
	when := unix.NsecToTimespec(1_600_000_000_000_000_000)
	unix.UtimesNano(dir+"/src", []unix.Timespec{when, when})
	archive := dir + "/src.tar"
	tarArgs := []string{"-C", dir + "/src", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--format=posix", "-cf"}
	fsystest.Run(t, "tar", append(tarArgs, archive, ".")...)
	fsystest.Run(t, "tar", append(append([]string{"--sparse"}, tarArgs...), dir+"/sparse.tar", ".")...)
	fsystest.Run(t, "gzip", "-1k", archive)
	fsystest.Run(t, "zstd", "-q1k", archive)
	o := ext4.Options{Size: 64 << 20}
	want := dir + "/dir.img"
	if err := ext4.Make(fsystest.CtxOf(t), want, o, tree.FromDir(dir+"/src")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"src.tar", "sparse.tar", "src.tar.gz", "src.tar.zst"} {
		img := dir + "/tar.img"
		if err := ext4.Make(fsystest.CtxOf(t), img, o, tree.FromTarFile(filepath.Join(dir, name))); err != nil {
			t.Fatal(err)
		}
		fsystest.SameBytes(t, want, img)
	}
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := ext4.Make(fsystest.CtxOf(t), dir+"/pipe.img", o, tree.FromTar(onlyReader{f})); err != nil {
		t.Fatal(err)
	}
	fsystest.SameBytes(t, want, dir+"/pipe.img")
	left, _ := filepath.Glob(dir + "/.b9-*")
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestExt4Refusals(t *testing.T) {
	fsystest.Need(t, "mke2fs")
	dir := t.TempDir()
	fsystest.Write(t, dir+"/src/file", strings.Repeat("x", 9<<20))
	img := dir + "/x.img"
	for _, c := range []struct {
		o    ext4.Options
		c    tree.Content
		want []string
	}{
		{ext4.Options{Size: 8 << 20, Label: "12345678901234567"}, nil, []string{"label", "17 bytes", "16"}},
		{ext4.Options{Size: 8 << 20, Features: []string{"warp"}}, nil, []string{"mke2fs: Invalid filesystem option set: warp"}},
		{ext4.Options{Size: 8 << 20}, tree.FromDir(dir + "/src"), []string{"does not fit into 8M", "needs 1"}},
		{ext4.Options{Size: 64 << 20, Features: []string{"bigalloc"}}, tree.FromDir(dir + "/src"), []string{"bigalloc"}},
		{ext4.Options{Size: 8 << 20, UUID: "x"}, nil, []string{"UUID"}},
		{ext4.Options{}, nil, []string{"size is missing"}},
		{ext4.Options{Size: 8 << 20, BlockSize: 777}, nil, []string{"block size 777"}},
		{ext4.Options{Size: 64 << 20}, tree.FromDir(dir + "/absent"), []string{"absent", "no such file"}},
		{ext4.Options{Size: 64 << 20}, tree.FromTar(strings.NewReader(strings.Repeat("no tar", 1000))), []string{"tar archive", "invalid tar header"}},
		{ext4.Options{Size: 64 << 20, Inodes: 12}, fsystest.ManyFiles(200), []string{"inodes"}},
	} {
		err := ext4.Make(fsystest.CtxOf(t), img, c.o, c.c)
		fsystest.WantError(t, err, c.want...)
		fsystest.Gone(t, img)
	}
	if left, _ := filepath.Glob(dir + "/.b9-*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestExt4Cancelled(t *testing.T) {
	fsystest.Need(t, "mke2fs")
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	zeros := &zeroReader{stop: 10 << 20, cancel: cancel}
	endless := tree.File{Path: "endless", Size: 1 << 40, Open: func() (io.ReadCloser, error) { return io.NopCloser(onlyReader{zeros}), nil }}
	err := ext4.Make(ctx, dir+"/x.img", ext4.Options{Size: 64 << 20}, tree.FromFiles([]tree.File{endless}, time.Time{}))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if zeros.read < zeros.stop || zeros.read > zeros.stop+4<<20 {
		t.Errorf("%d bytes were read; it was cancelled after %d", zeros.read, zeros.stop)
	}
	fsystest.Gone(t, dir+"/x.img")
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
	fsystest.Need(t, "mke2fs")
	dir := t.TempDir()
	for _, real := range []int{5, 15} {
		f := tree.File{Path: "f", Size: 10, Open: func() (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(strings.Repeat("x", real))), nil
		}}
		err := ext4.Make(fsystest.CtxOf(t), dir+"/x.img", ext4.Options{Size: 8 << 20}, tree.FromFiles([]tree.File{f}, time.Time{}))
		fsystest.WantError(t, err, "/f", "changed while it was read")
		fsystest.Gone(t, dir+"/x.img")
	}
}

func TestExt4StaysSparse(t *testing.T) {
	fsystest.Need(t, "mke2fs")
	img := t.TempDir() + "/x.img"
	if err := ext4.Make(fsystest.CtxOf(t), img, ext4.Options{Size: 1 << 40}, fsystest.ManyFiles(10)); err != nil {
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
	fsystest.Need(t, "mke2fs", "e2fsck")
	var files []tree.File
	p := ""
	for range 300 {
		p += "/directory"
		files = append(files, tree.File{Path: p, Mode: os.ModeDir | 0o755})
	}
	for i := range 70_000 {
		files = append(files, tree.File{Path: fmt.Sprintf("wide/%d", i), Mode: os.ModeDir | 0o755})
	}
	img := t.TempDir() + "/x.img"
	if err := ext4.Make(fsystest.CtxOf(t), img, ext4.Options{}, tree.FromFiles(files, time.Unix(1e9, 0))); err != nil {
		t.Fatal(err)
	}
	fsystest.Run(t, "e2fsck", "-fn", img)
}

func TestExt4ClampTimes(t *testing.T) {
	fsystest.Need(t, "mke2fs", "debugfs")
	img := t.TempDir() + "/x.img"
	limit := time.Unix(1_600_000_000, 0)
	files := []tree.File{{Path: "late", Time: time.Unix(1_700_000_000, 5)}, {Path: "early", Time: time.Unix(1_500_000_000, 0)}}
	o := ext4.Options{Size: 8 << 20, Time: limit, ClampTimes: true}
	if err := ext4.Make(fsystest.CtxOf(t), img, o, tree.FromFiles(files, limit)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"late": "0x5f5e1000:00000000", "early": "0x59682f00:00000000", "lost+found": "0x5f5e1000:00000000"} {
		if out := fsystest.Run(t, "debugfs", "-R", "stat /"+name, img); !strings.Contains(out, "mtime: "+want) {
			t.Errorf("%s: want mtime %s in\n%s", name, want, out)
		}
	}
}
