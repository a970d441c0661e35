package disk

import (
	"context"
	"fmt"
	"os"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/qcow2"
)

// Overlay makes a qcow2 of size bytes at dst that holds nothing yet and stands
// on another image. That image is recorded as b says and not opened, so it may
// be put in its place later; its format must be given. The recorded path may
// have 1 to 1023 bytes.
func Overlay(ctx context.Context, dst string, size int64, b image.Backing, sync bool) error {
	if b.Format == "" {
		return fmt.Errorf("backing file %s: no format declared", b.Path)
	}
	if b.Path == "" || len(b.Path) > 1023 {
		return fmt.Errorf("backing file: its name has %d bytes, want 1 to 1023", len(b.Path))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return create(dst, image.WriteOptions{Sync: sync}, func(f *os.File) error { return qcow2.WriteOverlay(f, size, b) })
}
