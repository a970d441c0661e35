package helper

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The attributes of chattr(1) that keep a file from being written and removed:
// FS_IMMUTABLE_FL and FS_APPEND_FL of linux/fs.h.
const lockedFlags = 0x10 | 0x20

// clearFlags takes away what chattr may have set. Whether it could shows at once.
func clearFlags(fd int) {
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err == nil {
		_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags&^lockedFlags)
	}
}

// unlocked changes a file, and its name, that the command may have protected with
// such attributes, and so its directory. What is there afterwards has them again.
func unlocked(where string, change func() error) error {
	dir := unlock(filepath.Dir(where))
	file := unlock(where)
	return errors.Join(change(), file.relock(), dir.relock())
}

// lock is a file or directory whose attributes were taken away; nil for none.
type lock struct {
	file  *os.File
	flags int
}

func unlock(where string) *lock {
	var st unix.Stat_t
	if err := unix.Lstat(where, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	f, err := os.OpenFile(where, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flags&lockedFlags == 0 || unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^lockedFlags) != nil {
		f.Close()
		return nil
	}
	return &lock{f, flags}
}

// relock gives the attributes back.
func (l *lock) relock() error {
	if l == nil {
		return nil
	}
	err := unix.IoctlSetPointerInt(int(l.file.Fd()), unix.FS_IOC_SETFLAGS, l.flags)
	return errors.Join(os.NewSyscallError("set attributes", err), l.file.Close())
}
