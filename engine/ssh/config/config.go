// Package config reads the configuration of ssh(1), as ssh_config(5) of
// OpenSSH 9.2 describes it, for one server.
//
// It hides files, Include, Host and Match, percent tokens and environment
// variables. It does not connect and asks no resolver. A setting that would
// change whom b9 trusts or what it runs, and that b9 can't honour, is an error
// that names file and line; other settings that b9 has no use for are passed
// over.
//
//   - [Target] is a server as somebody names it, [Resolve] gives its [Host]:
//     all that the configuration says of it.
//   - [MatchList] and [Match] are the patterns of ssh_config(5), which
//     known_hosts files and lists of algorithms use as well.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Target is a server as a location or a ProxyJump line names it.
type Target struct {
	User string // "" leaves it to the configuration, else the current user
	Host string // a name, an address, or an alias from the configuration
	Port int    // 0 leaves it to the configuration, else 22
}

// Host is what the configuration says of one server.
type Host struct {
	Target // as asked for: Host is the alias, User and Port are filled in

	Name           string   // to connect to
	HostKeyAlias   string   // to look up in known_hosts instead of Name, or ""
	Identities     []string // private key files, in the order to try; nil leaves the choice
	Certificates   []string // user certificate files
	IdentitiesOnly bool     // use the agent only for keys among Identities
	Agent          string   // socket, or "" for none
	KnownHosts     []string
	Jumps          []Target // to go through, in this order
	Network        string   // tcp, tcp4 or tcp6
	Timeout        time.Duration
	Alive          time.Duration // 0 asks nothing
	AliveCount     int
	Bind           string // local address, or ""

	// Algorithm lists as the configuration has them, "" for the default.
	Ciphers, MACs, KeyExchanges, HostKeyAlgorithms string
}

// Address is what to connect to: host:port.
func (h *Host) Address() string { return net.JoinHostPort(h.Name, strconv.Itoa(h.Port)) }

// String names the server for people.
func (h *Host) String() string {
	s := h.User + "@" + h.Address()
	if h.Host != h.Name {
		s = h.Host + " (" + s + ")"
	}
	return s
}

// SystemFile is the configuration for all users of a machine.
const SystemFile = systemDir + "/ssh_config"

