// Package newfile writes files that appear whole: under their name is what was
// there before until all is written, and after an error, too. Where the file
// system has files without a name (O_TMPFILE of open(2)) nothing is left when the
// process is killed meanwhile.
//
// It knows nothing of what is written. Of b9 the package imports nothing.
package newfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Write lets fill write a new file and then gives it the name dst, in place of
// what has that name. The file's permissions are mode without the bits of the
// umask, unless fill changes them; its Name is dst all along. With sync the file
// and its name survive a loss of power from then on. Errors of fill come back as
// they are. What has the name and is no regular file, such as a device, stays, and
// is an error.
func Write(dst string, mode fs.FileMode, sync bool, fill func(*os.File) error) error {
	if err := replaceable(dst); err != nil {
		return err
	}
	w, temp, err := nameless(dst, mode)
	if err != nil {
		return err
	}
	if sync {
		err = flushed(w, fill)
	} else {
		err = fill(w)
	}
	if err == nil {
		temp, err = name(w, temp, dst)
	}
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err == nil && temp != dst {
		err = os.Rename(temp, dst)
	}
	if err != nil {
		if temp != "" && temp != dst {
			os.Remove(temp)
		}
		return err
	}
	if sync {
		return SyncDir(filepath.Dir(dst))
	}
	return nil
}

// replaceable returns an error where dst is there and is no regular file: whoever
// writes to /dev/null or /dev/stdout does not want another file there.
func replaceable(dst string) error {
	info, err := os.Lstat(dst)
	if err != nil || info.Mode().IsRegular() {
		return nil // what is wrong with the path, making the file tells
	}
	return NotReplaced(info)
}

// NotReplaced is the error about something, of which info was said, that no new file is
// to replace.
func NotReplaced(info fs.FileInfo) error {
	what := "no file"
	switch mode := info.Mode(); {
	case mode.IsDir():
		what = "a directory"
	case mode&fs.ModeSymlink != 0:
		what = "a symbolic link to no file"
	case mode&fs.ModeNamedPipe != 0:
		what = "a pipe"
	case mode&fs.ModeSocket != 0:
		what = "a socket"
	case mode&fs.ModeDevice != 0:
		what = "a device"
	}
	return fmt.Errorf("it is %s, which no file is to replace: write to another name, and copy from there", what)
}

// WriteNew is [Write] of a file that is not there yet, with its name on the disk. Where
// something has the name, it stays, and the error is fs.ErrExist.
func WriteNew(dst string, mode fs.FileMode, fill func(*os.File) error) error {
	if _, err := os.Lstat(dst); err == nil {
		return &fs.PathError{Op: "create", Path: dst, Err: fs.ErrExist}
	}
	w, temp, err := nameless(dst, mode)
	if err != nil {
		return err
	}
	err = flushed(w, fill)
	if err == nil {
		from := temp
		if from == "" {
			from = fmt.Sprintf("/proc/self/fd/%d", w.Fd())
		}
		if err = unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, dst, unix.AT_SYMLINK_FOLLOW); err != nil {
			err = &fs.PathError{Op: "create", Path: dst, Err: err}
		}
	}
	if temp != "" {
		err = errors.Join(err, os.Remove(temp))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(dst))
}

// nameless opens a new file in the directory of dst. Where the file system can,
// it has no name yet (temp is empty).
func nameless(dst string, mode fs.FileMode) (w *os.File, temp string, err error) {
	fd, err := unix.Open(filepath.Dir(dst), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, uint32(mode.Perm()))
	if err == nil {
		return os.NewFile(uintptr(fd), dst), "", nil
	}
	if !errors.Is(err, syscall.EOPNOTSUPP) && !errors.Is(err, syscall.EISDIR) && !errors.Is(err, syscall.ENOENT) {
		return nil, "", &fs.PathError{Op: "create", Path: dst, Err: err}
	}
	return named(dst, mode)
}

// named opens a new file with a temporary name beside dst.
func named(dst string, mode fs.FileMode) (w *os.File, temp string, err error) {
	for i := 0; ; i++ {
		temp = tempName(dst, i)
		fd, err := unix.Open(temp, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, uint32(mode.Perm()))
		if err == nil {
			return os.NewFile(uintptr(fd), dst), temp, nil
		}
		if !errors.Is(err, fs.ErrExist) || i > 1000 {
			return nil, "", &fs.PathError{Op: "create", Path: dst, Err: err}
		}
	}
}

func tempName(dst string, i int) string {
	dir, base := filepath.Split(dst)
	return fmt.Sprintf("%s.%s.%d-%d.tmp", dir, base, os.Getpid(), i)
}

// name gives the nameless file w the name dst, or a temporary one if dst is
// taken, and returns the name.
func name(w *os.File, temp, dst string) (string, error) {
	if temp != "" {
		return temp, nil
	}
	old := fmt.Sprintf("/proc/self/fd/%d", w.Fd())
	for i := 0; ; i++ {
		err := unix.Linkat(unix.AT_FDCWD, old, unix.AT_FDCWD, dst, unix.AT_SYMLINK_FOLLOW)
		if err == nil {
			return dst, nil
		}
		if !errors.Is(err, fs.ErrExist) || i > 1000 {
			return "", &fs.PathError{Op: "link", Path: dst, Err: err}
		}
		dst = tempName(w.Name(), i)
	}
}

// SyncDir makes the names in dir survive a power loss, where the file system can:
// some of those of networks and of FUSE refuse to flush a directory.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, d.Close())
}

// Scratch opens a new file for reading and writing that has no name, in the
// directory dir. Its content is gone when it is closed.
func Scratch(dir string) (*os.File, error) {
	f, temp, err := nameless(filepath.Join(dir, "scratch"), 0o600)
	if err != nil || temp == "" {
		return f, err
	}
	if err := os.Remove(temp); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
