package container

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// LibvirtNetworkPrefix marks a libvirt network among a backend's features; in
// a Spec it may be left out.
const LibvirtNetworkPrefix = "libvirt:"

// Networks that every backend has.
const (
	NetworkHost = "host" // this machine's own
	NetworkNone = "none" // loopback alone
	NetworkNAT  = "nat"  // one of the container's own, with a way out; this machine's loopback is out of reach
)

// OwnNetwork reports whether a network needs no libvirt.
func OwnNetwork(name string) bool {
	return name == NetworkHost || name == NetworkNone || name == NetworkNAT
}

// maxName is the length of names, in bytes, that a domain name, a control group and a
// host name all allow.
const maxName = 100

// isName reports whether text is of letters, digits, '.', '_' and '-', and begins with a
// letter, a digit or a byte of first. To compile a regular expression for that takes
// longer than all else that is checked of a container.
func isName(text, first string) bool {
	for i := range len(text) {
		switch c := text[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i == 0 && strings.IndexByte(first, c) < 0, strings.IndexByte("._-", c) < 0:
			return false
		}
	}
	return text != "" && len(text) <= maxName
}

// Reserved are the targets that every container has for itself.
var Reserved = [...]string{"/proc", "/sys", "/dev"}

// Normalize checks what can be checked without touching the system and fills
// in defaults. The mounts come back cleaned and sorted, so that each follows
// the one it is mounted in. Their sources are absolute, for the working directory
// is another one where they are opened.
func (s Spec) Normalize() (Spec, error) {
	if !isName(s.ID, "") {
		return s, fmt.Errorf("container id %q: want letters, digits, '.', '_' and '-', at most 100, beginning with a letter or digit", s.ID)
	}
	if len(s.Argv) == 0 || s.Argv[0] == "" {
		return s, errors.New("no command to run")
	}
	if err := s.checkStrings(); err != nil {
		return s, err
	}
	if err := s.checkLimits(); err != nil {
		return s, err
	}
	if s.Arch == "" {
		s.Arch = MachineArch()
	}
	if _, err := findMachine(s.Arch); err != nil {
		return s, err
	}
	caps, err := capabilities(s.Capabilities)
	if err != nil {
		return s, err
	}
	s.Capabilities = caps
	s.setDefaults()
	if !path.IsAbs(s.Dir) {
		return s, fmt.Errorf("working directory %q is not an absolute path", s.Dir)
	}
	if err := s.checkSecrets(); err != nil {
		return s, err
	}
	s.Mounts, err = normalizeMounts(s.Mounts)
	return s, err
}

func (s *Spec) setDefaults() {
	if s.Dir == "" {
		s.Dir = "/"
	}
	if s.Hostname == "" {
		s.Hostname = s.ID
	}
	if s.Grace == 0 {
		s.Grace = DefaultGrace
	}
	if s.Network == "" {
		s.Network = NetworkNAT
	}
	s.Network = networkName(s.Network)
	defaults := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", MarkerVariable}
	if s.SSH {
		defaults = append(defaults, "SSH_AUTH_SOCK="+AgentSocket)
	}
	for _, v := range defaults {
		name, _, _ := strings.Cut(v, "=")
		if !slices.ContainsFunc(s.Env, func(given string) bool { return strings.HasPrefix(given, name+"=") }) {
			s.Env = append(slices.Clone(s.Env), v)
		}
	}
}

// longestArgument is the kernel's limit on one argument or variable, in bytes:
// execve(2), MAX_ARG_STRLEN.
const longestArgument = 128<<10 - 1

// checkStrings refuses what the kernel or the C library could not carry.
func (s *Spec) checkStrings() error {
	for _, v := range slices.Concat(s.Argv, s.Env, []string{s.Dir, s.User}) {
		if strings.ContainsRune(v, 0) {
			return fmt.Errorf("%q contains a zero byte", v)
		}
		if len(v) > longestArgument {
			return fmt.Errorf("argument or variable %q... has %d bytes, the kernel takes %d: put a long script into a file", v[:40], len(v), longestArgument)
		}
	}
	for _, v := range s.Env {
		if strings.IndexByte(v, '=') < 1 {
			return fmt.Errorf("environment entry %q: want NAME=value", v)
		}
	}
	if len(s.Hostname) > 64 || strings.ContainsAny(s.Hostname, " \t\n/") {
		return fmt.Errorf("host name %q: want at most 64 bytes without blanks", s.Hostname)
	}
	return nil
}

