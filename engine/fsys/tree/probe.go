package tree

import (
	"errors"
	"fmt"
	"io"

	"b9.build/b9/engine/internal/sparse"
)

// Info is what a superblock says.
type Info struct {
	// Type is ext2, ext3, ext4, xfs, btrfs, vfat, iso9660, squashfs, swap, or
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
	// Free bytes, -1 if the superblock does not tell, 0 for read-only types.
	Free int64
}

// Window is the stretch of a file that is looked at.
type Window struct {
	R         io.ReaderAt
	Off, Size int64
}

// At returns n bytes, or zeros where the window is too short for them.
func (w *Window) At(off int64, n int) ([]byte, error) {
	b := make([]byte, n)
	if off < 0 || off+int64(n) > w.Size {
		return b, nil
	}
	if _, err := w.R.ReadAt(b, w.Off+off); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

func UUIDText(b []byte) string {
	if sparse.IsZero(b[:16]) {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// Clip keeps a size that a hostile superblock made up from being negative.
func Clip(blocks, size uint64) int64 {
	if size != 0 && blocks > uint64(1<<63-1)/size {
		return 1<<63 - 1
	}
	return int64(blocks * size)
}

// CString is the text before the first NUL.
func CString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
