package group

import (
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// unifiedTree is the hierarchy of version 2, whether it is mounted somewhere or not,
// as a mount at no place. It ends with its descriptor.
//
// It is a copy of a mount that is there, where there is one: to have the kernel find
// the hierarchy once more takes it the lock that every fork(2) of the machine holds, which
// since Linux 6.18 it waits 10 to 20 ms for, and a container needs two.
func unifiedTree(readOnly bool) (*os.File, error) {
	data, _ := os.ReadFile("/proc/self/mountinfo") // without it no mount is known
	for _, place := range unifiedPlaces(string(data)) {
		if tree, err := copyUnified(place, readOnly); err == nil {
			return tree, nil
		}
	}
	return newUnified(readOnly)
}

// unifiedPlaces are where the whole hierarchy of version 2 is mounted, the latest first:
// proc(5), /proc/[pid]/mountinfo. Names with characters that are escaped there are left out.
func unifiedPlaces(mountinfo string) []string {
	var places []string
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ")
		mount, kind := strings.Fields(before), strings.Fields(after)
		if len(mount) < 5 || len(kind) == 0 || kind[0] != "cgroup2" || mount[3] != "/" || strings.Contains(mount[4], `\`) {
			continue
		}
		places = append(places, mount[4])
	}
	slices.Reverse(places)
	return places
}

var errOtherMount = errors.New("another file system is mounted there")

// copyUnified copies the mount of the hierarchy at a place. The copy is a mount of its own,
// that nothing that is done to the other one reaches, and that does not keep it busy.
func copyUnified(place string, readOnly bool) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, place, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: place, Err: err}
	}
	tree := os.NewFile(uintptr(fd), "cgroup2")
	var fs unix.Statfs_t
	if err = unix.Fstatfs(fd, &fs); err == nil && fs.Type != unix.CGROUP2_SUPER_MAGIC {
		err = errOtherMount // it covers the hierarchy
	}
	attr := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if readOnly {
		attr.Attr_set = unix.MOUNT_ATTR_RDONLY
	} else {
		attr.Attr_clr = unix.MOUNT_ATTR_RDONLY
	}
	if err == nil {
		err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr)
	}
	if err != nil {
		tree.Close()
		return nil, &os.PathError{Op: "copy the mount", Path: place, Err: err}
	}
	return tree, nil
}

// newUnified mounts the hierarchy.
func newUnified(readOnly bool) (*os.File, error) {
	fs, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen cgroup2", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, os.NewSyscallError("fsconfig cgroup2", err)
	}
	attr := 0
	if readOnly {
		attr = unix.MOUNT_ATTR_RDONLY
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return nil, os.NewSyscallError("fsmount cgroup2", err)
	}
	return os.NewFile(uintptr(fd), "cgroup2"), nil
}
