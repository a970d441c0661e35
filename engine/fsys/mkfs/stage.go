package mkfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/tree"
)

// stage writes a tree into a new directory as it is to be in the file system. Files get
// their data before the attributes that would keep it out, directories their times when
// everything is in them.
func stage(ctx context.Context, dir string, t *tree.Tree) error {
	s := &stager{ctx: ctx, made: map[*tree.Inode]string{}}
	return s.put(dir, "/", t.Root)
}

type stager struct {
	ctx  context.Context
	made map[*tree.Inode]string // where an inode with several names is
}

// put makes the object n at path. name is what messages call it.
func (s *stager) put(path, name string, n *tree.Inode) error {
	if first, ok := s.made[n]; ok && !n.IsDir() {
		return os.Link(first, path)
	}
	s.made[n] = path
	if err := s.create(path, n); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, e := range n.Entries {
		if err := s.put(filepath.Join(path, e.Name), filepath.Join(name, e.Name), e.Inode); err != nil {
			return err
		}
	}
	if err := attributes(path, n); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (s *stager) create(path string, n *tree.Inode) error {
	switch n.Kind() {
	case unix.S_IFDIR:
		return os.Mkdir(path, 0o700)
	case unix.S_IFLNK:
		return os.Symlink(n.Target, path)
	case unix.S_IFREG:
		return s.file(path, n)
	}
	return asRoot(unix.Mknod(path, n.Mode, int(unix.Mkdev(n.Major, n.Minor))))
}

func (s *stager) file(path string, n *tree.Inode) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = f.Truncate(n.Size)
	if err == nil && n.Size > 0 {
		err = n.CopyTo(s.ctx, f, 0)
	}
	return errors.Join(err, f.Close())
}

// attributes gives the object at path what n has: the owner first, which takes away
// set-id bits and capabilities, the times last.
func attributes(path string, n *tree.Inode) error {
	if int(n.UID) != os.Geteuid() || int(n.GID) != os.Getegid() {
		if err := os.Lchown(path, int(n.UID), int(n.GID)); err != nil {
			return asRoot(err)
		}
	}
	if !n.IsLink() {
		if err := unix.Chmod(path, n.Mode&0o7777); err != nil {
			return err
		}
	}
	for _, x := range n.Xattrs {
		if err := unix.Lsetxattr(path, x.Name, x.Value, 0); err != nil {
			return asRoot(fmt.Errorf("attribute %s: %w", x.Name, err))
		}
	}
	at := unix.Timespec{Sec: n.Sec, Nsec: int64(n.Nsec)}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
}

// asRoot adds what a missing right takes.
func asRoot(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: run b9 as root, or make an ext4, which needs no rights", err)
	}
	return err
}

// removeAll removes the directory, in which some directories may be closed to their
// owner.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