// Resolve evaluates configuration files for a server, the more important file
// first; one that does not exist is passed over. home is the directory that
// "~" and "%d" stand for.
func Resolve(to Target, files []string, home string) (*Host, error) {
	r := &reader{home: home, alias: to.Host, local: currentUser(), values: map[string][]string{}, where: map[string]string{}}
	if to.User != "" {
		r.values["user"] = []string{to.User}
	}
	if to.Port != 0 {
		r.values["port"] = []string{strconv.Itoa(to.Port)}
	}
	for _, file := range files {
		if err := r.read(file, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	h := &Host{Target: to, Name: strings.ToLower(r.hostName())}
	if err := r.fill(h); err != nil {
		return nil, fmt.Errorf("ssh configuration of %s: %w", to.Host, err)
	}
	return h, nil
}

// Defaults for what the configuration does not set.
const (
	defaultTimeout    = 10 * time.Second
	defaultAlive      = 15 * time.Second
	defaultAliveCount = 3
)

// currentUser is the name of who runs this process.
func currentUser() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return os.Getenv("USER")
}

// set applies a line that counts for the host.
func (r *reader) set(l line) error {
	if err := l.refused(); err != nil {
		return err
	}
	if l.keyword == "identityfile" || l.keyword == "certificatefile" { // all values count, not only the first
		if !slices.Contains(r.values[l.keyword], l.args[0]) {
			r.values[l.keyword] = append(r.values[l.keyword], l.args[0])
		}
		return nil
	}
	if l.keyword == "proxyjump" && r.first("proxycommand", "") != "" || l.keyword == "proxycommand" && r.first("proxyjump", "") != "" {
		return nil
	}
	if _, ok := r.values[l.keyword]; ok {
		return nil
	}
	r.values[l.keyword] = l.args
	r.where[l.keyword] = fmt.Sprintf("%s:%d", l.file, l.number)
	if l.keyword == "proxycommand" && !strings.EqualFold(l.args[0], "none") {
		return l.errorf("b9 runs no ProxyCommand: reach the server with ProxyJump, or set \"ProxyCommand none\" in a Host block above")
	}
	return nil
}

// refused reports a setting that would change whom b9 trusts or what it
// runs, and that b9 can't honour.
func (l line) refused() error {
	harmless := map[string]string{
		"canonicalizehostname": "no", "revokedhostkeys": "none", "knownhostscommand": "none",
		"pubkeyauthentication": "yes", "proxyusefdpass": "no", "bindinterface": "none", "pkcs11provider": "none",
	}
	want, listed := harmless[l.keyword]
	if !listed || strings.EqualFold(l.args[0], want) {
		return nil
	}
	return l.errorf("b9 can't honour %s %s (it knows only %q): set that in a Host block above for this server", l.keyword, l.args[0], want)
}

// fill evaluates the values that were found.
func (r *reader) fill(h *Host) error {
	h.User = r.first("user", r.local)
	h.HostKeyAlias = r.first("hostkeyalias", "")
	h.Bind = r.first("bindaddress", "")
	h.Ciphers, h.MACs = r.first("ciphers", ""), r.first("macs", "")
	h.KeyExchanges, h.HostKeyAlgorithms = r.first("kexalgorithms", ""), r.first("hostkeyalgorithms", "")
	h.Port = r.number("port", 22, 1, 65535)
	h.AliveCount = r.number("serveralivecountmax", defaultAliveCount, 1, 1<<30)
	h.Timeout = cmp.Or(r.duration("connecttimeout", defaultTimeout), defaultTimeout)
	h.Alive = r.duration("serveraliveinterval", defaultAlive)
	r.fillChoices(h)
	h.Jumps = r.jumps(h)
	h.Identities = r.paths(h, "identityfile")
	h.Certificates = r.paths(h, "certificatefile")
	h.KnownHosts = append(r.paths(h, "userknownhostsfile", "~/.ssh/known_hosts", "~/.ssh/known_hosts2"),
		r.paths(h, "globalknownhostsfile", systemDir+"/ssh_known_hosts", systemDir+"/ssh_known_hosts2")...)
	h.Agent = r.agent(h)
	return r.err
}

// fault notes that a keyword's value is wrong, if err says so and nothing was
// wrong before, and where the value stands.
func (r *reader) fault(keyword string, err error) {
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%s: %s: %w", r.where[keyword], keyword, err)
	}
}

func (r *reader) fillChoices(h *Host) {
	networks := map[string]string{"any": "tcp", "inet": "tcp4", "inet6": "tcp6"}
	family := strings.ToLower(r.first("addressfamily", "any"))
	if h.Network = networks[family]; h.Network == "" {
		r.fault("addressfamily", fmt.Errorf("%q is none of any, inet, inet6", family))
	}
	only := strings.ToLower(r.first("identitiesonly", "no"))
	answer, ok := map[string]bool{"yes": true, "true": true, "no": false, "false": false}[only]
	if h.IdentitiesOnly = answer; !ok {
		r.fault("identitiesonly", fmt.Errorf("%q is neither yes nor no", only))
	}
}

// number reads a whole number within bounds.
func (r *reader) number(keyword string, def, low, high int) int {
	text := r.first(keyword, "")
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		r.fault(keyword, fmt.Errorf("%q is no number from %d to %d", text, low, high))
	}
	return n
}

// duration reads a time such as 90, 10m or 1h30m; without a unit it counts
// seconds. "none" is 0.
func (r *reader) duration(keyword string, def time.Duration) time.Duration {
	text := r.first(keyword, "")
	if text == "" {
		return def
	}
	if strings.EqualFold(text, "none") {
		return 0
	}
	d, ok := parseTime(text)
	if !ok {
		r.fault(keyword, fmt.Errorf("%q is no time such as 30 or 1m30s", text))
	}
	return d
}

// parseTime reads the TIME FORMATS of sshd_config(5).
func parseTime(text string) (total time.Duration, ok bool) {
	units := map[string]time.Duration{
		"": time.Second, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
	}
	part := regexp.MustCompile(`^([0-9]+)([smhdw]?)`)
	for rest := strings.ToLower(text); rest != ""; {
		m := part.FindStringSubmatch(rest)
		if m == nil {
			return 0, false
		}
		n, err := strconv.ParseUint(m[1], 10, 24)
		if err != nil {
			return 0, false
		}
		total += time.Duration(n) * units[m[2]]
		rest = rest[len(m[0]):]
	}
	return total, text != ""
}
