package repo

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sshHost is what the configuration says of one server.
type sshHost struct {
	sshTarget // as asked for: Host is the alias, User and Port are filled in

	Name           string   // to connect to
	HostKeyAlias   string   // to look up in known_hosts instead of Name, or ""
	Identities     []string // private key files, in the order to try; nil leaves the choice
	Certificates   []string // user certificate files
	IdentitiesOnly bool     // use the agent only for keys among Identities
	Agent          string   // socket, or "" for none
	KnownHosts     []string
	Jumps          []sshTarget // to go through, in this order
	Network        string      // tcp, tcp4 or tcp6
	Timeout        time.Duration
	Alive          time.Duration // 0 asks nothing
	AliveCount     int
	Bind           string // local address, or ""

	// Algorithm lists as the configuration has them, "" for the default.
	Ciphers, MACs, KeyExchanges, HostKeyAlgorithms string
}

// address is what to connect to.
func (h *sshHost) address() string { return net.JoinHostPort(h.Name, strconv.Itoa(h.Port)) }

// String names the server for people.
func (h *sshHost) String() string {
	s := h.User + "@" + h.address()
	if h.Host != h.Name {
		s = h.Host + " (" + s + ")"
	}
	return s
}

// resolveSSH evaluates the configuration for a server.
func resolveSSH(to sshTarget, o *SSHOptions) (*sshHost, error) {
	r := &sshReader{home: o.home(), alias: to.Host, local: currentUser(), values: map[string][]string{}, where: map[string]string{}}
	if to.User != "" {
		r.values["user"] = []string{to.User}
	}
	if to.Port != 0 {
		r.values["port"] = []string{strconv.Itoa(to.Port)}
	}
	for _, file := range o.configFiles() {
		if err := r.read(file, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	h := &sshHost{sshTarget: to, Name: strings.ToLower(r.hostName())}
	if err := r.fill(h); err != nil {
		return nil, fmt.Errorf("ssh configuration of %s: %w", to.Host, err)
	}
	o.override(h)
	return h, nil
}

// override puts the caller's wishes over the configuration.
func (o *SSHOptions) override(h *sshHost) {
	if o.KnownHosts != nil {
		h.KnownHosts = o.KnownHosts
	}
	if o.Identities != nil {
		h.Identities, h.Certificates = o.Identities, nil
	}
	if o.Agent != "" {
		h.Agent = o.Agent
	}
	if h.Agent == "none" {
		h.Agent = ""
	}
	if o.Timeout > 0 {
		h.Timeout = o.Timeout
	}
	if o.Alive > 0 {
		h.Alive = o.Alive
	}
}

// currentUser is the name of who runs this process.
func currentUser() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return os.Getenv("USER")
}

// repeatable are the keywords of which every value counts, not only the first.
func repeatable(keyword string) bool {
	return keyword == "identityfile" || keyword == "certificatefile"
}

// set takes in a line that counts for the host.
func (r *sshReader) set(l sshLine) error {
	if err := l.refused(); err != nil {
		return err
	}
	if repeatable(l.keyword) {
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
func (l sshLine) refused() error {
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
func (r *sshReader) fill(h *sshHost) error {
	h.User = r.first("user", r.local)
	h.HostKeyAlias = r.first("hostkeyalias", "")
	h.Bind = r.first("bindaddress", "")
	h.Ciphers, h.MACs = r.first("ciphers", ""), r.first("macs", "")
	h.KeyExchanges, h.HostKeyAlgorithms = r.first("kexalgorithms", ""), r.first("hostkeyalgorithms", "")
	for _, step := range []func(*sshHost) error{r.fillNumbers, r.fillChoices, r.fillJumps, r.fillFiles} {
		if err := step(h); err != nil {
			return err
		}
	}
	return nil
}

// fault is an error that names where the keyword's value stands.
func (r *sshReader) fault(keyword string, err error) error {
	return fmt.Errorf("%s: %s: %w", r.where[keyword], keyword, err)
}

func (r *sshReader) fillNumbers(h *sshHost) (err error) {
	if h.Port, err = r.number("port", 22, 1, 65535); err != nil {
		return err
	}
	if h.AliveCount, err = r.number("serveralivecountmax", defaultAliveCount, 1, 1<<30); err != nil {
		return err
	}
	if h.Timeout, err = r.duration("connecttimeout", defaultSSHTimeout); err != nil {
		return err
	}
	if h.Timeout == 0 {
		h.Timeout = defaultSSHTimeout
	}
	h.Alive, err = r.duration("serveraliveinterval", defaultSSHAlive)
	return err
}

func (r *sshReader) fillChoices(h *sshHost) error {
	networks := map[string]string{"any": "tcp", "inet": "tcp4", "inet6": "tcp6"}
	family := strings.ToLower(r.first("addressfamily", "any"))
	if h.Network = networks[family]; h.Network == "" {
		return r.fault("addressfamily", fmt.Errorf("%q is none of any, inet, inet6", family))
	}
	switch only := strings.ToLower(r.first("identitiesonly", "no")); only {
	case "yes", "true":
		h.IdentitiesOnly = true
	case "no", "false":
	default:
		return r.fault("identitiesonly", fmt.Errorf("%q is neither yes nor no", only))
	}
	return nil
}

// number reads a whole number within bounds.
func (r *sshReader) number(keyword string, def, low, high int) (int, error) {
	text := r.first(keyword, "")
	if text == "" {
		return def, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, r.fault(keyword, fmt.Errorf("%q is no number from %d to %d", text, low, high))
	}
	return n, nil
}

// duration reads a time such as 90, 10m or 1h30m; without a unit it counts
// seconds. "none" is 0.
func (r *sshReader) duration(keyword string, def time.Duration) (time.Duration, error) {
	text := r.first(keyword, "")
	if text == "" {
		return def, nil
	}
	if strings.EqualFold(text, "none") {
		return 0, nil
	}
	d, ok := parseSSHTime(text)
	if !ok {
		return 0, r.fault(keyword, fmt.Errorf("%q is no time such as 30 or 1m30s", text))
	}
	return d, nil
}

// parseSSHTime reads the TIME FORMATS of sshd_config(5).
func parseSSHTime(text string) (total time.Duration, ok bool) {
	units := map[byte]time.Duration{
		's': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour,
	}
	for rest := text; rest != ""; {
		digits := strings.IndexFunc(rest, func(c rune) bool { return c < '0' || c > '9' })
		if digits < 0 {
			digits = len(rest)
		}
		n, err := strconv.ParseUint(rest[:digits], 10, 24)
		if err != nil {
			return 0, false
		}
		unit := time.Second
		if rest = rest[digits:]; rest != "" {
			if unit, ok = units[rest[0]|0x20]; !ok {
				return 0, false
			}
			rest = rest[1:]
		}
		total += time.Duration(n) * unit
	}
	return total, text != ""
}
