package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/size"
)

// What is left for the store, in bytes, before doctor says something.
const (
	littleSpace  = 5 << 30
	tooFewSpace  = 512 << 20
	cloneTestLen = 4096
)

// fsNames are the file systems that a store is likely to lie on, by the magic
// number of statfs(2).
var fsNames = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.NFS_SUPER_MAGIC: "nfs", unix.F2FS_SUPER_MAGIC: "f2fs", 0x2fc12fc1: "zfs", 0xca451a4e: "bcachefs",
}

// aboutStore checks the file system that the store lies on, or would be made on.
func aboutStore(dir string) []check {
	at := existing(dir)
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		return []check{fail("store", fmt.Sprintf("%s: %v", at, err), "choose another place with -c store.dir=DIR")}
	}
	name, ok := fsNames[int64(st.Type)]
	if !ok {
		name = fmt.Sprintf("file system %#x", st.Type)
	}
	return []check{freeSpace(dir, at, name, int64(st.Bavail)*st.Bsize), reflink(at, name)}
}

// existing is dir, or the nearest directory above it that is there.
func existing(dir string) string {
	if st, err := os.Stat(dir); err == nil && st.IsDir() || dir == filepath.Dir(dir) {
		return dir
	}
	return existing(filepath.Dir(dir))
}

func freeSpace(dir, at, name string, free int64) check {
	const another = "choose another place with -c store.dir=DIR"
	detail := fmt.Sprintf("%s on %s, %s free", dir, name, size.About(free))
	switch {
	case unix.Access(at, unix.W_OK|unix.X_OK) != nil:
		return fail("store", at+" is not writable", another)
	case free < tooFewSpace:
		return fail("store", detail, "free some space, with `b9 cache gc` or otherwise, or "+another)
	case free < littleSpace:
		return warn("store", detail, "a Debian system takes about 1 GiB for each step that changes it: `b9 cache gc --max-size SIZE` frees space, -c store.dir=DIR chooses another place")
	case name == "tmpfs":
		return warn("store", detail, "results are lost when the machine stops, and take memory: "+another)
	case name == "nfs":
		return warn("store", detail, "locks over a network are slow and not always sound: choose a local disk with -c store.dir=DIR")
	}
	return ok("store", detail)
}

// reflink tries whether an image can be forked without copying it.
func reflink(at, name string) check {
	err := tryClone(at)
	switch {
	case err == nil:
		return ok("reflink", name+" clones files: starting a step from an image costs nothing")
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTTY), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EXDEV):
		return ok("reflink", name+" cannot clone files: each step copies the data of its images; a store on xfs or btrfs would not")
	}
	return warn("reflink", fmt.Sprintf("could not be tried: %v", err), "")
}

// tryClone clones one nameless file to another.
func tryClone(dir string) (err error) {
	src, err := nameless(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dst, err := nameless(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	if _, err := src.Write(make([]byte, cloneTestLen)); err != nil {
		return err
	}
	return unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
}

// nameless makes a file that is gone when it is closed.
func nameless(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), dir), nil
	}
	f, err := os.CreateTemp(dir, ".b9-doctor-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
