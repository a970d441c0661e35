//go:build cgo

package helper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/moby/sys/user"
	devices "github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // makes the namespaces, before Go starts
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/internal/group"
)

// runner is libcontainer's view of one container, in the helper process. It
// shares the helper's process namespace.
type runner struct {
	guest   *guest
	cgroup  *group.Limited
	memory  group.Counter
	console *os.File // our end of the socket that the terminal comes through
}

// beHelper does the work of a helper if this process is one, and then does not
// return.
func beHelper() {
	if len(os.Args) == 3 && os.Args[1] == Arg {
		os.Exit(status(os.Args[2]))
	}
	if len(os.Args) == 2 && os.Args[1] == "init" && os.Getenv("_LIBCONTAINER_INITPIPE") != "" {
		libcontainer.Init() // the second half of libcontainer's start, which never returns
	}
}

func newRunner(g *guest) (*runner, error) {
	logrus.SetLevel(logrus.ErrorLevel)
	cg, err := group.NewLimited(group.Limits{Name: g.req.Cgroup, Memory: g.req.Spec.Memory, CPUs: g.req.Spec.CPUs})
	if err != nil {
		return nil, err
	}
	return &runner{guest: g, cgroup: cg}, nil
}

// destroy removes what the container had outside the helper. Its processes
// have ended.
func (r *runner) destroy() {
	r.memory.Close()
	r.cgroup.Remove()
	if r.console != nil {
		r.console.Close()
	}
}

// start starts the command and returns its process id.
func (r *runner) start() (int, error) {
	req := r.guest.req
	c, err := libcontainer.Create(r.guest.stateDir(), "c", r.config())
	if err != nil {
		return 0, fmt.Errorf("container runtime: %w", err)
	}
	p, err := r.process()
	if err != nil {
		return 0, err
	}
	if p.ConsoleSocket != nil {
		defer p.ConsoleSocket.Close()
	}
	if err := c.Run(p); err != nil {
		return 0, startError(req.Spec.Argv[0], err)
	}
	// The command has the streams now; here they would keep pipes open.
	closeAll(r.guest.files)
	r.guest.files = nil
	r.memory = r.cgroup.Memory()
	pid, err := p.Pid()
	if err == nil && req.Console != nil {
		err = r.passConsole()
	}
	return pid, err
}

// startError says the usual cause first. libcontainer tells causes by their
// text alone, since they come from another process.
func startError(name string, err error) error {
	text := err.Error()
	says := func(part string) bool { return strings.Contains(text, part) }
	switch {
	case says("executable file not found"), says(name) && says("no such file"):
		return &container.StartError{Command: name, Missing: true, Cause: text}
	}
	if _, cause, ok := strings.Cut(text, fmt.Sprintf("exec: %q: ", name)); ok {
		return &container.StartError{Command: name, Cause: cause}
	}
	return fmt.Errorf("command %q: %w", name, err)
}

func (r *runner) config() *configs.Config {
	spec := &r.guest.req.Spec
	// Not the helper's. Where the helper may not lower its own, and libvirt's process
	// for the container has no other than usual, those of the command still go first
	// when they reach their limit: else nobody could tell why the container ended.
	score := 0
	if spec.Memory > 0 {
		score = 1000
	}
	c := &configs.Config{
		Rootfs:          r.guest.rootDir(),
		Hostname:        spec.Hostname,
		Namespaces:      configs.Namespaces{{Type: configs.NEWNS}, {Type: configs.NEWUTS}, {Type: configs.NEWIPC}},
		Mounts:          systemMounts(),
		Devices:         nodes(),
		Cgroups:         r.cgroup.Config,
		MaskPaths:       hidden[:],
		ReadonlyPaths:   onlyRead[:],
		NoNewKeyring:    true,
		RootlessCgroups: r.cgroup.Config.Rootless,
		Capabilities: &configs.Capabilities{
			Bounding:  spec.Capabilities,
			Permitted: spec.Capabilities,
			Effective: spec.Capabilities,
		},
		Rlimits:     limits(),
		OomScoreAdj: &score,
	}
	// In a namespace of control groups a command that mounts them sees its own alone: it
	// can't leave that, which keeps it from devices, nor make any beside it.
	c.Namespaces.Add(configs.NEWCGROUP, r.guest.path(r.guest.groups))
	if r.guest.req.NetNone {
		c.Namespaces.Add(configs.NEWNET, "")
		c.Networks = []*configs.Network{{Type: "loopback"}}
	}
	if f := r.guest.network; f != nil {
		c.Namespaces.Add(configs.NEWNET, r.guest.path(f))
	}
	if container.Narrow(spec.Arch) && !r.guest.req.Emulated {
		c.Personality = &configs.LinuxPersonality{Domain: configs.PerLinux32}
	}
	r.guest.joinUsers(c)
	return c
}

