package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/engine/container"
	"b9.build/b9/engine/tool"
)

// without32 is the variable that makes this program b9 on a machine whose kernel
// runs no 32-bit program of x86.
const without32 = "B9_TEST_WITHOUT32"

// refuse32 ends every 32-bit program of x86 that this process starts at its first
// system call, as the filter of a service manager or of a container's runtime does.
// The kernel was built for them, and personality(2) succeeds, all the same.
func refuse32() error {
	code := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 4}, // the machine that the call is of
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.AUDIT_ARCH_I386},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(code)
	if errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	return nil
}

// on32 is a command line of b9 on such a machine, with these variables beside.
func on32(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	if os.Getuid() != 0 || runtime.GOARCH != "amd64" {
		t.Skip("needs root, and a machine of x86-64")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), without32+"=1"), env...)
	return cmd
}

// noEmulator is a PATH with everything but emulators.
func noEmulator(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, from := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		entries, _ := os.ReadDir(from) // PATH may name what is not there
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), "qemu-") {
				_ = os.Symlink(filepath.Join(from, e.Name()), filepath.Join(dir, e.Name())) // the first one counts
			}
		}
	}
	return "PATH=" + dir
}

// needEmulator skips the test where Debian's emulator is not installed, or the kernel
// takes no registrations of b9's own.
func needEmulator(t *testing.T) {
	t.Helper()
	if _, err := tool.Find("qemu-i386-static"); err != nil {
		t.Skip("needs the Debian package qemu-user-static")
	}
	if e, err := container.FindEmulator(t.Context(), "s390x"); err != nil || !e.Own {
		t.Skipf("needs a kernel with registrations for a user namespace: %v", err)
	}
}

// TestWithout32Doctor lets doctor say what runs 32-bit programs: a run, and not what
// the kernel was built for.
func TestWithout32Doctor(t *testing.T) {
	for name, c := range map[string]struct {
		env    []string
		status string
		says   string
	}{
		"emulated": {nil, "ok", "programs of i686 are run by "},
		"nothing":  {[]string{noEmulator(t)}, "warn", "this machine runs no programs of i686"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "emulated" {
				needEmulator(t)
			} else if hostRegisters(t) {
				t.Skip("this machine has an emulator registered")
			}
			out, _ := on32(t, c.env, "doctor", "--json").Output() // a status for other findings
			var d output.Doctor
			if err := json.Unmarshal(out, &d); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, f := range d.Checks {
				if f.Name == "32-bit containers" && (f.Status != c.status || !strings.HasPrefix(f.Detail, c.says)) {
					t.Errorf("got %+v, want %s: %s", f, c.status, c.says)
				}
				if strings.HasPrefix(f.Name, "container backend") && strings.Contains(f.Detail, "i686") {
					t.Errorf("got %+v", f)
				}
			}
		})
	}
}

// hostRegisters reports whether the host has an emulator registered that would serve
// without b9's own.
func hostRegisters(t *testing.T) bool {
	entries, _ := filepath.Glob("/proc/sys/fs/binfmt_misc/qemu-i386*")
	return len(entries) > 0
}

// TestWithout32Refused builds what nothing runs here: it ends before anything is
// downloaded, and says what to install.
func TestWithout32Refused(t *testing.T) {
	if hostRegisters(t) {
		t.Skip("this machine has an emulator registered")
	}
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	var asked atomic.Int64
	go func() {
		for {
			conn, err := proxy.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			conn.Close()
		}
	}()
	dir, store := checkout(t), t.TempDir()
	env := []string{noEmulator(t), "http_proxy=http://" + proxy.Addr().String(), "https_proxy=http://" + proxy.Addr().String()}
	var stderr bytes.Buffer
	cmd := on32(t, env, "-C", dir, "--store", store, "build", "examples/hello32.star")
	cmd.Stderr = &stderr
	err = cmd.Run()
	want := "examples/hello32.star:10:13: bootstrap(): this machine runs no programs of i686, neither by its kernel nor by an emulator: install the Debian package qemu-user-static"
	if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(stderr.String(), want) {
		t.Errorf("%v, want status 1 and %q:\n%s", err, want, &stderr)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the network was asked %d times", n)
	}
	if _, err := os.Stat(filepath.Join(store, "cache", "apt")); err == nil {
		t.Error("something was fetched of an archive")
	}
}

// TestHello32Emulated builds the example on both sorts of machine, and what comes out
// is the same.
func TestHello32Emulated(t *testing.T) {
	if os.Getenv(longTests) == "" {
		t.Skipf("installs a Debian twice, once emulated: set %s=1, as `make test` does", longTests)
	}
	needEmulator(t)
	dir, store := checkout(t), t.TempDir()
	var stdout, stderr bytes.Buffer
	args := []string{"-C", dir, "--store", store, "build", "examples/hello32.star:hello32", "examples/hello32.star:toolchain"}
	for i := range 2 {
		stdout.Reset()
		stderr.Reset()
		cmd := on32(t, nil, append([]string{"--json"}, args...)...)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, &stderr)
		}
		if i == 0 && !strings.HasPrefix(stderr.String(), "b9: programs of i686 are run by ") {
			t.Errorf("nobody says first what runs the programs:\n%s", &stderr)
		}
	}
	var emulated output.Build
	if err := json.Unmarshal(stdout.Bytes(), &emulated); err != nil {
		t.Fatalf("%v\n%s", err, &stdout)
	}
	if emulated.Executed != 0 {
		t.Errorf("built again without a change: %d steps ran", emulated.Executed)
	}
	native := b9(t, args...)
	if native.Executed == 0 {
		t.Error("what an emulator made counts as made by this machine: the emulator is not in the key")
	}
	if len(emulated.Results) != 2 || !slices.Equal(native.Results, emulated.Results) {
		t.Errorf("results are %+v, emulated %+v", native.Results, emulated.Results)
	}
}
