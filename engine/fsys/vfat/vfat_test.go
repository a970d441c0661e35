package vfat_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/fsys/vfat"
)

// extractVFAT reads everything back with mtools.
func sameAsMtools(t *testing.T, img string, files []tree.File) {
	t.Helper()
	out := t.TempDir()
	fsystest.Run(t, "mcopy", "-s", "-n", "-i", img, "::*", out)
	for _, f := range files {
		if f.Mode.IsDir() {
			continue
		}
		if strings.ContainsAny(f.Path, "🚀") {
			continue // mtools knows no characters beyond 16 bits
		}
		got, err := os.ReadFile(filepath.Join(out, f.Path))
		if err != nil {
			t.Error(err)
		} else if string(got) != string(f.Data) {
			t.Errorf("%s: %d bytes differ from the %d written", f.Path, len(got), len(f.Data))
		}
	}
}

func TestVFAT(t *testing.T) {
	fsystest.Need(t, "fsck.vfat", "mcopy", "blkid")
	t.Setenv("LC_ALL", "C.UTF-8")
	for name, o := range map[string]vfat.Options{
		"smallest": {Label: "CIDATA"},
		"lower":    {Label: "cidata", Size: 2 << 20},
		"fat12":    {Size: 3<<20 + 100, VolumeID: 0x1234abcd},
		"fat16":    {Label: "X", Size: 16 << 20},
		"fat16big": {Size: 500 << 20},
		"fat32":    {Label: "ESP", Size: 64 << 20, Bits: 32},
		"fat32big": {Label: "ESP", Size: 2 << 30},
		"min32":    {Bits: 32},
		"min16":    {Bits: 16},
	} {
		t.Run(name, func(t *testing.T) {
			img := t.TempDir() + "/f.img"
			files := fsystest.VariedFiles()
			o.Time = time.Unix(1_500_000_000, 0)
			if err := vfat.Make(fsystest.CtxOf(t), img, o, files); err != nil {
				t.Fatal(err)
			}
			fsystest.Run(t, "fsck.vfat", "-n", "-v", img)
			if err := fsys.Check(fsystest.CtxOf(t), img); err != nil {
				t.Error(err)
			}
			info, err := fsys.Probe(img, 0, 0)
			if err != nil || info.Type != "vfat" || info.Label != o.Label {
				t.Errorf("probe: %+v, %v", info, err)
			}
			fsystest.CompareBlkid(t, img, info)
			sameAsMtools(t, img, files)
		})
	}
}

func TestVFATSmallest(t *testing.T) {
	fsystest.Need(t, "fsck.vfat", "mcopy")
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := vfat.Make(fsystest.CtxOf(t), dir+"/"+name, vfat.Options{Label: "CIDATA"}, fsystest.SeedFiles()); err != nil {
			t.Fatal(err)
		}
	}
	fsystest.SameBytes(t, dir+"/a", dir+"/b")
	fsystest.Run(t, "fsck.vfat", "-n", dir+"/a")
	sameAsMtools(t, dir+"/a", fsystest.SeedFiles())
	if size := fsystest.FileSize(t, dir+"/a"); size != vfat.Track*vfat.Sector {
		t.Errorf("a seed takes %d bytes", size)
	}
	if err := vfat.Make(fsystest.CtxOf(t), dir+"/large", vfat.Options{}, []tree.File{{Path: "f", Size: 100 << 20, Source: fsystest.SparseFile(t, 100<<20)}}); err != nil {
		t.Fatal(err)
	}
	fsystest.Run(t, "fsck.vfat", "-n", dir+"/large")
	if size := fsystest.FileSize(t, dir+"/large"); size > 101<<20 {
		t.Errorf("100M take %d bytes", size)
	}
}

func TestVFATRefusals(t *testing.T) {
	img := t.TempDir() + "/f.img"
	for _, c := range []struct {
		o     vfat.Options
		files []tree.File
		want  string
	}{
		{vfat.Options{Label: "TWELVELETTER"}, nil, "12 bytes"},
		{vfat.Options{Label: "a/b"}, nil, "holds the character"},
		{vfat.Options{Size: 100}, nil, "below the least"},
		{vfat.Options{Size: 1 << 20}, []tree.File{{Path: "f", Size: 2 << 20, Source: fsystest.SparseFile(t, 2<<20)}}, "need"},
		{vfat.Options{}, []tree.File{{Path: "a", Data: nil}, {Path: "A", Data: nil}}, "only in case"},
		{vfat.Options{}, []tree.File{{Path: "a", Data: nil}, {Path: "./a", Data: nil}}, "two entries"},
		{vfat.Options{}, []tree.File{{Path: "x/a?b"}}, "cannot hold '?'"},
		{vfat.Options{}, []tree.File{{Path: "dot."}}, "end with a dot"},
		{vfat.Options{}, []tree.File{{Path: "../up"}}, `must not contain ".."`},
		{vfat.Options{}, []tree.File{{Path: "l", Mode: fs.ModeSymlink, Link: "x"}}, "only files and directories"},
		{vfat.Options{}, []tree.File{{Path: "f", Size: 5 << 30, Source: fsystest.SparseFile(t, 5<<30)}}, "holds files of"},
		{vfat.Options{Size: 1 << 20, Bits: 32}, nil, "cannot be divided"},
	} {
		fsystest.WantError(t, vfat.Make(fsystest.CtxOf(t), img, c.o, c.files), c.want)
		fsystest.Gone(t, img)
	}
}
