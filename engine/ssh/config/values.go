package config

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// jumps reads ProxyJump: servers separated by commas, or "none". A
// server is not reached through itself, so that "Host *" may name it.
func (r *reader) jumps(h *Host) (jumps []Target) {
	text := r.first("proxyjump", "none")
	if strings.EqualFold(text, "none") {
		return nil
	}
	text, err := h.expand(r, text, "%hnpr")
	r.fault("proxyjump", err)
	for _, part := range strings.Split(text, ",") {
		jump, err := parseJump(part)
		r.fault("proxyjump", err)
		jumps = append(jumps, jump)
	}
	if last := jumps[len(jumps)-1]; last.Host == h.Host && (last.Port == 0 || last.Port == h.Port) && (last.User == "" || last.User == h.User) {
		return nil
	}
	return jumps
}

// parseJump reads [user@]host[:port] or an ssh URL.
func parseJump(text string) (Target, error) {
	var t Target
	var port string
	var hasPort bool
	if strings.HasPrefix(text, "ssh://") {
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" {
			return Target{}, fmt.Errorf("%q is no ssh://[user@]host[:port]", text)
		}
		t.User, t.Host, port, hasPort = u.User.Username(), u.Hostname(), u.Port(), u.Port() != ""
	} else {
		at := strings.LastIndexByte(text, '@')
		t.User, text = text[:max(at, 0)], text[at+1:]
		host, after, err := net.SplitHostPort(text)
		if port, hasPort = after, err == nil; !hasPort {
			host = text
		}
		t.Host = strings.Trim(host, "[]")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if hasPort && (err != nil || n == 0) {
		return Target{}, fmt.Errorf("%q has no valid port", text)
	}
	if t.Host == "" {
		return Target{}, fmt.Errorf("%q names no host", text)
	}
	t.Port = int(n)
	return t, nil
}

// agent is the socket of the agent, or "".
func (r *reader) agent(h *Host) string {
	switch agent := r.first("identityagent", "SSH_AUTH_SOCK"); {
	case strings.EqualFold(agent, "none"):
		return ""
	case agent == "SSH_AUTH_SOCK":
		return os.Getenv(agent)
	case strings.HasPrefix(agent, "$") && !strings.HasPrefix(agent, "${"):
		return os.Getenv(agent[1:])
	default:
		return r.path(h, "identityagent", agent)
	}
}

// paths resolves the files of a keyword, or those of def where it has none. "none"
// names no file.
func (r *reader) paths(h *Host, keyword string, def ...string) (paths []string) {
	list := def
	if v := r.values[keyword]; len(v) > 0 {
		list = v
	}
	if slices.Contains(list, "none") {
		return []string{}
	}
	for _, name := range list {
		paths = append(paths, r.path(h, keyword, name))
	}
	return paths
}

// path resolves one file: environment, percent tokens, "~". A relative one
// lies in the working directory, as it does for ssh(1).
func (r *reader) path(h *Host, keyword, name string) string {
	name, err := expandEnv(name)
	if err == nil {
		name, err = h.expand(r, expandTilde(name, r.home), "%dhijkLlnpru")
	}
	r.fault(keyword, err)
	return name
}

// expandTilde replaces a "~/" at the beginning.
func expandTilde(path, home string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		return filepath.Join(home, rest)
	}
	return path
}

// expandEnv replaces ${NAME}; a variable that is not set is an error.
func expandEnv(text string) (out string, err error) {
	variable := regexp.MustCompile(`\$\{[^}]*\}`)
	out = variable.ReplaceAllStringFunc(text, func(ref string) string {
		value, ok := os.LookupEnv(ref[2 : len(ref)-1])
		if !ok {
			err = fmt.Errorf("the environment has no %s", ref)
		}
		return value
	})
	return out, err
}

// expand replaces the percent tokens of ssh_config(5), section TOKENS, as
// far as allowed lists them.
func (h *Host) expand(r *reader, text, allowed string) (out string, err error) {
	tokens := h.tokens(r)
	out = regexp.MustCompile(`(?s)%.?`).ReplaceAllStringFunc(text, func(ref string) string {
		if ref == "%" || !strings.Contains(allowed, ref[1:]) {
			err = cmp.Or(err, fmt.Errorf("%q: b9 does not know the token %q there", text, ref))
		}
		return tokens[ref[1:]]
	})
	return out, err
}

// tokens returns the values of the percent tokens.
func (h *Host) tokens(r *reader) map[string]string {
	local, _ := os.Hostname()
	short, _, _ := strings.Cut(local, ".")
	return map[string]string{
		"%": "%",
		"d": r.home,
		"h": h.Name,
		"i": strconv.Itoa(os.Getuid()),
		"j": r.first("proxyjump", ""),
		"k": cmp.Or(h.HostKeyAlias, h.Host),
		"L": short,
		"l": local,
		"n": h.Host,
		"p": strconv.Itoa(h.Port),
		"r": h.User,
		"u": r.local,
	}
}
