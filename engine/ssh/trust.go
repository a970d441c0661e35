package ssh

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"b9.build/b9/engine/ssh/config"
)

// How a host key is checked:
//
// From the known_hosts files the lines are collected that speak of the server,
// by the rules of OpenSSH: patterns match the whole of "[name]:port", letter
// case does not count, a name may be hashed, and where no line speaks of the
// port, those for the name alone count. A key (or a certificate's key or
// authority) that one of the lines revokes is refused, whatever the others
// say. A certificate is judged by itself if a line names its authority, and
// otherwise counts as the plain key that it holds. A plain key has to be on a
// line. If it is not, the server is unknown when no line speaks of it, and its
// key has changed when some do. The package knownhosts has the forms of these
// answers and orders the key types to ask for; docs/decisions/0010 says why it
// does not read the files.

// knownKey is a line of a known_hosts file about the server in question.
type knownKey struct {
	xknownhosts.KnownKey
	marker string // "", markerAuthority or markerRevoked
}

// where names a line as file:line.
func where(k xknownhosts.KnownKey) string { return fmt.Sprintf("%s:%d", k.Filename, k.Line) }

// Markers of the SSH_KNOWN_HOSTS FILE FORMAT, sshd(8).
const (
	markerAuthority = "cert-authority"
	markerRevoked   = "revoked"
)

// maxKnownHosts bounds what is read of a file, in bytes.
const maxKnownHosts = 64 << 20

// readKnownHosts collects the lines about a name from the files. A file may be
// missing.
func readKnownHosts(files []string, name string) ([]knownKey, error) {
	var known []knownKey
	for _, file := range files {
		data, err := config.ReadText(file, maxKnownHosts, nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read known hosts: %w", err)
		}
		found, err := parseKnownHosts(file, data, name)
		if err != nil {
			return nil, err
		}
		known = append(known, found...)
	}
	return known, nil
}

// parseKnownHosts collects the lines about a name from the data of a file. As in
// OpenSSH a line that can't be read accepts no key and is passed over, but where
// it revokes one it is an error.
func parseKnownHosts(file string, data []byte, name string) ([]knownKey, error) {
	var known []knownKey
	number := 0
	for line := range bytes.Lines(data) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		marker, hosts, key, _, _, err := ssh.ParseKnownHosts(line)
		if err != nil {
			if bytes.HasPrefix(line, []byte("@"+markerRevoked)) {
				return nil, fmt.Errorf("%s:%d: a revoked key can't be read: %w", file, number, err)
			}
			continue
		}
		if matchKnownHosts(hosts, name) {
			known = append(known, knownKey{xknownhosts.KnownKey{Key: key, Filename: file, Line: number}, marker})
		}
	}
	return known, nil
}

// matchKnownHosts says whether the host field of a line matches name. Letter
// case does not count.
func matchKnownHosts(patterns []string, name string) bool {
	name = strings.ToLower(name)
	if len(patterns) == 1 && strings.HasPrefix(patterns[0], "|") {
		return matchHashedHost(patterns[0], name)
	}
	lower := strings.ToLower(strings.Join(patterns, ","))
	return config.MatchList(strings.Split(lower, ","), name)
}

// matchHashedHost compares a name with |1|salt|hash, where the hash is the
// HMAC-SHA1 of the name, keyed with the salt.
func matchHashedHost(field, name string) bool {
	parts := strings.Split(field, "|")
	if len(parts) != 4 || parts[0] != "" || parts[1] != "1" {
		return false
	}
	salt, saltErr := base64.StdEncoding.DecodeString(parts[2])
	want, wantErr := base64.StdEncoding.DecodeString(parts[3])
	mac := hmac.New(sha1.New, salt)
	mac.Write([]byte(name))
	return saltErr == nil && wantErr == nil && hmac.Equal(mac.Sum(nil), want)
}

// trust is what the known_hosts files hold about one server.
type trust struct {
	host  *config.Host
	name  string     // as known_hosts files write the server
	known []knownKey // lines about name
	plain []knownKey // lines about the host without its port, as a last resort
}

// readTrust reads what is known about a server.
func readTrust(h *config.Host) (*trust, error) {
	t := &trust{host: h, name: cmp.Or(h.HostKeyAlias, knownhosts.Normalize(h.Address()))}
	var err error
	if t.known, err = readKnownHosts(h.KnownHosts, t.name); err != nil {
		return nil, err
	}
	if h.HostKeyAlias == "" && h.Port != 22 {
		t.plain, err = readKnownHosts(h.KnownHosts, h.Name)
	}
	return t, err
}

// check is the ssh.HostKeyCallback. It runs before the server hears the user's
// name.
func (t *trust) check(_ string, _ net.Addr, key ssh.PublicKey) error {
	keys := []ssh.PublicKey{key}
	cert, certified := key.(*ssh.Certificate)
	if certified {
		keys = []ssh.PublicKey{cert.Key, cert.SignatureKey}
	}
	if k, ok := find(slices.Concat(t.known, t.plain), markerRevoked, keys...); ok {
		return t.refuseRevoked(k, key)
	}
	if certified {
		if _, ok := find(t.known, markerAuthority, cert.SignatureKey); ok {
			return t.checkCertificate(cert)
		}
		key = cert.Key
	}
	answer := &xknownhosts.KeyError{Want: plainKeys(t.known)}
	lines := t.known
	if len(answer.Want) == 0 {
		lines = t.plain
	}
	if _, ok := find(lines, "", key); ok {
		return nil
	}
	if knownhosts.IsHostKeyChanged(answer) {
		return t.refuseChanged(key, answer)
	}
	return t.refuseUnknown(key, answer)
}

// find returns the first of the lines with this marker that has one of the keys.
func find(lines []knownKey, marker string, keys ...ssh.PublicKey) (xknownhosts.KnownKey, bool) {
	for _, k := range lines {
		if k.marker == marker && slices.ContainsFunc(keys, func(key ssh.PublicKey) bool { return sameKey(k.Key, key) }) {
			return k.KnownKey, true
		}
	}
	return xknownhosts.KnownKey{}, false
}

// checkCertificate checks kind, dates, principal and signature.
func (t *trust) checkCertificate(cert *ssh.Certificate) error {
	if cert.CertType != ssh.HostCert {
		return fmt.Errorf("host certificate of %s is one for users: it is not accepted", t.name)
	}
	principal := cmp.Or(t.host.HostKeyAlias, t.host.Name)
	if len(cert.ValidPrincipals) == 0 {
		return fmt.Errorf("host certificate %q of %s names no host: it is not accepted", cert.KeyId, t.name)
	}
	for _, p := range cert.ValidPrincipals {
		if config.Match(p, principal) {
			principal = p // a principal may be a pattern, as in OpenSSH
			break
		}
	}
	if err := new(ssh.CertChecker).CheckCert(principal, cert); err != nil {
		return fmt.Errorf("host certificate %q of %s is not accepted: %w", cert.KeyId, t.name, err)
	}
	return nil
}

func sameKey(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

// plainKeys leaves out lines with a marker.
func plainKeys(list []knownKey) []xknownhosts.KnownKey {
	var plain []xknownhosts.KnownKey
	for _, k := range list {
		if k.marker == "" {
			plain = append(plain, k.KnownKey)
		}
	}
	return plain
}

// fingerprint renders a key for people, with its type.
func fingerprint(key ssh.PublicKey) string {
	key = plainKey(key)
	return key.Type() + " " + ssh.FingerprintSHA256(key)
}
