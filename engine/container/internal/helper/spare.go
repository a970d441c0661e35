package helper

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

// spareDir is where an image without a free block gets its missing mount points: a
// directory of every ext4 file system, in which only e2fsck puts anything.
const spareDir = "/lost+found"

// makeDir makes a directory to mount at. It takes an inode and a block of the image.
// Where there is no block left, it is made in memory, below a mount that covers
// spareDir, and a symbolic link stands in its place: a short one takes no block. Where
// that can't be either, the directory around is widened.
func (r *rootfs) makeDir(where string) error {
	err := unix.Mkdir(where, 0o755)
	if errors.Is(err, unix.ENOSPC) {
		err = r.makeSpare(where)
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.ENOENT) { // no inode, or no spareDir
		if err = r.widen(filepath.Dir(where)); err == nil {
			err = unix.Mkdir(where, 0o755)
		}
	}
	return err
}

func (r *rootfs) makeSpare(where string) error {
	if r.spare == 0 {
		if err := r.mountSpare(); err != nil {
			return err
		}
	}
	r.spare++
	dir := fmt.Sprintf("%s/%d", spareDir, r.spare)
	if err := os.Mkdir(filepath.Join(r.path, dir), 0o755); err != nil {
		return err
	}
	up := strings.Count(path.Clean("/"+strings.TrimPrefix(where, r.path)), "/") - 1
	return unix.Symlink(strings.Repeat("../", up)+dir[1:], where)
}

// mountSpare covers spareDir with an empty file system in memory.
func (r *rootfs) mountSpare() error {
	info, err := os.Lstat(filepath.Join(r.path, spareDir))
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &os.PathError{Op: "mount at", Path: spareDir, Err: unix.ENOENT}
	}
	at, err := r.open(spareDir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer at.Close()
	tree, err := newMount("tmpfs", []setting{{"mode", "0755"}}, nil, 0, false)
	if err != nil {
		return err
	}
	return r.attach(tree, at, container.Mount{Target: spareDir, Kind: container.Tmpfs})
}

// An image may take no entry more: it has no free inode, or no free block and no
// directory to put mount points into. A directory of it in which one is missing is then
// covered by one in memory, in which every entry of the image's is mounted in its
// place, beside the mount points. The command sees the same files, and writes to them;
// only the directory itself it can't change: its mount is read-only, so that nothing is
// taken that would not come to be in the image.

// wide is a directory that is covered so.
type wide struct {
	where string
	image *os.File // the directory of the image
}

// widen covers a directory, and makes room in it until made is called.
func (r *rootfs) widen(dir string) error {
	image, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		image.Close()
		return err
	}
	tree, err := newMount("tmpfs", []setting{{"mode", "0755"}}, nil, 0, false)
	if err != nil {
		image.Close()
		return err
	}
	if err := likeDir(tree, image); err != nil {
		tree.Close()
		image.Close()
		return err
	}
	target := "/" + dir[len(r.path):]
	if err := r.attach(tree, image, container.Mount{Target: target, Kind: container.Tmpfs}); err != nil {
		image.Close()
		return err
	}
	w := wide{dir, image}
	// With all that is mounted in it: nothing of that waits to be written.
	r.undo[len(r.undo)-1] = func() error {
		return errors.Join(unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW), image.Close())
	}
	r.wide = append(r.wide, w)
	for _, entry := range names {
		if err := w.show(entry); err != nil {
			return fmt.Errorf("mount %s in its place: %w", filepath.Join(target, entry.Name()), err)
		}
	}
	return nil
}

// likeDir gives a directory the owner and mode of another.
func likeDir(dir, as *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(as.Fd()), &st); err != nil {
		return err
	}
	if err := unix.Fchownat(int(dir.Fd()), "", int(st.Uid), int(st.Gid), unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	return os.Chmod(fdPath(dir), os.FileMode(st.Mode&0o777))
}

// show puts an entry of the image's in its place.
func (w wide) show(entry os.DirEntry) error {
	from, to := filepath.Join(fdPath(w.image), entry.Name()), filepath.Join(w.where, entry.Name())
	if entry.Type()&os.ModeSymlink != 0 {
		lead, err := os.Readlink(from)
		if err == nil {
			err = os.Symlink(lead, to)
		}
		return err
	}
	var err error
	if entry.IsDir() {
		err = os.Mkdir(to, 0o700)
	} else {
		err = os.WriteFile(to, nil, 0o600)
	}
	if err != nil {
		return err
	}
	tree, err := cloneTree(from, &unix.MountAttr{Propagation: unix.MS_PRIVATE})
	if err != nil {
		return err
	}
	defer tree.Close()
	err = unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, to, unix.MOVE_MOUNT_F_EMPTY_PATH)
	return os.NewSyscallError("move_mount", err)
}

// closeWide makes the directories read-only when everything is in its place, and lets
// them be taken down again.
func (r *rootfs) closeWide() error {
	set := func(where string, attr unix.MountAttr) error {
		return os.NewSyscallError("mount_setattr", unix.MountSetattr(unix.AT_FDCWD, where, unix.AT_SYMLINK_NOFOLLOW, &attr))
	}
	for _, w := range r.wide {
		if err := set(w.where, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return err
		}
		r.undo = append(r.undo, func() error { return set(w.where, unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}) })
	}
	return nil
}

// imageRoot opens the root of the image, whatever covers it.
func (r *rootfs) imageRoot() (int, error) {
	at := r.path
	for _, w := range r.wide {
		if w.where == r.path {
			at = fdPath(w.image)
		}
	}
	return unix.Open(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}
