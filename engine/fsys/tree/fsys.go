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
//	ext4.Make               an ext2/3/4 file system, empty or filled
//	vfat.Make, vfat.Fill     FAT12/16/32
//	iso9660.Make, iso9660.Fill       ISO 9660 with Joliet and Rock Ridge
//	squashfs.Make, swap.Make   squashfs 4.0 with zstd or gzip; swap areas
//	Probe                  what a file, or a stretch of one, holds
//	Check                  the read-only verdict of the file system's own checker
//	Resize, Shrink, Trim   an ext4 file system together with its file
//	fsys.OpenReader, fsys.NewReader  the files inside an image, read without a mount
//	Copy                   files out of an image, with everything they have
//
// Nothing here keeps a file's data in memory; names and attributes of the
// content are (some 300 bytes a file). Every function that may take long obeys
// its context, kills the tools it started, and removes the file it was making.
package tree
