//go:build cgo

package helper

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/internal/group"
)

// Arg is the first argument of this program as process 1 of a
// container. The second is the descriptor of its wire, and after a comma, if
// standard error is of no use, that of a place for messages.
const Arg = "container-helper-process"

// orphanLimit bounds how long a helper whose caller died takes to tidy up.
const orphanLimit = time.Minute

// status serves one run and returns the exit status.
func status(descriptors string) int {
	wire, messages, redirect := strings.Cut(descriptors, ",")
	if redirect {
		if fd, err := strconv.Atoi(messages); err == nil {
			_ = unix.Dup3(fd, 2, 0)
			_ = unix.Close(fd)
		}
	}
	if err := serve(wire); err != nil {
		fmt.Fprintln(os.Stderr, "container helper:", err)
		return 1
	}
	return 0
}

func serve(descriptor string) error {
	if err := checkInit(); err != nil {
		return err
	}
	ignoreSignals()
	// The helper keeps account; a process of the command is to go first when
	// memory runs out. Without the right to ask for that it is no worse off.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
	fd, err := strconv.Atoi(descriptor)
	if err != nil {
		return err
	}
	unix.CloseOnExec(fd)
	w, err := newWire(os.NewFile(uintptr(fd), "wire"))
	if err != nil {
		return err
	}
	m, files, err := w.receive()
	if err != nil {
		return err
	}
	if m.Request == nil {
		return errors.New("the first message is no request")
	}
	cmds := newCommands(w)
	go func() {
		<-cmds.lost
		time.Sleep(orphanLimit)
		os.Exit(1)
	}()
	out := (&guest{req: m.Request, wire: w, cmds: cmds, files: files}).run()
	return w.send(message{Outcome: out})
}

// ignoreSignals keeps processes of the container, which may signal process 1,
// from ending it. Unlike ignored signals, caught ones are not inherited.
func ignoreSignals() {
	signal.Notify(make(chan os.Signal, 1), unix.SIGTERM, unix.SIGINT, unix.SIGHUP,
		unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGPWR, unix.SIGABRT, unix.SIGTRAP)
}

// guest is the container's side of one run.
type guest struct {
	req   *Request
	wire  *wire
	cmds  *commands
	files []*os.File
	root  *rootfs
	users *os.File // the user namespace of the command, nil for the helper's

	groups *os.File // a namespace of control groups to join, nil for one that the command may mount

	network *os.File       // the namespace to join, nil for none
	devices *group.Devices // nil where the caller's side made one
	search  *hunt          // for secrets in what it leaves
}

// run does everything between the request and the outcome.
func (g *guest) run() *outcome {
	out := &outcome{Code: -1}
	err := g.build()
	if err == nil {
		err = g.execute(out)
	}
	if err != nil && !errors.As(err, &out.Start) {
		out.Error = err.Error()
	}
	closeAll(g.files)
	for _, f := range []*os.File{g.network, g.groups} {
		if f != nil {
			f.Close()
		}
	}
	g.leaveDevices()
	if err == nil && tidies(&g.req.Spec, out) {
		g.root.compareTimes()
		g.root.clamp = clampOf(&g.req.Spec)
		if !g.req.Spec.Mounts[0].ReadOnly {
			g.emptyDirs(out)
		}
	}
	if err == nil && g.hunts(out) {
		g.huntIn(out)
	}
	if g.root != nil {
		if err := g.root.takeDown(); err != nil {
			out.Damage = err.Error()
		}
		out.Untouched = g.root.untouched
	}
	return out
}

// emptyDirs empties the directories that the spec names.
func (g *guest) emptyDirs(out *outcome) {
	for _, dir := range g.req.Spec.Empty {
		if err := g.root.empty(dir); err != nil {
			out.Error = err.Error()
		}
	}
}

// The places in the scratch directory.
func (g *guest) rootDir() string  { return filepath.Join(g.req.Scratch, "root") }
func (g *guest) stateDir() string { return filepath.Join(g.req.Scratch, "state") }
func (g *guest) filesDir() string { return filepath.Join(g.req.Scratch, "files") }

