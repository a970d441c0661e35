package helper

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestRefusedCalls runs the filter's program for calls of every machine in the table.
func TestRefusedCalls(t *testing.T) {
	if len(callsTables()) == 0 {
		t.Skip("no calls are known for this machine")
	}
	const refused, none = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM), unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	answers := map[bool]uint32{false: unix.SECCOMP_RET_ALLOW, true: refused}
	for _, groups := range []bool{false, true} {
		code := callsProgram(callsTables(), groups)
		check := func(machine, number, argument, want uint32) {
			t.Helper()
			if got := filtered(t, code, machine, number, argument); got != want {
				t.Errorf("groups %v: call %d(%#x) of machine %#x: got %#x, want %#x", groups, number, argument, machine, got, want)
			}
		}
		for _, table := range callsTables() {
			for _, number := range table.numbers {
				check(table.machine, number, 0, refused)
			}
			for _, number := range table.flagged {
				check(table.machine, number, unix.CLONE_NEWCGROUP|unix.CLONE_NEWNS, answers[groups])
				check(table.machine, number, unix.CLONE_NEWUSER|unix.CLONE_NEWNS, unix.SECCOMP_RET_ALLOW)
			}
			for _, number := range table.absent {
				check(table.machine, number, 0, map[bool]uint32{false: unix.SECCOMP_RET_ALLOW, true: none}[groups])
			}
			for _, number := range []uint32{0, 1, 2, 300, 1 << 20, x32Bit} {
				check(table.machine, number, unix.CLONE_NEWCGROUP, unix.SECCOMP_RET_ALLOW)
			}
		}
		check(unix.AUDIT_ARCH_S390X, 87, 0, unix.SECCOMP_RET_ALLOW)
	}
}

// filtered interprets a program of classic BPF, as far as the filter uses it.
func filtered(t *testing.T, code []unix.SockFilter, machine, number, argument uint32) uint32 {
	t.Helper()
	var a uint32
	for pc := 0; pc < len(code); pc++ {
		switch c := code[pc]; c.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = map[uint32]uint32{callNumber: number, callMachine: machine, callArgument: argument}[c.K]
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			if a == c.K {
				pc += int(c.Jt)
			} else {
				pc += int(c.Jf)
			}
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			if a&c.K != 0 {
				pc += int(c.Jt)
			} else {
				pc += int(c.Jf)
			}
		case unix.BPF_RET | unix.BPF_K:
			return c.K
		default:
			t.Fatalf("instruction %d: %#x", pc, c.Code)
		}
	}
	t.Fatal("the program has no end")
	return 0
}
