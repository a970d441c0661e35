package helper

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The directories of Spec.Empty are emptied by process 1 when no other process
// is left and every mount is still in its place. It goes down from descriptor to
// descriptor and never over a mount or a symbolic link, so that what is mounted
// below, such as a share of the host, stays.

// empty removes what is in a directory of the container. What is no directory of
// the root's own file system is left alone.
func (r *rootfs) empty(name string) error {
	root, err := r.imageRoot()
	if err != nil {
		return &os.PathError{Op: "open", Path: r.path, Err: err}
	}
	defer unix.Close(root)
	dir, err := openInside(root, "."+name, name)
	if dir == nil {
		return err
	}
	if err := emptyDir(dir); err != nil {
		return fmt.Errorf("empty %s: %w", name, err)
	}
	return nil
}

// openInside opens a directory on the same mount; nil for anything else.
func openInside(at int, name, path string) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS,
	}
	for {
		fd, err := unix.Openat2(at, name, &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path), nil
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
			return nil, nil
		default:
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// emptyDir removes what is in dir, and closes it.
func emptyDir(dir *os.File) error {
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	errs := []error{err}
	for _, name := range names {
		errs = append(errs, removeFrom(dir, name))
	}
	return errors.Join(errs...)
}

// removeFrom removes an entry of dir and what is below it.
func removeFrom(dir *os.File, name string) error {
	at, path := int(dir.Fd()), dir.Name()+"/"+name
	err := remove(dir, name, 0)
	if errors.Is(err, unix.EISDIR) {
		sub, oerr := openInside(at, name, path)
		if sub == nil {
			return oerr
		}
		if err := emptyDir(sub); err != nil {
			return err
		}
		err = remove(dir, name, unix.AT_REMOVEDIR)
	}
	switch {
	case err == nil, errors.Is(err, unix.EBUSY), errors.Is(err, unix.ENOTEMPTY): // something is mounted there, or below
		return nil
	}
	return &os.PathError{Op: "remove", Path: path, Err: err}
}

// remove unlinks an entry. Attributes that forbid that, of the entry or of the
// directory (chattr +i, +a), are taken away.
func remove(dir *os.File, name string, flags int) error {
	err := unix.Unlinkat(int(dir.Fd()), name, flags)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	clearFlags(int(dir.Fd()))
	if fd, oerr := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); oerr == nil {
		clearFlags(fd)
		unix.Close(fd)
	}
	return unix.Unlinkat(int(dir.Fd()), name, flags)
}
