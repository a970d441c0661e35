//go:build cgo && libvirt_dlopen

// Package libvirt is the container backend that runs the helper as the first
// process of a transient domain of libvirt's LXC driver. It hides the daemon, its
// networks and the names of domains. What happens inside the container is
// internal/helper's business. The library is opened when it is first called.
//
//	Open  the backend, as a container.Backend
//
// The description of a domain is in xml.go, what waits for the daemon in daemon.go,
// the address of a container in network.go, the number that its name has in slot.go.
// In a program that was built without libvirt, Open returns a backend that says so.
package libvirt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/embedded"
	"b9.build/b9/engine/container/internal/group"
	"b9.build/b9/engine/container/internal/helper"
)

// domains runs containers as transient domains of libvirt's LXC driver. It
// makes a connection for each run: a domain is destroyed by libvirt when the
// connection that made it is closed.
type domains struct{ config container.Config }

// defaultURI is the connection that is used where none is configured.
const defaultURI = "lxc:///"

// Open returns the backend; it connects to nothing yet.
func Open(c container.Config) container.Backend {
	c.LibvirtURI = cmp.Or(c.LibvirtURI, defaultURI)
	return &domains{c}
}

// Name implements container.Backend.
func (d *domains) Name() string { return container.Libvirt }

// Usable implements container.Backend.
func (d *domains) Usable(ctx context.Context) error {
	if err := embedded.Open(d.config).Usable(ctx); err != nil {
		return err
	}
	_, err := d.describe(ctx)
	return err
}

// Probe implements container.Backend.
func (d *domains) Probe(ctx context.Context) (container.Features, error) {
	f, err := embedded.Open(d.config).Probe(ctx)
	if err != nil {
		return container.Features{}, err
	}
	said, err := d.describe(ctx)
	if err != nil {
		return container.Features{}, err
	}
	f.Version = said.version
	for _, n := range said.networks {
		f.Networks = append(f.Networks, container.LibvirtNetworkPrefix+n)
	}
	return f, nil
}

// describe asks libvirt what it is. Anything but LXC is an error.
func (d *domains) describe(ctx context.Context) (said description, err error) {
	daemon, err := connect(ctx, d.config)
	if err != nil {
		return said, err
	}
	defer daemon.close()
	said, err = ask(ctx, daemon, daemon.limit, func() (description, error) { return describe(daemon.conn) }, nil)
	if err == nil && said.kind != "LXC" {
		err = fmt.Errorf("libvirt at %s runs %s, not LXC: want a connection such as %s", d.config.LibvirtURI, said.kind, defaultURI)
	}
	return said, err
}

// description is what libvirt says of itself.
type description struct {
	kind, version string
	networks      []string
}

func describe(conn *libvirt.Connect) (d description, err error) {
	if d.kind, err = conn.GetType(); err != nil {
		return d, plain(err)
	}
	v, err := conn.GetLibVersion()
	if err != nil {
		return d, plain(err)
	}
	d.version = fmt.Sprintf("libvirt %d.%d.%d", v/1000000, v/1000%1000, v%1000)
	if d.kind == "LXC" {
		d.networks, err = networkNames(conn)
	}
	return d, err
}

// Run implements container.Backend.
func (d *domains) Run(ctx context.Context, spec container.Spec, to container.IO) (container.Result, error) {
	spec, err := spec.Normalize()
	if err != nil {
		return helper.Failed, err
	}
	return helper.Run(ctx, d.config, spec, to, func(ctx context.Context, remote *os.File) (helper.FirstProcess, error) {
		defer remote.Close()
		return d.start(ctx, spec, remote)
	})
}

// domain is one container.
type domain struct {
	daemon   *daemon
	slot     *slot
	dom      *libvirt.Domain
	resolv   []byte   // nil for the host's
	messages *os.File // what the helper complains of
	devices  string   // name of the helper's device group
}

func (d *domains) start(ctx context.Context, spec container.Spec, remote *os.File) (_ helper.FirstProcess, err error) {
	c := &domain{devices: group.DevicesName(spec.ID)}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.daemon, err = connect(ctx, d.config); err != nil {
		return nil, err
	}
	if c.slot, err = newSlot(d.config.RunDir); err != nil {
		return nil, err
	}
	root, err := cradleRoot(d.config.RunDir)
	if err != nil {
		return nil, err
	}
	plan := domainPlan{spec: spec, config: d.config, slot: c.slot, root: root}
	if !container.OwnNetwork(spec.Network) {
		conn, number := c.daemon.conn, c.slot.number
		plan.link, err = ask(ctx, c.daemon, c.daemon.limit, func() (*link, error) { return joinNetwork(conn, spec.Network, number) }, nil)
		if err != nil {
			return nil, err
		}
		c.resolv = plan.link.resolv
	}
	text, err := plan.domain().Marshal()
	if err != nil {
		return nil, err
	}
	return c, c.create(ctx, text, remote)
}

