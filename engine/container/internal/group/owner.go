package group

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ownerPrefix begins the names of what would outlive its owner.
const ownerPrefix = "b9"

// OwnerTag names this process so that no other process, at any time since the
// machine was started, has the same: prefix, process id and start time.
func OwnerTag() string {
	pid := os.Getpid()
	start, err := startTime(pid)
	if err != nil {
		start = 0
	}
	return fmt.Sprintf("%s.%d.%d", ownerPrefix, pid, start)
}

// startTime is when a process was started, in clock ticks since the machine
// was: proc(5), /proc/PID/stat, field 22.
func startTime(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStartTime(string(data))
}

func parseStartTime(stat string) (uint64, error) {
	// The second field is a name in parentheses that may contain anything.
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return 0, errors.New("malformed process status")
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// OwnerDead tells whether name begins with the tag of a process that is no
// more. It is false for a name that is not one of ours.
func OwnerDead(name string) bool {
	parts := strings.SplitN(name, ".", 4)
	if len(parts) < 3 || parts[0] != ownerPrefix {
		return false
	}
	pid, err := strconv.Atoi(parts[1])
	if err != nil || pid < 1 {
		return false
	}
	start, err := strconv.ParseUint(parts[2], 10, 64)
	if err != nil {
		return false
	}
	now, err := startTime(pid)
	if errors.Is(err, os.ErrNotExist) {
		return true
	}
	return err == nil && now != start
}

// Reap removes the control groups of dead owners, with those below them. They
// are empty, or the kernel refuses.
func Reap() error {
	errs := []error{RemoveMatching(ownerPrefix+".*", OwnerDead)}
	if own, err := ownUnified(); err == nil && own != "/" {
		errs = append(errs, RemoveMatching(filepath.Join(own, ownerPrefix+".*"), OwnerDead))
	}
	return errors.Join(errs...)
}

// RemoveMatching removes the dead control groups among those that match, in
// every hierarchy of either version.
func RemoveMatching(pattern string, dead func(name string) bool) error {
	const root = "/sys/fs/cgroup/"
	for _, p := range []string{root + pattern, root + "*/" + pattern} {
		dirs, err := filepath.Glob(p)
		if err != nil {
			return err
		}
		for _, dir := range dirs {
			if dead(filepath.Base(dir)) {
				// A group that still has processes is somebody's.
				_ = removeGroup(unix.AT_FDCWD, dir)
			}
		}
	}
	return nil
}

// LimitsUsable tells whether the kernel has controllers of memory and
// processors, in either version of control groups.
func LimitsUsable() bool {
	data, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	have := strings.Fields(string(data))
	if err != nil {
		lines, err := memberships()
		if err != nil {
			return false
		}
		for _, l := range lines {
			have = append(have, strings.Split(l.controllers, ",")...)
		}
	}
	return slices.Contains(have, "memory") && slices.Contains(have, "cpu")
}
