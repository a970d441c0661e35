package group

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Counter counts the processes that a memory limit has ended. Its zero
// value counts nothing.
type Counter struct {
	file  *os.File // memory.oom_control or memory.events: cgroup-v1/memory, cgroup-v2
	start int64
}

// openCounter begins to count in a file; one that cannot be read counts nothing.
func openCounter(file string) Counter {
	if file == "" {
		return Counter{}
	}
	f, err := os.Open(file)
	if err != nil {
		return Counter{}
	}
	c := Counter{file: f}
	c.start = c.Kills()
	return c
}

// Close ends the counting.
func (c Counter) Close() {
	if c.file != nil {
		c.file.Close()
	}
}

// Kills is the number since the counter was opened.
func (c Counter) Kills() int64 {
	if c.file == nil {
		return 0
	}
	data := make([]byte, 1024)
	n, err := c.file.ReadAt(data, 0)
	if err != nil && err != io.EOF {
		return 0
	}
	return countIn(string(data[:n])) - c.start
}

// countIn finds the count in the lines "name value" of either file.
func countIn(text string) int64 {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			if err == nil {
				return n
			}
		}
	}
	return 0
}

// membership is one line of /proc/self/cgroup.
type membership struct {
	controllers string // comma-separated; "" for the hierarchy of version 2
	path        string
}

func memberships() ([]membership, error) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	return parseMemberships(string(data)), nil
}

// parseMemberships reads lines "id:controllers:path": cgroups(7).
func parseMemberships(text string) []membership {
	var lines []membership
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) == 3 {
			lines = append(lines, membership{controllers: parts[1], path: parts[2]})
		}
	}
	return lines
}

// OwnMemory counts the kills in the group that this process was started in,
// which is the container's where a daemon has set the limits.
func OwnMemory() Counter {
	lines, err := memberships()
	if err != nil {
		return Counter{}
	}
	for _, l := range lines {
		switch l.controllers {
		case "memory":
			return openCounter(filepath.Join("/sys/fs/cgroup/memory", l.path, "memory.oom_control"))
		case "":
			// A group below the one with the limit, such as a device group, has no
			// counter of its own.
			for path := l.path; ; path = filepath.Dir(path) {
				c := openCounter(filepath.Join("/sys/fs/cgroup", path, "memory.events"))
				if c.file != nil || path == "/" || path == "." {
					return c
				}
			}
		}
	}
	return Counter{}
}
