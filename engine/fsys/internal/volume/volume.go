// Package volume reads the files of an image whose format is another package's
// business. It hides paths, symbolic links, the memory of directories that were
// read last, and io/fs; it parses no format and writes nothing.
//
//	Volume   what a format implements: objects, entries, data, attributes
//	Node     an object of an image; Entry is a name of one in a directory
//	New      a tree.Reader over a Volume
//	Pages    an image's bytes, of which the pages read last are kept
//	Extents  the data of a file that lies in runs of the image
//	Peek     bytes of a superblock, for the formats' probes
//	Damaged  the error about an image's own structures
//	CantGrow the error of a file system that stays as large as it is
//
// Everything read from an image is foreign: what a Volume gives is bounded by
// MaxDirBytes, MaxDirEntries and MaxLinkTarget, and names are checked by Append.
package volume

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/tree"
)

// Volume is one file system in an image.
type Volume interface {
	Root() (*Node, error)
	// List returns a directory's entries without "." and "..", in any order.
	List(n *Node) ([]Entry, error)
	// Load returns the object of an entry without a Node.
	Load(e *Entry) (*Node, error)
	// Data gives a regular file's bytes. It is never asked for bytes beyond
	// n.Size.
	Data(n *Node) (io.ReaderAt, error)
	ReadLink(n *Node) (string, error)
	// Xattrs returns the extended attributes in any order.
	Xattrs(n *Node) ([]tree.Xattr, error)
	// Fold returns the same text for names that the file system holds equal.
	Fold(name string) string
}

// Node is an object inside an image.
type Node struct {
	tree.Attr
	Mode    uint32 // file type and permissions as in struct stat
	Size    int64
	Sec     int64 // modification time
	Nsec    uint32
	Private any // the Volume's own account of the object
}

// Kind is the file type as in struct stat.
func (n *Node) Kind() uint32 { return n.Mode & unix.S_IFMT }

// Entry is a name in a directory. Its object is at hand, or Load finds it by
// its number.
type Entry struct {
	Name   string
	Kind   uint32 // file type as in struct stat; 0: only the object tells
	Number uint64 // the Volume's
	Node   *Node
}

// Limits on what a directory and a link may hold, so that a damaged image
// cannot ask for any amount of memory.
const (
	MaxDirBytes   = 64 << 20
	MaxDirEntries = 1 << 20
	MaxLinkTarget = tree.MaxPath + 1
)

// Append adds an entry that was read from a directory, unless it is "." or
// "..". A name that is none is damage; more than MaxDirEntries are an error.
func Append(list []Entry, e Entry) ([]Entry, error) {
	switch {
	case e.Name == "." || e.Name == "..":
		return list, nil
	case e.Name == "" || strings.ContainsAny(e.Name, "/\x00"):
		return nil, Damaged("%.40q is no name", e.Name)
	case len(list) == MaxDirEntries:
		return nil, fmt.Errorf("a directory with more than %d entries", MaxDirEntries)
	}
	return append(list, e), nil
}

// Damaged returns an error about an image's own structures.
func Damaged(format string, args ...any) error {
	return fmt.Errorf("the file system is damaged: "+format, args...)
}

// ErrCantGrow is the error of a file system that can't be made larger as it is. Nothing
// was written to it.
var ErrCantGrow = errors.New("it can't be made larger as it is")

// CantGrow is an ErrCantGrow with its cause.
func CantGrow(cause error) error { return fmt.Errorf("%w: %w", ErrCantGrow, cause) }
