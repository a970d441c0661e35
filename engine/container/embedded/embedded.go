//go:build cgo

// Package embedded is the container backend that needs no daemon: it runs the
// helper as a child of this process, in new mount and process namespaces. What
// happens inside the container is internal/helper's business. It has the host's
// network, none, or a private one with a way out (internal/nat).
//
//	Open  the backend, as a container.Backend
//
// In a program that was built without cgo, Open returns a backend that says so.
package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/internal/group"
	"b9.build/b9/engine/container/internal/helper"
	"b9.build/b9/engine/container/internal/nat"
)

// embedded runs containers in helper processes, with libcontainer.
type embedded struct{ config container.Config }

// Open returns the backend.
func Open(c container.Config) container.Backend { return &embedded{c} }

// Name implements container.Backend.
func (e *embedded) Name() string { return container.Embedded }

// Usable implements container.Backend.
func (e *embedded) Usable(context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("mounting images takes root: run with sudo")
	}
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("no loop devices here: load the kernel's module with `modprobe loop`, or give the surrounding container its devices (docker run --privileged): %w", err)
	}
	ctl.Close()
	fs, err := helper.OpenFS("tmpfs")
	if err != nil {
		return fmt.Errorf("no right to mount here (in a container, run it with --privileged): %w", err)
	}
	return fs.Close()
}

// Probe implements container.Backend.
func (e *embedded) Probe(ctx context.Context) (container.Features, error) {
	if err := e.Usable(ctx); err != nil {
		return container.Features{}, err
	}
	return container.Features{
		Archs:    container.KernelArchs(ctx),
		Networks: networks(),
		TTY:      true,
		Limits:   group.LimitsUsable(),
		Version:  runtimeVersion(),
	}, nil
}

// networks are those that can be had here.
func networks() []string {
	list := []string{container.NetworkHost, container.NetworkNone}
	if nat.Usable() == nil {
		list = append(list, container.NetworkNAT)
	}
	return list
}

// Run implements container.Backend.
func (e *embedded) Run(ctx context.Context, spec container.Spec, to container.IO) (container.Result, error) {
	spec, err := spec.Normalize()
	if err != nil {
		return helper.Failed, err
	}
	if !container.OwnNetwork(spec.Network) {
		return helper.Failed, fmt.Errorf("network %q: backend %s has %s, %s and %s; libvirt's networks are for backend %s",
			spec.Network, container.Embedded, container.NetworkNAT, container.NetworkHost, container.NetworkNone, container.Libvirt)
	}
	scratch := filepath.Join(e.config.RunDir, "mnt")
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return helper.Failed, err
	}
	return helper.Run(ctx, e.config, spec, to, func(_ context.Context, remote *os.File) (helper.FirstProcess, error) {
		return startHelper(remote, scratch, spec.ID)
	})
}

// Reap implements container.Backend. Processes, mounts and loop devices of dead owners
// go by themselves; only empty control groups stay.
func (e *embedded) Reap(context.Context) error { return group.Reap() }

// helperProcess is a helper as a child of this process.
type helperProcess struct {
	cmd     *exec.Cmd
	output  bytes.Buffer
	scratch string
	devices *group.Devices
}

// startHelper runs this program again in new mount and process namespaces and in
// a device group, which is quicker than to join one later. It has a session of its
// own, so that a terminal's interrupt reaches this process alone.
func startHelper(remote *os.File, scratch, id string) (helper.FirstProcess, error) {
	defer remote.Close()
	devices, err := group.NewDevices(group.DevicesName(id))
	if err != nil {
		return nil, err
	}
	h := &helperProcess{scratch: scratch, devices: devices}
	h.cmd = exec.Command("/proc/self/exe", helper.Arg, "3")
	h.cmd.Args[0] = "b9-container"
	h.cmd.Dir = "/"
	h.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", container.MarkerVariable}
	h.cmd.ExtraFiles = []*os.File{remote}
	h.cmd.Stdout, h.cmd.Stderr = &h.output, &h.output
	h.cmd.WaitDelay = time.Second
	h.cmd.SysProcAttr = &unix.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Setsid:      true,
		UseCgroupFD: true,
		CgroupFD:    int(devices.Dir().Fd()),
	}
	if err := h.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the container's helper: %w", err), devices.Remove())
	}
	return h, nil
}

// Complete implements helper.FirstProcess.
func (h *helperProcess) Complete(req *helper.Request) {
	req.Scratch = h.scratch
	req.NetNone = req.Spec.Network == container.NetworkNone
	req.Cgroup = group.OwnerTag() + "." + req.Spec.ID
}

// Kill implements helper.FirstProcess.
func (h *helperProcess) Kill() { _ = h.cmd.Process.Kill() }

// Wait implements helper.FirstProcess.
func (h *helperProcess) Wait(context.Context) (string, bool) {
	err := h.cmd.Wait()
	_ = h.devices.Remove() // what stays is left to Reap
	if text := strings.TrimSpace(h.output.String()); text != "" {
		return text, false
	}
	if err != nil {
		return "its helper ended: " + err.Error(), false
	}
	return "", false
}

// runtimeVersion is that of the libcontainer that was built in.
func runtimeVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/opencontainers/runc" {
				return "libcontainer " + m.Version
			}
		}
	}
	return "libcontainer"
}
