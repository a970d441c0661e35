package ssh

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

// refusal is the error for a host key that is not accepted. The answer it
// wraps is a *KeyError or *RevokedError of golang.org/x/crypto/ssh/knownhosts.
type refusal struct {
	text   string
	answer error
}

func (r *refusal) Error() string { return r.text }

// Unwrap implements the interface of package errors.
func (r *refusal) Unwrap() error { return r.answer }

// refuseRevoked names the line that revokes a key.
func (t *trust) refuseRevoked(k xknownhosts.KnownKey, key ssh.PublicKey) error {
	return &refusal{fmt.Sprintf("host key of %s is revoked at %s: %s: log in there no more until its owner has given it a new key",
		t.name, where(k), fingerprint(key)), &xknownhosts.RevokedError{Revoked: k}}
}

// refuseUnknown says that no line speaks of the server, and how to add one.
func (t *trust) refuseUnknown(key ssh.PublicKey, answer error) error {
	if len(t.host.KnownHosts) > 0 && t.host.KnownHosts[0] == os.DevNull {
		return &refusal{fmt.Sprintf("host key of %s is not known: the server shows %s, and by the ssh configuration (UserKnownHostsFile %s) none is ever known: "+
			"b9 always compares it: let the host have a file, such as ~/.ssh/known_hosts, and put the key there when its owner has confirmed the fingerprint",
			t.name, fingerprint(key), os.DevNull), answer}
	}
	return &refusal{fmt.Sprintf("host key of %s is not known: the server shows %s, and none of %s names it: "+
		"compare that with the fingerprint its owner gives you, then run: %s",
		t.name, fingerprint(key), strings.Join(t.host.KnownHosts, ", "), t.accept(key)), answer}
}

// refuseChanged says that lines speak of the server, and all with other keys.
func (t *trust) refuseChanged(key ssh.PublicKey, answer error) error {
	var had []string
	files := []string{}
	for _, k := range plainKeys(t.known) {
		had = append(had, fmt.Sprintf("%s at %s", fingerprint(k.Key), where(k)))
		if !slices.Contains(files, k.Filename) {
			files = append(files, k.Filename)
		}
	}
	var forget strings.Builder
	for _, file := range files {
		fmt.Fprintf(&forget, "ssh-keygen -R %s -f %s && ", quoteShell(t.name), quoteShell(file))
	}
	return &refusal{fmt.Sprintf("host key of %s has changed: the server shows %s, but what is known is %s: "+
		"someone may be listening in; only if the server's owner confirms the new fingerprint, run: %s%s",
		t.name, fingerprint(key), strings.Join(had, ", "), forget.String(), t.accept(key)), answer}
}

// accept is the command that adds the key to the user's file. A server that
// ssh-keyscan can't reach by this name gets its line spelt out.
func (t *trust) accept(key ssh.PublicKey) string {
	file, before := "~/.ssh/known_hosts", ""
	if len(t.host.KnownHosts) > 0 {
		file = quoteShell(t.host.KnownHosts[0])
		if dir := filepath.Dir(t.host.KnownHosts[0]); !exists(dir) {
			before = "mkdir -m 700 " + quoteShell(dir) + " && "
		}
	}
	if t.host.HostKeyAlias != "" || len(t.host.Jumps) > 0 {
		line := t.name + " " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
		return before + "echo " + quoteShell(line) + " >> " + file
	}
	return before + fmt.Sprintf("ssh-keyscan -p %d -t %s %s >> %s", t.host.Port, scanType(key), quoteShell(t.host.Name), file)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// scanType is the name that ssh-keyscan has for a type of key.
func scanType(key ssh.PublicKey) string {
	kind := key.Type()
	if strings.HasPrefix(kind, "ecdsa-") {
		return "ecdsa"
	}
	return strings.TrimPrefix(kind, "ssh-")
}

// quoteShell quotes a word for a shell where it has to be.
func quoteShell(word string) string {
	plain := func(c rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_", c)
	}
	if word != "" && !strings.ContainsFunc(word, plain) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
