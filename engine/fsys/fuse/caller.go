package fuse

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// calledByRoot reports whether a request comes from a process that has CAP_SYS_ADMIN in
// this process's user namespace.
func calledByRoot(ctx context.Context) bool {
	caller, ok := gofuse.FromContext(ctx)
	return ok && administers(caller.Pid)
}

// administers is calledByRoot for a process, false for one that is gone: proc(5).
func administers(pid uint32) bool {
	proc := fmt.Sprintf("/proc/%d/", pid)
	theirs, err := os.Readlink(proc + "ns/user")
	if err != nil {
		return false
	}
	if ours, err := os.Readlink("/proc/self/ns/user"); err != nil || ours != theirs {
		return false
	}
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			return err == nil && set&(1<<unix.CAP_SYS_ADMIN) != 0
		}
	}
	return false
}
