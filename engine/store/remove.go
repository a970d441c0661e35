package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// RemoveTree removes dir with all that a script may have left in it: read-only,
// immutable and append-only files and directories, and trees of any depth. It does
// not when something is mounted in it: that may be a person's own directory.
func RemoveTree(dir string) error {
	mount, err := mountedBelow(dir)
	if err != nil {
		return err
	}
	if mount != "" {
		return fmt.Errorf("remove %s: %s is mounted: unmount it first", dir, mount)
	}
	if os.RemoveAll(dir) == nil {
		return nil
	}
	r, err := newRemover(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.root.Close()
	err = r.empty()
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return fmt.Errorf("remove %s: %w: it has files of other users, which root removes", dir, err)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return os.Remove(dir)
}

// remover empties a directory without a path longer than one name and with two
// descriptors, however deep the tree is: what is in a directory below the root is
// unlinked, and directories in it are renamed into the root, where they are
// emptied in their turn.
type remover struct {
	root  *os.File
	moved int // directories that were renamed into the root
}

func newRemover(dir string) (*remover, error) {
	root, err := openToRemove(unix.AT_FDCWD, dir)
	return &remover{root: root}, err
}

// openToRemove opens a directory and takes away what keeps its owner from removing
// its entries.
func openToRemove(at int, name string) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(at, name, flags, 0)
	if errors.Is(err, unix.EACCES) {
		// Nothing that is a directory here is a symbolic link: the caller looked.
		_ = unix.Fchmodat(at, name, 0o700, 0)
		fd, err = unix.Openat(at, name, flags, 0)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	clearFlags(fd)
	// Root needs no mode. An error shows when an entry can't be removed.
	_ = unix.Fchmod(fd, 0o700)
	return os.NewFile(uintptr(fd), name), nil
}

// The attributes of chattr(1) that keep a file from being removed or renamed.
const (
	flagImmutable  = 0x10 // FS_IMMUTABLE_FL
	flagAppendOnly = 0x20 // FS_APPEND_FL
)

// clearFlags takes the attributes away. A file system without them has an error
// for that, which does not matter.
func clearFlags(fd int) {
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&(flagImmutable|flagAppendOnly) == 0 {
		return
	}
	_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags&^(flagImmutable|flagAppendOnly)))
}

// empty removes everything in the root. One entry that stays keeps no other from
// going.
func (r *remover) empty() error {
	for {
		before := r.moved
		if err := r.emptyDir(r.root, true); r.moved == before {
			return err
		}
	}
}

// emptyDir removes what is in dir: for the root also the directories, once their
// own directories are renamed into it.
func (r *remover) emptyDir(dir *os.File, isRoot bool) error {
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return err
	}
	var errs []error
	for {
		names, err := dir.Readdirnames(1000)
		for _, name := range names {
			if err := r.remove(dir, name, isRoot); err != nil {
				errs = append(errs, err)
			}
		}
		if errors.Is(err, io.EOF) {
			return errors.Join(errs...)
		}
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
}

func (r *remover) remove(dir *os.File, name string, inRoot bool) error {
	at := int(dir.Fd())
	var st unix.Stat_t
	if err := unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return ignoreMissing(name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return removeFile(at, name, st.Mode&unix.S_IFMT == unix.S_IFREG)
	}
	if err := unix.Unlinkat(at, name, unix.AT_REMOVEDIR); err == nil {
		return nil
	}
	sub, err := openToRemove(at, name)
	if err != nil {
		return err
	}
	defer sub.Close()
	if !inRoot {
		return r.moveUp(at, name)
	}
	if err := r.emptyDir(sub, false); err != nil {
		return err
	}
	return ignoreMissing(name, unix.Unlinkat(at, name, unix.AT_REMOVEDIR))
}

// moveUp renames a directory into the root.
func (r *remover) moveUp(at int, name string) error {
	for {
		to := fmt.Sprintf(".b9-%d", r.moved)
		r.moved++
		err := unix.Renameat2(at, name, int(r.root.Fd()), to, unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EEXIST) {
			return ignoreMissing(name, err)
		}
	}
}

func removeFile(at int, name string, regular bool) error {
	err := unix.Unlinkat(at, name, 0)
	if errors.Is(err, unix.EPERM) && regular && clearFileFlags(at, name) == nil {
		err = unix.Unlinkat(at, name, 0)
	}
	return ignoreMissing(name, err)
}

// Unprotect takes the attributes of chattr(1) that keep a file or directory from
// being changed or removed (i and a) away. What has none of them, and what is neither,
// stays as it is.
func Unprotect(file string) error {
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: file, Err: err}
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return nil
	}
	if err := clearFileFlags(unix.AT_FDCWD, file); err != nil {
		return &fs.PathError{Op: "open", Path: file, Err: err}
	}
	return nil
}

// clearFileFlags is clearFlags for a regular file, or a directory, at a name.
func clearFileFlags(at int, name string) error {
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	clearFlags(fd)
	return unix.Close(fd)
}

func ignoreMissing(name string, err error) error {
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return &fs.PathError{Op: "remove", Path: name, Err: err}
}
