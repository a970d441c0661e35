// Package doctor finds out what this machine can and cannot do for b9, and what
// to install.
//
//	Host     the machine, with what tests replace
//	Examine  makes every check of the table in it, and changes nothing
//	Text     the findings for people
//
// It hides where the kernel, the tools and the backends say what they can do. It
// installs nothing, and does not load the configuration.
package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/engine"
	"b9.build/b9/engine/container"
	"b9.build/b9/engine/size"
	"b9.build/b9/engine/tool"
)

type check = output.Finding

// The values of check.Status.
const (
	statusOK   = "ok"
	statusWarn = "warn"
	statusFail = "fail"
)

// Host is the machine that Examine checks.
type Host struct {
	StoreDir   string // need not exist
	Backend    string // the configured one, or "auto"
	Network    string // of containers, as configured; "" for the private one
	LibvirtURI string
	Backends   []container.Backend

	// What follows is for tests; the zero value means the real thing.
	Root     fs.FS                        // the root directory, for /proc and /sys
	LookPath func(string) (string, error) // finds a program
	UID      func() int
	Tun      string // in place of /dev/net/tun
	Fuse     string // in place of /dev/fuse
	Dial     func(ctx context.Context, socket string) error
	Emulator func(ctx context.Context, arch string) (*container.Emulator, error)
}

func (d *Host) setDefaults() {
	if d.Root == nil {
		d.Root = os.DirFS("/")
	}
	if d.LookPath == nil {
		d.LookPath = tool.Find
	}
	if d.UID == nil {
		d.UID = os.Geteuid
	}
	if d.Dial == nil {
		d.Dial = dialSocket
	}
	if d.Emulator == nil {
		d.Emulator = container.FindEmulator
	}
}

// probeTime bounds the wait for a backend's answer.
const probeTime = 10 * time.Second

// Examine tells what this machine can and cannot do, the most basic first. It
// changes nothing.
func Examine(ctx context.Context, d Host) []check {
	d.setDefaults()
	return slices.Concat(
		[]check{d.user(), d.machine(), kernelRelease(), loopDevices(), d.fileSystems(), d.optionalFileSystems(), d.cgroups(), d.userNamespaces()}, d.architectures(ctx), []check{d.privateNetworks(), d.kvm()},
		d.tools(), []check{d.libvirtd(ctx)}, d.backends(ctx), aboutStore(d.StoreDir))
}

func ok(name, detail string) check { return check{Name: name, Status: statusOK, Detail: detail} }

func warn(name, detail, fix string) check {
	return check{Name: name, Status: statusWarn, Detail: detail, Fix: fix}
}

func fail(name, detail, fix string) check {
	return check{Name: name, Status: statusFail, Detail: detail, Fix: fix}
}

// machine tells what steps that run at once have to share.
func (d *Host) machine() check {
	const name = "memory and processors"
	m := engine.ThisMachine(d.Root)
	if m.Memory == 0 {
		return warn(name, "no memory seen", "steps with memory = run side by side whether or not they fit: mount /proc")
	}
	return ok(name, fmt.Sprintf("%s and %.4g processors: what the limits of steps that run at once may come to", size.About(m.Memory), m.CPUs))
}

func (d *Host) user() check {
	if uid := d.UID(); uid != 0 {
		return fail("user", fmt.Sprintf("user id %d: attaching images and running containers needs root", uid), "run b9 as root, for example with sudo")
	}
	return ok("user", "root")
}

// backends asks every backend at the same time.
func (d *Host) backends(ctx context.Context) []check {
	checks := make([]check, len(d.Backends))
	var all sync.WaitGroup
	for i, b := range d.Backends {
		all.Go(func() { checks[i] = d.backend(ctx, b) })
	}
	all.Wait()
	return checks
}

func (d *Host) backend(ctx context.Context, b container.Backend) check {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	name := "container backend " + b.Name()
	f, err := b.Probe(ctx)
	switch {
	case err == nil:
		return ok(name, features(f))
	case d.Backend == b.Name() || (d.Backend == "auto" || d.Backend == "") && b.Name() == "embedded":
		return fail(name, err.Error(), "do what the message says, or choose another one with -c container.backend=NAME")
	}
	return warn(name, err.Error(), "")
}

func features(f container.Features) string {
	var parts []string
	if f.Version != "" {
		parts = append(parts, f.Version)
	}
	parts = append(parts, "architectures "+strings.Join(f.Archs, ", "), "networks "+strings.Join(f.Networks, ", "))
	if !f.Limits {
		parts = append(parts, "no memory or processor limits")
	}
	if !f.TTY {
		parts = append(parts, "no interactive terminal")
	}
	return strings.Join(parts, "; ")
}

// Failed reports whether a check says that building cannot work.
func Failed(checks []check) bool {
	return slices.ContainsFunc(checks, func(c check) bool { return c.Status == statusFail })
}

// Text is the checks as lines for people, and how many of each status there are.
func Text(checks []check) string {
	width := 0
	for _, c := range checks {
		width = max(width, len(c.Name))
	}
	count := map[string]int{}
	var b strings.Builder
	for _, c := range checks {
		count[c.Status]++
		fmt.Fprintf(&b, "%-4s  %-*s  %s\n", c.Status, width, c.Name, display.Clean(c.Detail))
		if c.Fix != "" {
			fmt.Fprintf(&b, "%*s  fix: %s\n", len("warn  ")+width, "", display.Clean(c.Fix))
		}
	}
	verdict := "this machine can build images"
	if Failed(checks) {
		verdict = "builds that use containers or images will not work here"
	}
	fmt.Fprintf(&b, "%d ok, %s, %s: %s\n", count[statusOK], output.Count(count[statusWarn], "warning", "warnings"), output.Count(count[statusFail], "failure", "failures"), verdict)
	return b.String()
}
