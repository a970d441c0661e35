package helper

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

// rootfs is a container's tree of mounts while it is put together and taken
// down, in the helper's mount namespace. Every step leaves an undo.
type rootfs struct {
	path  string // where the root is mounted; has no symbolic links
	undo  []func() error
	dirs  []*dirTimes
	spare int // directories that were made in the spare mount
	wide  []wide

	compared bool // the command has ended, and what it changed is known
	layered  bool // the root is only read, and has a layer in memory above it

	clamp *clamp // what happens to times before the images are unmounted; nil for nothing

	account   account
	untouched []string // targets of images that the command wrote nothing to
}

// dirTimes are those of a directory of the image that the container's own files and
// mount points are made in. When nothing but that has changed it the image's time
// comes back.
type dirTimes struct {
	path          string
	before, after unix.Stat_t
	ours          bool
	still         bool // the command has changed nothing of the directory, its mode and such included
}

// keepTimes remembers the times of a directory that is about to be changed.
func (r *rootfs) keepTimes(dir string) error {
	if slices.ContainsFunc(r.dirs, func(d *dirTimes) bool { return d.path == dir }) {
		return nil
	}
	d := &dirTimes{path: dir}
	if err := unix.Lstat(dir, &d.before); err != nil {
		return &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	r.dirs = append(r.dirs, d)
	r.undo = append(r.undo, func() error {
		if !d.ours {
			return nil
		}
		err := unlocked(d.path, func() error { return setTimes(d.path, d.before.Atim, d.before.Mtim) })
		if errors.Is(err, fs.ErrNotExist) {
			return nil // b9 made it, and emptied what it is in
		}
		if err == nil && d.still {
			r.account.excuse(&d.before)
		}
		return err
	})
	return nil
}

// made ends the changes when everything is in place, and notes the times of the
// directories.
func (r *rootfs) made() error {
	for _, d := range r.dirs {
		_ = unix.Lstat(d.path, &d.after)
	}
	return r.closeWide()
}

// compareTimes tells apart which directories the command has changed. The first call
// counts: it comes before b9 empties any.
func (r *rootfs) compareTimes() {
	if r.compared {
		return
	}
	r.compared = true
	for _, d := range r.dirs {
		var now unix.Stat_t
		same := unix.Lstat(d.path, &now) == nil && now.Ino == d.before.Ino && now.Dev == d.before.Dev
		d.ours = same && now.Mtim == d.after.Mtim && d.after.Mtim != d.before.Mtim
		d.still = d.ours && now.Ctim == d.after.Ctim
	}
}

// changed says that the command has changed a directory, whatever its times tell.
func (r *rootfs) changed(dir string) {
	for _, d := range r.dirs {
		d.ours = d.ours && d.path != dir
	}
}

const (
	maxLinks     = 40 // symbolic links on the way to a mount point, as in the kernel
	busyPatience = 5 * time.Second
)

// newRootfs gives tree the place dir and makes it the container's root.
func newRootfs(tree *os.File, dir string, m container.Mount) (*rootfs, error) {
	r := &rootfs{path: dir}
	at, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	return r, r.attach(tree, at, m)
}

// attach moves a mount to where at is and closes tree.
func (r *rootfs) attach(tree, at *os.File, m container.Mount) error {
	defer tree.Close()
	where, err := os.Readlink(fdPath(at))
	if err != nil {
		return err
	}
	err = unix.MoveMount(int(tree.Fd()), "", int(at.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("mount at %s: %w", m.Target, os.NewSyscallError("move_mount", err))
	}
	var sync *os.File
	if m.Kind == container.Image && !m.ReadOnly {
		// Opened before anything is written: syncfs reports the failed
		// writes since then.
		if sync, err = os.OpenFile(where, unix.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
			return err
		}
	}
	r.undo = append(r.undo, func() error {
		var err error
		if r.clamp != nil && sync != nil {
			var same bool
			if same, err = r.clamp.mount(sync, &r.account); same {
				r.untouched = append(r.untouched, m.Target)
			}
		}
		return errors.Join(err, detach(where, sync, m))
	})
	return nil
}

func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// detach writes everything back and unmounts. An error means that what was
// written is not in the image. What is no image has nothing to write back, and may have
// come with mounts below it that the host has in a shared directory: it goes with these.
func detach(where string, sync *os.File, m container.Mount) error {
	var err error
	unmount := unmount
	if sync != nil {
		if serr := unix.Syncfs(int(sync.Fd())); serr != nil {
			err = fmt.Errorf("image %s at %s could not be written: %w (is the disk that holds it full?)", m.Source, m.Target, serr)
		}
		sync.Close()
	}
	if m.Kind != container.Image {
		unmount = func(where string) error { return unix.Unmount(where, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH) }
	}
	if uerr := unmount(where); uerr != nil {
		err = errors.Join(err, fmt.Errorf("unmount %s: %w", m.Target, uerr))
	}
	return err
}

// unmount waits for users that are about to vanish, such as a mount namespace
// whose last process has just ended.
func unmount(where string) error {
	deadline := time.Now().Add(busyPatience)
	for delay := time.Millisecond; ; delay = min(2*delay, 50*time.Millisecond) {
		err := unix.Unmount(where, unix.UMOUNT_NOFOLLOW)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(delay)
	}
}

// takeDown undoes everything, the last step first.
func (r *rootfs) takeDown() error {
	r.compareTimes()
	var errs []error
	for _, undo := range slices.Backward(r.undo) {
		errs = append(errs, undo())
	}
	r.undo = nil
	return errors.Join(errs...)
}

// open opens a path of the container, which cannot lead out of it.
func (r *rootfs) open(name string, flags int) (*os.File, error) {
	root, err := unix.Open(r.path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: r.path, Err: err}
	}
	defer unix.Close(root)
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(root, path.Join(".", name), &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), name), nil
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		default:
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
	}
}

