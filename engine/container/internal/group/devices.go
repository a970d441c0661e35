// Package group has the control groups of containers, of either version.
//
//	Limited  a group with limits of memory and processors, as libcontainer is to see it
//	Counter  counts the processes that a limit of memory has ended
//	Devices  a group whose processes open only the devices of one table
//
// It hides how hierarchies are mounted and which of them the kernel has. What is
// left of a process that was killed is known by its name (OwnerTag) and removed (Reap).
package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A container may make device nodes, as the scripts of packages do, but opens
// only the devices of one table: a loop device or a disk that it opened would be
// the host's, and what it did to it would outlive it. The kernel checks the table
// at each open(2), wherever the node is, by a program on the container's control
// group of version 2: the kernel's documentation of BPF_PROG_TYPE_CGROUP_DEVICE.
// That needs no controller, so that it works beside hierarchies of version 1 too.

// Device is a character device that containers may open.
type Device struct {
	Major, Minor uint32
	Name         string // of its node in /dev; "" for one that gets none here
}

// anyMinor stands for all devices of a major number.
const anyMinor = 1<<32 - 1

// allowedDevices are all that a container can open: Linux, devices.txt.
var allowedDevices = [...]Device{
	{1, 3, "null"},
	{1, 5, "zero"},
	{1, 7, "full"},
	{1, 8, "random"},
	{1, 9, "urandom"},
	{5, 0, "tty"},
	{5, 2, ""},          // ptmx, which devpts makes
	{136, anyMinor, ""}, // pts/N, likewise
}

// Allowed are the devices that containers may open.
func Allowed() []Device { return slices.Clone(allowedDevices[:]) }

// Devices is a control group whose processes open only allowed devices.
type Devices struct {
	tree *os.File // the hierarchy, mounted nowhere
	dir  *os.File // the group
	path string   // of the group in the hierarchy
}

// devicesSuffix ends the names of device groups.
const devicesSuffix = ".devices"

// DevicesName is the name of the device group of a container of this process.
func DevicesName(id string) string { return OwnerTag() + "." + id + devicesSuffix }

// OwnDevices is the device group that this process is in, nil without one.
func OwnDevices() *Devices {
	own, err := ownUnified()
	if err != nil || !strings.HasSuffix(own, devicesSuffix) {
		return nil
	}
	tree, err := unifiedTree(false)
	if err != nil {
		return nil
	}
	return &Devices{tree: tree, path: own}
}

// NewDevices makes a group below that of this process, so that limits on this
// process hold for it too. The
// name is one of [DevicesName].
func NewDevices(name string) (_ *Devices, err error) {
	g := &Devices{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("keep the container from the host's devices: %w", err), g.Remove())
		}
	}()
	if g.tree, err = unifiedTree(false); err != nil {
		return nil, err
	}
	own, err := ownUnified()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(own, name)
	if err := unix.Mkdirat(int(g.tree.Fd()), relative(path), 0o755); err != nil {
		return nil, &os.PathError{Op: "make control group", Path: path, Err: err}
	}
	g.path = path
	fd, err := unix.Openat(int(g.tree.Fd()), relative(path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open control group", Path: path, Err: err}
	}
	g.dir = os.NewFile(uintptr(fd), path)
	return g, restrictDevices(g.dir)
}

// ownUnified is this process's group of version 2.
func ownUnified() (string, error) {
	lines, err := memberships()
	if err != nil {
		return "", err
	}
	for _, l := range lines {
		if l.controllers == "" {
			return l.path, nil
		}
	}
	return "", errors.New("the kernel has no control groups of version 2")
}

// relative is a group's path below the root of its hierarchy.
func relative(path string) string { return filepath.Join(".", path) }

// Dir is the group's directory, for clone3(2).
func (g *Devices) Dir() *os.File { return g.dir }

// Join moves this process into the group.
func (g *Devices) Join() error { return g.moveHere(g.path) }

// Leave moves this process back, so that the group can be removed.
func (g *Devices) Leave() error { return g.moveHere(filepath.Dir(g.path)) }

func (g *Devices) moveHere(path string) error {
	fd, err := unix.Openat(int(g.tree.Fd()), filepath.Join(relative(path), "cgroup.procs"), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open control group", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte("0")); err != nil {
		return &os.PathError{Op: "join control group", Path: path, Err: err}
	}
	return nil
}

// emptyPatience is how long the kernel may take to see that a group whose
// processes have ended is empty. What stays is left to Reap.
const emptyPatience = time.Second

// Remove removes the group, whose processes have ended.
func (g *Devices) Remove() error {
	var err error
	if g.path != "" {
		deadline := time.Now().Add(emptyPatience)
		for delay := time.Millisecond; ; delay = min(2*delay, 50*time.Millisecond) {
			err = removeGroup(int(g.tree.Fd()), relative(g.path))
			if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
				break
			}
			time.Sleep(delay)
		}
	}
	for _, f := range []*os.File{g.dir, g.tree} {
		if f != nil {
			f.Close()
		}
	}
	if err != nil {
		return &os.PathError{Op: "remove control group", Path: g.path, Err: err}
	}
	return nil
}

