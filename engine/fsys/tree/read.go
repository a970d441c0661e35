package tree

import (
	"fmt"
	"io"
	"io/fs"
)

// Reader gives the files inside an image. Names follow io/fs: slashes, no
// leading one, "." is the root. Open, Stat and ReadDir follow symbolic links
// within the image, whose root is "/" to them; Lstat and ReadLink do not follow
// the last one. It is not safe for concurrent use.
//
// Sys of a FileInfo is an *Attr. A regular file that Open returns is also an
// io.ReaderAt and an io.Seeker.
type Reader interface {
	fs.ReadDirFS
	fs.StatFS
	fs.ReadLinkFS
	// Type is the file system's, as in Info.
	Type() string
	// Xattrs are the extended attributes of the object called name, a link
	// itself included, by full name. nil where there are none.
	Xattrs(name string) (map[string]string, error)
	io.Closer
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
}

// Volume is one file system, for fsys.imageFS: objects and what is in them.
type Volume interface {
	Kind() string
	Root() (*Node, error)
	// list returns a directory's entries without "." and "..".
	List(n *Node) ([]Dirent, error)
	// load returns an entry's object.
	Load(d *Dirent) (*Node, error)
	// data gives a regular file's bytes.
	Data(n *Node) (io.ReaderAt, error)
	ReadLink(n *Node) (string, error)
	Xattrs(n *Node) ([]Xattr, error)
	// fold makes equal names of those that the file system takes for equal.
	Fold(name string) string
}

// Node is an object inside an image.
type Node struct {
	Attr
	Mode uint32 // as in struct stat
	Size int64
	Sec  int64
	Nsec uint32
	Priv any // the volume's
}

// Dirent is a name in a directory. Its object is at hand or known by number.
type Dirent struct {
	Name string
	Kind uint32 // file type as in struct stat; 0: only the object knows
	Ino  uint64
	Node *Node
}

// Limits on what a directory may hold, so that a damaged image cannot ask for
// any amount of memory.
const (
	MaxDirBytes   = 64 << 20
	MaxDirEntries = 1 << 20
	MaxLinkTarget = MaxPath + 1
)

// Damaged is an error about the image's own structures.
func Damaged(format string, args ...any) error {
	return fmt.Errorf("the file system is damaged: "+format, args...)
}
