//go:build cgo

package group

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Legacy tells whether this process is in control groups of version 1: cgroups(7),
// /proc/[pid]/cgroup.
func Legacy() (bool, error) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return false, err
	}
	for line := range bytes.Lines(data) {
		if !bytes.HasPrefix(line, []byte("0::")) {
			return true, nil
		}
	}
	return false, nil
}

// Namespace makes a namespace of the control groups that this process is in. It belongs
// to this process's user namespace, and so nobody in another one may mount what is in it.
func Namespace() (ns *os.File, err error) {
	var thread sync.WaitGroup
	thread.Go(func() {
		runtime.LockOSThread() // which ends with it
		if err = unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
			err = fmt.Errorf("make a namespace of control groups: %w", err)
			return
		}
		ns, err = os.Open("/proc/thread-self/ns/cgroup")
	})
	thread.Wait()
	return ns, err
}
