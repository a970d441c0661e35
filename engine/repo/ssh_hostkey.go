package repo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// unknown tells that no line speaks of the server, and how to add one.
func (t *trust) unknown(key ssh.PublicKey) error {
	if len(t.host.KnownHosts) > 0 && t.host.KnownHosts[0] == os.DevNull {
		return fmt.Errorf("host key of %s is not known: the server shows %s, and by the ssh configuration (UserKnownHostsFile %s) none is ever known: "+
			"b9 always compares it: let the host have a file, such as ~/.ssh/known_hosts, and put the key there when its owner has confirmed the fingerprint",
			t.name, fingerprint(key), os.DevNull)
	}
	return fmt.Errorf("host key of %s is not known: the server shows %s, and none of %s names it: "+
		"compare that with the fingerprint its owner gives you, then run: %s",
		t.name, fingerprint(key), strings.Join(t.host.KnownHosts, ", "), t.accept(key))
}

// changed tells that lines speak of the server, and all with other keys.
func (t *trust) changed(key ssh.PublicKey) error {
	var had []string
	files := []string{}
	for _, k := range plainKeys(t.known) {
		had = append(had, fmt.Sprintf("%s at %s", fingerprint(k.key), k.where()))
		if !slices.Contains(files, k.file) {
			files = append(files, k.file)
		}
	}
	var forget strings.Builder
	for _, file := range files {
		fmt.Fprintf(&forget, "ssh-keygen -R %s -f %s && ", quoteShell(t.name), quoteShell(file))
	}
	return fmt.Errorf("host key of %s has changed: the server shows %s, but what is known is %s: "+
		"someone may be listening in; only if the server's owner confirms the new fingerprint, run: %s%s",
		t.name, fingerprint(key), strings.Join(had, ", "), forget.String(), t.accept(key))
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

// algorithms lists the host key algorithms to ask for: those for which a key
// or an authority is known come first, for a server that has keys of several
// types shows only one. The others stay, so that a server that has none of
// the known types is told apart from one that can't be talked to.
func (t *trust) algorithms() []string {
	all := algorithmList(t.host.HostKeyAlgorithms, ssh.SupportedAlgorithms().HostKeys)
	rank := func(algorithm string) int {
		certificate := strings.Contains(algorithm, "-cert-v01@")
		for _, k := range append(slices.Clone(t.known), t.plain...) {
			switch {
			case k.marker == markerAuthority && certificate:
				return 0
			case k.marker == "" && !certificate && slices.Contains(keyAlgorithms(k.key), algorithm):
				return 1
			}
		}
		if certificate {
			return 3
		}
		return 2
	}
	slices.SortStableFunc(all, func(a, b string) int { return rank(a) - rank(b) })
	return all
}

// keyAlgorithms lists the signature algorithms of a key, RFC 8332 for RSA.
func keyAlgorithms(key ssh.PublicKey) []string {
	if key.Type() == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{key.Type()}
}

// algorithmList evaluates an algorithm list of ssh_config(5): a list
// separated by commas, or one that "+" appends to, "-" takes from, or "^"
// puts before the default. What b9 does not know falls out.
func algorithmList(spec string, def []string) []string {
	if spec == "" {
		return slices.Clone(def)
	}
	names := strings.Split(strings.TrimLeft(spec, "+-^"), ",")
	listed := func(name string) bool { return matchSSHHost(names, name) }
	switch spec[0] {
	case '+':
		return slices.Clone(def)
	case '-':
		return slices.DeleteFunc(slices.Clone(def), listed)
	}
	first, rest := []string{}, slices.DeleteFunc(slices.Clone(def), listed)
	for _, pattern := range names {
		for _, name := range def {
			if matchSSHPattern(pattern, name) && !slices.Contains(first, name) {
				first = append(first, name)
			}
		}
	}
	if spec[0] == '^' {
		return append(first, rest...)
	}
	return first
}
