//go:build cgo && libvirt_dlopen

// Package libvirt is the container backend that runs the helper as the first
// process of a transient domain of libvirt's LXC driver. It hides the daemon, its
// networks and the names of domains. What happens inside the container is
// internal/helper's business. The library is opened when it is first called.
//
//	Open  the backend, as a container.Backend
//
// The description of a domain is in xml.go, the address of a container in
// network.go, the number that its name has in slot.go. In a program that was
// built without libvirt, Open returns a backend that says so.
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

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/embedded"
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

func (d *domains) connect() (*libvirt.Connect, error) {
	conn, err := libvirt.NewConnect(d.config.LibvirtURI)
	if err != nil {
		return nil, fmt.Errorf("libvirt at %s: %w: install it (apt-get install libvirt-daemon-system libvirt-daemon-driver-lxc) and start libvirtd, or use backend %s",
			d.config.LibvirtURI, plain(err), container.Embedded)
	}
	return conn, nil
}

// plain leaves of an error of libvirt what it says to people; what it says to
// programs is for errors.As.
func plain(err error) error {
	var v libvirt.Error
	if errors.As(err, &v) {
		return &refusal{v}
	}
	return err
}

type refusal struct{ cause libvirt.Error }

func (l *refusal) Error() string { return strings.TrimSpace(l.cause.Message) }
func (l *refusal) Unwrap() error { return l.cause }

// Probe implements container.Backend.
func (d *domains) Probe(ctx context.Context) (container.Features, error) {
	f, err := embedded.Open(d.config).Probe(ctx)
	if err != nil {
		return container.Features{}, err
	}
	conn, err := d.connect()
	if err != nil {
		return container.Features{}, err
	}
	defer conn.Close()
	kind, err := conn.GetType()
	if err != nil {
		return container.Features{}, plain(err)
	}
	if kind != "LXC" {
		return container.Features{}, fmt.Errorf("libvirt at %s runs %s, not LXC: want a connection such as %s", d.config.LibvirtURI, kind, defaultURI)
	}
	v, err := conn.GetLibVersion()
	if err != nil {
		return container.Features{}, plain(err)
	}
	f.Version = fmt.Sprintf("libvirt %d.%d.%d", v/1000000, v/1000%1000, v%1000)
	names, err := networkNames(conn)
	for _, n := range names {
		f.Networks = append(f.Networks, container.LibvirtNetworkPrefix+n)
	}
	return f, err
}

// Run implements container.Backend.
func (d *domains) Run(ctx context.Context, spec container.Spec, to container.IO) (container.Result, error) {
	spec, err := spec.Normalize()
	if err != nil {
		return helper.Failed, err
	}
	return helper.Run(ctx, spec, to, func(_ context.Context, remote *os.File) (helper.FirstProcess, error) {
		defer remote.Close()
		return d.start(spec, remote)
	})
}

// domain is one container.
type domain struct {
	conn     *libvirt.Connect
	slot     *slot
	dom      *libvirt.Domain
	resolv   []byte   // nil for the host's
	messages *os.File // what the helper complains of
	devices  string   // name of the helper's device group
}

func (d *domains) start(spec container.Spec, remote *os.File) (_ helper.FirstProcess, err error) {
	c := &domain{devices: helper.DeviceGroupName(spec.ID)}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.conn, err = d.connect(); err != nil {
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
	if spec.Network != container.NetworkHost && spec.Network != container.NetworkNone {
		if plan.link, err = joinNetwork(c.conn, spec.Network, c.slot.number); err != nil {
			return nil, err
		}
		c.resolv = plan.link.resolv
	}
	text, err := plan.domain().Marshal()
	if err != nil {
		return nil, err
	}
	return c, c.create(text, remote)
}

// create starts the domain. Its first process finds the wire, the program and
// a place for messages as descriptors 3, 4 and 5.
func (c *domain) create(text string, remote *os.File) error {
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
	if err := c.clearName(); err != nil {
		return err
	}
	c.dom, err = c.conn.DomainCreateXMLWithFiles(text, []os.File{*remote, *exe, *w}, libvirt.DOMAIN_START_AUTODESTROY)
	if err != nil {
		return fmt.Errorf("libvirt starts no container: %w", plain(err))
	}
	return nil
}

// clearName removes a domain that a dead owner of our slot has left, and
// waits for libvirt to see that it is gone.
func (c *domain) clearName() error {
	deadline := time.Now().Add(namePatience)
	for {
		old, err := c.conn.LookupDomainByName(c.slot.name())
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
	if c.dom.SendProcessSignal(1, libvirt.DOMAIN_PROCESS_SIGNAL_KILL, 0) != nil {
		// It is gone, or libvirtd is; wait finds out.
		_ = c.dom.Destroy()
	}
}

// How long a domain whose first process has ended may take to vanish before
// it is destroyed: now and then libvirt's controller does not notice the end.
// And how long one that was destroyed may take to give its name back.
const (
	endPatience  = 2 * time.Second
	namePatience = 10 * time.Second
)

// Wait implements helper.FirstProcess.
func (c *domain) Wait() (string, bool) {
	defer c.close()
	deadline := time.Now().Add(endPatience)
	for delay := 2 * time.Millisecond; c.present(); delay = min(2*delay, 20*time.Millisecond) {
		if time.Now().After(deadline) {
			_ = c.dom.Destroy()
			break
		}
		time.Sleep(delay)
	}
	// A helper that was killed has left it.
	_ = helper.RemoveGroups(c.devices, func(string) bool { return true })
	// What libvirt keeps open of it must not keep us.
	_ = c.messages.SetReadDeadline(time.Now().Add(time.Second))
	text, _ := io.ReadAll(io.LimitReader(c.messages, 1<<16))
	if alive, err := c.conn.IsAlive(); err != nil || !alive {
		return strings.TrimSpace("libvirtd has ended, and its containers with it\n" + string(text)), true
	}
	return strings.TrimSpace(string(text)), false
}

// present tells whether libvirt has the domain still.
func (c *domain) present() bool {
	active, err := c.dom.IsActive()
	return err == nil && active
}

func (c *domain) close() {
	if c.messages != nil {
		c.messages.Close()
	}
	if c.dom != nil {
		_ = c.dom.Free()
	}
	if c.conn != nil {
		// Whatever is left of the domain goes with the connection.
		_, _ = c.conn.Close()
	}
	if c.slot != nil {
		c.slot.release()
	}
}

// Reap implements container.Backend.
func (d *domains) Reap(context.Context) error {
	conn, err := d.connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	all, err := conn.ListAllDomains(libvirt.CONNECT_LIST_DOMAINS_ACTIVE)
	if err != nil {
		return plain(err)
	}
	var errs []error
	for i := range all {
		errs = append(errs, reapDomain(&all[i]))
		_ = all[i].Free()
	}
	errs = append(errs, reapDomainCgroups(), helper.ReapCgroups())
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
	if !helper.OwnerDead(x.Description) {
		return nil
	}
	return destroy(dom)
}

// reapDomainCgroups removes what a libvirtd that was killed left of its
// containers: groups that are named after their controller process.
func reapDomainCgroups() error {
	return helper.RemoveGroups("machine/lxc-*-"+domainPrefix+"*.libvirt-lxc", func(name string) bool {
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