// exists tells whether a path of the container leads to something.
func (r *rootfs) exists(name string) bool {
	f, err := r.open(name, unix.O_PATH)
	if err == nil {
		f.Close()
	}
	return err == nil
}

// place opens the mount point target, a directory or else a file, and makes
// it and the directories above it when they are missing.
func (r *rootfs) place(target string, dir bool) (*os.File, error) {
	return r.placeAt(target, dir, maxLinks)
}

func (r *rootfs) placeAt(target string, dir bool, links int) (*os.File, error) {
	f, err := r.open(target, unix.O_PATH)
	if err == nil {
		return checkPlace(f, target, dir)
	}
	if !errors.Is(err, unix.ENOENT) {
		return nil, err
	}
	if links == 0 {
		return nil, &os.PathError{Op: "open", Path: target, Err: unix.ELOOP}
	}
	parent, err := r.placeAt(path.Dir(target), true, links-1)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	base := path.Base(target)
	where, err := os.Readlink(fdPath(parent))
	if err != nil {
		return nil, err
	}
	// A link that leads nowhere yet: make what it points to.
	if to, err := os.Readlink(filepath.Join(where, base)); err == nil {
		if !path.IsAbs(to) {
			to = path.Join(strings.TrimPrefix(where, r.path)+"/", to)
		}
		return r.placeAt(to, dir, links-1)
	}
	if err := r.make(filepath.Join(where, base), dir); err != nil {
		return nil, makeError(target, err)
	}
	return r.open(target, unix.O_PATH)
}

func checkPlace(f *os.File, target string, dir bool) (*os.File, error) {
	info, err := f.Stat()
	if err == nil && info.IsDir() != dir {
		err = fmt.Errorf("mount point %s in the image: %w", target, map[bool]error{true: unix.ENOTDIR, false: unix.EISDIR}[dir])
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// noRoom is the error of a full file system, for a mount point.
type noRoom string

func (n noRoom) Error() string {
	return fmt.Sprintf("mount point %s is missing in the image, which has no space left for it: make it in an earlier step, or resize() the image", string(n))
}

func (n noRoom) Unwrap() error { return unix.ENOSPC }

func makeError(target string, err error) error {
	if errors.Is(err, unix.ENOSPC) {
		return noRoom(target)
	}
	if errors.Is(err, unix.EROFS) {
		return fmt.Errorf("mount point %s is missing in the image, which is mounted read-only: make the directory in an earlier step, or mount the image writable: %w", target, err)
	}
	return fmt.Errorf("mount point %s: %w", target, err)
}

// make makes a directory or an empty file and remembers to remove it, unless
// the command has put something there or replaced it.
func (r *rootfs) make(where string, dir bool) error {
	err := r.keepTimes(filepath.Dir(where))
	if err != nil {
		return err
	}
	if dir {
		err = r.makeDir(where)
	} else {
		var fd int
		if fd, err = unix.Open(where, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644); err == nil {
			err = unix.Close(fd)
		}
	}
	if err != nil {
		return err
	}
	made, err := os.Lstat(where)
	if err != nil {
		return err
	}
	r.undo = append(r.undo, func() error { return unmake(where, made) })
	return nil
}

func unmake(where string, made os.FileInfo) error {
	now, err := os.Lstat(where)
	if err != nil || !os.SameFile(made, now) || (now.Mode().IsRegular() && now.Size() > 0) {
		return nil
	}
	err = unlocked(where, func() error { return os.Remove(where) })
	if err == nil || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}
