package squashfs_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/squashfs"
	"b9.build/b9/engine/fsys/swap"
	"b9.build/b9/engine/fsys/tree"
)

// TestSquash holds the kernel's and unsquashfs' view against the source.
func TestSquash(t *testing.T) {
	fsystest.Need(t, "unsquashfs", "tar", "mount")
	dir := t.TempDir()
	fsystest.BuildTree(t, dir+"/src", 5)
	for i := range 1200 { // more than one header and block of a directory
		fsystest.Write(t, fmt.Sprintf("%s/src/wide/%s-%d", dir, strings.Repeat("w", 90), i), "w")
	}
	want := view(fsystest.TarOf(t, dir+"/src"))
	for _, o := range []squashfs.Options{{Compress: "zstd"}, {Compress: "gzip", BlockSize: 16384}} {
		t.Run(fmt.Sprint(o.Compress, o.BlockSize), func(t *testing.T) {
			img := dir + "/img" + fmt.Sprint(o.Compress, o.BlockSize)
			if err := squashfs.Make(fsystest.CtxOf(t), img, o, tree.FromDir(dir+"/src")); err != nil {
				t.Fatal(err)
			}
			if got := view(fsystest.TarOf(t, fsystest.MountImage(t, img))); got != want {
				t.Error("kernel:", fsystest.FirstDifference(want, got))
			}
			fsystest.CompareMounted(t, img, fsystest.Opened(t)(fsys.OpenReader(img, 0, 0)))
			fsystest.Run(t, "unsquashfs", "-q", "-n", "-d", img+".out", img)
			if got := view(fsystest.TarOf(t, img+".out")); got != want {
				t.Error("unsquashfs:", fsystest.FirstDifference(want, got))
			}
			if info, err := fsys.Probe(img, 0, 0); err != nil || info.Type != "squashfs" || fsystest.FileSize(t, img)%4096 != 0 {
				t.Errorf("%+v, %v, %d bytes", info, err, fsystest.FileSize(t, img))
			}
		})
	}
}

// nanoseconds are the part of a time that squashfs does not hold.
var nanoseconds = regexp.MustCompile(`( \d+)\.\d+ (")`)

// view is fsystest.TarOf without what squashfs does not hold.
func view(s string) string {
	var out strings.Builder
	for _, line := range strings.SplitAfter(s, "\n") {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), " SCHILY.")
		kept := fields[0]
		for _, f := range fields[1:] {
			if strings.HasPrefix(f, "xattr.") && !strings.HasPrefix(f, "xattr.system.") {
				kept += " " + f
			}
		}
		kept = nanoseconds.ReplaceAllString(kept, "$1.0 $2")
		kept = strings.Replace(kept, " 7258118400.0 ", " 4294967295.0 ", 1)
		out.WriteString(kept + line[len(strings.TrimSuffix(line, "\n")):])
	}
	return out.String()
}

func TestSquashIsReproducible(t *testing.T) {
	dir := t.TempDir()
	fsystest.BuildTree(t, dir+"/a", 5)
	fsystest.BuildTree(t, dir+"/b", 6)
	for _, name := range []string{"a", "b"} {
		if err := squashfs.Make(fsystest.CtxOf(t), dir+"/"+name+".img", squashfs.Options{}, tree.FromDir(dir+"/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	fsystest.SameBytes(t, dir+"/a.img", dir+"/b.img")
}

func TestSquashFromTarAndRead(t *testing.T) {
	fsystest.Need(t, "tar")
	dir := t.TempDir()
	fsystest.BuildTree(t, dir+"/src", 5)
	fsystest.Run(t, "tar", "-C", dir+"/src", "--format=posix", "--xattrs", "--xattrs-include=*", "--sort=name", "-czf", dir+"/src.tar.gz", ".")
	if err := squashfs.Make(fsystest.CtxOf(t), dir+"/img", squashfs.Options{}, tree.FromTarFile(dir+"/src.tar.gz")); err != nil {
		t.Fatal(err)
	}
	r, err := fsys.OpenReader(dir+"/img", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, name := range []string{"etc/passwd", "big", "sparse", "many/hard", "zeros", "empty"} {
		want, err := os.ReadFile(dir + "/src/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := fs.ReadFile(r, name); err != nil || string(got) != string(want) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(want), err)
		}
	}
}

func TestSquashRefuses(t *testing.T) {
	img := t.TempDir() + "/img"
	fsystest.WantError(t, squashfs.Make(fsystest.CtxOf(t), img, squashfs.Options{Compress: "lzo"}, tree.FromFiles(nil, time.Time{})), `unknown compression "lzo" (have gzip, zstd)`)
	fsystest.WantError(t, squashfs.Make(fsystest.CtxOf(t), img, squashfs.Options{BlockSize: 5000}, tree.FromFiles(nil, time.Time{})), "no power of two")
	fsystest.WantError(t, squashfs.Make(fsystest.CtxOf(t), img, squashfs.Options{}, tree.FromFiles([]tree.File{{Path: "x", Source: "/absent/x"}}, time.Time{})), "no such file")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	fsystest.WantError(t, squashfs.Make(ctx, img, squashfs.Options{}, tree.FromFiles([]tree.File{{Path: "x", Data: make([]byte, 9<<20)}}, time.Time{})), "canceled")
	fsystest.Gone(t, img)
}

func TestSwap(t *testing.T) {
	fsystest.Need(t, "swaplabel", "blkid")
	dir := t.TempDir()
	for name, o := range map[string]swap.Options{
		"plain": {Size: 64 << 20}, "least": {Size: 40 << 10}, "labelled": {Size: 1<<20 + 5, Label: "swap one", UUID: "6f1dc3a2-0b57-4f7e-9d6c-2f8b0c1e4a55"},
	} {
		img := dir + "/" + name
		for range 2 {
			if err := swap.Make(fsystest.CtxOf(t), img, o); err != nil {
				t.Fatal(err)
			}
		}
		info, err := fsys.Probe(img, 0, 0)
		if err != nil || info.Type != "swap" || info.Label != o.Label || info.Size != o.Size/4096*4096 {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
		fsystest.CompareBlkid(t, img, info)
		if out := fsystest.Run(t, "swaplabel", img); !strings.Contains(out, info.UUID) || !strings.Contains(out, o.Label) {
			t.Errorf("%s: swaplabel says %q", name, out)
		}
	}
	fsystest.WantError(t, swap.Make(fsystest.CtxOf(t), dir+"/x", swap.Options{Size: 4096}), "below the least, 40KiB")
	fsystest.WantError(t, swap.Make(fsystest.CtxOf(t), dir+"/x", swap.Options{Size: 1 << 20, Label: "sixteen letters."}), "swap holds 15")
	fsystest.Gone(t, dir+"/x")
}
