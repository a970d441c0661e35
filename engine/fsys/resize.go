package fsys

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"b9.build/b9/engine/fsys/btrfs"
	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/mkfs"
	"b9.build/b9/engine/fsys/xfs"
)

// Resize changes an ext2/3/4 file system and its file to size bytes. The file
// system takes the whole blocks of it. A shrink that the content does not allow
// is refused with the smallest possible size. An
// unclean file system is repaired first, as e2fsck -p does, and what has become of
// it is checked, as Check does. The time that the tools record is the one already
// in the superblock, so the result depends on the input alone.
//
// Every size that Shrink reaches is reached if again puts what the file at path was
// into a new one there, for resize2fs finds some only by trying. Without it (nil) its
// estimate of the smallest size counts, and less is refused before anything is written.
//
// When resizing itself fails (a full disk, a cancelled context) the file is
// damaged: work on a copy that can be thrown away.
//
// A xfs, a btrfs and a f2fs can only become larger, the last one by resize.f2fs. Where
// b9 can't do that to this xfs or btrfs the error is [ErrCantGrow], and the file is what
// it was.
func Resize(ctx context.Context, path string, size int64, again func() error) error {
	if info, err := Probe(path, 0, 0); err == nil && (Grows(info.Type) || info.Type == mkfs.F2FS) {
		return onFile("resize", path, func(f *os.File, kind string) error { return grow(ctx, f, kind, size) })
	}
	_, err := onExt("resize", path, func(f *os.File) (int64, error) {
		return size, ext4.Resize(ctx, f, size, reopening(path, again))
	})
	return err
}

// Grows reports whether Resize makes a file system of that type larger but not smaller,
// without any program.
func Grows(kind string) bool { return kind == xfs.Kind || kind == btrfs.Kind }

func grow(ctx context.Context, f *os.File, kind string, size int64) error {
	now, err := f.Stat()
	if err != nil || size == now.Size() {
		return err
	}
	if size < now.Size() {
		return fmt.Errorf("a %s can't become smaller than the %d bytes that it has: make it anew from its content", kind, now.Size())
	}
	if kind == btrfs.Kind {
		if _, err := btrfs.Open(volume.NewPages(io.NewSectionReader(f, 0, now.Size()))); err != nil {
			return volume.CantGrow(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	switch kind {
	case xfs.Kind:
		err = xfs.Grow(ctx, f)
	case btrfs.Kind:
		err = btrfs.Grow(f)
	default:
		err = mkfs.Grow(ctx, f)
	}
	if errors.Is(err, ErrCantGrow) {
		err = errors.Join(err, f.Truncate(now.Size()))
	}
	return err
}

// ErrCantGrow is the error of Resize for an xfs or a btrfs that stays as it is, since it
// has features that b9 does not know, has a log that waits to be replayed, or is damaged.
// The error tells which, and what does make it larger.
var ErrCantGrow = volume.ErrCantGrow

// reopening opens the file at path again once again has put it back.
func reopening(path string, again func() error) ext4.Again {
	if again == nil {
		return nil
	}
	return func() (*os.File, error) {
		if err := again(); err != nil {
			return nil, err
		}
		return os.OpenFile(path, os.O_RDWR, 0)
	}
}

// Shrink makes an ext2/3/4 file system as small as its content allows, then
// extra bytes larger, and cuts the file to it. It returns the new size. What is
// said at Resize about repair, checks, time and failure holds here too. resize2fs
// may find only when it has begun that its estimate was too low: again, which puts
// what the file at path was into a new one there, lets Shrink try a larger size.
// Without it (nil) that is an error.
func Shrink(ctx context.Context, path string, extra int64, again func() error) (size int64, err error) {
	return onExt("shrink", path, func(f *os.File) (int64, error) { return ext4.Shrink(ctx, f, extra, reopening(path, again)) })
}

// Trim makes holes in the file at path where its ext2/3/4 file system has free
// blocks, so that what was deleted in it takes no room, is not copied, and has
// no influence on the file's digest. It returns the bytes by which
// the file gets smaller on the host. The file system must be clean (a journal that waits to be
// replayed is an error: see Resize or Check) and not be mounted; bitmaps are
// used only when their checksum is right. The features bigalloc and meta_bg are
// refused.
func Trim(ctx context.Context, path string) (freed int64, err error) {
	return onExt("trim", path, func(f *os.File) (int64, error) { return ext4.Trim(ctx, f) })
}

// onExt opens a file that is one whole ext2/3/4 file system for do. op begins the
// errors.
func onExt(op, path string, do func(*os.File) (int64, error)) (n int64, err error) {
	err = onFile(op, path, func(f *os.File, kind string) (err error) {
		if !isExt(kind) {
			if Grows(kind) || kind == mkfs.F2FS {
				return fmt.Errorf("a %s can't become smaller: make it anew from its content", kind)
			}
			return fmt.Errorf("it holds %s, and only ext2, ext3 and ext4 can be resized", nameOf(kind))
		}
		n, err = do(f)
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

func isExt(kind string) bool { return kind == "ext2" || kind == "ext3" || kind == "ext4" }

// onFile opens a file that is one whole file system of some kind for do. op begins
// the errors.
func onFile(op, path string, do func(f *os.File, kind string) error) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = fmt.Errorf("%s: %w", op, err)
		}
	}()
	info, err := probeFile(f, 0, 0)
	if err != nil {
		return err
	}
	return do(f, info.Type)
}

// ResizeImageOnly makes the file at path size bytes long and leaves what is in
// it alone: new space reads as zeros and takes no room, what lies beyond size
// is lost. The file system inside is not read.
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
