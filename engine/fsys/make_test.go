package fsys

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/iso9660"
	"b9.build/b9/engine/fsys/mkfs"
	"b9.build/b9/engine/fsys/squashfs"
	"b9.build/b9/engine/fsys/swap"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/fsys/vfat"
)

// maker is one format's Make, and content that it refuses, with its words.
type maker struct {
	make    func(ctx context.Context, path string, c tree.Content) error
	refused tree.File
	want    string
}

func makers() map[string]maker {
	large := tree.File{Path: "large", Size: 64 << 20, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("")), nil }}
	link := tree.File{Path: "link", Mode: fs.ModeSymlink, Link: "x"}
	return map[string]maker{
		"erofs": {func(ctx context.Context, path string, c tree.Content) error {
			return mkfs.Make(ctx, path, mkfs.EROFS, mkfs.Options{}, c)
		}, tree.File{Path: "old", Time: time.Unix(-1, 0)}, "before 1970"},
		"f2fs": {func(ctx context.Context, path string, c tree.Content) error {
			return mkfs.Make(ctx, path, mkfs.F2FS, mkfs.Options{}, c)
		}, tree.File{Path: "null", Mode: fs.ModeDevice | fs.ModeCharDevice, Major: 1, Minor: 3}, "/null is a device"},
		"ext4": {func(ctx context.Context, path string, c tree.Content) error {
			return ext4.Make(ctx, path, ext4.Options{Size: 32 << 20, Features: []string{"^has_journal"}}, c)
		}, tree.File{Path: "link", Mode: fs.ModeSymlink}, "has no target"},
		"vfat": {func(ctx context.Context, path string, c tree.Content) error {
			return vfat.Make(ctx, path, vfat.Options{Size: 32 << 20}, c)
		}, large, "the files need"},
		"iso9660": {func(ctx context.Context, path string, c tree.Content) error {
			return iso9660.Make(ctx, path, iso9660.Options{}, c)
		}, link, "only Rock Ridge"},
		"squashfs": {func(ctx context.Context, path string, c tree.Content) error {
			return squashfs.Make(ctx, path, squashfs.Options{}, c)
		}, tree.File{Path: "odd", Xattrs: map[string]string{"system.odd": "x"}}, "squashfs stores only"},
	}
}

const before = "what was there before"

// target makes a directory, of size bytes where that is not 0, with a file in it.
func target(t *testing.T, size string) string {
	dir := t.TempDir()
	if size != "" {
		fsystest.NeedRoot(t)
		fsystest.Run(t, "mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir)
		t.Cleanup(func() { fsystest.Run(t, "umount", dir) })
	}
	fsystest.Write(t, dir+"/img", before)
	if err := os.Chmod(dir+"/img", 0o640); err != nil {
		t.Fatal(err)
	}
	return dir + "/img"
}

// unharmed fails the test when the file at path is not what it was, or not alone.
func unharmed(t *testing.T, path string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != before {
		t.Errorf("of the old file %d bytes are left: %v", len(b), err)
	}
	alone(t, path)
}

func alone(t *testing.T, path string) {
	t.Helper()
	list, err := os.ReadDir(strings.TrimSuffix(path, "/img"))
	if err != nil || len(list) != 1 {
		t.Errorf("beside the file there are %v, %v", list, err)
	}
}

// TestFailedMakeKeepsTheFile: whatever ends a Make early, the file that it was to
// replace stays whole, and nothing lies beside it.
func TestFailedMakeKeepsTheFile(t *testing.T) {
	fsystest.Need(t, "mke2fs")
	for name, m := range makers() {
		t.Run(name+" refused", func(t *testing.T) {
			img := target(t, "")
			fsystest.WantError(t, m.make(t.Context(), img, tree.FromFiles([]tree.File{m.refused}, time.Time{})), m.want)
			unharmed(t, img)
		})
		t.Run(name+" full", func(t *testing.T) {
			img := target(t, "2M")
			noise := make([]byte, 8<<20)
			rand.New(rand.NewSource(1)).Read(noise)
			err := m.make(t.Context(), img, tree.FromFiles([]tree.File{{Path: "noise", Data: noise}}, time.Time{}))
			if !errors.Is(err, unix.ENOSPC) {
				t.Errorf("error %v", err)
			}
			fsystest.WantError(t, err, img)
			unharmed(t, img)
		})
		t.Run(name+" cancelled", func(t *testing.T) {
			img := target(t, "")
			ctx, cancel := context.WithCancel(t.Context())
			half := tree.File{Path: "f", Size: 16 << 20, Open: func() (io.ReadCloser, error) {
				return io.NopCloser(&cancelling{cancel: cancel}), nil
			}}
			if err := m.make(ctx, img, tree.FromFiles([]tree.File{half}, time.Time{})); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
			unharmed(t, img)
		})
	}
	testFailedSwap(t)
}

// testFailedSwap is the same for swap, which has no content.
func testFailedSwap(t *testing.T) {
	o := swap.Options{Size: 1 << 20}
	t.Run("swap refused", func(t *testing.T) {
		img := target(t, "")
		fsystest.WantError(t, swap.Make(t.Context(), img, swap.Options{Size: 4096}), "below the least")
		unharmed(t, img)
	})
	t.Run("swap full", func(t *testing.T) {
		img := target(t, "4k") // all of which the old file takes
		if err := swap.Make(t.Context(), img, o); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("error %v", err)
		}
		unharmed(t, img)
	})
	t.Run("swap cancelled", func(t *testing.T) {
		img := target(t, "")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := swap.Make(ctx, img, o); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		unharmed(t, img)
	})
}

