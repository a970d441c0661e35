package repo

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// Location says where a repository is: a directory of this machine (Host is
// empty) or of an SSH server.
type Location struct {
	User string // "" leaves it to the ssh configuration
	Host string // a name, an address or an alias of the ssh configuration
	Port int    // 0 leaves it to the ssh configuration
	// Path is, with a Host, relative to the directory the server logs in
	// to, unless it begins with "/".
	Path string
}

// ParseLocation reads a location: a directory, absolute or relative to the
// working directory, which is made absolute; ssh://[user@]host[:port]/path
// with an absolute path, or /~/path for one in the login directory; or
// [user@]host:path as scp(1) takes it, also with "~/" before the path. As
// there, a text with a "/" before its first ":" is a directory. A password in
// the text is refused.
func ParseLocation(text string) (Location, error) {
	loc, err := parseLocation(text)
	if errors.Is(err, errPassword) {
		return Location{}, fmt.Errorf("repository location: %w", err) // and not a word of the text
	}
	if err != nil {
		return Location{}, fmt.Errorf("repository location %q: %w", text, err)
	}
	return loc, nil
}

func parseLocation(text string) (Location, error) {
	if strings.ContainsAny(text, "\x00\n\r") {
		return Location{}, errors.New("has a control character")
	}
	if scheme, _, ok := strings.Cut(text, "://"); ok && !strings.Contains(scheme, "/") {
		return parseURL(text)
	}
	if host, path, ok := cutHost(text); ok {
		return scpLocation(host, path)
	}
	if text == "" {
		return Location{}, errors.New("is empty: give a directory, ssh://host/path or host:path")
	}
	path, err := filepath.Abs(text)
	return Location{Path: path}, err
}

// cutHost separates host:path, where the host may be a bracketed address.
func cutHost(text string) (host, path string, ok bool) {
	from := 0
	if open := strings.Index(text, "["); open >= 0 && (open == 0 || text[open-1] == '@') {
		from = max(strings.Index(text, "]"), 0)
	}
	colon := strings.IndexByte(text[from:], ':')
	if colon < 0 || strings.Contains(text[:from+colon], "/") {
		return "", "", false
	}
	return text[:from+colon], text[from+colon+1:], true
}

func scpLocation(host, path string) (Location, error) {
	loc := Location{Host: host, Path: path}
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		loc.User, loc.Host = host[:i], host[i+1:]
	}
	loc.Host = strings.Trim(loc.Host, "[]")
	if loc.User == "" && (loc.Host == "ssh" || loc.Host == "sftp") {
		return Location{}, fmt.Errorf("names a host %q: a URL begins with \"ssh://\"", loc.Host)
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		loc.Path = rest
	}
	if strings.Contains(loc.User, ":") {
		return Location{}, errPassword
	}
	return loc.checked()
}

var errPassword = errors.New("a password has no place in a location: use a key or an agent")

// parseURL reads the ssh:// form.
func parseURL(text string) (Location, error) {
	u, err := url.Parse(text)
	if err != nil {
		return Location{}, errors.New("is not a valid URL: want ssh://[user@]host[:port]/path")
	}
	if u.Scheme != "ssh" && u.Scheme != "sftp" {
		return Location{}, fmt.Errorf("scheme %q is unknown (have ssh): a directory is given without a scheme", u.Scheme)
	}
	if _, has := u.User.Password(); has {
		return Location{}, errPassword
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return Location{}, errors.New("has a ? or #: write %3F or %23")
	}
	loc := Location{User: u.User.Username(), Host: u.Hostname(), Path: u.Path}
	if u.Port() != "" {
		if loc.Port, err = strconv.Atoi(u.Port()); err != nil || loc.Port < 1 || loc.Port > 65535 {
			return Location{}, fmt.Errorf("port %q is not in 1..65535", u.Port())
		}
	}
	if rest, ok := strings.CutPrefix(loc.Path, "/~/"); ok {
		loc.Path = rest
	}
	return loc.checked()
}

// checked returns l, or an error for a place that a server can't have or that no
// text names.
func (l Location) checked() (Location, error) {
	switch {
	case l.Host == "" || strings.HasPrefix(l.Host, "-"):
		return Location{}, errors.New("names no host")
	case l.Path == "" || l.Path == "/" || l.Path == "~":
		return Location{}, errors.New("names no directory on the server: add /path")
	case strings.HasPrefix(strings.TrimPrefix(l.Path, "/"), "~"):
		return Location{}, errors.New("begins with another user's home directory, which SFTP can't tell: give the path from \"/\"")
	}
	if u, err := url.Parse(l.String()); err != nil || u.Hostname() != l.Host {
		return Location{}, fmt.Errorf("%q is not the name or address of a host", l.Host)
	}
	return l, nil
}

// Remote reports whether the location is on an SSH server.
func (l Location) Remote() bool { return l.Host != "" }

// String returns a text that ParseLocation takes for the same location.
func (l Location) String() string {
	if !l.Remote() {
		return l.Path
	}
	u := url.URL{Scheme: "ssh", Host: l.Host, Path: l.Path}
	if strings.Contains(l.Host, ":") {
		u.Host = "[" + l.Host + "]"
	}
	if l.Port != 0 {
		u.Host = net.JoinHostPort(l.Host, strconv.Itoa(l.Port))
	}
	if l.User != "" {
		u.User = url.User(l.User)
	}
	if !strings.HasPrefix(l.Path, "/") {
		u.Path = "/~/" + l.Path
	}
	return u.String()
}

// ValidName returns why name can't name an image, a version or a step's
// object, or nil: it has 1 to 128 letters (ASCII), digits and "._+-",
// and begins with a letter or a digit.
func ValidName(name string) error {
	const limit = 128
	if name == "" || len(name) > limit {
		return fmt.Errorf("name %.140q does not have 1 to %d characters", name, limit)
	}
	for i, c := range []byte(name) {
		alnum := c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
		if !alnum && (i == 0 || strings.IndexByte("._+-", c) < 0) {
			return fmt.Errorf("name %q: character %d can't be %q (have letters, digits and ._+- after the first)", name, i+1, c)
		}
	}
	return nil
}
