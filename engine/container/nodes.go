package container

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Device nodes in a user namespace
//
// The kernel lets only root of the host make device nodes, though scripts of packages
// do so, and opening them is what matters. A filter on the processes of a user
// namespace hands these calls to b9, which makes the node as the kernel would for root
// of the host: below the root and the working directory of the process, with its umask.
// See seccomp_unotify(2).

// HandOverNodes installs the filter on the calling thread and what it will start, or
// on all threads of this process, and returns where the calls arrive: for [ServeNodes]
// of a process that has the right to make nodes, and no such filter.
func HandOverNodes(allThreads bool) (*os.File, error) {
	code := nodesProgram()
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	flags := uintptr(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW)
	if allThreads {
		flags |= unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
	}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(code)
	if errno != 0 {
		return nil, fmt.Errorf("hand device nodes over: %w", os.NewSyscallError("seccomp", errno))
	}
	return os.NewFile(fd, "calls that make nodes"), nil
}

// mknod is the call that arm64 and others do not have any more; there is no number of a
// call that is this one.
func mknodCall() uint32 {
	if runtime.GOARCH == "amd64" {
		return 133
	}
	return 1<<32 - 1
}

// nodesProgram passes on what makes character and block devices: of this machine's
// calls, which an emulator's are, too.
func nodesProgram() []unix.SockFilter {
	const (
		load    = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		mask    = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
		ifEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		answer  = unix.BPF_RET | unix.BPF_K

		number, machine, arguments = 0, 4, 16 // offsets in seccomp_data
	)
	audit, low := uint32(unix.AUDIT_ARCH_X86_64), uint32(0)
	switch runtime.GOARCH {
	case "arm64":
		audit = unix.AUDIT_ARCH_AARCH64
	case "riscv64":
		audit = unix.AUDIT_ARCH_RISCV64
	case "ppc64le":
		audit = unix.AUDIT_ARCH_PPC64LE
	case "loong64":
		audit = unix.AUDIT_ARCH_LOONGARCH64
	case "s390x":
		audit, low = unix.AUDIT_ARCH_S390X, 4 // of the two words of an argument
	}
	return []unix.SockFilter{
		{Code: load, K: machine},
		{Code: ifEqual, Jf: 9, K: audit},
		{Code: load, K: number},
		{Code: ifEqual, Jt: 2, K: mknodCall()},
		{Code: ifEqual, Jf: 6, K: unix.SYS_MKNODAT},
		{Code: load, K: arguments + 2*8 + low},
		{Code: unix.BPF_JMP | unix.BPF_JA, K: 1},
		{Code: load, K: arguments + 1*8 + low},
		{Code: mask, K: unix.S_IFMT},
		{Code: ifEqual, Jt: 2, K: unix.S_IFCHR},
		{Code: ifEqual, Jt: 1, K: unix.S_IFBLK},
		{Code: answer, K: unix.SECCOMP_RET_ALLOW},
		{Code: answer, K: unix.SECCOMP_RET_USER_NOTIF},
	}
}

// nodeCall is one call, struct seccomp_notif of linux/seccomp.h.
type nodeCall struct {
	ID       uint64
	PID      uint32
	Flags    uint32
	Number   int32
	Machine  uint32
	At       uint64
	Argument [6]uint64
}

// nodeAnswer is struct seccomp_notif_resp.
type nodeAnswer struct {
	ID    uint64
	Value int64
	Error int32
	Flags uint32
}

// ServeNodes makes the nodes until no process has the filter any more, or stop is
// called, which waits. It closes calls.
func ServeNodes(calls *os.File) (stop func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		calls.Close()
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer r.Close()
		defer calls.Close()
		serveNodes(int(calls.Fd()), int(r.Fd()))
	}()
	return func() {
		w.Close()
		<-done
	}, nil
}

func serveNodes(calls, stop int) {
	for {
		ready := []unix.PollFd{{Fd: int32(calls), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
		_, err := unix.Poll(ready, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || ready[0].Revents&unix.POLLIN == 0 || ready[1].Revents != 0 {
			return
		}
		var c nodeCall
		if ioctl(calls, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&c)) != nil {
			continue // who called was ended meanwhile
		}
		answer := c.answer(func() bool {
			return ioctl(calls, unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&c.ID)) == nil
		})
		_ = ioctl(calls, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&answer))
	}
}

func ioctl(fd int, request uintptr, data unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(data)); errno != 0 {
		return errno
	}
	return nil
}

