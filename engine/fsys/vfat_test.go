package fsys

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/fsys/vfat"
)

// sameAsMtools reads everything back with mtools.
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
		"4k":       {Sector: 4096, Label: "ESP"},
		"4kfat12":  {Sector: 4096, Label: "ESP", Size: 8 << 20},
		"4kfat16":  {Sector: 4096, Label: "ESP", Size: 100 << 20, Bits: 16},
		"4kfat32":  {Sector: 4096, Label: "ESP", Size: 600 << 20},
		"4kmin32":  {Sector: 4096, Bits: 32},
		"12large":  {Size: 100 << 20, Bits: 12},
	} {
		t.Run(name, func(t *testing.T) {
			img := t.TempDir() + "/f.img"
			files := variedFiles()
			o.Time = time.Unix(1_500_000_000, 0)
			if err := vfat.Make(t.Context(), img, o, tree.FromFiles(files, o.Time)); err != nil {
				t.Fatal(err)
			}
			if err := Check(t.Context(), img); err != nil {
				t.Error(err)
			}
			info, err := Probe(img, 0, 0)
			if err != nil || info.Type != "vfat" || info.Label != o.Label {
				t.Errorf("probe: %+v, %v", info, err)
			}
			if want := max(int64(o.Sector), 512); info.Sector != want {
				t.Errorf("sectors of %d bytes, want %d", info.Sector, want)
			}
			if out := fsystest.Run(t, "fsck.vfat", "-n", "-v", img); o.Bits != 0 && !strings.Contains(out, fmt.Sprintf("%d bit entries", o.Bits)) || !strings.Contains(out, fmt.Sprintf("%d bytes per logical sector", info.Sector)) {
				t.Errorf("fsck.vfat: %s", out)
			}
			compareBlkid(t, img, info)
			sameAsMtools(t, img, files)
		})
	}
}

func TestVFATSmallest(t *testing.T) {
	fsystest.Need(t, "fsck.vfat", "mcopy")
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := vfat.Make(t.Context(), dir+"/"+name, vfat.Options{Label: "CIDATA"}, tree.FromFiles(seedFiles(), time.Time{})); err != nil {
			t.Fatal(err)
		}
	}
	sameBytes(t, dir+"/a", dir+"/b")
	fsystest.Run(t, "fsck.vfat", "-n", dir+"/a")
	sameAsMtools(t, dir+"/a", seedFiles())
	if size := fileSize(t, dir+"/a"); size != vfat.Least {
		t.Errorf("a seed takes %d bytes", size)
	}
	if err := vfat.Make(t.Context(), dir+"/large", vfat.Options{}, tree.FromFiles([]tree.File{{Path: "f", Size: 100 << 20, Source: fsystest.SparseFile(t, 100<<20)}}, time.Time{})); err != nil {
		t.Fatal(err)
	}
	fsystest.Run(t, "fsck.vfat", "-n", dir+"/large")
	if size := fileSize(t, dir+"/large"); size > 101<<20 {
		t.Errorf("100M take %d bytes", size)
	}
}
