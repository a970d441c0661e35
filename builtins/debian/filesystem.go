package debian

import (
	"context"
	"time"

	"b9.build/b9/builtins/image"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/btrfs"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/fsys/xfs"
	"b9.build/b9/engine/size"
)

// checkFileSystem refuses what the file system of a call has no use for.
func checkFileSystem(c *lang.Call, b *bootstrap) {
	fs := b.Image.FS
	label := map[string]int{"ext4": 16, xfs.Kind: xfs.MaxLabel, btrfs.Kind: btrfs.MaxLabel}[fs]
	if len(b.Image.Label) > label {
		c.Errorf("label %q is longer than the %d bytes that %s has for it", b.Image.Label, label, fs)
	}
	for _, p := range []string{"features", "inode_ratio", "reserved"} {
		if c.Given(p) && fs != "ext4" {
			c.Errorf("%s is not for fs = %q", p, fs)
		}
	}
	if least := fsys.Least(fs); b.Image.Size > 0 && b.Image.Size < least {
		c.Errorf("size: %s is below the least for fs = %q, %s", size.About(b.Image.Size), fs, size.About(least))
	}
	switch {
	case b.Subvolume == "":
	case fs != btrfs.Kind:
		c.Errorf("subvolume is not for fs = %q: only btrfs has subvolumes", fs)
	default:
		if err := btrfs.CheckSubvolumes(b.subvolumes()); err != nil {
			c.Errorf("%w", err)
		}
	}
}

// subvolumes are those that the file system gets.
func (b *bootstrap) subvolumes() map[string]string {
	if b.Subvolume == "" {
		return nil
	}
	return map[string]string{b.Subvolume: "default"}
}

// fill makes the image of what is installed.
func (b *bootstrap) fill(ctx context.Context, path string, at time.Time, content tree.Content) error {
	if b.Image.FS != btrfs.Kind {
		return b.Image.Fill(ctx, path, at, content)
	}
	if b.Subvolume != "" {
		content = tree.Below(b.Subvolume, at, content)
	}
	return image.FillBtrfs(ctx, path, at, b.Image, b.subvolumes(), content)
}
