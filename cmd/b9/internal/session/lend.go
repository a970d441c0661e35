package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"b9.build/b9/builtins/debian"
	"b9.build/b9/engine/container"
)

// lending is a backend whose commands get to the network as this machine and
// its user do: with the proxies of the environment, and with apt's proxies and
// passwords. How a machine is connected is no part of what is built: it is
// added when a command starts, after its step has its key and its description,
// and what is secret of it is masked in what the command prints.
type lending struct {
	container.Backend
	access func(context.Context) (*debian.Access, error)
}

// lend wraps a backend, and removes what dead processes lent.
func (s *Session) lend(b container.Backend) container.Backend {
	reapLent()
	var once sync.Once
	var access *debian.Access
	var err error
	return lending{b, func(ctx context.Context) (*debian.Access, error) {
		once.Do(func() { access, err = debian.MachineAccess(ctx, s.Config.Bootstrap.Mirror) })
		return access, err
	}}
}

// lentTarget is where a command finds apt's part, which APT_CONFIG names.
const lentTarget = "/run/b9"

// Run implements container.Backend.
func (l lending) Run(ctx context.Context, spec container.Spec, to container.IO) (res container.Result, err error) {
	if spec.Network == container.NetworkNone {
		return l.Backend.Run(ctx, spec, to)
	}
	access, err := l.access(ctx)
	if err != nil {
		return container.Result{Code: -1}, fmt.Errorf("how apt of this machine gets to archives: %w", err)
	}
	secrets := append(slices.Clone(access.Secrets), lendProxies(&spec, os.Environ())...)
	if spec.Network == container.NetworkNAT {
		to.Lent = lentPorts(spec.Env, access)
	}
	conf := aptConfig(access, spec.Network)
	if conf != "" && !isSet(spec.Env, "APT_CONFIG") {
		dir, err := writeLent(conf, access.Logins)
		if err != nil {
			return container.Result{Code: -1}, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		spec.Mounts = append(slices.Clone(spec.Mounts), container.Mount{Source: dir, Target: lentTarget, Kind: container.Dir, ReadOnly: true})
		spec.Env = append(spec.Env, "APT_CONFIG="+lentTarget+"/apt.conf")
	}
	spec.Masked = slices.Clone(spec.Masked)
	for _, text := range secrets {
		spec.Masked = append(spec.Masked, []byte(text))
	}
	return l.Backend.Run(ctx, spec, to)
}

// lendProxies adds the proxies of an environment to a command's, and returns what is
// secret of them.
func lendProxies(spec *container.Spec, environ []string) (secrets []string) {
	spec.Env = slices.Clone(spec.Env)
	for _, kv := range environ {
		if name, value, _ := strings.Cut(kv, "="); debian.IsProxy(name) && !isSet(spec.Env, name) && (isNoProxy(name) || reachable(value, spec.Network)) {
			spec.Env = append(spec.Env, kv)
			secrets = append(secrets, debian.SecretsOf(value)...)
		}
	}
	return secrets
}

// lentPorts are where proxies and mirrors listen on this machine's loopback: a
// private network has these ports of it and no other.
func lentPorts(env []string, a *debian.Access) []netip.AddrPort {
	var ports []netip.AddrPort
	for _, kv := range env {
		if name, value, _ := strings.Cut(kv, "="); debian.IsProxy(name) && !isNoProxy(name) {
			ports = append(ports, onLoopback(value)...)
		}
	}
	for _, p := range a.Proxies {
		ports = append(ports, onLoopback(p.URL)...)
	}
	for _, m := range a.Mirrors {
		ports = append(ports, onLoopback(m)...)
	}
	slices.SortFunc(ports, netip.AddrPort.Compare)
	return slices.Compact(ports)
}

// isNoProxy reports whether a variable names what is reached without a proxy.
func isNoProxy(name string) bool { return strings.EqualFold(name, "no_proxy") }

func isSet(env []string, name string) bool {
	return slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
}

// reachable reports whether a proxy can be reached from a network: one that
// listens on this machine's loopback only from its own, and from a private one,
// which is lent its port.
func reachable(proxy, network string) bool {
	return network == container.NetworkHost || network == container.NetworkNAT || len(onLoopback(proxy)) == 0
}

// schemePort is the port of an address that names none; proxies are asked at 80.
func schemePort(scheme string) string {
	switch scheme {
	case "https":
		return "443"
	case "socks4", "socks4a", "socks5", "socks5h":
		return "1080"
	}
	return "80"
}

// onLoopback is where a proxy or mirror listens on this machine's loopback, nothing
// for one elsewhere.
func onLoopback(address string) []netip.AddrPort {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil
	}
	port, err := strconv.ParseUint(cmp.Or(u.Port(), schemePort(u.Scheme)), 10, 16)
	if err != nil {
		return nil
	}
	hosts := []string{u.Hostname()}
	if hosts[0] == "localhost" {
		hosts = []string{"127.0.0.1", "::1"}
	}
	var ports []netip.AddrPort
	for _, host := range hosts {
		if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() {
			ports = append(ports, netip.AddrPortFrom(ip, uint16(port)))
		}
	}
	return ports
}

// aptConfig is apt's configuration for a network; "" where there is nothing to say.
func aptConfig(a *debian.Access, network string) string {
	var b strings.Builder
	for _, p := range a.Proxies {
		if p.URL == "DIRECT" || reachable(p.URL, network) {
			fmt.Fprintf(&b, "%s %q;\n", p.Option, p.URL)
		}
	}
	if len(a.Logins) > 0 {
		fmt.Fprintf(&b, "Dir::Etc::netrc %q;\n", lentTarget+"/auth.conf")
	}
	return b.String()
}

// writeLent writes the files into a directory that only root can enter. Its
// name begins with this process, so that others know when nobody needs it.
func writeLent(conf string, logins []byte) (dir string, err error) {
	if err := os.MkdirAll(RunDir, 0o700); err != nil {
		return "", err
	}
	if dir, err = os.MkdirTemp(RunDir, fmt.Sprintf("lent-%d-", os.Getpid())); err != nil {
		return "", err
	}
	err = errors.Join(
		os.Chmod(dir, 0o755), // seen in the container; RunDir is closed
		os.WriteFile(filepath.Join(dir, "apt.conf"), []byte(conf), 0o644),
		os.WriteFile(filepath.Join(dir, "auth.conf"), logins, 0o600))
	if err != nil {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return dir, err
}

// reapLent removes the directories of processes that were killed. What can't be
// removed is not in the way.
func reapLent() {
	dirs, _ := filepath.Glob(filepath.Join(RunDir, "lent-*"))
	for _, dir := range dirs {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), "lent-"), "-")
		if _, err := strconv.Atoi(pid); err != nil {
			continue
		}
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, os.ErrNotExist) {
			_ = os.RemoveAll(dir)
		}
	}
}
