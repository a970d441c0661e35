package disk

import (
	"context"
	"fmt"
	"os"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/internal/newfile"
)

// Convert writes src to the file dst in the given format. Only data moves, in
// parallel, with less than 64 MiB of memory. The file appears at dst when it is
// complete, and replaces what was there; after an error dst is as it was before.
func Convert(ctx context.Context, src image.Image, dst, format string, o image.WriteOptions) error {
	f, err := Lookup(format)
	if err != nil {
		return err
	}
	if o.OpenBacking == nil {
		o.OpenBacking = openBacking
	}
	return create(dst, o, func(w *os.File) error { return f.Write(ctx, w, src, o) })
}

// create lets fill write a new file and then gives it the name dst.
func create(dst string, o image.WriteOptions, fill func(*os.File) error) error {
	err := newfile.Write(dst, 0o666, o.Sync, func(w *os.File) error {
		if err := fill(w); err != nil || o.Mode == 0 {
			return err
		}
		return w.Chmod(o.Mode)
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", dst, err)
	}
	return nil
}
