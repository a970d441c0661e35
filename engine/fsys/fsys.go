// Package fsys makes, fills, checks, resizes and recognises file systems in
// plain image files, without mounting anything. It holds the doors that choose a
// format; each format is a package below it, and what goes into a new file system
// is package tree's.
//
//	ext4, xfs, btrfs, vfat, iso9660, squashfs, swap   Make, with the Options of each
//	mkfs                                  Make of those that their own programs fill: erofs, f2fs
//	tree                                  FromDir, FromTarFile, FromFiles: the content
//	Probe, ProbeAt                        what a file, or a stretch of one, holds
//	Least                                 the smallest size of a kind
//	NewReader                             the files inside an image, read without a mount
//	NewDirReader                          the files below a directory, read like those of an image
//	Copy, CopyOptions                     files out of an image, with everything they have
//	Check                                 the read-only verdict of the file system's own checker
//	Resize, Shrink, Trim                  a file system together with its file
//	Revert, Settle, Canonical             an image after its mount: as before, without its traces, or laid out anew
//	ResizeImageOnly                       a file, whatever is in it
//
// ext4 is made and resized by e2fsprogs, xfs is made by xfsprogs, which define them; the
// content is then
// written here, straight into the empty file system: no staging directory, no
// mount, no root, and the same bytes for the same content on any machine. btrfs, vfat,
// iso9660, squashfs and swap are written entirely in user space, and all file
// systems but swap are read there; xfs and btrfs grow there. erofs and f2fs are not read. Partition tables, image formats and the copying of images are no
// business of this package.
//
// Nothing here keeps a file's data in memory. Every function that may take long
// obeys its context, kills the tools it started, and leaves the file it was to replace as it was.
package fsys

import (
	"b9.build/b9/engine/fsys/btrfs"
	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/mkfs"
	"b9.build/b9/engine/fsys/swap"
	"b9.build/b9/engine/fsys/vfat"
	"b9.build/b9/engine/fsys/xfs"
)

// Least is the smallest size in bytes that an empty file system of the kind
// "ext4", "xfs", "btrfs", "vfat", "f2fs" or "swap" can have; 0 where there is no such bound. More may
// be needed, depending on the options.
func Least(kind string) int64 {
	switch kind {
	case "ext4":
		return ext4.Least
	case "vfat":
		return vfat.Least
	case "swap":
		return swap.Least
	case mkfs.F2FS:
		return mkfs.LeastF2FS
	case xfs.Kind:
		return xfs.Least
	case btrfs.Kind:
		return btrfs.Least
	}
	return 0
}
