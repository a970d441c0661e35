package helper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

// stage is the file systems of a container before they have a place: mounts
// that only their descriptors hold.
type stage struct {
	trees []*os.File // one for each mount of the spec
	loops []*loop
}

// newStage attaches and mounts everything in mounts.
func newStage(ctx context.Context, mounts []container.Mount) (*stage, error) {
	s := &stage{}
	for _, m := range mounts {
		tree, err := s.add(ctx, m)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("mount at %s: %w", m.Target, err), s.release())
		}
		s.trees = append(s.trees, tree)
	}
	return s, nil
}

func (s *stage) add(ctx context.Context, m container.Mount) (*os.File, error) {
	switch m.Kind {
	case container.Dir:
		return cloneDir(m)
	case container.Tmpfs:
		return newMount("tmpfs", "mode", "1777", nil, 0, m.ReadOnly)
	}
	image, err := openImage(ctx, m)
	if err != nil {
		return nil, err
	}
	var l *loop
	fstype, err := imageFS(image, m)
	if err == nil {
		l, err = attachLoop(ctx, image, m)
	}
	if err != nil {
		image.Close()
		return nil, err
	}
	s.loops = append(s.loops, l)
	tree, err := mountDevice(l.dev.Name(), fstype, m.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", m.Source, err)
	}
	return tree, nil
}

// handOver closes the mounts here, after they were sent to the container.
func (s *stage) handOver() {
	closeAll(s.trees)
	s.trees = nil
}

// release detaches the images once nothing uses them. The error tells of an
// image that is not complete.
func (s *stage) release() error {
	s.handOver()
	var errs []error
	for _, l := range s.loops {
		errs = append(errs, l.release())
	}
	s.loops = nil
	return errors.Join(errs...)
}

// mountOptions are set where the file system has them. After a crash no image
// is used again, so nothing needs to be flushed in order; space that is freed
// becomes a hole of the image again; nothing is written in the background;
// and two copies of one image may be mounted at a time.
func mountOptions(fstype string) []string {
	switch fstype {
	case "ext4":
		return []string{"nobarrier", "discard", "noinit_itable"}
	case "xfs":
		return []string{"nouuid", "discard"}
	case "btrfs":
		return []string{"nobarrier", "discard"}
	}
	return nil
}

// mountDevice mounts the file system on a device, at no place yet.
func mountDevice(dev, fstype string, readOnly bool) (*os.File, error) {
	options := mountOptions(fstype)
	if readOnly {
		options = append(options, "ro")
	}
	return newMount(fstype, "source", dev, options, unix.MOUNT_ATTR_NOATIME, readOnly)
}

// newMount mounts a file system with one setting that it needs, and with options.
func newMount(fstype, setting, value string, options []string, attrs int, readOnly bool) (*os.File, error) {
	fs, err := OpenFS(fstype)
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	if err := unix.FsconfigSetString(int(fs.Fd()), setting, value); err != nil {
		return nil, fsError(fs, fstype, err)
	}
	for _, o := range options {
		// Older kernels know fewer options, and none of them is needed.
		_ = unix.FsconfigSetFlag(int(fs.Fd()), o)
	}
	if err := unix.FsconfigCreate(int(fs.Fd())); err != nil {
		return nil, fsError(fs, fstype, err)
	}
	if readOnly {
		attrs |= unix.MOUNT_ATTR_RDONLY
	}
	fd, err := unix.Fsmount(int(fs.Fd()), unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return nil, fsError(fs, fstype, err)
	}
	return os.NewFile(uintptr(fd), fstype), nil
}

func OpenFS(fstype string) (*os.File, error) {
	fd, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	switch {
	case errors.Is(err, unix.ENODEV):
		return nil, fmt.Errorf("the kernel has no %s file system: load its module, or convert the image", fstype)
	case errors.Is(err, unix.ENOSYS):
		return nil, errors.New("the kernel is too old: want Linux 5.12 or later")
	case err != nil:
		return nil, os.NewSyscallError("fsopen", err)
	}
	return os.NewFile(uintptr(fd), fstype), nil
}

// fsError adds what the kernel noted about a failed mount.
func fsError(fs *os.File, fstype string, err error) error {
	var notes []string
	buf := make([]byte, 1024)
	for {
		n, rerr := unix.Read(int(fs.Fd()), buf)
		if rerr != nil || n <= 2 {
			break
		}
		// "e text": the first byte is the severity.
		notes = append(notes, strings.TrimSpace(string(buf[2:n])))
	}
	if len(notes) > 0 {
		return fmt.Errorf("no usable %s file system: %w: %s", fstype, err, strings.Join(notes, "; "))
	}
	return fmt.Errorf("no usable %s file system: %w: check the image, the kernel's log says more", fstype, err)
}

// cloneDir is a private copy of the mounts at and below a directory.
func cloneDir(m container.Mount) (*os.File, error) {
	info, err := os.Stat(m.Source)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", m.Source)
	}
	attr := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if m.ReadOnly {
		attr.Attr_set = unix.MOUNT_ATTR_RDONLY
	}
	return cloneTree(m.Source, &attr)
}

func cloneTree(path string, attr *unix.MountAttr) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	tree := os.NewFile(uintptr(fd), path)
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attr); err != nil {
		tree.Close()
		return nil, &os.PathError{Op: "mount_setattr", Path: path, Err: err}
	}
	return tree, nil
}
