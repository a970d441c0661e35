package fsys

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/tree"
)

func TestExt4KeepsEverything(t *testing.T) {
	fsystest.Need(t, "mke2fs", "e2fsck", "tar")
	dir := t.TempDir()
	buildTree(t, dir+"/src", 1)
	want := tarOf(t, dir+"/src")
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
			if err := ext4.Make(t.Context(), img, o, tree.FromDir(dir+"/src")); err != nil {
				t.Fatal(err)
			}
			fsystest.Run(t, "e2fsck", "-fn", img)
			if err := Check(t.Context(), img); err != nil {
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
	fsystest.Need(t, "mke2fs", "tar")
	began, dir := time.Now(), t.TempDir()
	buildTree(t, dir+"/one", 1)
	buildTree(t, dir+"/elsewhere/and deeper", 2)
	o := ext4.Options{Size: 64 << 20, Label: "same"}
	if err := ext4.Make(t.Context(), dir+"/a.img", o, tree.FromDir(dir+"/one")); err != nil {
		t.Fatal(err)
	}
	if err := ext4.Make(t.Context(), dir+"/b.img", o, tree.FromDir(dir+"/elsewhere/and deeper")); err != nil {
		t.Fatal(err)
	}
	if a, b := tarOf(t, dir+"/one"), tarOf(t, dir+"/elsewhere/and deeper"); a != b {
		t.Fatal("the test's own trees differ", firstDifference(a, b))
	}
	sameBytes(t, dir+"/a.img", dir+"/b.img")
	noPresent(t, dir+"/a.img", began)
	fit := ext4.Options{Label: "same"}
	if err := ext4.Make(t.Context(), dir+"/c.img", fit, tree.FromDir(dir+"/one")); err != nil {
		t.Fatal(err)
	}
	if err := ext4.Make(t.Context(), dir+"/d?.img", fit, tree.FromDir(dir+"/elsewhere/and deeper")); err != nil {
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

func TestExt4FromTar(t *testing.T) {
	fsystest.Need(t, "mke2fs", "tar", "gzip", "zstd")
	dir := t.TempDir()
	buildTree(t, dir+"/src", 3)
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
	if err := ext4.Make(t.Context(), want, o, tree.FromDir(dir+"/src")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"src.tar", "sparse.tar", "src.tar.gz", "src.tar.zst"} {
		img := dir + "/tar.img"
		if err := ext4.Make(t.Context(), img, o, tree.FromTarFile(filepath.Join(dir, name))); err != nil {
			t.Fatal(err)
		}
		sameBytes(t, want, img)
	}
	if err := unix.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	go exec.CommandContext(t.Context(), "cp", archive, dir+"/pipe").Run() // ends with its reader, or the test
	if err := ext4.Make(t.Context(), dir+"/pipe.img", o, tree.FromTarFile(dir+"/pipe")); err != nil {
		t.Fatal(err)
	}
	sameBytes(t, want, dir+"/pipe.img")
	left, _ := filepath.Glob(dir + "/.b9-*")
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
