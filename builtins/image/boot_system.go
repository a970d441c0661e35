package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"b9.build/b9/engine/fsys/tree"
)

// bootSystem is what of a system matters to a boot loader.
type bootSystem struct {
	id, title string // of os-release(5)
	machine   string // as package efi names it
	kernels   []bootKernel
}

// bootKernel is a kernel. Its paths have no leading slash.
type bootKernel struct {
	version, path string
	initrd        string // "" where it has none
}

// findSystem finds kernels, the newest first, and initrds where Debian, Fedora, SUSE and
// Arch put them.
func findSystem(ctx context.Context, r tree.Reader, initrds bool) (*bootSystem, error) {
	s := &bootSystem{}
	for _, pattern := range []string{"boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz"} {
		found, err := findMatches(ctx, r, pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range found {
			s.add(r, name)
		}
	}
	if len(s.kernels) == 0 {
		return nil, errors.New("the image has no kernel (/boot/vmlinuz-*): install linux-image-cloud-amd64 or linux-image-amd64 (Debian), linux-image-virtual (Ubuntu), kernel-core (Fedora) or linux (Arch)")
	}
	slices.SortFunc(s.kernels, func(a, b bootKernel) int { return compareVersions(b.version, a.version) })
	for _, k := range s.kernels {
		if k.initrd == "" && initrds {
			return nil, fmt.Errorf("kernel %s has no initrd (/boot/initrd.img-%[1]s): install initramfs-tools or dracut, or give initrd = False if its drivers are built in", k.version)
		}
	}
	info, err := inspectFile(r, s.kernels[0].path)
	if err != nil {
		return nil, fmt.Errorf("kernel %s is %w", s.kernels[0].version, err)
	}
	s.machine = info.Machine
	s.id, s.title, err = osRelease(r)
	return s, err
}

// add adds a kernel of a version that is not known yet.
func (s *bootSystem) add(r tree.Reader, name string) {
	version := path.Base(path.Dir(name))
	if rest, ok := strings.CutPrefix(path.Base(name), "vmlinuz-"); ok {
		version = rest
	}
	info, err := r.Stat(name)
	if err != nil || !info.Mode().IsRegular() || slices.ContainsFunc(s.kernels, func(k bootKernel) bool { return k.version == version }) {
		return
	}
	k := bootKernel{version: version, path: name}
	for _, initrd := range []string{"boot/initrd.img-" + version, "boot/initramfs-" + version + ".img", "boot/initrd-" + version, "usr/lib/modules/" + version + "/initrd"} {
		if info, err := r.Stat(initrd); k.initrd == "" && err == nil && info.Mode().IsRegular() {
			k.initrd = initrd
		}
	}
	s.kernels = append(s.kernels, k)
}

// osRelease reads what the system is called: a word, and a line for people.
func osRelease(r tree.Reader) (id, title string, err error) {
	id, title = "linux", "Linux"
	f, _, err := openRegular(r, "etc/os-release")
	if errors.Is(err, fs.ErrNotExist) {
		return id, title, nil
	}
	if err != nil {
		return "", "", err
	}
	data, err := io.ReadAll(io.LimitReader(f, 1<<16))
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		switch {
		case value == "":
		case name == "ID" && !strings.ContainsAny(value, "/ "):
			id = value
		case name == "PRETTY_NAME":
			title = value
		}
	}
	return id, title, errors.Join(err, f.Close())
}
