package debian

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

// goarch is the architecture of this program.
const goarch = runtime.GOARCH

// stopGrace is how long a cancelled program may tidy up before it is killed.
const stopGrace = 4 * time.Second

// initScript is process 1 of a contained program's namespaces.
//
//go:embed init.sh
var initScript string

// runContained runs a program as root with mount, process and host name
// namespaces of its own, and writes what it prints to log. When this process
// dies, however suddenly, so does everything that the program started, and
// nothing that it mounted was ever visible outside. Its writes are not forced
// to the disk: what it makes is thrown away after a crash anyway. With an emulator
// programs of its architecture run, too.
func runContained(ctx context.Context, emulator *container.Emulator, env []string, log io.Writer, argv ...string) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", initScript, "init"}, argv...)...)
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true,
	}
	if emulator != nil {
		cmd.Env = append(slices.Clone(env), "B9_REGISTER="+emulator.Script())
		if err := emulator.Namespaces(cmd.SysProcAttr); err != nil {
			return err
		}
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	err := onOwnThread(func() error {
		if err := suppressSync(); err != nil {
			fmt.Fprintf(log, "b9: writes are forced to the disk, which is slow: %v\n", err)
		}
		if emulator == nil || !emulator.Own {
			return cmd.Run()
		}
		calls, err := container.HandOverNodes(false)
		if err != nil {
			return err
		}
		stop, err := container.ServeNodes(calls)
		if err != nil {
			return err
		}
		defer stop()
		return cmd.Run()
	})
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, syscall.EPERM):
		return fmt.Errorf("b9 may not make namespaces here, which installing packages needs: run it as root, with CAP_SYS_ADMIN: %w", err)
	case errors.As(err, &exit) && exit.ExitCode() == 125:
		return fmt.Errorf("b9 may not mount file systems here, which installing packages needs: run it as root, with CAP_SYS_ADMIN: %w", err)
	}
	return err
}

// onOwnThread runs f on a thread that nothing else ran on or will run on: the
// kernel ends a child with Pdeathsig when the thread that started it ends, and
// a filter of system calls stays on a thread for good.
func onOwnThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked, so the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}

// syncCalls lists the system calls that force writes to the disk: fsync,
// fdatasync, sync, syncfs, sync_file_range and msync, for each kind of program
// that the kernel of this architecture runs (AUDIT_ARCH of linux/audit.h).
func syncCalls() map[uint32][]uint32 {
	return map[string]map[uint32][]uint32{
		"amd64": {unix.AUDIT_ARCH_X86_64: {74, 75, 162, 306, 277, 26}, unix.AUDIT_ARCH_I386: {118, 148, 36, 344, 314, 144}},
		"arm64": {unix.AUDIT_ARCH_AARCH64: {82, 83, 81, 267, 84, 227}, unix.AUDIT_ARCH_ARM: {118, 148, 36, 373, 341, 144}},
	}[goarch]
}

// syncFilter is a seccomp program that lets every system call through, but
// answers the given ones with success and does nothing.
func syncFilter(calls map[uint32][]uint32) []unix.SockFilter {
	const nr, arch = 0, 4 // offsets in struct seccomp_data
	load := func(off uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
	}
	equal := func(k uint32, yes, no int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(yes), Jf: uint8(no), K: k}
	}
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	var prog []unix.SockFilter
	for a, list := range calls {
		prog = append(prog, load(arch), equal(a, 0, len(list)+3), load(nr))
		for i, call := range list {
			prog = append(prog, equal(call, len(list)-i, 0))
		}
		prog = append(prog, ret(unix.SECCOMP_RET_ALLOW), ret(unix.SECCOMP_RET_ERRNO))
	}
	return append(prog, ret(unix.SECCOMP_RET_ALLOW))
}

// suppressSync puts the filter on the calling thread and all that it will start.
func suppressSync() error {
	prog := syncFilter(syncCalls())
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&fprog)), 0, 0)
	runtime.KeepAlive(prog)
	if err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	return nil
}
