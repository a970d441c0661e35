package ssh

import (
	"net"
	"slices"
	"strings"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"b9.build/b9/engine/ssh/config"
)

// algorithmList evaluates an algorithm list of ssh_config(5): a list
// separated by commas, or one that "+" appends to, "-" removes from, or "^"
// puts before the default. An algorithm that b9 does not know is left out.
func algorithmList(spec string, def []string) []string {
	if spec == "" {
		return slices.Clone(def)
	}
	names := strings.Split(strings.TrimLeft(spec, "+-^"), ",")
	listed := func(name string) bool { return config.MatchList(names, name) }
	switch spec[0] {
	case '+':
		return slices.Clone(def)
	case '-':
		return slices.DeleteFunc(slices.Clone(def), listed)
	}
	first, rest := []string{}, slices.DeleteFunc(slices.Clone(def), listed)
	for _, pattern := range names {
		for _, name := range def {
			if config.Match(pattern, name) && !slices.Contains(first, name) {
				first = append(first, name)
			}
		}
	}
	if spec[0] == '^' {
		return append(first, rest...)
	}
	return first
}

// algorithms lists the host key algorithms to ask for: those for which a key
// or an authority is known come first, because a server that has keys of
// several types shows only one. The others stay, so that a server that has
// none of the known types is told apart from one that can't be talked to.
func (t *trust) algorithms() []string {
	all := algorithmList(t.host.HostKeyAlgorithms, ssh.SupportedAlgorithms().HostKeys)
	lines := slices.Concat(t.known, t.plain)
	certified := slices.ContainsFunc(lines, func(k knownKey) bool { return k.marker == markerAuthority })
	known := knownhosts.HostKeyAlgorithms(func(string, net.Addr, ssh.PublicKey) error {
		return &xknownhosts.KeyError{Want: plainKeys(lines)}
	}, t.host.Address())
	rank := func(algorithm string) int {
		certificate := strings.Contains(algorithm, "-cert-v01@")
		switch {
		case certificate && certified:
			return 0
		case slices.Contains(known, algorithm):
			return 1
		case !certificate:
			return 2
		}
		return 3
	}
	slices.SortStableFunc(all, func(a, b string) int { return rank(a) - rank(b) })
	return all
}
