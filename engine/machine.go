package engine

import (
	"io/fs"
	"path"
	"runtime"
	"strconv"
	"strings"
)

// Machine is what a machine offers to the steps that run on it.
type Machine struct {
	Memory int64   // bytes; 0 where that is not known
	CPUs   float64 // processors
}

// ThisMachine finds out what this machine offers: what it has, and no more than the
// control groups let this process have. The root is the file system with /proc
// and /sys, as os.DirFS("/") is.
func ThisMachine(root fs.FS) Machine {
	m := Machine{Memory: memTotal(root), CPUs: float64(runtime.NumCPU())}
	for _, g := range ownGroups(root) {
		if n := g.number("memory.max", "memory.limit_in_bytes"); n > 0 && (m.Memory == 0 || n < m.Memory) {
			m.Memory = n
		}
		if n := g.processors(); n > 0 {
			m.CPUs = min(m.CPUs, n)
		}
	}
	return m
}

// memTotal is MemTotal of /proc/meminfo in bytes, or 0.
func memTotal(root fs.FS) int64 {
	data, _ := fs.ReadFile(root, "proc/meminfo")
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "MemTotal:" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// controlGroup is the directory of a control group, of either version.
type controlGroup struct {
	root fs.FS
	dir  string
}

// ownGroups are the control groups that this process is in, and all above them:
// each of them limits it.
func ownGroups(root fs.FS) []controlGroup {
	data, _ := fs.ReadFile(root, "proc/self/cgroup")
	var list []controlGroup
	for line := range strings.Lines(string(data)) {
		// ID:CONTROLLERS:PATH, without controllers for version 2.
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		mounts := []string{"sys/fs/cgroup", "sys/fs/cgroup/unified"}
		if f[1] != "" {
			mounts = []string{path.Join("sys/fs/cgroup", f[1])}
		}
		for _, mount := range mounts {
			for p := path.Clean("/" + f[2]); ; p = path.Dir(p) {
				list = append(list, controlGroup{root, path.Join(mount, p)})
				if p == "/" {
					break
				}
			}
		}
	}
	return list
}

// words are what is in the first of the group's files that it has.
func (g controlGroup) words(names ...string) []string {
	for _, name := range names {
		if data, err := fs.ReadFile(g.root, path.Join(g.dir, name)); err == nil {
			return strings.Fields(string(data))
		}
	}
	return nil
}

// number is the number in the first of those files, 0 for none and for "max".
func (g controlGroup) number(names ...string) int64 {
	words := g.words(names...)
	if len(words) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(words[0], 10, 64)
	return max(0, n)
}

// processors is the time of processors that the group may take in each period,
// 0 for all of it.
func (g controlGroup) processors() float64 {
	quota, period := g.number("cpu.cfs_quota_us"), g.number("cpu.cfs_period_us")
	if words := g.words("cpu.max"); len(words) == 2 {
		quota, _ = strconv.ParseInt(words[0], 10, 64)
		period, _ = strconv.ParseInt(words[1], 10, 64)
	}
	if quota <= 0 || period <= 0 {
		return 0
	}
	return float64(quota) / float64(period)
}
