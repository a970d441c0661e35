//go:build cgo

package helper

import (
	"os"
	"path"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

// borrow mounts the loan in the container. It belongs to the command's user, who can
// only read it.
func (g *guest) borrow(tree *os.File) error {
	u, err := g.user()
	if err != nil {
		return err
	}
	fd, err := unix.Openat(int(tree.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	dir := os.NewFile(uintptr(fd), container.SecretsDir)
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range append(names, ".") {
		if err := unix.Fchownat(fd, name, u.Uid, u.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &os.PathError{Op: "chown", Path: path.Join(container.SecretsDir, name), Err: err}
		}
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(int(tree.Fd()), "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return os.NewSyscallError("mount_setattr", err)
	}
	return g.attach(tree, container.Mount{Target: container.SecretsDir, Kind: container.Tmpfs, ReadOnly: true})
}
