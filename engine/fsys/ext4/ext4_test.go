package ext4_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/tree"
)

// onlyReader hides that a file is a file.
type onlyReader struct{ io.Reader }

func TestExt4Refusals(t *testing.T) {
	fsystest.Need(t, "mke2fs")
	dir := t.TempDir()
	fsystest.Write(t, dir+"/src/file", strings.Repeat("x", 9<<20))
	fsystest.Write(t, dir+"/no.tar", strings.Repeat("no tar", 1000))
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
		{ext4.Options{Size: 64 << 20}, tree.FromTarFile(dir + "/no.tar"), []string{"tar archive", "invalid tar header"}},
		{ext4.Options{Size: 64 << 20, Inodes: 12}, manyFiles(200), []string{"inodes"}},
	} {
		err := ext4.Make(t.Context(), img, c.o, c.c)
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
		err := ext4.Make(t.Context(), dir+"/x.img", ext4.Options{Size: 8 << 20}, tree.FromFiles([]tree.File{f}, time.Time{}))
		fsystest.WantError(t, err, "/f", "changed while it was read")
		fsystest.Gone(t, dir+"/x.img")
	}
}

func TestExt4StaysSparse(t *testing.T) {
	fsystest.Need(t, "mke2fs")
	img := t.TempDir() + "/x.img"
	if err := ext4.Make(t.Context(), img, ext4.Options{Size: 1 << 40}, manyFiles(10)); err != nil {
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
	if err := ext4.Make(t.Context(), img, ext4.Options{}, tree.FromFiles(files, time.Unix(1e9, 0))); err != nil {
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
	if err := ext4.Make(t.Context(), img, o, tree.FromFiles(files, limit)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"late": "0x5f5e1000:00000000", "early": "0x59682f00:00000000", "lost+found": "0x5f5e1000:00000000"} {
		if out := fsystest.Run(t, "debugfs", "-R", "stat /"+name, img); !strings.Contains(out, "mtime: "+want) {
			t.Errorf("%s: want mtime %s in\n%s", name, want, out)
		}
	}
}

// manyFiles is a directory d of n files with one byte each.
func manyFiles(n int) tree.Content {
	var files []tree.File
	for i := range n {
		files = append(files, tree.File{Path: fmt.Sprintf("d/%d", i), Data: []byte("x")})
	}
	return tree.FromFiles(files, time.Time{})
}
