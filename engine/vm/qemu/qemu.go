// Package qemu starts machines with QEMU, and speaks with them while they run.
//
//	Start    starts a machine; Options say how
//	Running  a machine that runs: its console, its screen, its ports, its end
//	Accelerator  whether this host's KVM runs a guest
//
// A machine ends with this process, however that ends, and leaves no process, port or
// file behind: its channels are pairs of sockets without a name, what it writes goes
// into files without a name unless its disks are to keep it, and a debugger finds it in its
// scratch directory. Ports that are lent and a screen that a server shows are at loopback,
// for every user of this host. The package knows no terminal, no graph and no store.
package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/tool"
	"b9.build/b9/engine/vm"
)

// Tools is the program that machines run in, whose version decides how they do.
func Tools() []tool.Program {
	return []tool.Program{{Name: vm.Program, VersionArgs: []string{"--version"}}}
}

// Options are how a machine is started.
type Options struct {
	Accel   string // "kvm" or "tcg"
	Scratch string // a directory of this user alone, for what lasts as long as the machine

	// Keep is a directory for what the firmware and the TPM keep; the machine then
	// writes to its disks. "" throws away what it writes.
	Keep string

	Network     Network
	Screen      string            // of Screens; "" for one that nobody sees
	GDB         bool              // waits for a debugger before the first instruction
	Credentials map[string]string // for systemd(1) of the guest, handed in through the SMBIOS
}

// How long a machine may take to end once it is told to: one that throws away what it
// writes, and one that has to get it to its disks.
const (
	grace     = 5 * time.Second
	keepGrace = 10 * time.Minute
)

// grace is that of a machine which is started so.
func (o *Options) grace() time.Duration {
	if o.Keep != "" {
		return keepGrace
	}
	return grace
}

// Running is a machine that was started. The caller closes it.
type Running struct {
	Console net.Conn // the first serial line
	GDB     string   // path of the socket at which a debugger is waited for; "" for none

	monitor *monitor
	stderr  *tail
	ended   chan struct{}
	err     error // of the end, once it came
	grace   time.Duration
	tpm     *child
	agent   agent
}

// Start starts a machine whose files have absolute paths. The context is for starting
// only.
func Start(ctx context.Context, m *vm.Machine, o Options) (_ *Running, err error) {
	path, err := tool.Find(vm.Program)
	if err != nil {
		return nil, err
	}
	r := &Running{stderr: &tail{}, ended: make(chan struct{}), grace: o.grace()}
	var l lent
	defer func() {
		if l.close(); err != nil {
			r.Close()
		}
	}()
	if err := r.startTPM(m, o, &l); err != nil {
		return nil, err
	}
	args, err := r.args(m, o, &l)
	if err != nil {
		return nil, err
	}
	qemu, err := spawn(path, args, l.files, r.stderr, "TMPDIR="+o.Scratch)
	if err != nil {
		return nil, err
	}
	r.monitor.process = qemu
	go func() {
		<-qemu.ended
		r.err = qemu.err
		close(r.ended)
	}()
	l.close() // so that the channels end with QEMU
	if err := r.monitor.open(ctx); err != nil {
		qemu.kill()
		<-r.ended
		return nil, fmt.Errorf("%s: %w", vm.Program, cmpError(r.stderr.text(), err))
	}
	return r, nil
}

// cmpError is what a program said, or else the error.
func cmpError(said string, err error) error {
	if said != "" {
		return errors.New(said)
	}
	return err
}

