package fsys

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"b9/engine/internal/sparse"
)

// copySource writes a file's bytes at off and leaves holes for zeros.
func copySource(ctx context.Context, f *os.File, off int64, n *inode, buf []byte) error {
	in, err := n.src.open()
	if err != nil {
		return err
	}
	defer in.Close()
	for done := int64(0); done < n.size; {
		if err := checkEvery(ctx); err != nil {
			return err
		}
		k, err := io.ReadFull(in, buf[:min(int64(len(buf)), n.size-done)])
		if err != nil {
			return errShort(n, err)
		}
		if !sparse.IsZero(buf[:k]) {
			if _, err := f.WriteAt(buf[:k], off+done); err != nil {
				return err
			}
		}
		done += int64(k)
	}
	return atEnd(in, n)
}

// atEnd makes sure that a source has no more than was announced.
func atEnd(in io.Reader, n *inode) error {
	var b [1]byte
	k, err := in.Read(b[:])
	if k > 0 {
		return fmt.Errorf("is longer than its %d bytes: it was changed while it was read", n.size)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// errShort explains an early end of a source.
func errShort(n *inode, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("ended before its %d bytes: it was changed while it was read", n.size)
	}
	return err
}

// The names of the attributes that hold POSIX access control lists.
const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)
