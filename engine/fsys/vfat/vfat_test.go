package vfat_test

import (
	"io/fs"
	"testing"

	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/fsys/vfat"
)

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
		fsystest.WantError(t, vfat.Make(t.Context(), img, c.o, tree.FromFiles(c.files, c.o.Time)), c.want)
		fsystest.Gone(t, img)
	}
}
