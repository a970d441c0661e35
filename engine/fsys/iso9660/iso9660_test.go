package iso9660_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/iso9660"
	"b9.build/b9/engine/fsys/tree"
)

func TestISOPlain(t *testing.T) {
	fsystest.Need(t, "isoinfo")
	img := t.TempDir() + "/p.iso"
	var files []tree.File
	for i := range 3000 {
		files = append(files, tree.File{Path: fmt.Sprintf("dir%d/a name that folds to the same %d.longext", i%40, i), Data: []byte{byte(i)}})
	}
	if err := iso9660.Make(t.Context(), img, iso9660.Options{VolumeID: "PLAIN"}, tree.FromFiles(files, time.Time{})); err != nil {
		t.Fatal(err)
	}
	list := strings.Split(strings.TrimSpace(fsystest.Run(t, "isoinfo", "-f", "-i", img)), "\n")
	seen := map[string]bool{}
	for _, l := range list {
		if seen[l] {
			t.Errorf("%s is listed twice", l)
		}
		seen[l] = true
	}
	if len(list) != 3040 {
		t.Errorf("%d entries, want 3040", len(list))
	}
}

func TestISORefusals(t *testing.T) {
	img := t.TempDir() + "/x.iso"
	for _, c := range []struct {
		o     iso9660.Options
		files []tree.File
		want  string
	}{
		{iso9660.Options{VolumeID: strings.Repeat("v", 33)}, nil, "33 bytes"},
		{iso9660.Options{VolumeID: "é"}, nil, "printable ASCII"},
		{iso9660.Options{Joliet: true}, []tree.File{{Path: "l", Mode: fs.ModeSymlink, Link: "x"}}, "only Rock Ridge"},
		{iso9660.Options{}, []tree.File{{Path: "big", Source: fsystest.SparseFile(t, 4<<30)}}, "below 4G"},
		{iso9660.Options{}, []tree.File{{Path: "absent", Source: "/no/such/file"}}, "no such file"},
		{iso9660.Options{RockRidge: true}, []tree.File{{Path: "h", Link: "missing"}}, "is not there"},
	} {
		fsystest.WantError(t, iso9660.Make(t.Context(), img, c.o, tree.FromFiles(c.files, c.o.Time)), c.want)
		fsystest.Gone(t, img)
	}
}

// TestRockRidgeLinks keeps what links say, also where slashes follow each other.
func TestRockRidgeLinks(t *testing.T) {
	fsystest.Need(t, "genisoimage")
	dir := t.TempDir()
	links := map[string]string{"a": ".///file", "b": "/tmp//..", "c": "/", "d": "../.././x", "e": "x//y", "f": "/a/b"}
	src := filepath.Join(dir, "src")
	if err := os.Mkdir(src, 0o700); err != nil {
		t.Fatal(err)
	}
	var files []tree.File
	for name, to := range links {
		if err := os.Symlink(to, filepath.Join(src, name)); err != nil {
			t.Fatal(err)
		}
		files = append(files, tree.File{Path: name, Mode: fs.ModeSymlink, Link: to})
	}
	theirs, ours := filepath.Join(dir, "theirs"), filepath.Join(dir, "ours")
	fsystest.Run(t, "genisoimage", "-quiet", "-R", "-o", theirs, src)
	if err := iso9660.Make(t.Context(), ours, iso9660.Options{RockRidge: true}, tree.FromFiles(files, time.Unix(0, 0))); err != nil {
		t.Fatal(err)
	}
	for _, img := range []string{theirs, ours} {
		b, err := os.ReadFile(img)
		if err != nil {
			t.Fatal(err)
		}
		r, err := fsys.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range links {
			if img == ours { // one slash is as good as two
				want = strings.ReplaceAll(strings.ReplaceAll(want, "//", "/"), "//", "/")
			}
			if got, err := r.ReadLink(name); got != want || err != nil {
				t.Errorf("%s: %s: %q, %v, want %q", filepath.Base(img), name, got, err, want)
			}
		}
	}
}
