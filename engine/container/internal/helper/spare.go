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

// makeDir makes a directory to mount at. It takes a block of the image. Where there
// is none left, it is made in memory, below a mount that covers spareDir, and a
// symbolic link stands in its place: a short one takes no block.
func (r *rootfs) makeDir(where string) error {
	full := unix.Mkdir(where, 0o755)
	if !errors.Is(full, unix.ENOSPC) {
		return full
	}
	if r.spare == 0 {
		if err := r.mountSpare(); errors.Is(err, unix.ENOENT) {
			return full // a file system without the directory
		} else if err != nil {
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
	tree, err := newMount("tmpfs", "mode", "0755", nil, 0, false)
	if err != nil {
		return err
	}
	return r.attach(tree, at, container.Mount{Target: spareDir, Kind: container.Tmpfs})
}