// takeTrees takes the trees of the mounts, and of what is lent, from the files that
// came, and the network behind the streams. The streams stay.
func (g *guest) takeTrees(mounts int) ([]*os.File, error) {
	trees, rest := mounts, 0
	if g.req.Spec.Lends() {
		trees++
	}
	if g.req.Console == nil {
		rest = 3 // the streams
	}
	if g.req.NetFile {
		rest++
	}
	if len(g.files) != trees+rest {
		return nil, fmt.Errorf("%d files came with %d mounts", len(g.files), mounts)
	}
	if g.req.NetFile {
		last := len(g.files) - 1
		g.network, g.files = g.files[last], g.files[:last]
	}
	taken := g.files[:trees]
	g.files = g.files[trees:]
	return taken, nil
}

// build puts the container's file systems together.
func (g *guest) build() error {
	if err := g.restrict(); err != nil {
		return err
	}
	if err := g.own(); err != nil {
		return err
	}
	if err := g.takeUsers(); err != nil {
		return err
	}
	mounts := g.req.Spec.Mounts
	trees, err := g.takeTrees(len(mounts))
	if err != nil {
		return err
	}
	defer closeAll(trees)
	root, err := g.newRoot(trees[0], mounts[0])
	g.root = root
	if err != nil {
		return err
	}
	if err := root.account.begin(); err != nil {
		return err
	}
	if err := root.account.empties(root, g.req.Spec.Empty); err != nil {
		return err
	}
	for i := 1; i < len(mounts); i++ {
		if err := g.attach(trees[i], mounts[i]); err != nil {
			return err
		}
	}
	if len(trees) > len(mounts) {
		if err := g.borrow(trees[len(mounts)]); err != nil {
			return err
		}
	}
	if err := root.prepare(g.req); err != nil {
		return err
	}
	if err := root.placeFiles(g.req, g.filesDir()); err != nil {
		return err
	}
	if err := g.mountSystem(); err != nil {
		return err
	}
	if err := root.made(); err != nil {
		return err
	}
	return root.seal()
}

func (g *guest) attach(tree *os.File, m container.Mount) error {
	at, err := g.root.place(m.Target, true)
	if err != nil {
		return err
	}
	defer at.Close()
	return g.root.attach(tree, at, m)
}

// restrict keeps this process, and with it the command, from what outlives the
// container.
func (g *guest) restrict() (err error) {
	if g.req.Devices != "" {
		if g.devices, err = group.NewDevices(g.req.Devices); err != nil {
			return err
		}
		if err := g.devices.Join(); err != nil {
			return err
		}
	}
	legacy, err := group.Legacy()
	if err != nil {
		return err
	}
	if legacy || g.req.OwnUsers {
		if g.groups, err = group.Namespace(); err != nil {
			return err
		}
	}
	return refuseCalls(legacy)
}

// leaveDevices removes the group that restrict made, and that of the caller's side
// when nobody is there to do it. What stays is left to Reap.
func (g *guest) leaveDevices() {
	if g.devices == nil && g.cmds.isLost() {
		g.devices = group.OwnDevices()
	}
	if g.devices != nil {
		_ = g.devices.Leave()
		_ = g.devices.Remove()
	}
}

// own makes this mount namespace independent of the host's, with the right
// /proc and a scratch directory.
func (g *guest) own() error {
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("own mount namespace: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("tmpfs", g.req.Scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700"); err != nil {
		return fmt.Errorf("mount %s: %w", g.req.Scratch, err)
	}
	for _, dir := range []string{g.rootDir(), g.stateDir(), g.filesDir()} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// execute runs the command to its end.
func (g *guest) execute(out *outcome) error {
	var memory group.Counter
	if g.req.Cgroup == "" && g.req.Spec.Memory > 0 {
		memory = group.OwnMemory()
		defer memory.Close()
	}
	if err := g.root.checkProgram(&g.req.Spec); err != nil {
		return err
	}
	c, err := newRunner(g)
	if err != nil {
		return err
	}
	defer c.destroy()
	if err := g.huntBefore(); err != nil {
		return err
	}
	pid, err := c.start()
	if err != nil {
		signalAll(unix.SIGKILL)
		return err
	}
	// Where nobody is told any more, nobody waits for a timeout.
	_ = g.wire.send(message{Started: &started{}})
	began := time.Now()
	e, stopped := g.cmds.await(newReaper(pid))
	out.Duration = e.at.Sub(began)
	out.MaxRSS = e.usage.Maxrss << 10
	out.Stopped = stopped
	out.Code = e.status.ExitStatus()
	if e.status.Signaled() {
		out.Signal = int(e.status.Signal())
		out.Code = 128 + out.Signal
	}
	out.OutOfMemory = out.Code != 0 && (c.memory.Kills() > 0 || memory.Kills() > 0)
	return nil
}
