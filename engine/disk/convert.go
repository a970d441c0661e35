package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/disk/image"
)

// Convert writes src to the file dst in the given format. Only data moves, in
// parallel, with less than 64 MiB of memory. The file appears at dst when it is
// complete, and replaces what was there; after an error dst is as it was before.
func Convert(ctx context.Context, src image.Image, dst, format string, o image.WriteOptions) error {
	f, err := Lookup(format)
	if err != nil {
		return err
	}
	if o.OpenBacking == nil {
		o.OpenBacking = openBacking
	}
	return create(dst, o, func(w *os.File) error { return f.Write(ctx, w, src, o) })
}

// create lets fill write a new file and then gives it the name dst.
func create(dst string, o image.WriteOptions, fill func(*os.File) error) error {
	w, temp, err := nameless(dst)
	if err != nil {
		return err
	}
	err = fill(w)
	if err == nil && o.Mode != 0 {
		err = w.Chmod(o.Mode)
	}
	if err == nil && o.Sync {
		err = w.Sync()
	}
	if err == nil {
		temp, err = name(w, temp, dst)
	}
	err = errors.Join(err, w.Close())
	if err == nil && temp != dst {
		err = os.Rename(temp, dst)
	}
	if err != nil {
		if temp != "" && temp != dst {
			os.Remove(temp)
		}
		return fmt.Errorf("write %s: %w", dst, err)
	}
	if o.Sync {
		return syncDir(filepath.Dir(dst))
	}
	return nil
}

// nameless opens a new file in the directory of dst. Where the file system can,
// it has no name yet (temp is empty), so that nothing is left if the process is
// killed. Its Name is dst, which is what formats record.
func nameless(dst string) (w *os.File, temp string, err error) {
	fd, err := unix.Open(filepath.Dir(dst), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o666)
	if err == nil {
		return os.NewFile(uintptr(fd), dst), "", nil
	}
	if !errors.Is(err, syscall.EOPNOTSUPP) && !errors.Is(err, syscall.EISDIR) && !errors.Is(err, syscall.ENOENT) {
		return nil, "", &fs.PathError{Op: "create", Path: dst, Err: err}
	}
	return named(dst)
}

// named opens a new file with a temporary name beside dst.
func named(dst string) (w *os.File, temp string, err error) {
	for i := 0; ; i++ {
		temp = tempName(dst, i)
		fd, err := unix.Open(temp, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, 0o666)
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

// syncDir makes the names in dir survive a power loss.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
