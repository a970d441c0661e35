package helper

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

const (
	resolvConf = "/etc/resolv.conf"
	hostsFile  = "/etc/hosts"
	policyFile = "/usr/sbin/policy-rc.d"
	markerFile = "/run/systemd/container"
)

// denyServices answers Debian's invoke-rc.d, which runs it before it starts
// or stops a service: 101 forbids the action. See the file
// README.policy-rc.d of the package init-system-helpers.
const denyServices = "#!/bin/sh\n" + ownMark + "exit 101\n"

// ownMark begins what b9 puts into a file that the image may have lines of its own
// in, so that it is known again afterwards.
const ownMark = "# b9: for the script only, not kept in the image\n"

// hostFiles reads what a container that shares the host's network is told of
// it: the resolver configuration and the hosts. A file that the host lacks is nil.
func hostFiles() (resolv, hosts []byte, err error) {
	for name, content := range map[string]*[]byte{resolvConf: &resolv, hostsFile: &hosts} {
		if *content, err = os.ReadFile(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, nil, err
		}
	}
	return resolv, hosts, nil
}

// ownFiles are the files that a container has beside the image's.
func (r *rootfs) ownFiles(req *Request) []ownFile {
	files := []ownFile{
		{target: hostsFile, mode: 0o644, add: func(image []byte) []byte {
			return hostLines(image, req.Hosts, req.Spec.Hostname)
		}},
		{target: markerFile, mode: 0o644, alone: true, add: func([]byte) []byte { return []byte(container.Marker + "\n") }},
	}
	if req.ResolvConf != nil {
		files = append(files, ownFile{target: resolvConf, mode: 0o644, alone: true, add: func([]byte) []byte {
			return ended(append([]byte(ownMark), req.ResolvConf...))
		}})
	}
	if r.wantsPolicy() {
		files = append(files, ownFile{target: policyFile, mode: 0o755, alone: true, add: func([]byte) []byte {
			return []byte(denyServices)
		}})
	}
	return files
}

// wantsPolicy tells whether the image has dpkg and no service policy.
func (r *rootfs) wantsPolicy() bool {
	return r.exists("/var/lib/dpkg/status") && r.exists(filepath.Dir(policyFile)) && !r.exists(policyFile)
}

// hostLines are lines for a hosts file that has the image's content already: those
// of the host that name something new, localhost, and the own name.
func hostLines(image, host []byte, name string) []byte {
	known := make(map[string]bool)
	for line := range bytes.Lines(image) {
		learn(known, line)
	}
	var lines []byte
	for line := range bytes.Lines(host) {
		if learn(known, line) {
			lines = append(ended(lines), line...)
		}
	}
	for _, own := range []struct{ address, name string }{{"127.0.0.1", "localhost"}, {"127.0.1.1", name}} {
		if line := []byte(own.address + "\t" + own.name + "\n"); learn(known, line) {
			lines = append(ended(lines), line...)
		}
	}
	if lines == nil {
		return nil
	}
	return append([]byte(ownMark), ended(lines)...)
}

// learn adds the names of a line of a hosts file, and tells whether one is new.
func learn(known map[string]bool, line []byte) (news bool) {
	line, _, _ = bytes.Cut(line, []byte("#"))
	for i, word := range bytes.Fields(line) {
		if i > 0 && !known[string(word)] {
			known[string(word)] = true
			news = true
		}
	}
	return news
}

// ended is text whose last line has an end.
func ended(text []byte) []byte {
	if len(text) > 0 && text[len(text)-1] != '\n' {
		return append(bytes.Clone(text), '\n')
	}
	return text
}

// placeFiles puts the container's own files where the image has, or would have,
// its own: as real files, so that a script can replace them, link to them and write
// to them. Where the image takes none, because it is read-only or full, a copy in
// the directory dir covers what is there.
func (r *rootfs) placeFiles(req *Request, dir string) error {
	for _, f := range r.ownFiles(req) {
		err := r.placeFile(f)
		if refusesFiles(err) {
			err = r.cover(f, filepath.Join(dir, filepath.Base(f.target)))
		}
		if err != nil && !refusesFiles(err) {
			return fmt.Errorf("%s: %w", f.target, err)
		}
	}
	return nil
}

// refusesFiles tells whether an error is of a file system that takes no file.
func refusesFiles(err error) bool {
	return slices.ContainsFunc([]error{unix.EROFS, unix.ENOSPC, unix.EDQUOT, unix.EPERM}, func(e error) bool { return errors.Is(err, e) })
}

func (r *rootfs) cover(f ownFile, copyPath string) error {
	var image []byte
	if at, err := r.open(f.target, unix.O_RDONLY|unix.O_NONBLOCK); err == nil {
		image, err = io.ReadAll(io.LimitReader(at, maxOwnFile))
		if err = errors.Join(err, at.Close()); err != nil {
			return err
		}
	}
	content := f.content(image)
	if content == nil {
		return nil
	}
	at, err := r.place(f.target, false)
	if err != nil {
		return err
	}
	defer at.Close()
	if err := os.WriteFile(copyPath, content, f.mode); err != nil {
		return err
	}
	tree, err := cloneTree(copyPath, &unix.MountAttr{Propagation: unix.MS_PRIVATE})
	if err != nil {
		return err
	}
	return r.attach(tree, at, container.Mount{Target: f.target, Kind: container.Dir})
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
