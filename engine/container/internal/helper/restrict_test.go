package helper

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestRefusedCalls runs the filter's program for calls of every machine in the table.
func TestRefusedCalls(t *testing.T) {
	code := callsProgram(callsTables())
	if len(code) == 0 {
		t.Skip("no calls are known for this machine")
	}
	for _, table := range callsTables() {
		for _, number := range table.numbers {
			if got := filtered(t, code, table.machine, number); got != unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM) {
				t.Errorf("call %d of machine %#x: %#x", number, table.machine, got)
			}
		}
		for _, number := range []uint32{0, 1, 2, 300, 1 << 20, x32Bit} {
			if got := filtered(t, code, table.machine, number); got != unix.SECCOMP_RET_ALLOW {
				t.Errorf("call %d of machine %#x: %#x", number, table.machine, got)
			}
		}
	}
	if got := filtered(t, code, unix.AUDIT_ARCH_S390X, 87); got != unix.SECCOMP_RET_ALLOW {
		t.Errorf("another machine: %#x", got)
	}
}

// filtered interprets a program of classic BPF, as far as the filter uses it.
func filtered(t *testing.T, code []unix.SockFilter, machine, number uint32) uint32 {
	t.Helper()
	var a uint32
	for pc := 0; pc < len(code); pc++ {
		switch c := code[pc]; c.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = map[uint32]uint32{callNumber: number, callMachine: machine}[c.K]
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			if a == c.K {
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
