//go:build cgo

package group

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// cgroupRoot is where libcontainer looks for control groups. The helper's
// mount namespace gets a view of its own there.
const cgroupRoot = "/sys/fs/cgroup"

// CPUPeriod is the interval that processor limits are measured in, in
// microseconds: the kernel's default.
const CPUPeriod = 100000

// Limits are those of one container.
type Limits struct {
	Name   string  // of the group; "" where the limits are not ours to set
	Memory int64   // bytes, 0 for no limit
	CPUs   float64 // processors, 0 for no limit
}

// Limited is the control group of one container. Without limits there is
// none, for joining one takes longer than everything else together.
type Limited struct {
	Config *cgroups.Cgroup // for libcontainer
	dirs   []string        // to remove
	events string          // file that counts out-of-memory kills, "" without a memory limit
}

// NewLimited makes a view of the control groups that can hold the limits.
func NewLimited(l Limits) (*Limited, error) {
	var need []string
	if l.Name != "" && l.Memory > 0 {
		need = append(need, "memory")
	}
	if l.Name != "" && l.CPUs > 0 {
		need = append(need, "cpu")
	}
	if len(need) == 0 {
		return unlimited()
	}
	if ok, err := hasUnified(need); err != nil {
		return nil, err
	} else if ok {
		return unified(l)
	}
	return legacy(l, need)
}

// unlimited shows libcontainer a hierarchy that it cannot write. In its
// rootless manner, and without limits, it then goes without.
func unlimited() (*Limited, error) {
	tree, err := unifiedTree(true)
	if err == nil {
		err = errors.Join(place(tree), tree.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("control groups: %w", err)
	}
	return &Limited{Config: &cgroups.Cgroup{Name: "b9", Rootless: true, Resources: &cgroups.Resources{}}}, nil
}

// hasUnified tells whether the hierarchy of version 2 has the controllers, and if so
// mounts it.
func hasUnified(need []string) (bool, error) {
	tree, err := unifiedTree(false)
	if err != nil {
		return false, nil
	}
	defer tree.Close()
	have, err := controllers(tree)
	if err != nil {
		return false, err
	}
	for _, n := range need {
		if !slices.Contains(have, n) {
			return false, nil
		}
	}
	return true, place(tree)
}

// controllers are those that a group of version 2 can use: cgroup-v2.
func controllers(group *os.File) ([]string, error) {
	fd, err := unix.Openat(int(group.Fd()), "cgroup.controllers", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "cgroup.controllers", Err: err}
	}
	f := os.NewFile(uintptr(fd), "cgroup.controllers")
	defer f.Close()
	data, err := io.ReadAll(f)
	return strings.Fields(string(data)), err
}

// place gives a hierarchy the place where libcontainer looks for it, in this mount
// namespace, instead of what the host has there.
func place(tree *os.File) error {
	uncover()
	err := unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, cgroupRoot, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err != nil {
		return &os.PathError{Op: "move_mount", Path: cgroupRoot, Err: err}
	}
	return nil
}

// uncover removes the host's view from this mount namespace, which is the
// helper's own: a hierarchy cannot be mounted over itself, and libcontainer
// finds covered mounts as well. Where nothing is mounted the call fails.
func uncover() { _ = unix.Unmount(cgroupRoot, unix.MNT_DETACH) }

// unified makes the group, which takes the command out of its device
// group: it opens the same devices here.
func unified(l Limits) (*Limited, error) {
	dir := filepath.Join(cgroupRoot, l.Name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("control groups: %w", err)
	}
	c := &Limited{Config: configuration(l), dirs: []string{dir}, events: filepath.Join(dir, "memory.events")}
	c.Config.MemorySwap = l.Memory
	f, err := os.Open(dir)
	if err == nil {
		err = errors.Join(restrictDevices(f), f.Close())
	}
	if err != nil {
		c.Remove()
		return nil, err
	}
	return c, nil
}

// configuration is the configuration with the limits but without a swap limit.
func configuration(l Limits) *cgroups.Cgroup {
	res := &cgroups.Resources{Memory: l.Memory}
	if l.CPUs > 0 {
		res.CpuPeriod = CPUPeriod
		res.CpuQuota = int64(l.CPUs * CPUPeriod)
	}
	return &cgroups.Cgroup{Path: "/" + l.Name, Resources: res}
}

// legacy mounts hierarchies of version 1: those that are needed, and
// that of devices, which libcontainer insists on.
func legacy(l Limits, need []string) (*Limited, error) {
	hierarchies, err := legacyHierarchies()
	if err != nil {
		return nil, err
	}
	uncover()
	if err := unix.Mount("tmpfs", cgroupRoot, "tmpfs", 0, "mode=755"); err != nil {
		return nil, fmt.Errorf("control groups: mount %s: %w", cgroupRoot, err)
	}
	c := &Limited{Config: configuration(l)}
	for _, controller := range append([]string{"devices"}, need...) {
		together, ok := hierarchies[controller]
		if !ok {
			return nil, fmt.Errorf("limits: the kernel offers no %q controller: enable it, or run without a limit", controller)
		}
		dir := filepath.Join(cgroupRoot, together)
		if err := mountLegacy(dir, together); err != nil {
			return nil, err
		}
		c.dirs = append(c.dirs, filepath.Join(dir, l.Name))
		if controller == "memory" {
			c.events = filepath.Join(dir, l.Name, "memory.oom_control")
			if _, err := os.Stat(filepath.Join(dir, "memory.memsw.limit_in_bytes")); err == nil {
				c.Config.MemorySwap = l.Memory
			}
		}
	}
	return c, nil
}

func mountLegacy(dir, controllers string) error {
	if err := os.Mkdir(dir, 0o755); errors.Is(err, os.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	if err := unix.Mount("cgroup", dir, "cgroup", 0, controllers); err != nil {
		return fmt.Errorf("limits: mount the control groups of %s: %w", controllers, err)
	}
	return nil
}

// legacyHierarchies maps each controller of version 1 to the comma-separated
// list of those it is mounted with: cgroups(7), /proc/PID/cgroup.
func legacyHierarchies() (map[string]string, error) {
	lines, err := memberships()
	if err != nil {
		return nil, err
	}
	m := make(map[string]string)
	for _, l := range lines {
		for c := range strings.SplitSeq(l.controllers, ",") {
			if c != "" && !strings.Contains(c, "=") {
				m[c] = l.controllers
			}
		}
	}
	return m, nil
}

// Memory counts the kills in the group, once it is there.
func (c *Limited) Memory() Counter { return openCounter(c.events) }

// Remove removes the group. Its processes have ended, but the kernel may need
// a moment to see that; what stays is left to Reap.
func (c *Limited) Remove() {
	for _, dir := range c.dirs {
		_ = cgroups.RemovePath(dir)
	}
}
