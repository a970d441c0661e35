package helper

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

const (
	resolvConf = "/etc/resolv.conf"
	hostsFile  = "/etc/hosts"
	policyFile = "/usr/sbin/policy-rc.d"
)

// denyServices answers Debian's invoke-rc.d, which runs it before it starts
// or stops a service: 101 forbids the action. See the file
// README.policy-rc.d of the package init-system-helpers.
const denyServices = "#!/bin/sh\nexit 101\n"

// hostFiles reads what a container that shares the host's network shows as
// its resolver configuration and its hosts. A file that the host lacks is nil.
func hostFiles(hostname string) (resolv, hosts []byte, err error) {
	for name, content := range map[string]*[]byte{resolvConf: &resolv, hostsFile: &hosts} {
		if *content, err = os.ReadFile(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, nil, err
		}
	}
	return resolv, withHost(hosts, hostname), nil
}

// withHost adds lines for localhost and name to a hosts file that lacks them.
func withHost(hosts []byte, name string) []byte {
	known := make(map[string]bool)
	for line := range bytes.Lines(hosts) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		for i, word := range bytes.Fields(line) {
			if i > 0 {
				known[string(word)] = true
			}
		}
	}
	hosts = bytes.Clone(hosts)
	if len(hosts) > 0 && hosts[len(hosts)-1] != '\n' {
		hosts = append(hosts, '\n')
	}
	if !known["localhost"] {
		hosts = append(hosts, "127.0.0.1\tlocalhost\n"...)
	}
	if !known[name] {
		hosts = append(hosts, "127.0.1.1\t"+name+"\n"...)
	}
	return hosts
}

// coverFiles shows files of our own where the image has, or would have, its
// own. The copies are in the directory dir, outside the image. Where the image
// lacks the file and is read-only there is nothing to cover.
func (r *rootfs) coverFiles(req *Request, dir string) error {
	covers := []struct {
		target  string
		content []byte
		mode    os.FileMode
	}{
		{resolvConf, req.ResolvConf, 0o644},
		{hostsFile, req.Hosts, 0o644},
		{policyFile, r.policy(), 0o755},
	}
	for _, c := range covers {
		if c.content == nil {
			continue
		}
		err := r.cover(c.target, filepath.Join(dir, filepath.Base(c.target)), c.content, c.mode)
		if err != nil && !errors.Is(err, unix.EROFS) {
			return err
		}
	}
	return nil
}

// policy is the service policy for an image that has dpkg and no policy.
func (r *rootfs) policy() []byte {
	if r.exists("/var/lib/dpkg/status") && r.exists(filepath.Dir(policyFile)) && !r.exists(policyFile) {
		return []byte(denyServices)
	}
	return nil
}

func (r *rootfs) cover(target, copyPath string, content []byte, mode os.FileMode) error {
	at, err := r.place(target, false)
	if err != nil {
		return err
	}
	defer at.Close()
	if err := os.WriteFile(copyPath, content, mode); err != nil {
		return err
	}
	tree, err := cloneTree(copyPath, &unix.MountAttr{Propagation: unix.MS_PRIVATE})
	if err != nil {
		return err
	}
	return r.attach(tree, at, container.Mount{Target: target, Kind: container.Dir})
}

// prepare makes the mount points that every container has and checks what the
// request names.
func (r *rootfs) prepare(req *Request) error {
	for _, target := range container.Reserved {
		at, err := r.place(target, true)
		if err != nil {
			return err
		}
		at.Close()
	}
	return r.checkDir(req.Spec.Dir)
}

func (r *rootfs) checkDir(dir string) error {
	for _, own := range container.Reserved {
		if dir == own || strings.HasPrefix(dir, own+"/") {
			return nil
		}
	}
	f, err := r.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return &os.PathError{Op: "working directory", Path: dir, Err: errors.Unwrap(err)}
	}
	return f.Close()
}
