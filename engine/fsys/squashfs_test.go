package fsys

import (
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"

	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/squashfs"
	"b9.build/b9/engine/fsys/tree"
)

// TestSquash holds the kernel's and unsquashfs' view against the source.
func TestSquash(t *testing.T) {
	fsystest.Need(t, "unsquashfs", "tar", "mount")
	dir := t.TempDir()
	buildTree(t, dir+"/src", 5)
	for i := range 1200 { // more than one header and block of a directory
		fsystest.Write(t, fmt.Sprintf("%s/src/wide/%s-%d", dir, strings.Repeat("w", 90), i), "w")
	}
	want := view(tarOf(t, dir+"/src"))
	for _, o := range []squashfs.Options{{Compress: "zstd"}, {Compress: "gzip", BlockSize: 16384}} {
		t.Run(fmt.Sprint(o.Compress, o.BlockSize), func(t *testing.T) {
			img := dir + "/img" + fmt.Sprint(o.Compress, o.BlockSize)
			if err := squashfs.Make(t.Context(), img, o, tree.FromDir(dir+"/src")); err != nil {
				t.Fatal(err)
			}
			if got := view(tarOf(t, mountImage(t, img))); got != want {
				t.Error("kernel:", firstDifference(want, got))
			}
			compareMounted(t, img, opened(t, img, 0))
			fsystest.Run(t, "unsquashfs", "-q", "-n", "-d", img+".out", img)
			if got := view(tarOf(t, img+".out")); got != want {
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

// view is tarOf without what squashfs does not hold.
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
	buildTree(t, dir+"/a", 5)
	buildTree(t, dir+"/b", 6)
	for _, name := range []string{"a", "b"} {
		if err := squashfs.Make(t.Context(), dir+"/"+name+".img", squashfs.Options{}, tree.FromDir(dir+"/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	sameBytes(t, dir+"/a.img", dir+"/b.img")
}

func TestSquashFromTarAndRead(t *testing.T) {
	fsystest.Need(t, "tar")
	dir := t.TempDir()
	buildTree(t, dir+"/src", 5)
	fsystest.Run(t, "tar", "-C", dir+"/src", "--format=posix", "--xattrs", "--xattrs-include=*", "--sort=name", "-czf", dir+"/src.tar.gz", ".")
	if err := squashfs.Make(t.Context(), dir+"/img", squashfs.Options{}, tree.FromTarFile(dir+"/src.tar.gz")); err != nil {
		t.Fatal(err)
	}
	r := opened(t, dir+"/img", 0)
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
