package tree

import "io/fs"

// Reader gives the files inside an image. Names follow io/fs: slashes, no
// leading one, "." is the root. Open, Stat and ReadDir follow symbolic links
// within the image, whose root is "/" to them; Lstat and ReadLink do not follow
// the last one. It is not safe for concurrent use.
//
// Sys of a FileInfo is an *Attr. A regular file that Open returns is also an
// io.ReaderAt, an io.Seeker and a HoleSkipper.
type Reader interface {
	fs.ReadDirFS
	fs.StatFS
	fs.ReadLinkFS
	// Type is the file system's, as in Info.
	Type() string
	// Xattrs are the extended attributes of the object called name, a link
	// itself included, by full name. nil where there are none.
	Xattrs(name string) (map[string]string, error)
}

// Attr is what an image records of a file beyond fs.FileInfo. File systems
// without owners have 0 there.
type Attr struct {
	// Inode names the object within the image: equal numbers of files with
	// Links > 1 are names of one file.
	Inode        uint64
	Links        uint32
	UID, GID     uint32
	Major, Minor uint32 // devices
	Flags        uint32 // those of ext4 that chattr(1) sets, by their numbers on disk
}

// Info is what a superblock says.
type Info struct {
	// Type is ext2, ext3, ext4, xfs, btrfs, vfat, iso9660, squashfs, swap, erofs,
	// f2fs, or
	// "" when none of them was recognised.
	Type  string
	Label string
	// UUID as blkid prints it: lower case, with dashes; XXXX-XXXX for vfat; the
	// creation time for iso9660.
	UUID string
	// Size of the file system in bytes by its own account, 0 if it does not tell.
	Size int64
	// BlockSize in bytes, 0 if unknown.
	BlockSize int64
	// Sector is the size in bytes of the sectors that a vfat counts in, or an xfs writes
	// at least; 0 for others.
	Sector int64
	// Free bytes, -1 if the superblock does not tell, 0 for read-only types.
	Free int64
}
