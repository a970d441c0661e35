package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/disk/partition"
	"b9.build/b9/engine/disk/raw"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/mkfs"
	"b9.build/b9/engine/size"
)

// Sizing says what becomes of a raw image that gets a new size, in a build and on
// the command line.
type Sizing struct {
	Size      int64 // bytes
	ImageOnly bool  // whatever is in the image stays as it is
	Grow      bool  // the last partition of a disk, and the ext4, xfs or btrfs in it, take the new room
	F2FS      bool  // a f2fs may grow, by programs that are in no key
	Unknown   bool  // what is no file system that can grow and no disk may grow, too, and stays as it is

	Scratch string       // directory for what is made on the way
	Again   func() error // puts the image back to what it was, for sizes that are found by trying only; nil: these are refused
}

// ErrKind is the error of Apply for an image in which there is nothing that it can
// resize.
var ErrKind = errors.New("only ext4, xfs and btrfs file systems and disks with a partition table can be resized")

// Apply resizes the raw image in the file at path. An ext4, xfs or btrfs gets the new
// size, too; of a disk the partition table does, as partition.Resize has it. The
// file is changed in place and damaged after an error: work on a copy.
func (s Sizing) Apply(ctx context.Context, path string, logf func(format string, args ...any)) error {
	if s.ImageOnly {
		return fsys.ResizeImageOnly(path, s.Size)
	}
	info, err := fsys.Probe(path, 0, 0)
	if err != nil {
		return err
	}
	if resizable(info.Type) || info.Type == mkfs.F2FS && s.F2FS {
		return fsys.Resize(ctx, path, s.Size, s.Again)
	}
	err = s.disk(ctx, path, logf)
	if !errors.Is(err, partition.ErrNone) {
		return err
	}
	now, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !s.Unknown || s.Grow || s.Size < now.Size() {
		return fmt.Errorf("it holds %s: %w", holds(info.Type), ErrKind)
	}
	return fsys.ResizeImageOnly(path, s.Size)
}

func isExt(kind string) bool { return strings.HasPrefix(kind, "ext") }

// resizable reports whether a file system of that kind can have another size, a larger one
// at least.
func resizable(kind string) bool { return isExt(kind) || fsys.Grows(kind) }

func holds(kind string) string {
	if kind == "" {
		return "neither a file system nor a partition table that is known"
	}
	return "a file system of the kind " + kind
}

// disk resizes a disk with a partition table.
func (s Sizing) disk(ctx context.Context, path string, logf func(format string, args ...any)) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := partition.Resize(f, s.Size); err != nil || !s.Grow {
		return err
	}
	was, is, err := partition.Grow(f)
	if err != nil {
		return err
	}
	logf("partition %d: %s, it had %s", is.Number, size.About(is.Length), size.About(was.Length))
	return growContent(ctx, path, s.Scratch, was, is, logf)
}

// growContent makes the file system of a partition as large as the partition
// now is. What can't grow stays.
func growContent(ctx context.Context, path, scratch string, was, is partition.Partition, logf func(format string, args ...any)) (err error) {
	info, err := fsys.Probe(path, was.Start, was.Length)
	if err != nil {
		return err
	}
	if !resizable(info.Type) {
		logf("partition %d holds %s, which stays as large as it is", is.Number, holds(info.Type))
		return nil
	}
	img, err := disk.Open(path, "raw", disk.OpenOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	larger, err := grown(ctx, disk.Section(img, was.Start, was.Length), scratch, is.Length)
	if errors.Is(err, fsys.ErrCantGrow) {
		logf("partition %d holds %s, which stays as large as it is: %v", is.Number, holds(info.Type), err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("partition %d: %w", is.Number, err)
	}
	return errors.Join(disk.Replace(ctx, path, fmt.Sprint(is.Number), larger), larger.Close())
}

// grown returns a copy of img, a file system that can grow, that has length bytes, in a file
// without a name in the directory scratch.
func grown(ctx context.Context, img disk.Image, scratch string, length int64) (disk.Image, error) {
	f, path, err := disk.Scratch(scratch)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := (raw.Format{}).Write(ctx, f, img, disk.WriteOptions{}); err != nil {
		return nil, err
	}
	if err := fsys.Resize(ctx, path, length, nil); err != nil {
		return nil, err
	}
	return disk.Open(path, "raw", disk.OpenOptions{})
}