// create starts the domain. Its first process finds the wire, the program and
// a place for messages as descriptors 3, 4 and 5.
func (c *domain) create(ctx context.Context, text string, remote *os.File) error {
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer exe.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	c.messages = r
	defer w.Close()
	conn, name := c.daemon.conn, c.slot.name()
	limit := c.daemon.limit + namePatience
	if _, err := ask(ctx, c.daemon, limit, func() (struct{}, error) { return struct{}{}, clearName(conn, name) }, nil); err != nil {
		return err
	}
	files, err := duplicate(remote, exe, w)
	if err != nil {
		return err
	}
	c.dom, err = ask(ctx, c.daemon, c.daemon.limit, func() (*libvirt.Domain, error) {
		defer closeAll(files)
		return conn.DomainCreateXMLWithFiles(text, files, libvirt.DOMAIN_START_AUTODESTROY)
	}, func(late *libvirt.Domain) {
		_ = late.Destroy()
		_ = late.Free() // with which the connection ends
	})
	var v libvirt.Error
	if errors.As(err, &v) {
		return fmt.Errorf("libvirt starts no container: %w", plain(err))
	}
	return err
}

// duplicate copies files for a call that may last longer than they.
func duplicate(files ...*os.File) (copies []os.File, err error) {
	for _, f := range files {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			closeAll(copies)
			return nil, os.NewSyscallError("dup", err)
		}
		copies = append(copies, *os.NewFile(uintptr(fd), f.Name()))
	}
	return copies, nil
}

func closeAll(files []os.File) {
	for i := range files {
		files[i].Close()
	}
}

