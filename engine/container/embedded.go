//go:build cgo

package container

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
)

// embedded runs containers in helper processes, with libcontainer.
type embedded struct{ config Config }

func openEmbedded(c Config) Backend { return &embedded{c} }

// Name implements Backend.
func (e *embedded) Name() string { return embeddedName }

// Probe implements Backend.
func (e *embedded) Probe(context.Context) (Features, error) {
	if os.Geteuid() != 0 {
		return Features{}, errors.New("mounting images takes root: run with sudo")
	}
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return Features{}, fmt.Errorf("no loop devices here: load the kernel's module with `modprobe loop`, or give the surrounding container its devices (docker run --privileged): %w", err)
	}
	ctl.Close()
	fs, err := openFS("tmpfs")
	if err != nil {
		return Features{}, fmt.Errorf("no right to mount here (in a container, run it with --privileged): %w", err)
	}
	fs.Close()
	return Features{
		Archs:    usableArchs(),
		Networks: []string{networkHost, networkNone},
		TTY:      true,
		Limits:   limitsUsable(),
		Version:  runtimeVersion(),
	}, nil
}

// Run implements Backend.
func (e *embedded) Run(ctx context.Context, spec Spec, to IO) (Result, error) {
	spec, err := spec.normalize()
	if err != nil {
		return failed, err
	}
	if spec.Network != networkHost && spec.Network != networkNone {
		return failed, fmt.Errorf("network %q: backend %s has %s and %s; libvirt's networks are for backend %s",
			spec.Network, embeddedName, networkHost, networkNone, libvirtName)
	}
	if err := absolute(spec.Mounts); err != nil {
		return failed, err
	}
	scratch := filepath.Join(e.config.RunDir, "mnt")
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return failed, err
	}
	return runSession(ctx, spec, to, func(_ context.Context, remote *os.File) (cradle, error) {
		return startHelper(remote, scratch)
	})
}

// Reap implements Backend. Processes, mounts and loop devices of dead owners
// go by themselves; only empty control groups stay.
func (e *embedded) Reap(context.Context) error { return reapCgroups() }

// helperProcess is a helper as a child of this process.
type helperProcess struct {
	cmd     *exec.Cmd
	output  bytes.Buffer
	scratch string
}

// startHelper runs this program again in new mount and process namespaces. It
// has a session of its own, so that a terminal's interrupt reaches this
// process alone.
func startHelper(remote *os.File, scratch string) (cradle, error) {
	defer remote.Close()
	h := &helperProcess{scratch: scratch}
	h.cmd = exec.Command("/proc/self/exe", helperArg, "3")
	h.cmd.Args[0] = "b9-container"
	h.cmd.Dir = "/"
	h.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	h.cmd.ExtraFiles = []*os.File{remote}
	h.cmd.Stdout, h.cmd.Stderr = &h.output, &h.output
	h.cmd.WaitDelay = time.Second
	h.cmd.SysProcAttr = &unix.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Setsid:     true,
	}
	if err := h.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the container's helper: %w", err)
	}
	return h, nil
}

func (h *helperProcess) request(req *request) {
	req.Scratch = h.scratch
	req.NetNone = req.Spec.Network == networkNone
	req.Cgroup = ownerTag() + "." + req.Spec.ID
}

func (h *helperProcess) kill() { _ = h.cmd.Process.Kill() }

func (h *helperProcess) wait() (string, bool) {
	err := h.cmd.Wait()
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