// cancelling is noise without end that cancels a context after 2 MiB.
type cancelling struct {
	read   int
	cancel func()
}

func (c *cancelling) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(c.read + i*i)
	}
	if c.read += len(b); c.read >= 2<<20 {
		c.cancel()
	}
	return len(b), nil
}

// TestMakeReplaces: a new file system has the old file's permissions, lies where a
// link leads, and leaves what is no file where it is.
func TestMakeReplaces(t *testing.T) {
	fsystest.Need(t, "mke2fs")
	files := func() tree.Content { return tree.FromFiles(seedFiles(), time.Time{}) }
	for name, m := range makers() {
		t.Run(name, func(t *testing.T) {
			img := target(t, "")
			link := t.TempDir() + "/link"
			if err := os.Symlink(img, link); err != nil {
				t.Fatal(err)
			}
			if err := m.make(t.Context(), link, files()); err != nil {
				t.Fatal(err)
			}
			if info, err := Probe(img, 0, 0); err != nil || info.Type != name {
				t.Errorf("made %+v, %v", info, err)
			}
			if st, err := os.Lstat(img); err != nil || st.Mode() != 0o640 {
				t.Errorf("made %v, %v", st, err)
			}
			alone(t, img)
			pipe := t.TempDir() + "/img"
			if err := unix.Mkfifo(pipe, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := m.make(t.Context(), pipe, files()); err == nil {
				t.Error("a pipe became a file system")
			}
			if st, err := os.Lstat(pipe); err != nil || st.Mode().Type() != fs.ModeNamedPipe {
				t.Errorf("of the pipe %v is left, %v", st, err)
			}
			alone(t, pipe)
		})
	}
}

// TestAutomaticSize fits file systems to contents in which bytes are the least
// matter: many small or empty files, long names, links, attributes, deep directories.
func TestAutomaticSize(t *testing.T) {
	fsystest.Need(t, "mke2fs", "e2fsck", "fsck.vfat", "mkfs.f2fs")
	contents := map[string]func(i int) tree.File{
		"empty files": func(i int) tree.File { return tree.File{Path: fmt.Sprintf("d%d/f%d", i%50, i)} },
		"long names":  func(i int) tree.File { return tree.File{Path: fmt.Sprintf("%0200d", i)} },
		"directories": func(i int) tree.File {
			return tree.File{Path: fmt.Sprintf("d%d/e%d", i%9, i), Mode: fs.ModeDir | 0o755}
		},
		"one byte": func(i int) tree.File { return tree.File{Path: fmt.Sprintf("d%d/f%d", i%50, i), Data: []byte("x")} },
		"long links": func(i int) tree.File {
			return tree.File{Path: fmt.Sprintf("f%d", i), Mode: fs.ModeSymlink, Link: strings.Repeat("x", 100)}
		},
		"attributes": func(i int) tree.File {
			return tree.File{Path: fmt.Sprintf("f%d", i), Xattrs: map[string]string{"user.a": strings.Repeat(fmt.Sprint(i), 200)}}
		},
	}
	makes := map[string]func(img string, c tree.Content) error{"vfat": func(img string, c tree.Content) error {
		return vfat.Make(t.Context(), img, vfat.Options{}, c)
	}, "f2fs": func(img string, c tree.Content) error {
		return mkfs.Make(t.Context(), img, mkfs.F2FS, mkfs.Options{Free: 1 << 20}, c)
	}}
	for name, o := range map[string]ext4.Options{
		"ext4": {}, "ext4 of 1 KiB": {BlockSize: 1024}, "ext4 with few inodes": {InodeRatio: 1 << 20}, "ext4 with reserve": {Reserved: 5},
		"ext4 with large inodes": {InodeSize: 1024}, "ext4 plain": {Features: []string{"^has_journal,^flex_bg,^resize_inode"}},
	} {
		makes[name] = func(img string, c tree.Content) error { return ext4.Make(t.Context(), img, o, c) }
	}
	for name, file := range contents {
		for kind, make := range makes {
			if kind == "vfat" && (name == "long links" || name == "attributes" || name == "long names") {
				continue // what vfat does not hold
			}
			for _, n := range []int{1, 700, 5000} {
				if kind == "f2fs" && name == "attributes" {
					continue // neither
				}
				if kind == "ext4 with few inodes" && n > 700 {
					continue // gigabytes
				}
				var files []tree.File
				for i := range n {
					files = append(files, file(i))
				}
				img := t.TempDir() + "/i.img"
				if err := make(img, tree.FromFiles(files, time.Time{})); err != nil {
					t.Errorf("%s, %d %s: %v", kind, n, name, err)
					continue
				}
				if err := Check(t.Context(), img); err != nil {
					t.Errorf("%s, %d %s: %v", kind, n, name, err)
				}
			}
		}
	}
}
