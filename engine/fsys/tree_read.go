package fsys

import (
	"fmt"
	"io"
)

// Attr is what an image records of a file beyond fs.FileInfo. File systems
// without owners have 0 there.
type Attr struct {
	// Inode names the object within the image: equal numbers of files with
	// Links > 1 are names of one file.
	Inode        uint64
	Links        uint32
	UID, GID     uint32
	Major, Minor uint32 // devices
}

// volume is one file system, for imageFS: objects and what is in them.
type volume interface {
	kind() string
	root() (*node, error)
	// list returns a directory's entries without "." and "..".
	list(n *node) ([]dirent, error)
	// load returns an entry's object.
	load(d *dirent) (*node, error)
	// data gives a regular file's bytes.
	data(n *node) (io.ReaderAt, error)
	readLink(n *node) (string, error)
	xattrs(n *node) ([]xattr, error)
	// fold makes equal names of those that the file system takes for equal.
	fold(name string) string
}

// node is an object inside an image.
type node struct {
	Attr
	mode uint32 // as in struct stat
	size int64
	sec  int64
	nsec uint32
	priv any // the volume's
}

// dirent is a name in a directory. Its object is at hand or known by number.
type dirent struct {
	name string
	kind uint32 // file type as in struct stat; 0: only the object knows
	ino  uint64
	node *node
}

// Limits on what a directory may hold, so that a damaged image cannot ask for
// any amount of memory.
const (
	maxDirBytes   = 64 << 20
	maxDirEntries = 1 << 20
	maxLinkTarget = maxPath + 1
)

// damaged is an error about the image's own structures.
func damaged(format string, args ...any) error {
	return fmt.Errorf("the file system is damaged: "+format, args...)
}
