package squashfs_test

import (
	"context"
	"testing"
	"time"

	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/squashfs"
	"b9.build/b9/engine/fsys/tree"
)

func TestSquashRefuses(t *testing.T) {
	img := t.TempDir() + "/img"
	fsystest.WantError(t, squashfs.Make(t.Context(), img, squashfs.Options{Compress: "lzo"}, tree.FromFiles(nil, time.Time{})), `unknown compression "lzo" (have gzip, zstd)`)
	fsystest.WantError(t, squashfs.Make(t.Context(), img, squashfs.Options{BlockSize: 5000}, tree.FromFiles(nil, time.Time{})), "no power of two")
	fsystest.WantError(t, squashfs.Make(t.Context(), img, squashfs.Options{}, tree.FromFiles([]tree.File{{Path: "x", Source: "/absent/x"}}, time.Time{})), "no such file")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	fsystest.WantError(t, squashfs.Make(ctx, img, squashfs.Options{}, tree.FromFiles([]tree.File{{Path: "x", Data: make([]byte, 9<<20)}}, time.Time{})), "canceled")
	fsystest.Gone(t, img)
}
