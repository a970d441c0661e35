package squashfs

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/tree"
)

// What lies in an image, in the order of its bytes: struct squashfs_super_block and
// those after it in the kernel's fs/squashfs/squashfs_fs.h. All numbers are little
// endian. A reference is the offset of a block of metadata in its table, shifted
// by 16, and the offset in what it decompresses to.
type (
	superblock struct {
		Magic, Inodes, Time, BlockSize, Fragments         uint32
		Compression, BlockLog, Flags, IDs, Version, Minor uint16
		Root, Used                                        uint64 // a reference; bytes
		IDTable, XattrTable, InodeTable, DirTable         uint64
		FragmentTable, ExportTable                        uint64
	}
	// inodeHead begins every inode; what follows depends on Kind.
	inodeHead struct {
		Kind, Mode, UID, GID uint16
		Time, Number         uint32
	}
	shortDir struct {
		Block, Links uint32
		Size, Offset uint16
		Parent       uint32
	}
	longDir struct {
		Links, Size, Block, Parent uint32
		Indexes, Offset            uint16
		Xattr                      uint32
	}
	shortFile struct{ Start, Fragment, Offset, Size uint32 }
	longFile  struct {
		Start, Size, Sparse            uint64
		Links, Fragment, Offset, Xattr uint32
	}
	// dirRun begins a run of Count+1 dirEntries, whose inodes share a block.
	dirRun   struct{ Count, Block, Number uint32 }
	dirEntry struct {
		Offset       uint16
		Number       int16 // less the run's
		Kind, Length uint16
	}
	fragment struct {
		Start   uint64
		Size, _ uint32
	}
	// xattrTable stands before the list of blocks with xattrSets.
	xattrTable struct {
		Start    uint64
		Count, _ uint32
	}
	// xattrSet is a set of attributes that inodes refer to by its number.
	xattrSet struct {
		Ref         uint64
		Count, Size uint32
	}
)

const (
	magic    = 0x73717368 // "hsqs"
	super    = 96         // bytes
	meta     = 8192       // bytes of a block of metadata
	plain    = 1 << 24    // in a data block's size: not compressed
	none     = 1<<32 - 1
	noTable  = 1<<64 - 1
	maxID    = 1 << 16
	noXattrs = 0x200 // flag
)

// Types of inodes in squashfs; an extended one is ext higher.
const (
	dir = 1
	reg = 2
	ext = 7
)

// kinds are the file types of struct stat by their number in squashfs.
func kinds() []uint32 {
	return []uint32{0, unix.S_IFDIR, unix.S_IFREG, unix.S_IFLNK, unix.S_IFBLK, unix.S_IFCHR, unix.S_IFIFO, unix.S_IFSOCK}
}

// namespaces are the beginnings of attributes' names by their number in squashfs.
func namespaces() []string { return []string{"user.", "trusted.", "security."} }

// splitXattr returns the number of an attribute's name space, and the rest of its name.
func splitXattr(full string) (space int, name string, ok bool) {
	for i, prefix := range namespaces() {
		if name, ok := strings.CutPrefix(full, prefix); ok && name != "" && len(name) <= tree.MaxName {
			return i, name, true
		}
	}
	return 0, "", false
}

// pack appends v, of fixed size, as it lies in an image.
func pack(b []byte, v any) []byte {
	b, err := binary.Append(b, binary.LittleEndian, v)
	if err != nil {
		panic(err) // v is not of fixed size
	}
	return b
}

// unpack reads v, of fixed size, and returns the bytes behind it. The error is that
// b is too short.
func unpack(b []byte, v any) (rest []byte, err error) {
	n, err := binary.Decode(b, binary.LittleEndian, v)
	return b[n:], err
}