// removeGroup removes a control group and those that the command made below it.
func removeGroup(at int, name string) error {
	err := unix.Unlinkat(at, name, unix.AT_REMOVEDIR)
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	fd, oerr := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if oerr != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	entries, _ := dir.ReadDir(-1) // what is not seen keeps the group
	for _, e := range entries {
		if e.IsDir() {
			_ = removeGroup(fd, e.Name())
		}
	}
	return unix.Unlinkat(at, name, unix.AT_REMOVEDIR)
}

// restrictDevices lets the processes of the group whose directory is given, and
// of the groups below it, open only the allowed devices.
func restrictDevices(dir *os.File) error {
	program, err := loadDeviceProgram()
	if err != nil {
		return err
	}
	defer unix.Close(program)
	attach := struct{ target, program, kind, flags uint32 }{
		uint32(dir.Fd()), uint32(program), unix.BPF_CGROUP_DEVICE, unix.BPF_F_ALLOW_MULTI,
	}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_ATTACH, uintptr(unsafe.Pointer(&attach)), unsafe.Sizeof(attach))
	if errno != 0 {
		return os.NewSyscallError("bpf: attach a device filter", errno)
	}
	return nil
}

// verifierPatience is how often the kernel may ask to load the program again
// because a signal interrupted its check.
const verifierPatience = 30

func loadDeviceProgram() (int, error) {
	code, license := deviceProgram(), []byte("Dual BSD/GPL\x00")
	var pinned runtime.Pinner // the kernel gets their addresses as numbers
	pinned.Pin(&code[0])
	pinned.Pin(&license[0])
	defer pinned.Unpin()
	load := struct {
		kind, count       uint32
		code, license     uint64
		logLevel, logSize uint32
		log               uint64
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(code) / 8),
		code:    uint64(uintptr(unsafe.Pointer(&code[0]))),
		license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	for tries := 0; ; tries++ {
		fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&load)), unsafe.Sizeof(load))
		if errno == unix.EAGAIN && tries < verifierPatience {
			continue
		}
		if errno != 0 {
			return 0, os.NewSyscallError("bpf: load a device filter", errno)
		}
		unix.CloseOnExec(int(fd))
		return int(fd), nil
	}
}

// Instructions of the program: the kernel's instruction set document. The first
// register holds the answer, the second the context: access, major, minor.
const (
	bpfLoadWord = unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W
	bpfMove     = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K
	bpfAnd      = unix.BPF_ALU64 | unix.BPF_AND | unix.BPF_K
	bpfShift    = unix.BPF_ALU64 | unix.BPF_RSH | unix.BPF_K
	bpfIfEqual  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	bpfIfNot    = unix.BPF_JMP | unix.BPF_JNE | unix.BPF_K
	bpfReturn   = unix.BPF_JMP | unix.BPF_EXIT
)

// deviceProgram allows making any node and opening the allowed devices.
func deviceProgram() []byte {
	var code []byte
	add := func(op byte, to, from byte, jump int16, value uint32) {
		code = append(code, op, from<<4|to)
		code = binary.NativeEndian.AppendUint16(code, uint16(jump))
		code = binary.NativeEndian.AppendUint32(code, value)
	}
	add(bpfLoadWord, 2, 1, 0, 0) // type of the device, and above it the kind of access
	add(bpfMove, 0, 0, 0, 1)
	add(unix.BPF_ALU64|unix.BPF_MOV|unix.BPF_X, 3, 2, 0, 0)
	add(bpfShift, 3, 0, 0, 16)
	add(bpfIfNot, 3, 0, 1, unix.BPF_DEVCG_ACC_MKNOD)
	add(bpfReturn, 0, 0, 0, 0)
	add(bpfAnd, 2, 0, 0, 0xffff)
	add(bpfIfEqual, 2, 0, 2, unix.BPF_DEVCG_DEV_CHAR)
	add(bpfMove, 0, 0, 0, 0)
	add(bpfReturn, 0, 0, 0, 0)
	add(bpfLoadWord, 2, 1, 4, 0)
	add(bpfLoadWord, 3, 1, 8, 0)
	for _, d := range allowedDevices {
		if d.Minor == anyMinor {
			add(bpfIfNot, 2, 0, 1, d.Major)
		} else {
			add(bpfIfNot, 2, 0, 2, d.Major)
			add(bpfIfNot, 3, 0, 1, d.Minor)
		}
		add(bpfReturn, 0, 0, 0, 0)
	}
	add(bpfMove, 0, 0, 0, 0)
	add(bpfReturn, 0, 0, 0, 0)
	return code
}
