package fsys

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem"
	"github.com/diskfs/go-diskfs/filesystem/ext4"
	"github.com/diskfs/go-diskfs/filesystem/fat12"
	"github.com/diskfs/go-diskfs/filesystem/fat16"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
	"github.com/diskfs/go-diskfs/filesystem/squashfs"

	b9ext4 "b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/fsystest"
	b9squashfs "b9.build/b9/engine/fsys/squashfs"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/fsys/vfat"
)

// openDiskfs opens an image by go-diskfs.
func openDiskfs(t *testing.T, kind, img string) filesystem.FileSystem {
	t.Helper()
	b, err := file.OpenFromPath(img, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	st, err := os.Stat(img)
	if err != nil {
		t.Fatal(err)
	}
	var v filesystem.FileSystem
	switch kind {
	case "fat12":
		v, err = fat12.Read(b, st.Size(), 0, 512)
	case "fat16":
		v, err = fat16.Read(b, st.Size(), 0, 512)
	case "fat32":
		v, err = fat32.Read(b, st.Size(), 0, 512)
	case "rockridge":
		v, err = iso9660.Read(b, st.Size(), 0, 2048)
	case "squashfs":
		v, err = squashfs.Read(b, st.Size(), 0, 0)
	case "ext4":
		v, err = ext4.Read(b, st.Size(), 0, 512)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestReadByGoDiskfs makes every file system that go-diskfs can read and
// compares the names, modes and contents that it finds with what was put in.
// What go-diskfs gets wrong is listed in docs/decisions/0006-go-diskfs.md.
func TestReadByGoDiskfs(t *testing.T) {
	files := diskfsFiles()
	makers := readerMakers(t, files)
	makers["squashfs"] = func(img string) error {
		return b9squashfs.Make(t.Context(), img, b9squashfs.Options{}, tree.FromFiles(files, time.Time{}))
	}
	dir := t.TempDir()
	for _, kind := range []string{"fat12", "fat16", "fat32", "rockridge", "squashfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			img := path.Join(dir, kind)
			if err := makers[kind](img); err != nil {
				t.Fatal(err)
			}
			compareDiskfs(t, kind, openDiskfs(t, kind, img), files)
		})
	}
}

func compareDiskfs(t *testing.T, kind string, v filesystem.FileSystem, files []tree.File) {
	t.Helper()
	want := map[string][]string{"": nil}
	for _, f := range files {
		dir, name := path.Split(f.Path)
		dir = strings.TrimSuffix(dir, "/")
		want[dir] = append(want[dir], name)
		if f.Mode.IsDir() && want[f.Path] == nil {
			want[f.Path] = nil
		}
	}
	for dir, names := range want {
		at := dir
		if dir == "" {
			at = "."
		}
		entries, err := v.ReadDir(at)
		if err != nil {
			t.Errorf("%s: %v", at, err)
			continue
		}
		var got []string
		for _, e := range entries {
			if n := e.Name(); n != "." && n != ".." && n != "lost+found" {
				got = append(got, n)
			}
		}
		slices.Sort(got)
		slices.Sort(names)
		if !slices.Equal(got, names) {
			t.Errorf("%s: go-diskfs lists %q, written were %q", at, got, names)
		}
	}
	for _, f := range files {
		info, err := v.Stat(f.Path)
		if err != nil {
			t.Errorf("%s: %v", f.Path, err)
			continue
		}
		if info.IsDir() != f.Mode.IsDir() {
			t.Errorf("%s: mode %v, written was %v", f.Path, info.Mode(), f.Mode)
		}
		if !strings.HasPrefix(kind, "fat") && info.Mode().Perm() != f.Mode.Perm() {
			t.Errorf("%s: permissions %v, written were %v", f.Path, info.Mode().Perm(), f.Mode.Perm())
		}
		if f.Mode.IsRegular() && (len(f.Data) > 0 || !strings.HasPrefix(kind, "fat")) { // it can't open an empty file of FAT
			if got, err := fs.ReadFile(v, f.Path); err != nil || !bytes.Equal(got, f.Data) {
				t.Errorf("%s: %d bytes, written were %d: %v", f.Path, len(got), len(f.Data), err)
			}
		}
	}
}

// diskfsFiles are files of many sizes, names and depths, without blocks of zeros:
// go-diskfs does not come back from a hole of an ext4.
func diskfsFiles() []tree.File {
	files := []tree.File{
		{Path: "empty", Mode: 0o644},
		{Path: "readme.txt", Mode: 0o600, Data: []byte("short\n")},
		{Path: "Mixed Case.Name", Mode: 0o640, Data: bytes.Repeat([]byte("b9"), 3000)},
		{Path: "a-rather-long-name-of-a-file-that-needs-several-entries.conf", Mode: 0o755, Data: bytes.Repeat([]byte{7}, 70_000)},
		{Path: "dir", Mode: fs.ModeDir | 0o755},
		{Path: "dir/sub", Mode: fs.ModeDir | 0o700},
		{Path: "dir/sub/file.bin", Mode: 0o444, Data: mixture(300_000)},
	}
	for i := range 60 { // more than a block of entries
		files = append(files, tree.File{Path: "dir/many" + strings.Repeat("x", i%20) + string(rune('0'+i/10)) + string(rune('0'+i%10)), Mode: 0o644, Data: []byte{byte(i + 1)}})
	}
	return files
}

// mixture is n bytes that do not repeat soon.
func mixture(n int) []byte {
	b, x := make([]byte, n), uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

// TestFaultsOfGoDiskfs holds the minimal cases of docs/decisions/0006-go-diskfs.md.
// Where one fails the library has mended it, and the note can go.
func TestFaultsOfGoDiskfs(t *testing.T) {
	img := path.Join(t.TempDir(), "fat")
	if err := vfat.Make(t.Context(), img, vfat.Options{}, tree.FromFiles([]tree.File{{Path: "empty"}}, time.Time{})); err != nil {
		t.Fatal(err)
	}
	if _, err := openDiskfs(t, "fat12", img).ReadFile("empty"); err == nil {
		t.Error("an empty file of FAT can be read now")
	}
	fsystest.Need(t, "mke2fs")
	img = path.Join(t.TempDir(), "ext4")
	hole := []tree.File{{Path: "hole", Data: make([]byte, 4096)}}
	if err := b9ext4.Make(t.Context(), img, b9ext4.Options{Size: 32 << 20}, tree.FromFiles(hole, time.Time{})); err != nil {
		t.Fatal(err)
	}
	f, err := openDiskfs(t, "ext4", img).Open("hole")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := f.Read(make([]byte, 512)); n != 0 || err != nil {
		t.Errorf("a hole of ext4 gives %d bytes and %v now", n, err)
	}
}