// answer makes the node. What the caller may not, or what can't be found out, is left
// to the kernel, which refuses it.
func (c *nodeCall) answer(waiting func() bool) nodeAnswer {
	leave := nodeAnswer{ID: c.ID, Flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	n, err := c.node()
	if n.root != nil {
		defer n.root.Close()
	}
	if err != nil || !n.allowed || !waiting() { // another process may have its number by now
		return leave
	}
	var errno unix.Errno
	if err := n.make(); errors.As(err, &errno) {
		return nodeAnswer{ID: c.ID, Error: -int32(errno)}
	} else if err != nil {
		return leave
	}
	return nodeAnswer{ID: c.ID}
}

// node is a device node to make.
type node struct {
	root    *os.File // of the caller
	path    string   // below it, not cleaned: what is above a symbolic link is elsewhere
	mode    uint32
	device  int
	allowed bool // the caller is root of its namespace and has the capability
}

// node reads what the caller asks for.
func (c *nodeCall) node() (n node, err error) {
	dir, args := int32(unix.AT_FDCWD), c.Argument[:]
	if uint32(c.Number) != mknodCall() {
		dir, args = int32(args[0]), args[1:]
	}
	n.mode, n.device = uint32(args[1]), int(uint32(args[2]))
	if n.path, err = c.text(args[0]); err != nil {
		return n, err
	}
	if err = c.status(&n); err != nil {
		return n, err
	}
	proc := fmt.Sprintf("/proc/%d/", c.PID)
	if n.root, err = os.OpenFile(proc+"root", unix.O_PATH|unix.O_DIRECTORY, 0); err != nil || path.IsAbs(n.path) {
		return n, err
	}
	at := proc + "cwd"
	if dir != unix.AT_FDCWD {
		at = proc + "fd/" + strconv.Itoa(int(dir))
	}
	root, err := os.Readlink(proc + "root")
	if err != nil {
		return n, err
	}
	where, err := os.Readlink(at)
	if err != nil {
		return n, err
	}
	below, ok := strings.CutPrefix(where+"/", strings.TrimSuffix(root, "/")+"/")
	if !ok {
		return n, fmt.Errorf("%s is not below %s", where, root)
	}
	n.path = below + n.path
	return n, nil
}

// text reads a path from the caller's memory.
func (c *nodeCall) text(at uint64) (string, error) {
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", c.PID))
	if err != nil {
		return "", err
	}
	defer memory.Close()
	data := make([]byte, unix.PathMax)
	n, err := memory.ReadAt(data, int64(at)) // a page of it may be the last
	text, _, whole := bytes.Cut(data[:n], []byte{0})
	if !whole || len(text) == 0 {
		return "", errors.Join(errors.New("no path"), err)
	}
	return string(text), nil
}

// status reads what proc(5) says of the caller's umask and rights.
func (c *nodeCall) status(n *node) error {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.PID))
	if err != nil {
		return err
	}
	field := func(name string, at, base int) (value uint64) {
		for line := range strings.Lines(string(data)) {
			if words := strings.Fields(line); len(words) > at && words[0] == name+":" {
				value, err = strconv.ParseUint(words[at], base, 64)
				return value
			}
		}
		err = fmt.Errorf("process %d: no %s", c.PID, name)
		return 0
	}
	n.mode &^= uint32(field("Umask", 1, 8))
	ofFiles, effective := field("Uid", 4, 10), field("CapEff", 1, 16)
	n.allowed = ofFiles == 0 && effective&(1<<unix.CAP_MKNOD) != 0
	return err
}

// make makes the node where the caller is.
func (n *node) make() error {
	dir, name := path.Split(n.path)
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	at, err := unix.Openat2(int(n.root.Fd()), "./"+dir, &how)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	if err := unix.Mknodat(at, name, n.mode, n.device); err != nil {
		return err
	}
	return n.setMode(at, name)
}

// setMode gives the node its mode, whatever the umask here. Before Linux 6.6 the kernel
// has no call that does so and follows no link, so that the node is opened: unless
// another process has put something else there meanwhile, which stays as it is.
func (n *node) setMode(at int, name string) error {
	fd, err := unix.Openat(at, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil {
		return err
	}
	if now.Mode&unix.S_IFMT != n.mode&unix.S_IFMT || int(now.Rdev) != n.device {
		return nil
	}
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), n.mode&^unix.S_IFMT)
}
