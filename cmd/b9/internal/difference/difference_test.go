package difference

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/tree"
)

// uuid keeps two images of a test from differing in it.
const uuid = "0c1f0f8e-1b5c-4a8c-9b5e-0d9c5b5a3f11"

// made is an ext4 image of the files.
func made(t *testing.T, files ...tree.File) Side {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := ext4.Make(context.Background(), path, ext4.Options{Size: 4 << 20, UUID: uuid, HashSeed: uuid}, tree.FromFiles(files, time.Unix(1000, 0))); err != nil {
		t.Fatal(err)
	}
	return opened(t, path)
}

func opened(t *testing.T, path string) Side {
	t.Helper()
	img, err := disk.Open(path, "raw", disk.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { img.Close() })
	return Side{Name: filepath.Base(filepath.Dir(path)), Image: img}
}

func compared(t *testing.T, a, b Side) output.Diff {
	t.Helper()
	d, err := Compare(context.Background(), a, b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestAttributes changes one thing of a file at a time: that is told, and nothing else.
func TestAttributes(t *testing.T) {
	file := tree.File{Path: "dir/file", Data: []byte("one\n"), Mode: 0o644}
	link, device := tree.File{Path: "link", Mode: fs.ModeSymlink, Link: "a"}, tree.File{Path: "dev", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 1, Minor: 3}
	for what, c := range map[string]struct {
		of     tree.File
		change func(*tree.File)
		want   output.Differs
	}{
		"mode":      {file, func(f *tree.File) { f.Mode |= fs.ModeSetuid }, output.Differs{What: "mode", A: "0644", B: "4644"}},
		"owner":     {file, func(f *tree.File) { f.UID, f.GID = 5, 6 }, output.Differs{What: "owner", A: "0:0", B: "5:6"}},
		"time":      {file, func(f *tree.File) { f.Time = time.Unix(2000, 1) }, output.Differs{What: "time", A: "1970-01-01T00:16:40Z", B: "1970-01-01T00:33:20.000000001Z"}},
		"content":   {file, func(f *tree.File) { f.Data = []byte("two\n") }, output.Differs{What: "content", A: "4 bytes", B: "4 bytes"}},
		"emptied":   {file, func(f *tree.File) { f.Data = nil }, output.Differs{What: "content", A: "4 bytes", B: "0 bytes"}},
		"attribute": {file, func(f *tree.File) { f.Xattrs = map[string]string{"user.x": "a", "security.y": "\x01"} }, output.Differs{What: "attribute security.y", B: "0x01"}},
		"target":    {link, func(f *tree.File) { f.Link = "b" }, output.Differs{What: "target", A: "a", B: "b"}},
		"device":    {device, func(f *tree.File) { f.Minor = 5 }, output.Differs{What: "device", A: "1,3", B: "1,5"}},
		"type":      {link, func(f *tree.File) { f.Mode, f.Link = 0o644, "" }, output.Differs{What: "type", A: "link", B: "file"}},
	} {
		t.Run(what, func(t *testing.T) {
			changed := c.of
			c.change(&changed)
			d := compared(t, made(t, c.of), made(t, changed))
			if d.Same || len(d.Volumes) != 1 || len(d.Volumes[0].Files) != 1 || len(d.Volumes[0].Changes) > 0 {
				t.Fatalf("%+v", d)
			}
			f := d.Volumes[0].Files[0]
			if f.Path != "/"+c.of.Path || f.Change != "changed" || f.Changes[0] != c.want {
				t.Errorf("got %+v, want %+v of %s", f, c.want, c.of.Path)
			}
			if words := Words(d); !strings.Contains(words, c.want.What+": ") {
				t.Errorf("in words:\n%s", words)
			}
		})
	}
}

// TestTrees compares random trees: what is told of them is what was done to them.
func TestTrees(t *testing.T) {
	r := rand.New(rand.NewSource(11))
	for range 10 {
		a, b, want := t.TempDir(), t.TempDir(), map[string]string{}
		for i := range 20 {
			dir := fmt.Sprintf("d%d", r.Intn(3))
			name := fmt.Sprintf("%s/f%d", dir, i)
			var fate string
			switch r.Intn(4) {
			case 0:
				fate = "added"
			case 1:
				fate = "removed"
			case 2:
				fate = "changed"
			}
			for _, side := range []string{a, b} {
				if side == a && fate == "added" || side == b && fate == "removed" {
					continue
				}
				data := bytes.Repeat([]byte("x"), 200_000) // longer than is read at once
				if side == b && fate == "changed" {
					data[r.Intn(len(data))] = 'y'
				}
				if err := os.MkdirAll(filepath.Join(side, dir), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(side, name), data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if fate != "" {
				want["/"+name] = fate
			}
		}
		for _, side := range []string{a, b} { // in both, at one time
			for i := range 3 {
				if err := os.MkdirAll(filepath.Join(side, fmt.Sprintf("d%d", i)), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			err := filepath.WalkDir(side, func(path string, _ fs.DirEntry, err error) error {
				if err == nil {
					err = os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0))
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		d := compared(t, directory(t, a), directory(t, b))
		got := map[string]string{}
		if len(d.Volumes) > 0 {
			for _, f := range d.Volumes[0].Files {
				got[f.Path] = f.Change
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) || d.Same != (len(want) == 0) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

func directory(t *testing.T, path string) Side {
	t.Helper()
	r, err := fsys.NewDirReader(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	return Side{Name: path, Files: r}
}

// TestPackages reads what dpkg says is installed, and what images without dpkg have.
func TestPackages(t *testing.T) {
	status := func(text string) tree.File { return tree.File{Path: "var/lib/dpkg/status", Data: []byte(text)} }
	old := status("Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nDescription: x\n Version: 9\n\nPackage: b\nStatus: install ok installed\nVersion: 2\nArchitecture: all\n\nPackage: c\nStatus: deinstall ok config-files\nVersion: 3\nArchitecture: all\n")
	d := compared(t, made(t, old), made(t, status("Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.1\n"), tree.File{Path: "var/lib/dpkg/status.d/d", Data: []byte("Package: d\nVersion: 4\nArchitecture: all\n")}))
	if want := []output.PackageDiff{{Package: "a:amd64", A: "1", B: "1.1"}, {Package: "b:all", A: "2"}, {Package: "d:all", B: "4"}}; len(d.Volumes) != 1 || !slices.Equal(d.Volumes[0].Packages, want) {
		t.Errorf("got %+v", d.Volumes)
	}
	if words := Words(d); !strings.Contains(words, "3 packages:\n    a:amd64 1 -> 1.1\n  - b:all 2\n  + d:all 4\n") {
		t.Error(words)
	}
}

// TestBytes tells of images that have no difference but in bytes of no file.
func TestBytes(t *testing.T) {
	a, b := made(t), made(t)
	if d := compared(t, a, b); !d.Same {
		t.Errorf("%+v", d)
	}
	path := filepath.Join(t.TempDir(), "image")
	data := make([]byte, a.Image.Size())
	if _, err := a.Image.ReadAt(data, 0); err != nil {
		t.Fatal(err)
	}
	data[100] = 'x' // before the superblock
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	d := compared(t, a, opened(t, path))
	if d.Same || len(d.Volumes) != 1 || d.Volumes[0].Offset == nil || *d.Volumes[0].Offset > 100 {
		t.Errorf("%+v", d)
	}
	if words := Words(d); !strings.Contains(words, "files and attributes are the same; bytes differ from offset") {
		t.Error(words)
	}
	if _, err := Compare(context.Background(), a, directory(t, t.TempDir())); err == nil {
		t.Error("an image was compared with a directory")
	}
}
