package debian

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"b9.build/b9/engine/container/secret"
	"b9.build/b9/engine/tool"
)

// Access is how this machine's apt gets to archives: its proxies, and what lets
// it in. It belongs to the machine and to nothing that is built there.
type Access struct {
	Proxies []Proxy
	Logins  []byte   // as apt_auth.conf(5) has them
	Mirrors []string // those that it has packages from, without passwords
	Secrets []string // the passwords in proxies and logins, as they are written there
}

// Proxy is an option of apt that names a proxy.
type Proxy struct{ Option, URL string } // such as Acquire::http::Proxy

// MachineAccess reads it from the machine's apt configuration, and from the user
// names and passwords in the addresses of mirrors. Without apt there is none but
// the mirrors'.
func MachineAccess(ctx context.Context, mirrors ...string) (*Access, error) {
	return accessIn(ctx, machineApt, mirrors)
}

func accessIn(ctx context.Context, etc string, mirrors []string) (*Access, error) {
	a := &Access{}
	if err := a.addProxies(ctx); err != nil {
		return nil, err
	}
	sources, err := machineSources(etc)
	if err != nil {
		return nil, err
	}
	for _, s := range sources {
		mirrors = append(mirrors, s.URI)
	}
	a.Mirrors, _ = withoutUsers(mirrors)
	var logins bytes.Buffer
	for _, m := range mirrors {
		line, err := loginLine(m)
		if err != nil {
			return nil, err
		}
		if line != "" && !strings.Contains(logins.String(), line) {
			logins.WriteString(line)
		}
	}
	if err := appendLogins(&logins, etc); err != nil {
		return nil, err
	}
	a.Logins = logins.Bytes()
	for _, m := range password().FindAllSubmatch(a.Logins, -1) {
		a.Secrets = append(a.Secrets, string(m[1]))
	}
	for _, m := range mirrors {
		a.Secrets = append(a.Secrets, SecretsOf(m)...)
	}
	slices.Sort(a.Secrets)
	a.Secrets = slices.Compact(a.Secrets)
	return a, nil
}

// password is a password among logins.
var password = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\bpassword\s+(\S+)`)
})

// proxyLine is a line of apt-config that names a proxy: for a scheme, or for one
// host of it. A program of this machine that finds one is left out.
var proxyLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(Acquire::(?:http|https|ftp)::Proxy(?:::[^ ]+)?) "([^"]+)";$`)
})

func (a *Access) addProxies(ctx context.Context) error {
	if _, err := tool.Find(tool.FindIn(hostPath, "apt-config")); err != nil {
		return nil
	}
	out, err := hostOutput(ctx, tool.FindIn(hostPath, "apt-config"), "dump", "Acquire")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(out)) {
		m := proxyLine().FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		a.Proxies = append(a.Proxies, Proxy{m[1], m[2]})
		a.Secrets = append(a.Secrets, SecretsOf(m[2])...)
	}
	return nil
}

// loginLine is the user and password in a mirror's address as a line of
// apt_auth.conf(5), "" where there are none. The scheme is named: apt sends
// nothing over plain http otherwise.
func loginLine(mirror string) (string, error) {
	u, err := url.Parse(mirror)
	if err != nil || u.User == nil {
		return "", nil
	}
	secret, _ := u.User.Password()
	if words := len(strings.Fields(u.User.Username() + " " + secret)); words > 2 {
		return "", fmt.Errorf("the user or the password of %s has white space, which apt reads from no file", withoutPassword(mirror))
	}
	return fmt.Sprintf("machine %s://%s%s login %s password %s\n", u.Scheme, u.Host, strings.TrimSuffix(u.Path, "/"), u.User.Username(), secret), nil
}

// SecretsOf are the user and password in the address of a mirror or proxy, as they
// stand there and as they are meant.
func SecretsOf(address string) []string {
	m := userPart().FindStringSubmatch(address)
	if m == nil {
		return nil
	}
	secrets := []string{m[1]}
	if _, word, ok := strings.Cut(m[1], ":"); ok {
		secrets = append(secrets, word)
		if plain, err := url.PathUnescape(word); err == nil && plain != word {
			secrets = append(secrets, plain)
		}
	}
	return secrets
}

// IsProxy reports whether a variable of the environment names a proxy, or what is
// reached without one.
func IsProxy(name string) bool { return strings.HasSuffix(strings.ToLower(name), "_proxy") }

// masked is what is *** wherever apt's words are kept: secrets of this machine, and
// those in the proxies of the environment, which apt and scripts of packages get.
func (a *Access) masked(environ []string) *secret.Set {
	var texts [][]byte
	for _, s := range a.Secrets {
		texts = append(texts, []byte(s))
	}
	for _, kv := range environ {
		if name, value, _ := strings.Cut(kv, "="); IsProxy(name) {
			for _, s := range SecretsOf(value) {
				texts = append(texts, []byte(s))
			}
		}
	}
	return secret.Masking(nil, texts)
}

// appendLogins adds those that apt has in files of their own, in its order.
func appendLogins(to *bytes.Buffer, etc string) error {
	parts, err := filepath.Glob(filepath.Join(etc, "auth.conf.d", "*.conf"))
	if err != nil {
		return err
	}
	for _, file := range append([]string{filepath.Join(etc, "auth.conf")}, parts...) {
		data, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		to.Write(append(data, '\n'))
	}
	return nil
}

// userPart is the user and password in the address of a mirror, in a line with one, or
// in a proxy's address, which may have no scheme.
var userPart = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?:://|^)([^/\s]+)@`)
})

// withoutUsers takes users and passwords out of mirrors: they say who asks, not
// what is there.
func withoutUsers(mirrors []string) (bare, users []string) {
	for _, m := range mirrors {
		user := ""
		if at := userPart().FindStringSubmatchIndex(m); at != nil {
			user, m = m[at[2]:at[3]], m[:at[2]]+m[at[1]:]
		}
		bare, users = append(bare, m), append(users, user)
	}
	return bare, users
}
