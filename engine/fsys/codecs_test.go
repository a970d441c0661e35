package fsys

import (
	"io/fs"
	"os"
	"testing"

	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/tree"
)

// TestSquashfsKeepsEverythingInEveryCodec makes each file that has more than a name and
// bytes, with the coder of every kind that mksquashfs knows, and with small and large
// numbers, which lie in inodes of different kinds.
func TestSquashfsKeepsEverythingInEveryCodec(t *testing.T) {
	fsystest.Need(t, "mksquashfs")
	dir := t.TempDir()
	fsystest.Write(t, dir+"/src/tool", "tool")
	if err := os.Link(dir+"/src/tool", dir+"/src/same"); err != nil {
		t.Fatal(err)
	}
	pseudo := dir + "/pseudo"
	fsystest.Write(t, pseudo, "/tool m 6755 65534 70000\n/sticky d 1777 0 0\n/null c 666 0 0 1 3\n/disk b 660 0 6 259 1048575\n/fifo i 600 0 0 f\n/socket i 600 0 0 s\n")
	for _, codec := range []string{"gzip", "xz", "lzma", "lzo", "lz4", "zstd"} {
		t.Run(codec, func(t *testing.T) {
			img := dir + "/" + codec
			fsystest.Run(t, "mksquashfs", dir+"/src", img, "-quiet", "-no-progress", "-noappend", "-comp", codec, "-pf", pseudo)
			r := opened(t, img, 0)
			inode := map[string]uint64{}
			for name, want := range map[string]struct {
				mode fs.FileMode
				attr tree.Attr
			}{
				"tool":   {fs.ModeSetuid | fs.ModeSetgid | 0o755, tree.Attr{Links: 2, UID: 65534, GID: 70000}},
				"same":   {fs.ModeSetuid | fs.ModeSetgid | 0o755, tree.Attr{Links: 2, UID: 65534, GID: 70000}},
				"sticky": {fs.ModeDir | fs.ModeSticky | 0o777, tree.Attr{Links: 2}},
				"null":   {fs.ModeDevice | fs.ModeCharDevice | 0o666, tree.Attr{Links: 1, Major: 1, Minor: 3}},
				"disk":   {fs.ModeDevice | 0o660, tree.Attr{Links: 1, GID: 6, Major: 259, Minor: 1048575}},
				"fifo":   {fs.ModeNamedPipe | 0o600, tree.Attr{Links: 1}},
				"socket": {fs.ModeSocket | 0o600, tree.Attr{Links: 1}},
			} {
				info, err := r.Lstat(name)
				if err != nil {
					t.Error(err)
					continue
				}
				got := *info.Sys().(*tree.Attr)
				inode[name], got.Inode = got.Inode, 0
				if info.Mode() != want.mode || got != want.attr {
					t.Errorf("%s: %v %+v, want %v %+v", name, info.Mode(), got, want.mode, want.attr)
				}
			}
			if inode["tool"] != inode["same"] || inode["tool"] == inode["null"] {
				t.Errorf("inodes %v", inode)
			}
		})
	}
}
