package debian

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// given is the sources that the call itself names, none when the machine's
// are to be used. It reads nothing.
func (b *bootstrap) given() ([]aptSource, error) {
	var all []aptSource
	for i, m := range b.Mirrors {
		if i < len(b.Users) && b.Users[i] != "" {
			m = strings.Replace(m, "://", "://"+b.Users[i]+"@", 1)
		}
		list, err := b.mirror(m)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	if b.Snapshot == "" {
		return all, nil
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("snapshot= needs mirror=: the address of a snapshot service, such as http://HOST/archive/debian")
	}
	return b.pin(all)
}

// mirror is the sources that one value of mirror= stands for.
func (b *bootstrap) mirror(m string) ([]aptSource, error) {
	if strings.ContainsAny(m, " \t") {
		s, err := parseSourceLine(strings.TrimSpace(m))
		return []aptSource{s}, err
	}
	if u, err := url.Parse(m); err != nil || u.Scheme == "" || u.Host == "" && !strings.HasPrefix(u.Path, "/") {
		return nil, fmt.Errorf("%q is neither a URL such as http://HOST/debian nor a line that begins with deb", m)
	}
	suites := b.Suites
	if len(suites) == 0 {
		suites = []string{b.Suite}
	}
	var all []aptSource
	for _, suite := range suites {
		all = append(all, aptSource{URI: m, Suite: suite, Components: []string{"main"}})
	}
	return all, nil
}

// pin points the sources at their state at the time of the snapshot.
func (b *bootstrap) pin(sources []aptSource) ([]aptSource, error) {
	for i, s := range sources {
		if !strings.Contains(s.URI, "/archive/") {
			return nil, fmt.Errorf("%s has not the layout of a snapshot service, which snapshot= needs: give one such as http://HOST/archive/debian", s.URI)
		}
		sources[i] = s.with("Check-Valid-Until", "no")
		sources[i].URI = strings.TrimRight(s.URI, "/") + "/" + b.Snapshot + "/"
	}
	return sources, nil
}

// rolling reports whether a suite of Debian has neither updates nor security
// fixes beside it.
func rolling(suite string) bool {
	return slices.Contains([]string{"sid", "unstable", "experimental", "rc-buggy"}, suite)
}

// securitySuite is the name under which fixes for a suite are published.
func securitySuite(suite string) string {
	if slices.Contains([]string{"wheezy", "jessie", "stretch", "buster"}, suite) {
		return suite + "/updates"
	}
	return suite + "-security"
}

// suite reports whether Debian has, or had, a suite of that name.
func suite(suite string) bool {
	return rolling(suite) || slices.Contains([]string{
		"wheezy", "jessie", "stretch", "buster", "bullseye", "bookworm", "trixie", "forky", "duke",
		"oldoldstable", "oldstable", "stable", "testing",
	}, suite)
}

// sources is the sources to install from, in order.
func (b *bootstrap) sources() ([]aptSource, error) {
	all, err := b.given()
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		all, err = b.machine()
	}
	if err != nil {
		return nil, err
	}
	if all = b.narrow(all); len(all) == 0 {
		return nil, fmt.Errorf("the sources have no packages of %s for %s: give mirror=", b.Suite, b.Arch)
	}
	return b.complete(all)
}

// machine is the sources for the suite according to the machine's apt.
func (b *bootstrap) machine() ([]aptSource, error) {
	all, err := machineSources(b.Apt)
	if err != nil {
		return nil, err
	}
	if list := belonging(all, b.Suite); len(list) > 0 {
		return list, nil
	}
	own, debian := codename(filepath.Join(filepath.Dir(b.Apt), "os-release"))
	if !suite(b.Suite) || debian {
		if list := b.transfer(all, own); len(list) > 0 {
			return list, nil
		}
	}
	return nil, fmt.Errorf("this machine's apt has no source that offers %s: give mirror=, such as http://HOST/debian", b.Suite)
}

// belonging picks the suite itself and its pockets, such as bookworm-updates;
// none when the suite itself is not there.
func belonging(all []aptSource, suite string) []aptSource {
	if len(ofSuite(all, suite)) == 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(all), func(s aptSource) bool {
		return s.Suite != suite && !strings.HasPrefix(s.Suite, suite+"-") && !strings.HasPrefix(s.Suite, suite+"/")
	})
}

// transfer turns the machine's sources of its own release into those of the
// suite: the same mirrors, and of the pockets updates and security.
func (b *bootstrap) transfer(all []aptSource, own string) []aptSource {
	names := map[string]string{own: b.Suite}
	if !rolling(b.Suite) {
		names[own+"-updates"] = b.Suite + "-updates"
		names[securitySuite(own)] = securitySuite(b.Suite)
	}
	var list []aptSource
	for _, s := range belonging(all, own) {
		if suite, ok := names[s.Suite]; ok {
			s.Suite = suite
			list = append(list, s)
		}
	}
	return list
}

// narrow applies arch=, components= and suites=.
func (b *bootstrap) narrow(all []aptSource) []aptSource {
	list := slices.DeleteFunc(slices.Clone(all), func(s aptSource) bool { return !s.has(b.Arch) })
	for i, s := range list {
		if len(b.Components) > 0 && !strings.HasSuffix(s.Suite, "/") {
			list[i].Components = b.Components
		}
	}
	if len(b.Suites) == 0 || len(list) == 0 {
		return list
	}
	var picked []aptSource
	for _, suite := range b.Suites {
		of := ofSuite(list, suite)
		if len(of) == 0 { // it is looked for where the first of them is
			of = []aptSource{list[0]}
			of[0].Suite = suite
		}
		picked = append(picked, of...)
	}
	return picked
}

// ofSuite is the sources of one suite.
func ofSuite(list []aptSource, suite string) []aptSource {
	return slices.DeleteFunc(slices.Clone(list), func(s aptSource) bool { return s.Suite != suite })
}

// complete makes the sources complete: mirrors out of lists, and keys.
func (b *bootstrap) complete(all []aptSource) ([]aptSource, error) {
	machine, err := machineSources(b.Apt)
	if err != nil {
		return nil, err
	}
	for i, s := range all {
		if s.URI, err = mirrorList(s.URI); err != nil {
			return nil, err
		}
		switch {
		case b.Keyring != "":
			s = s.with("Signed-By", b.Keyring)
		case len(b.Mirrors) > 0 && s.field("Signed-By") == "" && s.field("Trusted") == "":
			s = s.with("Signed-By", likelyKeyring(machine, s))
		}
		all[i] = s
	}
	return all, nil
}

// likelyKeyring is the keyring for a mirror that was given without one: that
// of the same archive on the machine, else Debian's, else what apt trusts anyway.
func likelyKeyring(machine []aptSource, s aptSource) string {
	for _, m := range machine {
		if strings.TrimRight(m.URI, "/") == strings.TrimRight(s.URI, "/") {
			return m.field("Signed-By")
		}
	}
	base, _, _ := strings.Cut(s.Suite, "/")
	base, _, _ = strings.Cut(base, "-")
	for _, path := range []string{"/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg"} {
		if suite(base) && fileExists(path) {
			return path
		}
	}
	return ""
}
