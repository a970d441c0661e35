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

// refusedCalls are the numbers of the calls, by the machine that they are for:
// linux/audit.h.
type refusedCalls struct {
	machine uint32
	numbers []uint32
}

// nativeCalls are those of this machine.
var nativeCalls = [...]uint32{
	unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
}

// callsTables are the machines that programs here can be for. An x86-64 kernel
// runs those for i386, and those for x32, whose numbers have a bit of their own.
func callsTables() []refusedCalls {
	switch runtime.GOARCH {
	case "amd64":
		native := nativeCalls[:]
		for _, n := range nativeCalls {
			native = append(native, n|x32Bit)
		}
		return []refusedCalls{{unix.AUDIT_ARCH_X86_64, native}, {unix.AUDIT_ARCH_I386, []uint32{87, 115, 286, 287, 288}}}
	case "arm64":
		return []refusedCalls{{unix.AUDIT_ARCH_AARCH64, nativeCalls[:]}}
	}
	return nil
}

const x32Bit = 0x40000000

// What a filter reads: seccomp_data of linux/seccomp.h.
const (
	callNumber  = 0
	callMachine = 4
)

// refuseCalls installs the filter in all threads of this process.
func refuseCalls() error {
	code := callsProgram(callsTables())
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

// callsProgram is the filter: for each machine a test that skips its calls, and
// an answer of its own for every refused one.
func callsProgram(tables []refusedCalls) []unix.SockFilter {
	const (
		load    = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		ifEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		answer  = unix.BPF_RET | unix.BPF_K
	)
	var code []unix.SockFilter
	for _, t := range tables {
		n := uint8(len(t.numbers))
		code = append(code, unix.SockFilter{Code: load, K: callMachine}, unix.SockFilter{Code: ifEqual, Jf: n + 3, K: t.machine},
			unix.SockFilter{Code: load, K: callNumber})
		for i, number := range t.numbers {
			code = append(code, unix.SockFilter{Code: ifEqual, Jt: n - uint8(i), K: number})
		}
		code = append(code, unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW},
			unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)})
	}
	if len(code) == 0 {
		return nil
	}
	return append(code, unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW})
}
