package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// finish turns what was installed into what the image is to hold: without
// what names this machine or this moment.
func (s *staging) finish(ctx context.Context) error {
	if err := errors.Join(s.debs.adopt(ctx, filepath.Join(s.root, archives)), s.debs.trim(time.Now(), debAge, debSpace)); err != nil {
		return fmt.Errorf("cache of packages: %w", err)
	}
	if err := s.foreseen(); err != nil {
		return err
	}
	// Every path is opened beneath the root, so that a link that a package
	// made can't lead out of it.
	root, err := os.OpenRoot(s.root)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := errors.Join(clean(root), forgetHost(root), forgetIdentity(root), s.writeSources(root)); err != nil {
		return fmt.Errorf("tidy up the root file system: %w", err)
	}
	began := s.started
	if s.Canonical {
		began = s.job.Epoch().Add(time.Second)
	}
	return normalizeTimes(ctx, s.root, began, s.job.Epoch())
}

// archives is where apt keeps packages that it has downloaded, below the root.
const archives = "var/cache/apt/archives"

// foreseen reports a package that is not of those that the step counts by: the
// archive has moved on since they were resolved. They are resolved anew then.
func (s *staging) foreseen() error {
	if s.Snapshot != "" {
		return nil
	}
	names, err := s.installed()
	if err != nil {
		return err
	}
	now, err := s.packages(names)
	if err != nil {
		return err
	}
	file := s.resolutionFile(s.job.World().Store, s.given)
	if r, ok := readResolution(file); ok && r.covers(now) {
		if d, err := s.standsFor(s.given, r); err == nil && d == s.job.Fingerprint() {
			return nil
		}
	}
	return errors.Join(errors.New("the archive was changed while the step installed from it: nothing was stored, build again"), os.RemoveAll(file))
}

// clean removes what a running system makes again: lists, caches, logs of
// the installation, backups that tools keep of their files.
func clean(root *os.Root) error {
	var errs []error
	for _, pattern := range []string{
		lists + "/*", "var/cache/apt/*.bin", "var/cache/apt/archives/*.deb", "var/cache/apt/archives/lock",
		"var/cache/apt/archives/partial/*", "var/log/apt/*", "var/log/dpkg.log", "var/log/alternatives.log", "var/log/bootstrap.log",
		"var/log/fontconfig.log", "var/cache/ldconfig/aux-cache", "var/cache/debconf/*-old", "var/lib/dpkg/*-old",
		"etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-",
		"etc/apt/apt.conf.d/99mmdebstrap", "etc/apt/preferences.d/b9", "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
	} {
		names, err := fs.Glob(root.FS(), pattern)
		errs = append(errs, err)
		for _, name := range names {
			if filepath.Base(name) != "partial" { // belongs to apt's user, and is empty
				errs = append(errs, root.RemoveAll(name))
			}
		}
	}
	return errors.Join(errs...)
}

// forgetHost removes the machine's resolv.conf and the host name, unless a
// package has put its own in their place.
func forgetHost(root *os.Root) error {
	hosts, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	return errors.Join(
		removeIf(root, "etc/resolv.conf", func(data []byte) bool { return bytes.Equal(data, hosts) }),
		removeIf(root, "etc/hostname", func(data []byte) bool { return string(data) == "localhost\n" }),
	)
}

func removeIf(root *os.Root, name string, unwanted func([]byte) bool) error {
	st, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !st.Mode().IsRegular() {
		return nil
	}
	data, err := root.ReadFile(name)
	if err != nil || !unwanted(data) {
		return err
	}
	return root.Remove(name)
}

// sourcesFile is the only description of sources in the image.
const sourcesFile = "etc/apt/sources.list.d/debian.sources"

// writeSources leaves the sources that were used, without passwords, and the
// keyrings that they name.
func (s *staging) writeSources(root *os.Root) error {
	if _, err := root.Lstat("etc/apt"); errors.Is(err, fs.ErrNotExist) {
		return nil // a system without apt
	}
	errs := []error{root.RemoveAll("etc/apt/sources.list"), root.RemoveAll("etc/apt/sources.list.d"), root.MkdirAll("etc/apt/sources.list.d", 0o755)}
	sources := publicSources(s.sources)
	for _, path := range imageKeyrings(sources) {
		errs = append(errs, copyKeyring(root, path))
	}
	if s.keyring != "" {
		errs = append(errs, root.MkdirAll(filepath.Dir(s.keyring[1:]), 0o755), root.WriteFile(s.keyring[1:], s.keys, 0o644))
	}
	for i, source := range sources {
		if s.keyring != "" {
			sources[i] = source.with("Signed-By", s.keyring)
		}
	}
	return errors.Join(append(errs, root.WriteFile(sourcesFile, []byte(renderSources(sources)), 0o644))...)
}

// copyKeyring puts a keyring of the machine at its path in the image, unless a
// package has brought one.
func copyKeyring(root *os.Root, from string) error {
	to := from[1:]
	if _, err := root.Stat(to); err == nil {
		return nil
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return keyringError(from, err)
	}
	return errors.Join(root.MkdirAll(filepath.Dir(to), 0o755), root.WriteFile(to, data, 0o644))
}

// normalizeTimes gives the time at to everything that was made since the
// installation began. Files from packages are older and keep their times, unless
// began comes right after at.
func normalizeTimes(ctx context.Context, dir string, began, at time.Time) error {
	// The clock that stamps files may lag behind by a tick.
	since := began.Add(-time.Second)
	stamp := []unix.Timespec{unix.NsecToTimespec(at.UnixNano()), unix.NsecToTimespec(at.UnixNano())}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		info, err := d.Info()
		if err != nil || info.ModTime().Before(since) {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, stamp, unix.AT_SYMLINK_NOFOLLOW)
	})
}