// path is where libcontainer's processes find an open file of this one, "" for none.
func (g *guest) path(f *os.File) string {
	if f == nil {
		return ""
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
}

// hidden shows the host's memory and keys.
var hidden = [...]string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"}

// onlyRead would change the host's kernel when a package's script writes its settings.
var onlyRead = [...]string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}

func (r *runner) process() (*libcontainer.Process, error) {
	req := r.guest.req
	u, err := r.guest.user()
	if err != nil {
		return nil, err
	}
	p := &libcontainer.Process{
		Args: req.Spec.Argv, Env: req.Spec.Env, Cwd: req.Spec.Dir, Init: true,
		UID: u.Uid, GID: u.Gid, AdditionalGroups: u.Sgids,
	}
	if req.Console == nil {
		for _, f := range r.guest.files {
			if err := unix.SetNonblock(int(f.Fd()), false); err != nil {
				return nil, err
			}
		}
		p.Stdin, p.Stdout, p.Stderr = r.guest.files[0], r.guest.files[1], r.guest.files[2]
		return p, nil
	}
	if r.console, p.ConsoleSocket, err = socketPair("console"); err != nil {
		return nil, err
	}
	p.ConsoleWidth, p.ConsoleHeight = req.Console.Columns, req.Console.Rows
	return p, nil
}

// passConsole sends the terminal's other end, which libcontainer left in the
// socket, to the caller's side.
func (r *runner) passConsole() error {
	name, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(r.console.Fd()), name, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("recvmsg", err)
	}
	files, err := receivedFiles(oob[:n])
	if err != nil {
		return err
	}
	defer closeAll(files)
	if len(files) != 1 {
		return errors.New("the container has no terminal")
	}
	return r.guest.wire.send(message{Console: &console{}}, files...)
}

// user looks up whom to run the command as in the image's own files.
func (g *guest) user() (*user.ExecUser, error) {
	passwd, closePasswd := g.optional("/etc/passwd")
	defer closePasswd()
	group, closeGroup := g.optional("/etc/group")
	defer closeGroup()
	name := g.req.Spec.User
	u, err := user.GetExecUser(name, &user.ExecUser{Home: "/"}, passwd, group)
	if err != nil {
		return nil, fmt.Errorf("user %q of the image: %w", name, err)
	}
	return u, nil
}

// optional opens a file of the image; one that is missing is empty.
func (g *guest) optional(name string) (io.Reader, func()) {
	f, err := g.root.open(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return strings.NewReader(""), func() {}
	}
	return f, func() { f.Close() }
}

func systemMounts() []*configs.Mount {
	const quiet = unix.MS_NOSUID | unix.MS_NOEXEC
	return []*configs.Mount{
		{Source: "proc", Destination: "/proc", Device: "proc", Flags: quiet | unix.MS_NODEV},
		{Source: "tmpfs", Destination: "/dev", Device: "tmpfs", Flags: unix.MS_NOSUID | unix.MS_STRICTATIME, Data: "mode=755,size=65536k"},
		{Source: "devpts", Destination: "/dev/pts", Device: "devpts", Flags: quiet, Data: "newinstance,ptmxmode=0666,mode=0620,gid=5"},
		{Source: "shm", Destination: "/dev/shm", Device: "tmpfs", Flags: quiet | unix.MS_NODEV, Data: "mode=1777"},
		{Source: "mqueue", Destination: "/dev/mqueue", Device: "mqueue", Flags: quiet | unix.MS_NODEV},
		{Source: "sysfs", Destination: "/sys", Device: "sysfs", Flags: quiet | unix.MS_NODEV | unix.MS_RDONLY},
	}
}

// nodes are the device nodes of a container.
func nodes() []*devices.Device {
	var list []*devices.Device
	for _, d := range group.Allowed() {
		if d.Name == "" {
			continue
		}
		list = append(list, &devices.Device{
			Path:     "/dev/" + d.Name,
			FileMode: 0o666,
			Rule: devices.Rule{
				Type: devices.CharDevice, Major: int64(d.Major), Minor: int64(d.Minor), Permissions: "rwm", Allow: true,
			},
		})
	}
	return list
}

// limits are those of a login on a usual system. With the millions of files
// that a daemon may be allowed to open some programs spend seconds closing
// them all.
func limits() []configs.Rlimit {
	hard := uint64(1 << 19)
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err == nil && now.Max < hard {
		hard = now.Max
	}
	return []configs.Rlimit{
		{Type: unix.RLIMIT_NOFILE, Soft: min(1024, hard), Hard: hard},
		{Type: unix.RLIMIT_CORE, Soft: 0, Hard: 0},
	}
}
