package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/tool"
	"b9.build/b9/engine/vm"
)

// kvmNode is what KVM is reached by.
const kvmNode = "/dev/kvm"

// kvmPatience is how long a guest may take that a processor runs in milliseconds, from
// the moment on at which QEMU is up. startPatience is how long that may take on a host with
// much else to do.
const (
	kvmPatience   = 3 * time.Second
	startPatience = 30 * time.Second
)

// probeStatus is what QEMU ends with once the guest has written 42 to isa-debug-exit.
const probeStatus = 42<<1 | 1

// Accelerator is "kvm" if a guest was seen to run by it, else "tcg", which works
// everywhere, and why it is that. The node of KVM may be there, be opened, and run no
// guest, hang, or run one a thousand times slower, as within another machine: so a guest is
// started that counts to two million and ends QEMU.
func Accelerator(ctx context.Context) (accel, why string) {
	if err := probe(ctx, kvmNode); err != nil {
		return "tcg", fmt.Sprintf("without KVM, many times slower: %v", err)
	}
	return "kvm", ""
}

// Waited is how long the machine has waited for a processor of this host since it was
// started: the thread of it that waited longest. On a host without other work it is next to
// nothing; where the kernel does not tell, it is 0.
func (r *Running) Waited() time.Duration {
	var most time.Duration
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", r.monitor.process.cmd.Process.Pid))
	for _, file := range files {
		var ran, waited time.Duration // nanoseconds
		if data, err := os.ReadFile(file); err == nil {
			_, _ = fmt.Sscan(string(data), &ran, &waited) // another kernel's format counts nothing
		}
		most = max(most, waited)
	}
	return most
}

func probe(ctx context.Context, node string) error {
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_ = f.Close() // it was only asked whether it opens
	path, err := tool.Find(vm.Program)
	if err != nil {
		return err
	}
	return runProbe(ctx, path, "kvm", kvmPatience)
}

// runProbe runs the smallest guest there is.
func runProbe(ctx context.Context, path, accel string, patience time.Duration) error {
	image, err := probeImage()
	if err != nil {
		return err
	}
	cpu := "host"
	if accel == "tcg" {
		cpu = "max"
	}
	l := lent{files: []*os.File{image}}
	defer l.close()
	control, err := l.pair()
	if err != nil {
		return err
	}
	defer control.Close()
	var said tail
	c, err := spawn(path, []string{
		"-accel", accel, "-cpu", cpu, "-machine", "pc", "-m", "16", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-bios", "/proc/self/fd/3",
		"-chardev", "socket,id=qmp,fd=4", "-mon", "chardev=qmp,mode=control", "-S",
	}, l.files, &said)
	l.close()
	if err != nil {
		return err
	}
	if slow := letRun(ctx, c, control, patience); slow != nil {
		c.kill()
		select {
		case <-c.ended:
		case <-time.After(grace): // the kernel lets it go when it can
		}
		return slow
	}
	var status *exec.ExitError
	if errors.As(c.err, &status) && status.ExitCode() == probeStatus {
		return nil
	}
	return fmt.Errorf("%s opens, and runs no guest: %w", kvmNode, cmpError(said.text(), c.err))
}

// letRun has the guest run once QEMU is up, and waits until QEMU ends.
func letRun(ctx context.Context, c *child, control net.Conn, patience time.Duration) error {
	starting, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	m := newMonitor(control)
	if err := m.open(starting); err != nil && starting.Err() != nil {
		return fmt.Errorf("%s opens, and QEMU did not start with it within %v", kvmNode, startPatience)
	}
	running, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_ = m.run(running, "cont", nil, nil) // it may end before it answers
	select {
	case <-c.ended:
		return nil
	case <-running.Done():
		return fmt.Errorf("%s opens, and a guest of two million instructions did not get to its end within %v", kvmNode, patience)
	}
}

// probeImage is a firmware that lies at the end of the first MiB. Its first instruction is
// 16 bytes before its end, and leads to its beginning.
func probeImage() (*os.File, error) {
	const size, reset = 64 << 10, 16
	fd, err := unix.MemfdCreate("b9-probe", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "probe")
	image := make([]byte, size)
	copy(image, []byte{
		0x66, 0xb9, 0x80, 0x84, 0x1e, 0x00, // mov ecx, 2000000
		0x66, 0x49, 0x75, 0xfc, // dec ecx; jnz to itself
		0xb0, 0x2a, 0xe6, 0xf4, // out 0xf4, 42
		0xf4, 0xeb, 0xfd, // hlt, for ever
	})
	copy(image[size-reset:], []byte{0xea, 0x00, 0x00, 0x00, 0xf0}) // jmp f000:0000
	if _, err := f.Write(image); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