// args is QEMU's command line; the channels that it names are lent to QEMU.
func (r *Running) args(m *vm.Machine, o Options, l *lent) ([]string, error) {
	h, err := host(m, o)
	if err != nil {
		return nil, err
	}
	control, err := l.pair()
	if err != nil {
		return nil, err
	}
	r.monitor = newMonitor(control)
	args := append(r.channel("qmp", l), "-mon", "chardev=qmp,mode=control")
	if r.Console, err = l.pair(); err != nil {
		return nil, err
	}
	args = append(append(args, r.channel("console", l)...), "-serial", "chardev:console")
	if r.agent.conn, err = l.pair(); err != nil {
		return nil, err
	}
	args = append(append(args, r.channel("agent", l)...),
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name="+vm.AgentPort)
	if o.GDB {
		if r.GDB, err = l.listen(filepath.Join(o.Scratch, "gdb")); err != nil {
			return nil, err
		}
		args = append(args, "-chardev", fmt.Sprintf("socket,id=gdb,fd=%d,server=on,wait=off", l.last()), "-gdb", "chardev:gdb", "-S")
	}
	h.Console = args
	if m.TPM {
		h.TPM = "fd=3" // the first that is lent
	}
	return append(m.Args(h), common(o)...), nil
}

// channel is the option for what was lent last.
func (r *Running) channel(id string, l *lent) []string {
	return []string{"-chardev", fmt.Sprintf("socket,id=%s,fd=%d", id, l.last())}
}

// common is what follows from the options, wherever the channels are.
func common(o Options) []string {
	var args []string
	if o.Keep == "" {
		args = append(args, "-snapshot")
	}
	for name, value := range o.Credentials {
		args = append(args, "-smbios", "type=11,value=io.systemd.credential:"+name+"="+comma(value))
	}
	return append(args, "-action", "shutdown=pause")
}

// host is what this host adds to a machine, without its channels.
func host(m *vm.Machine, o Options) (vm.Host, error) {
	h := vm.Host{Accel: o.Accel, Networks: o.Network.backends(len(m.NICs)), Display: screenArgs(o.Screen)}
	if m.Firmware != "uefi" {
		return h, nil
	}
	var err error
	if h.Code, h.Vars, err = vm.FindFirmware(m.SecureBoot); err != nil || o.Keep == "" {
		return h, err
	}
	kept := filepath.Join(o.Keep, m.Name+".vars")
	err = keepVars(h.Vars, kept)
	h.Vars = kept
	return h, err
}

// keepVars copies the variables that a firmware begins with, the first time. What has
// the name is whole.
func keepVars(from, kept string) error {
	if _, err := os.Stat(kept); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(kept+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(kept+".new", kept)
}

// comma doubles commas, which end a value in QEMU's options.
func comma(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// Lines are command lines for a shell that start the machine as Start does, but with
// the console and the monitor on the terminal. QEMU's is the last one; a TPM is served first.
func Lines(m *vm.Machine, o Options) ([][]string, error) {
	h, err := host(m, o)
	if err != nil {
		return nil, err
	}
	h.Console = []string{"-serial", "mon:stdio"}
	var lines [][]string
	if m.TPM {
		state, err := filepath.Abs(filepath.Join(o.Keep, m.Name+".tpm"))
		if err == nil && strings.Contains(state, ",") {
			err = fmt.Errorf("%s: swtpm takes no path with a comma", state)
		}
		if err != nil {
			return nil, err
		}
		socket := "path=" + filepath.Join(state, "socket")
		h.TPM = socket
		lines = append(lines, []string{"mkdir", "-p", state},
			[]string{"swtpm", "socket", "--tpm2", "--tpmstate", "dir=" + state, "--ctrl", "type=unixio," + socket, "--terminate", "--daemon"})
	}
	args := append(m.Args(h), common(o)...)
	if o.GDB {
		args = append(args, "-chardev", "socket,id=gdb,server=on,wait=off,path="+comma(m.Name+".gdb"), "-gdb", "chardev:gdb", "-S")
	}
	return append(lines, append([]string{vm.Program}, args...)), nil
}

// Ended is closed when the machine has ended, by itself or since it was told to.
func (r *Running) Ended() <-chan struct{} { return r.ended }

// Down is closed when the guest has switched itself off, or ended in another way. The
// screen still shows what it showed.
func (r *Running) Down() <-chan struct{} { return r.monitor.down }

// Err says why the machine ended, nil where that is as it should be. The machine must
// have ended.
func (r *Running) Err() error {
	if r.err == nil {
		return nil
	}
	var exit *exec.ExitError
	if said := r.stderr.lines(); len(said) > 0 && errors.As(r.err, &exit) {
		return &tool.Failure{Program: vm.Program, Code: exit.ExitCode(), Output: strings.Join(said, "\n")}
	}
	return fmt.Errorf("%s: %w", vm.Program, cmpError(r.stderr.text(), r.err))
}

// Died says why QEMU ended before it was told to; nil where it runs, whether or not the
// guest is off.
func (r *Running) Died() error {
	if !r.monitor.gone() {
		return nil
	}
	<-r.ended // the monitor ends with it
	return r.Err()
}

// End ends the machine at once, as by its plug, but what QEMU has yet to write to disks that
// are kept gets there first. What it wrote to its console can still be read.
func (r *Running) End() {
	ctx, cancel := context.WithTimeout(context.Background(), r.grace)
	defer cancel()
	_ = r.monitor.run(ctx, "quit", nil, nil) // it may end before it answers
	select {
	case <-r.ended:
	case <-ctx.Done():
		r.monitor.process.kill()
		<-r.ended
	}
}

// PowerDown presses the guest's power button.
func (r *Running) PowerDown(ctx context.Context) error {
	return r.monitor.run(ctx, "system_powerdown", nil, nil)
}

// Close ends the machine and its channels.
func (r *Running) Close() {
	if r.monitor != nil {
		if r.monitor.ready {
			r.End()
		}
		_ = r.monitor.conn.Close() // the other end is gone
	}
	for _, c := range []net.Conn{r.Console, r.agent.conn} {
		if c != nil {
			_ = c.Close()
		}
	}
	if r.tpm != nil {
		r.tpm.kill() // which ends by itself with the machine; this is for one that never came
		<-r.tpm.ended
	}
}

// child is a process that ends with this one.
type child struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // once it has ended
}

// spawn starts a process that ends with this one. The thread that starts a process is
// the parent whose death the kernel tells it of, so it stays until the process has ended.
func spawn(path string, args []string, files []*os.File, stderr *tail, env ...string) (*child, error) {
	c := &child{cmd: exec.Command(path, args...), ended: make(chan struct{})} //nolint:gosec // that is its purpose
	c.cmd.ExtraFiles, c.cmd.Stdout, c.cmd.Stderr, c.cmd.Env = files, stderr, stderr, append(os.Environ(), env...)
	// In a group of its own, it gets no signal that a terminal has for b9.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			c.err = c.cmd.Wait()
		}
		close(c.ended)
	}()
	return c, <-started
}

