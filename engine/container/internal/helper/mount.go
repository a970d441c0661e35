package helper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

// stage is the file systems of a container before they have a place: mounts
// that only their descriptors hold.
type stage struct {
	trees     []*os.File // one for each mount of the spec
	loops     []*loop
	served    []*served
	known     container.FileSystems // may be nil
	userSpace []string              // file systems that are served whatever drivers there are

	servedLimit time.Duration // zero for that of this name, but in tests
}

// newStage attaches and mounts everything in mounts, which recognise has seen, and
// says there which images turned out to be read-only.
func newStage(ctx context.Context, mounts []container.Mount, c container.Config) (*stage, error) {
	s := &stage{known: c.FileSystems, userSpace: c.UserSpace}
	for i := range mounts {
		m := &mounts[i]
		tree, err := s.add(ctx, *m)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("mount at %s: %w", m.Target, err), s.release())
		}
		s.trees = append(s.trees, tree)
		m.ReadOnly = m.ReadOnly || m.Kind == container.Image && refusesWrites(tree)
	}
	return s, nil
}

func (s *stage) add(ctx context.Context, m container.Mount) (*os.File, error) {
	switch m.Kind {
	case container.Dir:
		return cloneDir(m)
	case container.Tmpfs:
		return newMount("tmpfs", []setting{{"mode", "1777"}}, nil, 0, m.ReadOnly)
	}
	image, err := openImage(ctx, m)
	if err != nil {
		return nil, err
	}
	tree, err := s.mountImage(ctx, image, m)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", m.Source, err)
	}
	return tree, nil
}

// mountImage mounts the file system of an open image, which it takes over: by the
// kernel's driver, or, where there is none, or it can't (a compression that it was
// built without), served by this process.
func (s *stage) mountImage(ctx context.Context, image *os.File, m container.Mount) (*os.File, error) {
	served := s.known != nil && s.known.Serves(m.FSType)
	if served && slices.Contains(s.userSpace, m.FSType) {
		return s.serve(image, m)
	}
	if fs, err := OpenFS(m.FSType); err != nil {
		if served {
			return s.serve(image, m)
		}
		image.Close()
		return nil, err
	} else if err := fs.Close(); err != nil {
		return nil, err
	}
	l, err := attachLoop(ctx, image, m)
	if err != nil {
		image.Close()
		return nil, err
	}
	tree, err := mountDevice(l.dev.Name(), m)
	if err == nil || !served {
		s.loops = append(s.loops, l)
		return tree, err
	}
	if err := l.dev.Close(); err != nil { // which detaches the image
		return nil, err
	}
	tree, serr := s.serve(image, m)
	return tree, errors.Join(serr, onlyWith(serr, err))
}

// refusesWrites tells whether a mounted file system is read-only by what it holds: a
// btrfs by the property of its subvolume, an ext4 by a feature of its superblock.
func refusesWrites(tree *os.File) bool {
	err := unix.Faccessat2(int(tree.Fd()), "", unix.W_OK, unix.AT_EMPTY_PATH)
	return errors.Is(err, unix.EROFS)
}

// onlyWith is err where there is another error that it explains.
func onlyWith(other, err error) error {
	if other == nil {
		return nil
	}
	return err
}

// handOver closes the mounts here, after they were sent to the container.
func (s *stage) handOver() {
	if s == nil {
		return
	}
	closeAll(s.trees)
	s.trees = nil
}

// release detaches the images once nothing uses them. The error tells of an
// image that is not complete.
func (s *stage) release() error {
	if s == nil {
		return nil
	}
	s.handOver()
	var errs []error
	for _, l := range s.loops {
		errs = append(errs, l.release())
	}
	for _, f := range s.served {
		errs = append(errs, f.release())
	}
	s.loops, s.served = nil, nil
	return errors.Join(errs...)
}

// setting is a parameter of a mount. One without a value is a flag.
type setting struct{ key, value string }

func (o setting) set(fs int) error {
	if o.value == "" {
		return unix.FsconfigSetFlag(fs, o.key)
	}
	return unix.FsconfigSetString(fs, o.key, o.value)
}

// mountOptions are set where the file system has them. After a crash no image
// is used again, so nothing needs to be flushed in order; space that is freed
// becomes a hole of the image again; nothing is written in the background;
// two copies of one image may be mounted at a time; and what an image does not say
// of names, times and permissions is what Config.FileSystems makes of it.
func mountOptions(fstype string) []setting {
	switch fstype {
	case "ext4":
		return []setting{{key: "nobarrier"}, {key: "discard"}, {key: "noinit_itable"}}
	case "xfs":
		return []setting{{key: "nouuid"}, {key: "discard"}}
	case "btrfs":
		return []setting{{key: "nobarrier"}, {key: "discard"}}
	case "vfat":
		return []setting{{"iocharset", "utf8"}, {"tz", "UTC"}, {"umask", "022"}, {"shortname", "mixed"}}
	case "iso9660":
		return []setting{{"iocharset", "utf8"}, {"mode", "0644"}, {"dmode", "0755"}}
	}
	return nil
}

// mountDevice mounts the file system on a device, at no place yet.
func mountDevice(dev string, m container.Mount) (*os.File, error) {
	options := mountOptions(m.FSType)
	if m.ReadOnly {
		options = append(options, setting{key: "ro"})
	}
	needs := []setting{{"source", dev}}
	if m.Subvolume != "" {
		needs = append(needs, setting{"subvol", m.Subvolume})
	}
	tree, err := newMount(m.FSType, needs, options, unix.MOUNT_ATTR_NOATIME, m.ReadOnly)
	if m.Subvolume != "" {
		err = subvolumeError(m.Subvolume, err)
	}
	return tree, err
}

// subvolumeError says of the kernel's answers which are about a subvolume.
func subvolumeError(name string, err error) error {
	const list = "(btrfs subvolume list tells what a mounted file system has)"
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("it has no subvolume %q %s: %w", name, list, unix.ENOENT)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%q is no subvolume %s, or the file system is damaged: %w", name, list, err)
	}
	return err
}

// newMount mounts a file system with settings that it needs, and with options.
func newMount(fstype string, needs, options []setting, attrs int, readOnly bool) (*os.File, error) {
	fs, err := OpenFS(fstype)
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	for _, o := range needs {
		if err := o.set(int(fs.Fd())); err != nil {
			return nil, fsError(fs, fstype, err)
		}
	}
	for _, o := range options {
		// Older kernels know fewer options, and none of them is needed.
		_ = o.set(int(fs.Fd()))
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

// OpenFS opens a file system's driver for a mount.
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
