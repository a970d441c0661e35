package fsys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/fsys/btrfs"
	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/iso9660"
	"b9.build/b9/engine/fsys/squashfs"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/fsys/vfat"
	"b9.build/b9/engine/fsys/xfs"
	"b9.build/b9/engine/internal/sparse"
)

// fuzzImages are small images of everything that can be read.
func fuzzImages(f *testing.F) [][]byte {
	fsystest.Need(f, "mke2fs")
	dir := f.TempDir()
	files := []tree.File{
		{Path: "a/long file name.text", Data: []byte(strings.Repeat("data", 500))}, {Path: "a/b/c", Data: []byte("x")}, {Path: "empty"},
		{Path: "big", Data: bytes.Repeat([]byte("0123456789abcdef"), 2000)},
	}
	posix := append(files, tree.File{Path: "link", Mode: fs.ModeSymlink, Link: "a/b/c"}, tree.File{Path: "far", Mode: fs.ModeSymlink, Link: strings.Repeat("a/../", 60)},
		tree.File{Path: "dev", Mode: fs.ModeDevice | fs.ModeCharDevice, Major: 1, Minor: 3}, tree.File{Path: "x", Data: []byte("x"), Xattrs: map[string]string{"user.a": strings.Repeat("v", 300)}})
	ctx := context.Background()
	small := ext4.Options{Size: 256 << 10, BlockSize: 1024, Inodes: 32, Features: []string{"^has_journal", "^resize_inode"}}
	old := small
	old.Features = []string{"^has_journal", "^resize_inode", "^extent", "^64bit", "^metadata_csum"}
	var images [][]byte
	for _, build := range []func(string) error{
		func(p string) error { return vfat.Make(ctx, p, vfat.Options{}, tree.FromFiles(files, time.Time{})) },
		func(p string) error {
			return vfat.Make(ctx, p, vfat.Options{Bits: 16}, tree.FromFiles(files, time.Time{}))
		},
		func(p string) error {
			return iso9660.Make(ctx, p, iso9660.Options{RockRidge: true}, tree.FromFiles(posix, time.Time{}))
		},
		func(p string) error {
			return iso9660.Make(ctx, p, iso9660.Options{Joliet: true}, tree.FromFiles(files, time.Time{}))
		},
		func(p string) error { return ext4.Make(ctx, p, small, tree.FromFiles(posix, time.Time{})) },
		func(p string) error { return ext4.Make(ctx, p, old, tree.FromFiles(posix, time.Time{})) },
		func(p string) error {
			return squashfs.Make(ctx, p, squashfs.Options{}, tree.FromFiles(posix, time.Time{}))
		},
	} {
		p := dir + "/img"
		if err := build(p); err != nil {
			f.Fatal(err)
		}
		b, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		images = append(images, b)
		os.Remove(p)
	}
	return images
}

// FuzzReader reads everything there is in damaged images: errors, no panics,
// and an end.
func FuzzReader(f *testing.F) {
	images := fuzzImages(f)
	for i := range images {
		f.Add(uint8(i), uint32(0), []byte{})
		f.Add(uint8(i), uint32(1024), []byte{0xff, 0xff})
		f.Add(uint8(i), uint32(16*2048+158), []byte{1, 0, 0, 0})
	}
	f.Fuzz(func(t *testing.T, kind uint8, at uint32, patch []byte) {
		b := bytes.Clone(images[int(kind)%len(images)])
		copy(b[int(at)%len(b):], patch)
		if string(b[:4]) == "hsqs" && b[20] > 1 && b[20] < 6 {
			return // read by go-diskfs, which has no bounds
		}
		readAll(t, b)
	})
}

// countedReader counts how often an image is read, and ends a test that
// reads without end.
type countedReader struct {
	t     testing.TB
	from  io.ReaderAt
	reads int
	bytes int64
}

const (
	mostReads = 200_000
	mostBytes = 1 << 30
)

func (c *countedReader) ReadAt(p []byte, off int64) (int, error) {
	c.reads++
	c.bytes += int64(len(p))
	if c.reads > mostReads || c.bytes > mostBytes {
		c.t.Fatalf("%d reads of %d bytes in all, and no end", c.reads, c.bytes)
	}
	return c.from.ReadAt(p, off)
}

// readAll walks through an image, two hundred objects at most.
func readAll(t testing.TB, b []byte) { readAllOf(t, bytes.NewReader(b), int64(len(b))) }