// leastMemory is what starting a command takes.
const leastMemory = 16 << 20

func (s *Spec) checkLimits() error {
	switch {
	case s.Memory < 0 || (s.Memory > 0 && s.Memory < leastMemory):
		return fmt.Errorf("memory limit of %d bytes: the least is %d MiB", s.Memory, leastMemory>>20)
	case s.CPUs < 0 || (s.CPUs > 0 && s.CPUs < 0.01):
		return fmt.Errorf("limit of %g processors: the least is 0.01", s.CPUs)
	case s.Timeout < 0:
		return fmt.Errorf("timeout of %v is negative", s.Timeout)
	case s.Grace < 0:
		return fmt.Errorf("grace of %v is negative", s.Grace)
	}
	return nil
}

func normalizeMounts(given []Mount) ([]Mount, error) {
	mounts := slices.Clone(given)
	seen := make(map[string]bool)
	for i := range mounts {
		m := &mounts[i]
		if err := m.check(); err != nil {
			return nil, err
		}
		m.Target = path.Clean(m.Target)
		if seen[m.Target] {
			return nil, fmt.Errorf("two mounts at %s", m.Target)
		}
		seen[m.Target] = true
		if m.Kind == Tmpfs {
			continue
		}
		var err error
		if m.Source, err = filepath.Abs(m.Source); err != nil {
			return nil, fmt.Errorf("mount at %s: %w", m.Target, err)
		}
	}
	if !seen["/"] {
		return nil, errors.New("no mount at /: a container needs a root file system")
	}
	slices.SortStableFunc(mounts, func(a, b Mount) int { return cmp.Compare(depth(a.Target), depth(b.Target)) })
	if mounts[0].Kind == Tmpfs {
		return nil, errors.New("the mount at / is empty: want an image or a directory")
	}
	return mounts, nil
}

// depth is the number of names in a clean absolute path.
func depth(target string) int {
	if target == "/" {
		return 0
	}
	return strings.Count(target, "/")
}

func (m *Mount) check() error {
	if !path.IsAbs(m.Target) || strings.ContainsRune(m.Target, 0) {
		return fmt.Errorf("mount target %q is not an absolute path", m.Target)
	}
	for _, r := range Reserved {
		if target := path.Clean(m.Target); target == r || strings.HasPrefix(target, r+"/") {
			return fmt.Errorf("mount target %s: every container has a %s of its own", m.Target, r)
		}
	}
	switch m.Kind {
	case Image, Dir:
		if m.Source == "" || strings.ContainsRune(m.Source, 0) {
			return fmt.Errorf("mount at %s: no source", m.Target)
		}
	case Tmpfs:
		if m.Source != "" {
			return fmt.Errorf("mount at %s: a tmpfs has no source, not %q", m.Target, m.Source)
		}
	default:
		return fmt.Errorf("mount at %s: unknown kind %d", m.Target, int(m.Kind))
	}
	if m.Kind != Image && (m.Offset != 0 || m.Length != 0 || m.FSType != "" || m.Subvolume != "") {
		return fmt.Errorf("mount at %s: offset, length, file system and subvolume are for images only", m.Target)
	}
	if strings.ContainsRune(m.Subvolume, 0) {
		return fmt.Errorf("mount at %s: subvolume %q contains a zero byte", m.Target, m.Subvolume)
	}
	if m.Offset < 0 || m.Length < 0 || m.Offset%512 != 0 || m.Length%512 != 0 {
		return fmt.Errorf("mount at %s: offset %d and length %d must be multiples of 512", m.Target, m.Offset, m.Length)
	}
	return nil
}
