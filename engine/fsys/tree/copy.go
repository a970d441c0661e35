package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"b9.build/b9/engine/internal/sparse"
)

// CopySource writes a file's bytes at off and leaves holes for zeros.
func CopySource(ctx context.Context, f *os.File, off int64, n *Inode, buf []byte) error {
	in, err := n.Src.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	for done := int64(0); done < n.Size; {
		if err := CheckEvery(ctx); err != nil {
			return err
		}
		k, err := io.ReadFull(in, buf[:min(int64(len(buf)), n.Size-done)])
		if err != nil {
			return ErrShort(n, err)
		}
		if !sparse.IsZero(buf[:k]) {
			if _, err := f.WriteAt(buf[:k], off+done); err != nil {
				return err
			}
		}
		done += int64(k)
	}
	return AtEnd(in, n)
}

// AtEnd makes sure that a source has no more than was announced.
func AtEnd(in io.Reader, n *Inode) error {
	var b [1]byte
	k, err := in.Read(b[:])
	if k > 0 {
		return fmt.Errorf("is longer than its %d bytes: it was changed while it was read", n.Size)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// ErrShort explains an early end of a source.
func ErrShort(n *Inode, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("ended before its %d bytes: it was changed while it was read", n.Size)
	}
	return err
}

// The names of the attributes that hold POSIX access control lists.
const (
	ACLAccess  = "system.posix_acl_access"
	ACLDefault = "system.posix_acl_default"
)
