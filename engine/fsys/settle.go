package fsys

import (
	"context"
	"fmt"
	"math"
	"os"
	"time"

	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/compare"
	"b9.build/b9/engine/fsys/vfat"
)

// Settle removes from the ext2/3/4 or vfat file system in the file at path what its
// mounts have left: times and places of mounts and counts of them, the used journal,
// and the clock. Of a file that was changed since then (a vfat does not tell) a time
// (change, access, modification, creation) that is not before since becomes at, which is
// at least Epoch of package tree; since counts to the two seconds that the coarsest
// program keeps. A settled file
// system that is mounted, not written to, and settled again is what it was, byte for
// byte. It must be clean and not be mounted. In a vfat what was deleted takes no
// room any more, either. Of an ext2/3/4 only inodes in written are read: nothing else was
// changed since then.
func Settle(ctx context.Context, path string, written Parts, since, at time.Time) error {
	return onFile("settle", path, func(f *os.File, kind string) error {
		if kind == "vfat" {
			return vfat.Settle(ctx, f, since, at)
		}
		if !isExt(kind) {
			return fmt.Errorf("it holds %s, and only ext2, ext3, ext4 and vfat can be settled", nameOf(kind))
		}
		where := written.runs()
		if written == nil {
			where = compare.Runs{{To: math.MaxInt64}}
		}
		return ext4.Settle(ctx, f, where, since, at)
	})
}

// Canonical lays the ext2/3/4 file system in the file at path out anew, in a file
// at dst of the same length: equal content gives equal bytes, whatever was written
// and deleted before. Content is what a mount shows, with the flags of chattr(1) and
// without access and change times; times later than at become at. Size, features, numbers
// of inodes and of reserved blocks, label, UUID and the settings of tune2fs(8) are
// kept. The features bigalloc, casefold, ea_inode, encrypt, meta_bg, mmp, project,
// quota and verity are refused. After an error dst is as it was.
func Canonical(ctx context.Context, path, dst string, at time.Time) error {
	_, err := onExt("lay out anew", path, func(f *os.File) (int64, error) {
		if err := ext4.Canonical(ctx, f, dst, at); err != nil {
			return 0, err
		}
		return 0, Check(ctx, dst)
	})
	return err
}
