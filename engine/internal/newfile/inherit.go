package newfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Inherit gives a new file or directory to whom the directory belongs that it lies in,
// by its Name. Only root can, who otherwise, in the files of somebody else, would leave
// what locks their owner out; to everybody else it does nothing. What has a second name
// stays: it may be another file, which whoever may write there has laid in the way.
func Inherit(f *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	above, err := os.Stat(filepath.Dir(f.Name()))
	if err != nil {
		return err
	}
	if info, err := f.Stat(); err != nil || !info.IsDir() && info.Sys().(*syscall.Stat_t).Nlink > 1 {
		return err
	}
	return InheritFrom(f, above)
}

// InheritFrom gives what f is to whom that belongs of which above was said.
func InheritFrom(f *os.File, above fs.FileInfo) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	have, want := info.Sys().(*syscall.Stat_t), above.Sys().(*syscall.Stat_t)
	if have.Uid == want.Uid {
		return nil // and the group is that which the kernel chose
	}
	return f.Chown(int(want.Uid), int(want.Gid))
}

// Open opens a file for reading and writing that is made, with permissions mode less
// the umask's, where there is none, and then belongs to whom its directory belongs
// ([Inherit]). Flags of open(2) are added.
func Open(path string, flags int, mode fs.FileMode) (*os.File, error) {
	exclusive := flags&os.O_EXCL != 0
	flags &^= os.O_CREATE | os.O_EXCL
	for {
		if !exclusive {
			f, err := os.OpenFile(path, os.O_RDWR|flags, mode)
			if !errors.Is(err, fs.ErrNotExist) {
				return f, err
			}
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|flags, mode)
		if errors.Is(err, fs.ErrExist) {
			if exclusive {
				return nil, err
			}
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && isThere(path) {
				return nil, err // a symbolic link to nothing
			}
			continue // somebody else was quicker
		}
		if err != nil {
			return nil, err
		}
		if err := Inherit(f); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	}
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Mkdir makes a directory as os.Mkdir does, which then belongs to whom the one above
// belongs ([Inherit]).
func Mkdir(dir string, mode fs.FileMode) error {
	if err := os.Mkdir(dir, mode); err != nil || os.Geteuid() != 0 {
		return err
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	return errors.Join(Inherit(f), f.Close())
}

// MkdirAll makes a directory, and those above it that are missing, as os.MkdirAll does
// and [Mkdir] makes each.
func MkdirAll(dir string, mode fs.FileMode) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if above := filepath.Dir(dir); above != dir {
		if err := MkdirAll(above, mode); err != nil {
			return err
		}
	}
	err = Mkdir(dir, mode)
	if info, serr := os.Stat(dir); errors.Is(err, fs.ErrExist) && serr == nil && info.IsDir() {
		return nil // somebody else was quicker
	}
	return err
}
