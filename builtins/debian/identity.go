package debian

import (
	_ "embed"
	"errors"
	"io/fs"
	"os"
	"path"
	"regexp"
	"sync"
)

// What an installation makes that names one machine among all others must not be
// in an image, which becomes many machines. It is removed, and a unit of systemd
// makes anew at boot what is missing. stdlib/debian.star does the same with
// what scripts install; a test compares the two.

// identities lists the files, as patterns below the root, that name a machine.
func identities() []string {
	return []string{
		"etc/ssh/ssh_host_*_key", "etc/ssh/ssh_host_*_key.pub",
		"etc/ssl/private/ssl-cert-snakeoil.key", "etc/ssl/certs/ssl-cert-snakeoil.pem",
		"etc/nvme/hostid", "etc/nvme/hostnqn", "etc/hostid",
		"var/lib/dbus/machine-id", "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret",
		"var/lib/NetworkManager/secret_key",
	}
}

// firstBoot is the unit that makes them anew.
//
//go:embed first-boot.service
var firstBoot string

// Where the unit is in the image, and how it is enabled.
const (
	units     = "etc/systemd/system"
	unit      = "b9-first-boot.service"
	unitWants = units + "/sysinit.target.wants"
)

// forgetIdentity removes what names one machine, empties the machine-id, and
// enables the unit that makes the rest anew, on a system with systemd.
func forgetIdentity(root *os.Root) error {
	forgotten := false
	var errs []error
	for _, pattern := range identities() {
		names, err := fs.Glob(root.FS(), pattern)
		errs = append(errs, err)
		for _, name := range names {
			forgotten = true
			errs = append(errs, root.RemoveAll(name))
		}
	}
	popcon, err := forgetPopcon(root)
	errs = append(errs, err, dropCertificateLinks(root))
	if _, err := root.Lstat("etc/machine-id"); err == nil {
		errs = append(errs, root.Remove("etc/machine-id"), root.WriteFile("etc/machine-id", nil, 0o444))
	}
	if _, err := root.Stat("usr/lib/systemd/system"); err == nil && (forgotten || popcon) {
		errs = append(errs, enableFirstBoot(root))
	}
	return errors.Join(errs...)
}

// enableFirstBoot puts the unit in place.
func enableFirstBoot(root *os.Root) error {
	if err := root.MkdirAll(unitWants, 0o755); err != nil {
		return err
	}
	err := root.Symlink("/"+units+"/"+unit, path.Join(unitWants, unit))
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return errors.Join(err, root.WriteFile(path.Join(units, unit), []byte(firstBoot), 0o644))
}

// hostID is the line of popularity-contest's settings that names the machine.
var hostID = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^MY_HOSTID=".+"$`)
})

// forgetPopcon empties that line, and reports whether there was one.
func forgetPopcon(root *os.Root) (bool, error) {
	const name = "etc/popularity-contest.conf"
	data, err := root.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !hostID().Match(data) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	st, err := root.Stat(name)
	if err != nil {
		return false, err
	}
	return true, root.WriteFile(name, hostID().ReplaceAll(data, []byte(`MY_HOSTID=""`)), st.Mode().Perm())
}

// dropCertificateLinks removes the links, named by hashes, to the certificate
// that was removed.
func dropCertificateLinks(root *os.Root) error {
	const dir = "etc/ssl/certs"
	entries, err := fs.ReadDir(root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if e.Type() != fs.ModeSymlink {
			continue
		}
		if to, err := root.Readlink(path.Join(dir, e.Name())); err == nil && path.Base(to) == "ssl-cert-snakeoil.pem" {
			errs = append(errs, root.Remove(path.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
