package fsys

import (
	"context"
	"errors"
	"fmt"
	"os"

	"b9.build/b9/engine/fsys/ext4"
)

// Resize changes an ext2/3/4 file system and its file to size bytes. The file
// system takes the whole blocks of it. A shrink that the content does not allow
// is refused before anything is written, with the smallest possible size. An
// unclean file system is repaired first, as e2fsck -p does. The time that the
// tools record is the one already in the superblock, so the result depends on
// the input alone.
//
// When resizing itself fails (a full disk, a cancelled context) the file is
// damaged: work on a copy that can be thrown away.
func Resize(ctx context.Context, path string, size int64) error {
	err := withExt(path, func(f *os.File) error { return ext4.Resize(ctx, f, size) })
	if err != nil {
		return fmt.Errorf("resize: %w", err)
	}
	return nil
}

// Shrink makes an ext2/3/4 file system as small as its content allows, then
// extra bytes larger, and cuts the file to it. It returns the new size. What is
// said at Resize about repair, time and failure holds here too.
func Shrink(ctx context.Context, path string, extra int64) (size int64, err error) {
	err = withExt(path, func(f *os.File) (err error) {
		size, err = ext4.Shrink(ctx, f, extra)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("shrink: %w", err)
	}
	return size, nil
}

// MinSize estimates the smallest size of an ext2/3/4 file system in bytes, as
// resize2fs does: Resize accepts it, Shrink may get below it.
func MinSize(ctx context.Context, path string) (size int64, err error) {
	err = withExt(path, func(f *os.File) (err error) {
		size, err = ext4.MinSize(ctx, f)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("minimum size: %w", err)
	}
	return size, nil
}

// Trim makes holes in the file at path where its ext2/3/4 file system has free
// blocks, so that what was deleted in it takes no room, is not copied, and has
// no influence on the file's digest. It returns the bytes that the file takes
// less on the host. The file system must be clean (a journal that waits to be
// replayed is an error: see Resize or Check) and not be mounted; bitmaps are
// used only when their checksum is right. The features bigalloc and meta_bg are
// refused.
func Trim(ctx context.Context, path string) (freed int64, err error) {
	err = withExt(path, func(f *os.File) (err error) {
		freed, err = ext4.Trim(ctx, f)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("trim: %w", err)
	}
	return freed, nil
}

// withExt opens a file that is one whole ext2/3/4 file system.
func withExt(path string, do func(*os.File) error) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	info, err := probe(f, 0, st.Size())
	if err != nil {
		return err
	}
	if info.Type != "ext2" && info.Type != "ext3" && info.Type != "ext4" {
		return fmt.Errorf("it holds %s, and only ext2, ext3 and ext4 can be resized", nameOf(info.Type))
	}
	return do(f)
}

// ResizeImageOnly makes the file at path size bytes long and leaves what is in
// it alone: new space reads as zeros and takes no room, what lies beyond size
// is lost. The file system inside is not looked at.
func ResizeImageOnly(path string, size int64) error {
	if size <= 0 {
		return fmt.Errorf("resize: size is %d bytes, must be at least 1", size)
	}
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("resize %s: not a regular file", path)
	}
	return os.Truncate(path, size)
}
