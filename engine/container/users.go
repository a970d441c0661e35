package container

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// User namespaces
//
// Root of a user namespace is root of what belongs to the namespace and of nothing
// else: of a container's mounts, network and processes, and not of the kernel that
// all share. It maps every id to itself, so that files belong to whom they belong.
// Two sorts of commands run in one: those of an emulator that b9 registers, which
// holds for that namespace alone, and those with a capability that would change the
// host's kernel. See user_namespaces(7).

// beyond are the capabilities that reach beyond a container's own namespaces, in a
// user namespace nothing but these: file systems that show the kernel to everybody and
// settings of any kind (SYS_ADMIN), its modules, clock, memory, log and programs,
// processes that are not the command's, and files of the host beside a share
// (DAC_READ_SEARCH, by open_by_handle_at).
var beyond = [...]string{
	"AUDIT_CONTROL", "AUDIT_READ", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "DAC_READ_SEARCH", "MAC_ADMIN",
	"MAC_OVERRIDE", "PERFMON", "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_MODULE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO",
	"SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM",
}

// ReachesBeyond is the first capability of a normalized spec with which its command
// would change the host's kernel were it not in a user namespace, "" for none.
func (s *Spec) ReachesBeyond() string {
	for _, name := range s.Capabilities {
		if slices.Contains(beyond[:], capabilityName(name)) {
			return name
		}
	}
	return ""
}

// Users is a user namespace for a command.
type Users struct {
	Namespace *os.File
	Network   *os.File // a network namespace that belongs to it, with nothing in it

	release func()
}

// NewUsers makes a user namespace in which the emulator, unless it is nil, is
// registered until Close is called, or this process ends.
func NewUsers(ctx context.Context, e *Emulator) (*Users, error) {
	cmd, err := e.shell(context.WithoutCancel(ctx), "echo ready; read -r end", syscall.CLONE_NEWNET)
	if err != nil {
		return nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, usersError(err)
	}
	kill := func() { _ = cmd.Process.Kill() }
	u := &Users{release: func() { // how the shell ends is of no interest
		in.Close()
		late := time.AfterFunc(probeLimit, kill)
		defer late.Stop()
		_ = cmd.Wait()
	}}
	late := time.AfterFunc(probeLimit, kill)
	defer late.Stop()
	if line, _ := bufio.NewReader(out).ReadString('\n'); line == "" {
		u.Close()
		return nil, fmt.Errorf("prepare a user namespace: %s", firstLine([]byte(said.String())))
	}
	if err := u.open(cmd.Process.Pid); err != nil {
		u.Close()
		return nil, err
	}
	return u, nil
}

// open opens the namespaces of a process.
func (u *Users) open(pid int) (err error) {
	if u.Namespace, err = os.Open(fmt.Sprintf("/proc/%d/ns/user", pid)); err == nil {
		u.Network, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	}
	return err
}

// Close gives the namespaces up; processes in them keep them.
func (u *Users) Close() {
	for _, f := range []*os.File{u.Namespace, u.Network} {
		if f != nil {
			f.Close()
		}
	}
	u.release()
}

// usersError says what keeps a kernel from making user namespaces.
func usersError(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EUSERS):
		return fmt.Errorf("make a user namespace: %w: raise the sysctl user.max_user_namespaces", err)
	case errors.Is(err, syscall.EINVAL):
		return fmt.Errorf("make a user namespace: %w: the kernel has none (CONFIG_USER_NS)", err)
	}
	return fmt.Errorf("make a user namespace: %w", err)
}

// shell is a shell that runs a script in a user namespace where the emulator, unless
// it is nil, is registered, and in further namespaces. Where the host has registered
// the emulator it has those alone.
func (e *Emulator) shell(ctx context.Context, script string, more uintptr) (*exec.Cmd, error) {
	attr := &syscall.SysProcAttr{Setpgid: true, Cloneflags: more}
	var err error
	if e == nil {
		err = joinUsers(attr)
	} else {
		script = e.Script() + script
		err = e.Namespaces(attr)
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", script)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.SysProcAttr = attr
	return cmd, err
}

// Namespaces adds to the attributes of a process the user and mount namespaces
// that the emulator is registered in: none where the host has done so.
func (e *Emulator) Namespaces(attr *syscall.SysProcAttr) error {
	if !e.Own {
		return nil
	}
	return joinUsers(attr)
}

// joinUsers adds a user namespace, and a mount namespace of it.
func joinUsers(attr *syscall.SysProcAttr) (err error) {
	attr.Cloneflags |= syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS
	attr.GidMappingsEnableSetgroups = true
	if attr.UidMappings, err = everyID("/proc/self/uid_map"); err != nil {
		return err
	}
	attr.GidMappings, err = everyID("/proc/self/gid_map")
	return err
}

// everyID maps every id that this process has to itself: user_namespaces(7).
func everyID(file string) ([]syscall.SysProcIDMap, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []syscall.SysProcIDMap
	for line := range strings.Lines(string(data)) {
		var inside, outside, count uint32
		if _, err := fmt.Sscan(line, &inside, &outside, &count); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, syscall.SysProcIDMap{ContainerID: int(inside), HostID: int(inside), Size: int(count)})
	}
	return all, nil
}
