//go:build cgo

package helper

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

// Where an emulator is registered in a user namespace, the command runs there. The
// kernel does not let root of a user namespace mount what shows processes and networks
// of others, nor open devices on what it mounts: so the helper, which is in the
// namespace of the host, mounts /proc, /sys and /dev for it, and has the caller's side
// make device nodes.

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
	return nil
}

// joinUsers makes the container one in the user namespace, which maps ids to
// themselves.
func (g *guest) joinUsers(c *configs.Config) {
	if g.users == nil {
		return
	}
	c.Namespaces.Add(configs.NEWUSER, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), g.users.Fd()))
	all := []configs.IDMap{{ContainerID: 0, HostID: 0, Size: math.MaxUint32}}
	c.UIDMappings, c.GIDMappings = all, all
	c.Mounts = slices.DeleteFunc(c.Mounts, func(m *configs.Mount) bool { return slices.Contains(container.Reserved[:], m.Destination) })
}
