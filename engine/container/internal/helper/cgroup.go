//go:build cgo

package helper

import (
	"errors"
	"fmt"
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

// ownCgroup is the control group of one container. Without limits there is
// none, for joining one takes longer than everything else together.
type ownCgroup struct {
	config *cgroups.Cgroup
	dirs   []string // to remove
	events string   // file that counts out-of-memory kills, "" without a memory limit
}

// newCgroup makes a view of the control groups that can hold the limits.
func newCgroup(req *Request) (*ownCgroup, error) {
	spec := &req.Spec
	var need []string
	if req.Cgroup != "" && spec.Memory > 0 {
		need = append(need, "memory")
	}
	if req.Cgroup != "" && spec.CPUs > 0 {
		need = append(need, "cpu")
	}
	if len(need) == 0 {
		return noCgroup()
	}
	if ok, err := mountUnified(need); err != nil {
		return nil, err
	} else if ok {
		return unifiedCgroup(req)
	}
	return legacyCgroup(req, need)
}

// noCgroup shows libcontainer a hierarchy that it cannot write. In its
// rootless manner, and without limits, it then goes without.
func noCgroup() (*ownCgroup, error) {
	uncover()
	if err := unix.Mount("cgroup2", cgroupRoot, "cgroup2", unix.MS_RDONLY, ""); err != nil {
		return nil, fmt.Errorf("control groups: mount %s: %w", cgroupRoot, err)
	}
	return &ownCgroup{config: &cgroups.Cgroup{Name: "b9", Rootless: true, Resources: &cgroups.Resources{}}}, nil
}

// mountUnified tells whether the hierarchy of version 2 has the controllers,
// and if so mounts it.
func mountUnified(need []string) (bool, error) {
	uncover()
	if err := unix.Mount("cgroup2", cgroupRoot, "cgroup2", 0, ""); err != nil {
		return false, nil
	}
	data, err := os.ReadFile(filepath.Join(cgroupRoot, "cgroup.controllers"))
	if err != nil {
		return false, err
	}
	have := strings.Fields(string(data))
	for _, n := range need {
		if !slices.Contains(have, n) {
			return false, unix.Unmount(cgroupRoot, 0)
		}
	}
	return true, nil
}

// uncover removes the host's view from this mount namespace, which is the
// helper's own: a hierarchy cannot be mounted over itself, and libcontainer
// finds covered mounts as well. Where nothing is mounted the call fails.
func uncover() { _ = unix.Unmount(cgroupRoot, unix.MNT_DETACH) }

// unifiedCgroup makes the group, which takes the command out of its device
// group: it opens the same devices here.
func unifiedCgroup(req *Request) (*ownCgroup, error) {
	dir := filepath.Join(cgroupRoot, req.Cgroup)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("control groups: %w", err)
	}
	c := &ownCgroup{config: limited(req), dirs: []string{dir}, events: filepath.Join(dir, "memory.events")}
	c.config.MemorySwap = req.Spec.Memory
	f, err := os.Open(dir)
	if err == nil {
		err = errors.Join(restrictDevices(f), f.Close())
	}
	if err != nil {
		c.remove()
		return nil, err
	}
	return c, nil
}

// limited is the configuration with the limits but without a swap limit.
func limited(req *Request) *cgroups.Cgroup {
	res := &cgroups.Resources{Memory: req.Spec.Memory}
	if req.Spec.CPUs > 0 {
		res.CpuPeriod = CPUPeriod
		res.CpuQuota = int64(req.Spec.CPUs * CPUPeriod)
	}
	return &cgroups.Cgroup{Path: "/" + req.Cgroup, Resources: res}
}

// legacyCgroup mounts hierarchies of version 1: those that are needed, and
// that of devices, which libcontainer insists on.
func legacyCgroup(req *Request, need []string) (*ownCgroup, error) {
	hierarchies, err := legacyHierarchies()
	if err != nil {
		return nil, err
	}
	uncover()
	if err := unix.Mount("tmpfs", cgroupRoot, "tmpfs", 0, "mode=755"); err != nil {
		return nil, fmt.Errorf("control groups: mount %s: %w", cgroupRoot, err)
	}
	c := &ownCgroup{config: limited(req)}
	for _, controller := range append([]string{"devices"}, need...) {
		together, ok := hierarchies[controller]
		if !ok {
			return nil, fmt.Errorf("limits: the kernel offers no %q controller: enable it, or run without a limit", controller)
		}
		dir := filepath.Join(cgroupRoot, together)
		if err := mountLegacy(dir, together); err != nil {
			return nil, err
		}
		c.dirs = append(c.dirs, filepath.Join(dir, req.Cgroup))
		if controller == "memory" {
			c.events = filepath.Join(dir, req.Cgroup, "memory.oom_control")
			if _, err := os.Stat(filepath.Join(dir, "memory.memsw.limit_in_bytes")); err == nil {
				c.config.MemorySwap = req.Spec.Memory
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
	lines, err := ownCgroups()
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

// memory counts the kills in the group, once it is there.
func (c *ownCgroup) memory() oomCounter { return openCounter(c.events) }

// remove removes the group. Its processes have ended, but the kernel may need
// a moment to see that; what stays is left to Reap.
func (c *ownCgroup) remove() {
	for _, dir := range c.dirs {
		_ = cgroups.RemovePath(dir)
	}
}
