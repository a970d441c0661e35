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

// fillJumps reads ProxyJump: servers separated by commas, or "none". A
// server is not reached through itself, so that "Host *" may name it.
func (r *reader) fillJumps(h *Host) error {
	text := r.first("proxyjump", "none")
	if strings.EqualFold(text, "none") {
		return nil
	}
	text, err := h.expand(r, text, "%hnpr")
	if err != nil {
		return r.fault("proxyjump", err)
	}
	for _, part := range strings.Split(text, ",") {
		jump, err := parseJump(part)
		if err != nil {
			return r.fault("proxyjump", err)
		}
		h.Jumps = append(h.Jumps, jump)
	}
	if last := h.Jumps[len(h.Jumps)-1]; last.Host == h.Host && (last.Port == 0 || last.Port == h.Port) && (last.User == "" || last.User == h.User) {
		h.Jumps = nil
	}
	return nil
}

// parseJump reads [user@]host[:port] or an ssh URL.
func parseJump(text string) (Target, error) {
	if strings.HasPrefix(text, "ssh://") {
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" {
			return Target{}, fmt.Errorf("%q is no ssh://[user@]host[:port]", text)
		}
		t := Target{User: u.User.Username(), Host: u.Hostname()}
		if u.Port() != "" {
			t.Port, err = jumpPort(text, u.Port())
		}
		return t, err
	}
	var t Target
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		t.User, text = text[:i], text[i+1:]
	}
	t.Host = text
	if host, port, err := net.SplitHostPort(text); err == nil {
		if t.Port, err = jumpPort(text, port); err != nil {
			return Target{}, err
		}
		t.Host = host
	}
	t.Host = strings.Trim(t.Host, "[]")
	if t.Host == "" {
		return Target{}, fmt.Errorf("%q names no host", text)
	}
	return t, nil
}

// jumpPort reads the port of a server that is written as text.
func jumpPort(text, port string) (int, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q has no valid port", text)
	}
	return int(n), nil
}

// fillFiles reads the settings that name files.
func (r *reader) fillFiles(h *Host) (err error) {
	if h.Identities, err = r.paths(h, "identityfile", r.values["identityfile"]); err != nil {
		return err
	}
	if h.Certificates, err = r.paths(h, "certificatefile", r.values["certificatefile"]); err != nil {
		return err
	}
	if err := r.fillKnownHosts(h); err != nil {
		return err
	}
	switch agent := r.first("identityagent", "SSH_AUTH_SOCK"); {
	case strings.EqualFold(agent, "none"):
		h.Agent = ""
	case agent == "SSH_AUTH_SOCK":
		h.Agent = os.Getenv(agent)
	case strings.HasPrefix(agent, "$") && !strings.HasPrefix(agent, "${"):
		h.Agent = os.Getenv(agent[1:])
	default:
		h.Agent, err = r.path(h, "identityagent", agent)
	}
	return err
}

func (r *reader) fillKnownHosts(h *Host) error {
	files := []struct {
		keyword string
		def     []string
	}{
		{"userknownhostsfile", []string{"~/.ssh/known_hosts", "~/.ssh/known_hosts2"}},
		{"globalknownhostsfile", []string{systemDir + "/ssh_known_hosts", systemDir + "/ssh_known_hosts2"}},
	}
	for _, f := range files {
		list := f.def
		if v := r.values[f.keyword]; len(v) > 0 {
			list = v
		}
		paths, err := r.paths(h, f.keyword, list)
		if err != nil {
			return err
		}
		h.KnownHosts = append(h.KnownHosts, paths...)
	}
	return nil
}

// paths resolves the files of a keyword; "none" names no file.
func (r *reader) paths(h *Host, keyword string, list []string) ([]string, error) {
	var paths []string
	if slices.Contains(list, "none") {
		return []string{}, nil
	}
	for _, name := range list {
		path, err := r.path(h, keyword, name)
		if err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// path resolves one file: environment, percent tokens, "~". A relative one
// lies in the working directory, as it does for ssh(1).
func (r *reader) path(h *Host, keyword, name string) (string, error) {
	name, err := expandEnv(name)
	if err == nil {
		name, err = h.expand(r, expandTilde(name, r.home), "%dhijkLlnpru")
	}
	if err != nil {
		return "", r.fault(keyword, err)
	}
	return name, nil
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
func (h *Host) expand(r *reader, text, allowed string) (string, error) {
	var b strings.Builder
	tokens := h.tokens(r)
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			b.WriteByte(text[i])
			continue
		}
		i++
		if i == len(text) || strings.IndexByte(allowed, text[i]) < 0 {
			return "", fmt.Errorf("%q: b9 does not know the token %q there", text, text[i-1:min(i+1, len(text))])
		}
		b.WriteString(tokens[text[i]])
	}
	return b.String(), nil
}

// tokens returns the values of the percent tokens.
func (h *Host) tokens(r *reader) map[byte]string {
	local, _ := os.Hostname()
	short, _, _ := strings.Cut(local, ".")
	return map[byte]string{
		'%': "%",
		'd': r.home,
		'h': h.Name,
		'i': strconv.Itoa(os.Getuid()),
		'j': r.first("proxyjump", ""),
		'k': cmp.Or(h.HostKeyAlias, h.Host),
		'L': short,
		'l': local,
		'n': h.Host,
		'p': strconv.Itoa(h.Port),
		'r': h.User,
		'u': r.local,
	}
}