// clearName removes a domain that a dead owner of our slot has left, and
// waits for libvirt to see that it is gone.
func clearName(conn *libvirt.Connect, name string) error {
	deadline := time.Now().Add(namePatience)
	for {
		old, err := conn.LookupDomainByName(name)
		if err != nil {
			return ignoreGone(err)
		}
		err = destroy(old)
		_ = old.Free()
		if err != nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// ignoreGone turns the errors that there is no such domain, or that it does
// not run any more, into none.
func ignoreGone(err error) error {
	var v libvirt.Error
	if errors.As(err, &v) && (v.Code == libvirt.ERR_NO_DOMAIN || v.Code == libvirt.ERR_OPERATION_INVALID) {
		return nil
	}
	return plain(err)
}

// Complete implements helper.FirstProcess.
func (c *domain) Complete(req *helper.Request) {
	req.Scratch = cradleScratch
	req.Devices = c.devices
	if c.resolv != nil {
		req.ResolvConf = c.resolv
	}
}

// Kill implements helper.FirstProcess. Killing the first process is ten times as quick as
// destroying the domain, which is done when that has failed.
func (c *domain) Kill() {
	dom := c.dom
	_ = c.daemon.tell(min(c.daemon.limit, endLimit), func() error {
		if dom.SendProcessSignal(1, libvirt.DOMAIN_PROCESS_SIGNAL_KILL, 0) == nil {
			return nil
		}
		return dom.Destroy() // it is gone, or libvirtd is; Wait finds out
	})
}

// How long a domain whose first process has ended may take to vanish before
// it is destroyed: now and then libvirt's controller does not notice the end.
// And how long one that was destroyed may take to give its name back.
const (
	endPatience  = 2 * time.Second
	namePatience = 10 * time.Second
)

// Wait implements helper.FirstProcess.
func (c *domain) Wait(ctx context.Context) (string, bool) {
	defer c.close()
	dom := c.dom
	ended := c.daemon.tell(c.daemon.ending(ctx)+endPatience, func() error { waitGone(dom); return nil })
	// A helper that was killed has left it.
	_ = group.RemoveMatching(c.devices, func(string) bool { return true })
	// What libvirt keeps open of it must not keep us.
	_ = c.messages.SetReadDeadline(time.Now().Add(time.Second))
	text, _ := io.ReadAll(io.LimitReader(c.messages, 1<<16))
	if ended != nil {
		return strings.TrimSpace(ended.Error() + "\n" + string(text)), true
	}
	if alive, err := c.daemon.conn.IsAlive(); err != nil || !alive { // asks nobody: it looks at the socket
		return strings.TrimSpace("libvirtd has ended, and its containers with it\n" + string(text)), true
	}
	return strings.TrimSpace(string(text)), false
}

// waitGone waits until libvirt has the domain no more, and sees to it.
func waitGone(dom *libvirt.Domain) {
	deadline := time.Now().Add(endPatience)
	for delay := 2 * time.Millisecond; ; delay = min(2*delay, 20*time.Millisecond) {
		if active, err := dom.IsActive(); err != nil || !active {
			return
		}
		if time.Now().After(deadline) {
			_ = dom.Destroy()
			return
		}
		time.Sleep(delay)
	}
}

func (c *domain) close() {
	if c.messages != nil {
		c.messages.Close()
	}
	if c.daemon != nil {
		if c.dom != nil && !c.daemon.deaf.Load() {
			_ = c.dom.Free()
		}
		c.daemon.close()
	}
	if c.slot != nil {
		c.slot.release()
	}
}

// Reap implements container.Backend.
func (d *domains) Reap(ctx context.Context) error {
	daemon, err := connect(ctx, d.config)
	if err != nil {
		return err
	}
	defer daemon.close()
	_, err = ask(ctx, daemon, daemon.limit, func() (struct{}, error) { return struct{}{}, reapDomains(daemon.conn) }, nil)
	return errors.Join(err, reapDomainCgroups(), group.Reap())
}

func reapDomains(conn *libvirt.Connect) error {
	all, err := conn.ListAllDomains(libvirt.CONNECT_LIST_DOMAINS_ACTIVE)
	if err != nil {
		return plain(err)
	}
	var errs []error
	for i := range all {
		errs = append(errs, reapDomain(&all[i]))
		_ = all[i].Free()
	}
	return errors.Join(errs...)
}

// reapDomain destroys a domain of ours whose owner is dead.
func reapDomain(dom *libvirt.Domain) error {
	name, err := dom.GetName()
	if err != nil {
		return ignoreGone(err)
	}
	if !strings.HasPrefix(name, domainPrefix) {
		return nil
	}
	text, err := dom.GetXMLDesc(0)
	if err != nil {
		return ignoreGone(err)
	}
	var x libvirtxml.Domain
	if err := x.Unmarshal(text); err != nil {
		return fmt.Errorf("domain %s: %w", name, err)
	}
	if !group.OwnerDead(x.Description) {
		return nil
	}
	return destroy(dom)
}

// reapDomainCgroups removes what a libvirtd that was killed left of its
// containers: groups that are named after their controller process.
func reapDomainCgroups() error {
	return group.RemoveMatching("machine/lxc-*-"+domainPrefix+"*.libvirt-lxc", func(name string) bool {
		pid, _, _ := strings.Cut(strings.TrimPrefix(name, "lxc-"), "-")
		_, err := os.Stat("/proc/" + pid)
		return errors.Is(err, os.ErrNotExist)
	})
}

func destroy(dom *libvirt.Domain) error {
	if err := ignoreGone(dom.Destroy()); err != nil {
		return fmt.Errorf("remove a left-over container: %w", err)
	}
	return nil
}

// cradleScratch is the helper's scratch directory in a domain's own root.
const cradleScratch = "/mnt"

// hostLibraries are where the program's shared libraries may be.
var hostLibraries = [...]string{"/usr", "/lib", "/lib64", "/lib32", "/libx32"}

// cradleRoot makes the root directory that domains start in, before the
// helper takes the image's: mount points and the host's libraries. libvirt
// puts a directory of its own there, which is why it cannot be the host's root.
func cradleRoot(runDir string) (string, error) {
	root := filepath.Join(runDir, "lxc", "root")
	for _, dir := range []string{"proc", "sys", "dev", "run", "tmp", "etc", cradleScratch} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			return "", err
		}
	}
	for _, lib := range hostLibraries {
		target := filepath.Join(root, lib)
		to, err := os.Readlink(lib)
		if err == nil {
			err = os.Symlink(to, target)
		} else if info, serr := os.Stat(lib); serr == nil && info.IsDir() {
			err = os.MkdirAll(target, 0o700)
		} else {
			continue
		}
		if err != nil && !errors.Is(err, os.ErrExist) {
			return "", err
		}
	}
	return root, nil
}