func (c *child) kill() { _ = c.cmd.Process.Kill() } // it may have ended

// lent are descriptors for QEMU, which it has from number 3 on.
type lent struct{ files []*os.File }

func (l *lent) last() int { return 2 + len(l.files) }

func (l *lent) close() {
	for _, f := range l.files {
		_ = f.Close() // QEMU has a copy
	}
	l.files = nil
}

// pair makes a channel, of which one end is lent.
func (l *lent) pair() (net.Conn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	l.files = append(l.files, os.NewFile(uintptr(fds[1]), "channel"))
	own := os.NewFile(uintptr(fds[0]), "channel")
	defer own.Close() // FileConn has a copy
	return net.FileConn(own)
}

// maxSocket is how long the path of a socket may be, in bytes: see unix(7).
const maxSocket = 107

// listen lends a socket that listens at a path. It is no port: who reaches QEMU's stub for
// debuggers can have QEMU run programs, and a port of loopback is every user's.
func (l *lent) listen(path string) (string, error) {
	if len(path) > maxSocket {
		return "", fmt.Errorf("%s: the path of a socket has at most %d bytes: use a store whose path is shorter", path, maxSocket)
	}
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return "", err
	}
	defer socket.Close()
	socket.SetUnlinkOnClose(false)
	f, err := socket.File()
	if err != nil {
		return "", err
	}
	l.files = append(l.files, f)
	return path, nil
}

// tail keeps the end of what a program says.
type tail struct {
	mu   sync.Mutex
	said []byte
}

const maxTail = 4096

// Write implements io.Writer.
func (t *tail) Write(data []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.said = append(t.said, data...)
	if n := len(t.said) - maxTail; n > 0 {
		t.said = t.said[n:]
	}
	return len(data), nil
}

// text is what the program said of the cause.
func (t *tail) text() string {
	said, _ := tool.Cause(strings.Join(t.lines(), "\n"))
	return said
}

// lines are what the program said, without its name before each.
func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for line := range strings.Lines(string(t.said)) {
		if line = strings.TrimPrefix(strings.TrimSpace(line), vm.Program+": "); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// startTPM starts the TPM of a machine that has one. It ends when its channel does.
func (r *Running) startTPM(m *vm.Machine, o Options, l *lent) error {
	if !m.TPM {
		return nil
	}
	path, err := tool.Find("swtpm")
	if err != nil {
		return err
	}
	state := filepath.Join(o.Scratch, m.Name+".tpm")
	if o.Keep != "" {
		state = filepath.Join(o.Keep, m.Name+".tpm")
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	dir, err := os.Open(state)
	if err != nil {
		return err
	}
	defer dir.Close()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	l.files = append(l.files, os.NewFile(uintptr(fds[0]), "tpm"))
	own := os.NewFile(uintptr(fds[1]), "tpm")
	defer own.Close()
	// Its directory has no path here, since a comma in one would end it.
	r.tpm, err = spawn(path, []string{"socket", "--tpm2", "--tpmstate", "dir=/proc/self/fd/4", "--ctrl", "type=unixio,clientfd=3", "--terminate"}, []*os.File{own, dir}, r.stderr)
	if err != nil {
		r.tpm = nil
	}
	return err
}
