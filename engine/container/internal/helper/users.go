//go:build cgo

package helper

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

// A command whose emulator is registered in a user namespace, and one with a capability
// that would reach the host's kernel, runs in that namespace. The
// kernel does not let root of a user namespace mount what shows processes and networks
// of others, nor open devices on what it mounts: so the helper, which is in the
// namespace of the host, mounts /proc, /sys and /dev for it, and has the caller's side
// make device nodes. What is mounted before the namespace has its mounts stays as it is
// there: it is not unmounted, and what is only read is not made writable, images and
// shares included (mount_namespaces(7)).

// takeUsers takes the user namespace from the files that came.
func (g *guest) takeUsers() error {
	if !g.req.OwnUsers {
		return nil
	}
	if len(g.files) == 0 {
		return errors.New("no user namespace came with the request")
	}
	last := len(g.files) - 1
	g.users, g.files = g.files[last], g.files[:last]
	calls, err := container.HandOverNodes(true)
	if err != nil {
		return err
	}
	defer calls.Close()
	return g.wire.send(message{Nodes: &nodeCalls{}}, calls)
}

// mountSystem mounts what libcontainer would mount if it had the right.
func (g *guest) mountSystem() error {
	if g.users == nil {
		return nil
	}
	const quiet = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NODEV
	for _, m := range []struct {
		target, fstype, setting, value string
		attrs                          int
		readOnly                       bool
	}{
		{"/proc", "proc", "source", "proc", quiet, false},
		{"/sys", "sysfs", "source", "sysfs", quiet, true},
		{"/dev", "tmpfs", "mode", "755", unix.MOUNT_ATTR_NOSUID, false},
	} {
		tree, err := newMount(m.fstype, []setting{{m.setting, m.value}}, nil, m.attrs, m.readOnly)
		if err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
		if err := g.attach(tree, container.Mount{Target: m.target, Kind: container.Tmpfs}); err != nil {
			tree.Close()
			return err
		}
	}
	return g.coverSystem()
}

// coverSystem hides and protects what libcontainer would, but for good.
func (g *guest) coverSystem() error {
	var errs []error
	for _, name := range hidden {
		errs = append(errs, g.cover(name, nothing))
	}
	for _, name := range onlyRead {
		errs = append(errs, g.cover(name, func(at *os.File) (*os.File, error) {
			return cloneTree(fdPath(at), &unix.MountAttr{Propagation: unix.MS_PRIVATE, Attr_set: unix.MOUNT_ATTR_RDONLY})
		}))
	}
	return errors.Join(errs...)
}

// nothing is a mount in place of a directory, or a file, that is not to be seen.
func nothing(at *os.File) (*os.File, error) {
	info, err := at.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return newMount("tmpfs", []setting{{"mode", "755"}}, nil, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, true)
	}
	return cloneTree("/dev/null", &unix.MountAttr{Propagation: unix.MS_PRIVATE})
}

// cover mounts a tree over a path of /proc or /sys, if there is such.
func (g *guest) cover(name string, tree func(at *os.File) (*os.File, error)) error {
	at, err := g.root.open(name, unix.O_PATH)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer at.Close()
	t, err := tree(at)
	if err != nil {
		return fmt.Errorf("cover %s: %w", name, err)
	}
	return g.root.attach(t, at, container.Mount{Target: name, Kind: container.Tmpfs})
}

// joinUsers makes the container one in the user namespace, which maps ids to
// themselves.
func (g *guest) joinUsers(c *configs.Config) {
	if g.users == nil {
		return
	}
	c.Namespaces.Add(configs.NEWUSER, g.path(g.users))
	all := []configs.IDMap{{ContainerID: 0, HostID: 0, Size: math.MaxUint32}}
	c.UIDMappings, c.GIDMappings = all, all
	c.MaskPaths, c.ReadonlyPaths = nil, nil
	c.Mounts = slices.DeleteFunc(c.Mounts, func(m *configs.Mount) bool { return slices.Contains(container.Reserved[:], m.Destination) })
}
