// Package fsys makes, fills, checks, resizes and recognises file systems in
// plain image files, without mounting anything.
//
// ext4 is made and resized by e2fsprogs, which defines it; the content is then
// written by this package, straight into the empty file system: no staging
// directory, no mount, no root, and the same bytes for the same content on any
// machine. vfat, iso9660, squashfs and swap are written entirely in user space,
// and all file systems but swap are read there. Partition
// tables, image formats and the copying of images are no business of this
// package.
//
// The parts:
//
//	Content                FromDir, FromTar, FromFiles: what goes into a file system
//	MakeExt4               an ext2/3/4 file system, empty or filled
//	MakeVFAT, FillVFAT     FAT12/16/32
//	MakeISO, FillISO       ISO 9660 with Joliet and Rock Ridge
//	MakeSquash, MakeSwap   squashfs 4.0 with zstd or gzip; swap areas
//	Probe                  what a file, or a stretch of one, holds
//	Check                  the read-only verdict of the file system's own checker
//	Resize, Shrink, Trim   an ext4 file system together with its file
//	OpenReader, NewReader  the files inside an image, read without a mount
//	Copy                   files out of an image, with everything they have
//	ParseSize, FormatSize  sizes as people write them
//
// Nothing here keeps a file's data in memory; names and attributes of the
// content are (some 300 bytes a file). Every function that may take long obeys
// its context, kills the tools it started, and removes the file it was making.
package fsys

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// epoch is the earliest time b9 writes into a file system it makes. It is one
// second after 1970 because e2fsprogs takes 0 for "use the clock".
const epoch = 1

// fixedTime returns t in seconds, at least the epoch. The zero Time is the epoch.
func fixedTime(t time.Time) int64 {
	if t.IsZero() || t.Unix() < epoch {
		return epoch
	}
	return t.Unix()
}

// makeFile creates (or truncates) the file at path and lets fill write it. When
// fill fails and the file was not there before, the file is removed.
func makeFile(path string, fill func(*os.File) error) (err error) {
	_, statErr := os.Lstat(path)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil && errors.Is(statErr, fs.ErrNotExist) {
			os.Remove(path)
		}
	}()
	return fill(f)
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

// checkEvery reports the context's error; long loops call it once an item.
func checkEvery(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	default:
		return nil
	}
}
