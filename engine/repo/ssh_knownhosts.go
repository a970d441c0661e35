package repo

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// knownKey is a line of a known_hosts file that speaks of the server in hand.
type knownKey struct {
	key    ssh.PublicKey
	marker string // "", markerAuthority or markerRevoked
	file   string
	line   int
}

// where names the line as file:line.
func (k knownKey) where() string { return fmt.Sprintf("%s:%d", k.file, k.line) }

// Markers of the SSH_KNOWN_HOSTS FILE FORMAT, sshd(8).
const (
	markerAuthority = "cert-authority"
	markerRevoked   = "revoked"
)

// knownName is how known_hosts files write a server: the name alone for
// port 22, else [name]:port.
func knownName(host string, port int) string {
	if port == 22 {
		return host
	}
	return "[" + host + "]:" + strconv.Itoa(port)
}

// readKnownHosts collects the lines about a name from the files, of which
// any may be missing.
func readKnownHosts(files []string, name string) ([]knownKey, error) {
	var known []knownKey
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read known hosts: %w", err)
		}
		found, err := parseKnownHosts(data, name)
		if err != nil {
			return nil, fmt.Errorf("%s:%w", file, err)
		}
		for _, k := range found {
			k.file = file
			known = append(known, k)
		}
	}
	return known, nil
}

// parseKnownHosts collects the lines about a name. As in OpenSSH a line that
// can't be read accepts no key and is passed over, but where it revokes one
// it is an error, which begins with the line's number.
func parseKnownHosts(data []byte, name string) ([]knownKey, error) {
	var known []knownKey
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, len(data)+1)
	for number := 1; lines.Scan(); number++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		marker, hosts, key, _, _, err := ssh.ParseKnownHosts(line)
		if err != nil {
			if bytes.HasPrefix(line, []byte("@"+markerRevoked)) {
				return nil, fmt.Errorf("%d: a revoked key can't be read: %w", number, err)
			}
			continue
		}
		if matchKnownHosts(hosts, name) {
			known = append(known, knownKey{key: key, marker: marker, line: number})
		}
	}
	return known, lines.Err()
}

// matchKnownHosts says whether the host field of a line speaks of name.
// Letter case does not count.
func matchKnownHosts(patterns []string, name string) bool {
	name = strings.ToLower(name)
	if len(patterns) == 1 && strings.HasPrefix(patterns[0], "|") {
		return matchHashedHost(patterns[0], name)
	}
	lower := make([]string, len(patterns))
	for i, p := range patterns {
		lower[i] = strings.ToLower(p)
	}
	return matchSSHHost(lower, name)
}

// matchHashedHost compares a name with |1|salt|hash, where the hash is the
// HMAC-SHA1 of the name, keyed with the salt.
func matchHashedHost(field, name string) bool {
	parts := strings.Split(field, "|")
	if len(parts) != 4 || parts[0] != "" || parts[1] != "1" {
		return false
	}
	salt, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil {
		return false
	}
	want, err := base64.StdEncoding.DecodeString(parts[3])
	if err != nil {
		return false
	}
	mac := hmac.New(sha1.New, salt)
	mac.Write([]byte(name))
	return subtle.ConstantTimeCompare(mac.Sum(nil), want) == 1
}

// trust is what the known_hosts files hold about one server.
type trust struct {
	host  *sshHost
	name  string     // as known_hosts files write the server
	known []knownKey // lines about name
	plain []knownKey // lines about the host without its port, as a last resort
}

// readTrust reads what is known about a server.
func readTrust(h *sshHost) (*trust, error) {
	t := &trust{host: h, name: knownName(h.Name, h.Port)}
	if h.HostKeyAlias != "" {
		t.name = h.HostKeyAlias
	}
	var err error
	if t.known, err = readKnownHosts(h.KnownHosts, t.name); err != nil {
		return nil, err
	}
	if h.HostKeyAlias == "" && h.Port != 22 {
		t.plain, err = readKnownHosts(h.KnownHosts, h.Name)
	}
	return t, err
}

// check is the ssh.HostKeyCallback. It runs before anything is said about
// the user. A certificate whose authority is not known counts as the plain
// key that it holds.
func (t *trust) check(_ string, _ net.Addr, key ssh.PublicKey) error {
	if k, ok := t.revoked(key); ok {
		return fmt.Errorf("host key of %s is revoked at %s: %s: log in there no more until its owner has given it a new key", t.name, k.where(), fingerprint(key))
	}
	if cert, ok := key.(*ssh.Certificate); ok {
		if t.authority(cert.SignatureKey) {
			return t.checkCertificate(cert)
		}
		key = cert.Key
	}
	if holds(t.known, key) {
		return nil
	}
	if len(plainKeys(t.known)) > 0 {
		return t.changed(key)
	}
	if holds(t.plain, key) {
		return nil
	}
	return t.unknown(key)
}

// revoked finds the line that revokes a key, or a certificate's authority.
func (t *trust) revoked(key ssh.PublicKey) (knownKey, bool) {
	keys := []ssh.PublicKey{key}
	if cert, ok := key.(*ssh.Certificate); ok {
		keys = []ssh.PublicKey{cert.Key, cert.SignatureKey}
	}
	for _, list := range [][]knownKey{t.known, t.plain} {
		for _, k := range list {
			if k.marker == markerRevoked && (sameKey(k.key, keys[0]) || len(keys) > 1 && sameKey(k.key, keys[1])) {
				return k, true
			}
		}
	}
	return knownKey{}, false
}

// authority says whether key may certify this server.
func (t *trust) authority(key ssh.PublicKey) bool {
	for _, k := range t.known {
		if k.marker == markerAuthority && sameKey(k.key, key) {
			return true
		}
	}
	return false
}

// checkCertificate checks kind, dates, principal and signature.
func (t *trust) checkCertificate(cert *ssh.Certificate) error {
	if cert.CertType != ssh.HostCert {
		return fmt.Errorf("host certificate of %s is one for users: it is not accepted", t.name)
	}
	principal := t.host.Name
	if t.host.HostKeyAlias != "" {
		principal = t.host.HostKeyAlias
	}
	if len(cert.ValidPrincipals) == 0 {
		return fmt.Errorf("host certificate %q of %s names no host: it is not accepted", cert.KeyId, t.name)
	}
	for _, p := range cert.ValidPrincipals {
		if matchSSHPattern(p, principal) {
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
func plainKeys(list []knownKey) []knownKey {
	var plain []knownKey
	for _, k := range list {
		if k.marker == "" {
			plain = append(plain, k)
		}
	}
	return plain
}

func holds(list []knownKey, key ssh.PublicKey) bool {
	for _, k := range plainKeys(list) {
		if sameKey(k.key, key) {
			return true
		}
	}
	return false
}

// fingerprint renders a key for people, with its type.
func fingerprint(key ssh.PublicKey) string {
	if cert, ok := key.(*ssh.Certificate); ok {
		key = cert.Key
	}
	return key.Type() + " " + ssh.FingerprintSHA256(key)
}
