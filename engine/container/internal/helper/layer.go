//go:build cgo

package helper

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

// A root that is only read may lack mount points, and takes no files of the
// container's own. So a layer in memory is laid over it, by overlayfs, which has
// both, and is then made as read-only as what is below: the command gets EROFS, and
// finds nothing missing. Where the kernel has no overlayfs, the root is mounted as it
// is, and what is missing there is an error.

// newRoot gives tree, the mount of m, the place of the container's root.
func (g *guest) newRoot(tree *os.File, m container.Mount) (*rootfs, error) {
	fs, err := OpenFS("overlay")
	if !m.ReadOnly || err != nil {
		return newRootfs(tree, g.rootDir(), m)
	}
	fs.Close()
	dirs := map[string]string{}
	for _, name := range []string{"lower", "upper", "work"} {
		dirs[name] = filepath.Join(g.req.Scratch, name)
		if err := os.Mkdir(dirs[name], 0o755); err != nil {
			tree.Close()
			return nil, err
		}
	}
	r, err := newRootfs(tree, dirs["lower"], m)
	if err != nil {
		return r, err
	}
	top, err := overlay(dirs)
	r.layered = err == nil
	if err != nil {
		if top, err = cloneTree(dirs["lower"], &unix.MountAttr{Propagation: unix.MS_PRIVATE}); err != nil {
			return r, err
		}
	}
	r.path = g.rootDir()
	at, err := os.OpenFile(r.path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		top.Close()
		return r, err
	}
	defer at.Close()
	return r, r.attach(top, at, container.Mount{Target: "/", Kind: container.Dir})
}

// overlay mounts directories over each other.
func overlay(dirs map[string]string) (*os.File, error) {
	// A colon separates layers.
	lower := strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(dirs["lower"])
	return newMount("overlay", []setting{{"lowerdir", lower}, {"upperdir", dirs["upper"]}, {"workdir", dirs["work"]}}, nil, 0, false)
}

// seal makes the layer over a root that is only read read-only, until it is taken
// down.
func (r *rootfs) seal() error {
	if !r.layered {
		return nil
	}
	set := func(attr unix.MountAttr) error {
		if err := unix.MountSetattr(unix.AT_FDCWD, r.path, unix.AT_SYMLINK_NOFOLLOW, &attr); err != nil {
			return &os.PathError{Op: "mount_setattr", Path: r.path, Err: err}
		}
		return nil
	}
	if err := set(unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return err
	}
	r.undo = append(r.undo, func() error {
		err := set(unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
		if errors.Is(err, unix.EBUSY) {
			return nil // what is to be removed from the layer goes with it
		}
		return err
	})
	return nil
}
