package helper

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Some system calls change what no namespace holds: swap areas, which a script
// with the right to mount could leave in its image for good, and the keyrings of
// the user, which are the host's. A filter on process 1 refuses them with EPERM,
// and every process of the container inherits it: seccomp(2), the kernel's
// documentation of SECCOMP_SET_MODE_FILTER.
//
// Where there are control groups of version 1, all processes are in the host's topmost
// groups of them, so that whoever makes a namespace of control groups may mount the
// host's: it is refused, too. clone3 has its flags where no filter sees them. A program
// that is told that there is no clone3 calls clone.

// refusedCalls are the numbers of the calls, by the machine that they are for:
// linux/audit.h.
type refusedCalls struct {
	machine uint32
	numbers []uint32
	flagged []uint32 // calls whose first argument may ask for a namespace of control groups
	absent  []uint32 // calls that have their flags in memory
}

// nativeCalls are those of this machine.
var nativeCalls = [...]uint32{
	unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
}

// flaggedCalls make namespaces.
var flaggedCalls = [...]uint32{unix.SYS_UNSHARE, unix.SYS_CLONE}

// callsTables are the machines that programs here can be for. An x86-64 kernel
// runs those for i386, and those for x32, whose numbers have a bit of their own.
func callsTables() []refusedCalls {
	native, flagged := nativeCalls[:], flaggedCalls[:]
	switch runtime.GOARCH {
	case "amd64":
		for _, n := range nativeCalls {
			native = append(native, n|x32Bit)
		}
		for _, n := range flaggedCalls {
			flagged = append(flagged, n|x32Bit)
		}
		return []refusedCalls{
			{unix.AUDIT_ARCH_X86_64, native, flagged, []uint32{unix.SYS_CLONE3, unix.SYS_CLONE3 | x32Bit}},
			{unix.AUDIT_ARCH_I386, []uint32{87, 115, 286, 287, 288}, []uint32{310, 120}, []uint32{435}},
		}
	case "arm64":
		return []refusedCalls{{unix.AUDIT_ARCH_AARCH64, native, flagged, []uint32{unix.SYS_CLONE3}}}
	}
	return nil
}

const x32Bit = 0x40000000

// What a filter reads: seccomp_data of linux/seccomp.h.
const (
	callNumber   = 0
	callMachine  = 4
	callArgument = 16 // the low half of the first, on machines that begin with it
)

// refuseCalls installs the filter in all threads of this process, with or without the
// rule for control groups.
func refuseCalls(groups bool) error {
	code := callsProgram(callsTables(), groups)
	if len(code) == 0 {
		return nil
	}
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	flags := uintptr(unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(code)
	if errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	return nil
}

// callsProgram is the filter: the calls of each machine follow a test for the machine.
func callsProgram(tables []refusedCalls, groups bool) []unix.SockFilter {
	var code []unix.SockFilter
	for _, t := range tables {
		part := t.program(groups)
		code = append(code, load(callMachine), ifEqual(t.machine, len(part)))
		code = append(code, part...)
	}
	if len(code) == 0 {
		return nil
	}
	return append(code, answer(unix.SECCOMP_RET_ALLOW))
}

// program answers every call for one machine.
func (t *refusedCalls) program(groups bool) []unix.SockFilter {
	refuse := answer(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
	allow := answer(unix.SECCOMP_RET_ALLOW)
	code := []unix.SockFilter{load(callNumber)}
	for _, number := range t.numbers {
		code = append(code, ifEqual(number, 1), refuse)
	}
	if groups {
		for _, number := range t.flagged {
			asks := unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, Jf: 1, K: unix.CLONE_NEWCGROUP}
			code = append(code, ifEqual(number, 4), load(callArgument), asks, refuse, allow)
		}
		for _, number := range t.absent {
			code = append(code, ifEqual(number, 1), answer(unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)))
		}
	}
	return append(code, allow)
}

func load(at uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
}

// ifEqual passes over the next instructions unless what was loaded is a value.
func ifEqual(value uint32, pass int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: uint8(pass), K: value}
}

func answer(value uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value}
}