func readAllOf(t testing.TB, from io.ReaderAt, size int64) {
	counted := &countedReader{t: t, from: from}
	r, err := NewReader(counted, size)
	if err != nil {
		return
	}
	left := 200
	_ = fs.WalkDir(r, ".", func(p string, d fs.DirEntry, err error) error {
		if left--; left < 0 || err != nil {
			return fs.SkipAll
		}
		_, _ = d.Info()
		_, _ = r.ReadLink(p)
		_, _ = r.Xattrs(p)
		if f, err := r.Open(p); err == nil {
			_, _ = io.CopyN(io.Discard, f, 1<<20)
		}
		return nil
	})
}

// patched is an image of which some bytes are others.
type patched struct {
	io.ReaderAt
	at    int64
	patch []byte
}

func (p patched) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.ReaderAt.ReadAt(b, off)
	for i, c := range p.patch {
		if at := p.at + int64(i) - off; at >= 0 && at < int64(n) {
			b[at] = c
		}
	}
	return n, err
}

// FuzzLargeReader is FuzzReader for file systems that have no small images: bytes are
// changed in blocks that are not empty.
func FuzzLargeReader(f *testing.F) {
	fsystest.Need(f, "mkfs.xfs")
	files := []tree.File{{Path: "a/b/c", Data: bytes.Repeat([]byte("x"), 9000)}, {Path: "link", Mode: fs.ModeSymlink, Link: strings.Repeat("a/../", 100)},
		{Path: "x", Data: []byte("x"), Xattrs: map[string]string{"user.a": strings.Repeat("v", 300), "user.b": strings.Repeat("w", 5000)}}}
	for i := range 200 {
		files = append(files, tree.File{Path: fmt.Sprint("many/", i), Xattrs: map[string]string{"user.n": fmt.Sprint(i)}})
	}
	dir := f.TempDir()
	err := errors.Join(xfs.Make(context.Background(), dir+"/0", xfs.Options{}, tree.FromFiles(files, time.Time{})),
		btrfs.Make(context.Background(), dir+"/1", btrfs.Options{}, tree.FromFiles(files, time.Time{})))
	if err != nil {
		f.Fatal(err)
	}
	var images [2]*os.File
	var used [2][]int64
	for i := range images {
		if images[i], err = os.Open(fmt.Sprint(dir, "/", i)); err != nil {
			f.Fatal(err)
		}
		used[i] = usedBlocks(f, images[i])
		for _, at := range []uint32{0, 4096, 8192 + 100, 1 << 16, 1<<17 + 96} {
			f.Add(uint8(i), at, []byte{0xff, 0xff, 0xff})
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, at uint32, patch []byte) {
		i := int(kind) % len(images)
		where := used[i][int(at/4096)%len(used[i])] + int64(at%4096)
		readAllOf(t, patched{images[i], where, patch}, fileSize(t, images[i].Name()))
	})
}

// usedBlocks are the places of the blocks of an image that are not empty. Most of it is
// a hole, which is not read.
func usedBlocks(t testing.TB, img *os.File) (used []int64) {
	t.Helper()
	size := fileSize(t, img.Name())
	for off := int64(0); off < size; {
		start, end, err := sparse.Run(img, off, size)
		b := make([]byte, end-start)
		if _, rerr := img.ReadAt(b, start); err != nil || rerr != nil {
			t.Fatal(err, rerr)
		}
		for from, to := range sparse.Runs(b, 4096) {
			for at := from; at < to; at += 4096 {
				used = append(used, start+int64(at))
			}
		}
		off = end
	}
	return used
}

// FuzzJournal replays damaged journals.
func FuzzJournal(f *testing.F) {
	fsystest.Need(f, "mke2fs")
	p := f.TempDir() + "/img"
	if err := ext4.Make(context.Background(), p, ext4.Options{Size: 8 << 20, BlockSize: 1024, Features: []string{"^metadata_csum"}}, nil); err != nil {
		f.Fatal(err)
	}
	base, err := os.ReadFile(p)
	if err != nil {
		f.Fatal(err)
	}
	at := bytes.Index(base, []byte{0xc0, 0x3b, 0x39, 0x98})
	base[1024+0x60] |= needsRecovery
	base[at+31] = 1 // the first transaction is in block 1
	f.Add([]byte{0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 8})
	f.Add([]byte{0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 20, 0, 0, 0, 8})
	f.Fuzz(func(t *testing.T, patch []byte) {
		b := bytes.Clone(base)
		copy(b[at+1024:at+8192], patch)
		readAll(t, b)
	})
}
