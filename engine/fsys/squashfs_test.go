package fsys

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestSquash holds the kernel's and unsquashfs' view against the source.
func TestSquash(t *testing.T) {
	need(t, "unsquashfs", "tar", "mount")
	dir := t.TempDir()
	buildTree(t, dir+"/src", 5)
	for i := range 1200 { // more than one header and block of a directory
		write(t, fmt.Sprintf("%s/src/wide/%s-%d", dir, strings.Repeat("w", 90), i), "w")
	}
	want := squashView(tarOf(t, dir+"/src"))
	for _, o := range []SquashOptions{{Compress: "zstd"}, {Compress: "gzip", BlockSize: 16384}} {
		t.Run(fmt.Sprint(o.Compress, o.BlockSize), func(t *testing.T) {
			img := dir + "/img" + fmt.Sprint(o.Compress, o.BlockSize)
			if err := MakeSquash(ctxOf(t), img, o, FromDir(dir+"/src")); err != nil {
				t.Fatal(err)
			}
			if got := squashView(tarOf(t, mountImage(t, img))); got != want {
				t.Error("kernel:", firstDifference(want, got))
			}
			compareMounted(t, img, opened(t)(OpenReader(img, 0, 0)))
			run(t, "unsquashfs", "-q", "-n", "-d", img+".out", img)
			if got := squashView(tarOf(t, img+".out")); got != want {
				t.Error("unsquashfs:", firstDifference(want, got))
			}
			if info, err := Probe(img, 0, 0); err != nil || info.Type != "squashfs" || fileSize(t, img)%4096 != 0 {
				t.Errorf("%+v, %v, %d bytes", info, err, fileSize(t, img))
			}
		})
	}
}

// nanoseconds are the part of a time that squashfs does not hold.
var nanoseconds = regexp.MustCompile(`( \d+)\.\d+ (")`)

// squashView is tarOf without what squashfs does not hold.
func squashView(s string) string {
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
	buildTree(t, dir+"/a", 5)
	buildTree(t, dir+"/b", 6)
	for _, name := range []string{"a", "b"} {
		if err := MakeSquash(ctxOf(t), dir+"/"+name+".img", SquashOptions{}, FromDir(dir+"/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	sameBytes(t, dir+"/a.img", dir+"/b.img")
}

func TestSquashFromTarAndRead(t *testing.T) {
	need(t, "tar")
	dir := t.TempDir()
	buildTree(t, dir+"/src", 5)
	run(t, "tar", "-C", dir+"/src", "--format=posix", "--xattrs", "--xattrs-include=*", "--sort=name", "-czf", dir+"/src.tar.gz", ".")
	if err := MakeSquash(ctxOf(t), dir+"/img", SquashOptions{}, FromTarFile(dir+"/src.tar.gz")); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReader(dir+"/img", 0, 0)
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
	wantError(t, MakeSquash(ctxOf(t), img, SquashOptions{Compress: "lzo"}, FromFiles(nil, time.Time{})), `unknown compression "lzo" (have gzip, zstd)`)
	wantError(t, MakeSquash(ctxOf(t), img, SquashOptions{BlockSize: 5000}, FromFiles(nil, time.Time{})), "no power of two")
	wantError(t, MakeSquash(ctxOf(t), img, SquashOptions{}, FromFiles([]File{{Path: "x", Source: "/absent/x"}}, time.Time{})), "no such file")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, MakeSquash(ctx, img, SquashOptions{}, FromFiles([]File{{Path: "x", Data: make([]byte, 9<<20)}}, time.Time{})), "canceled")
	gone(t, img)
}

func TestSwap(t *testing.T) {
	need(t, "swaplabel", "blkid")
	dir := t.TempDir()
	for name, o := range map[string]SwapOptions{
		"plain": {Size: 64 << 20}, "least": {Size: 40 << 10}, "labelled": {Size: 1<<20 + 5, Label: "swap one", UUID: "6f1dc3a2-0b57-4f7e-9d6c-2f8b0c1e4a55"},
	} {
		img := dir + "/" + name
		for range 2 {
			if err := MakeSwap(ctxOf(t), img, o); err != nil {
				t.Fatal(err)
			}
		}
		info, err := Probe(img, 0, 0)
		if err != nil || info.Type != "swap" || info.Label != o.Label || info.Size != o.Size/4096*4096 {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
		compareBlkid(t, img, info)
		if out := run(t, "swaplabel", img); !strings.Contains(out, info.UUID) || !strings.Contains(out, o.Label) {
			t.Errorf("%s: swaplabel says %q", name, out)
		}
	}
	wantError(t, MakeSwap(ctxOf(t), dir+"/x", SwapOptions{Size: 4096}), "below the least, 40KiB")
	wantError(t, MakeSwap(ctxOf(t), dir+"/x", SwapOptions{Size: 1 << 20, Label: "sixteen letters."}), "swap holds 15")
	gone(t, dir+"/x")
}
