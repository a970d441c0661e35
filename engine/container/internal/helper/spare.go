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
