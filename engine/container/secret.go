package container

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"b9.build/b9/engine/container/secret"
)

// SecretsDir is where a command finds its secrets: a file system in memory, which is
// never swapped out, in which the command's user alone reads, and nobody writes.
const SecretsDir = "/run/secrets"

// AgentSocket is where a command finds the ssh-agent that it was lent, and what the
// variable SSH_AUTH_SOCK names then. The agent lists its keys and signs with them;
// to add, remove and lock keys is refused.
const AgentSocket = SecretsDir + "/ssh-agent"

// Secret is a file below SecretsDir. Its value is masked in the command's streams
// and looked for in what the command leaves. The value itself is not part of a
// description of the container, so that it can't be kept with one.
type Secret struct {
	Name   string        // of the file: letters, digits, '.', '_' and '-'
	Origin secret.Origin // where the value comes from when Value is nil
	Value  []byte        `json:"-"`
}

// Read returns the value, or reads it from where it comes from.
func (s Secret) Read() (secret.Text, error) {
	value := s.Value
	if value == nil {
		var err error
		if value, err = s.Origin.Read(); err != nil {
			return secret.Text{}, fmt.Errorf("secret %s: %w", s.Name, err)
		}
	}
	return secret.Text{Name: s.Name, Value: value}, nil
}

// Leak is a place where a command left a secret.
type Leak struct {
	Path   string // in the container, with the value masked
	Part   string // of what is there: "" for its content, else "its name", "its target" or "an attribute"
	Secret string // its name
	Form   string // "" as it is; else such as "base64"
}

// String tells of the leak in a phrase, such as `/etc/conf holds the secret token, in base64`.
func (l Leak) String() string {
	text := l.Path + " holds the secret " + l.Secret
	if l.Part != "" {
		text = fmt.Sprintf("%s of %s holds the secret %s", l.Part, l.Path, l.Secret)
	}
	if l.Form != "" {
		text += ", in " + l.Form
	}
	return text
}

// CheckSecretName reports a name that can't be that of a secret.
func CheckSecretName(name string) error {
	if !isName(name, "_") {
		return fmt.Errorf("secret %q: want letters, digits, '.', '_' and '-', at most 100, beginning with no '.' or '-'", name)
	}
	if name == path.Base(AgentSocket) {
		return fmt.Errorf("secret %q: %s is the place of an ssh-agent: choose another name", name, AgentSocket)
	}
	return nil
}

// Lends reports whether the command gets secrets or an agent.
func (s *Spec) Lends() bool { return len(s.Secrets) > 0 || s.SSH }

// checkSecrets refuses names that can't be, and mounts in the secrets' place.
func (s *Spec) checkSecrets() error {
	if !s.Lends() {
		return nil
	}
	for i, given := range s.Secrets {
		if err := CheckSecretName(given.Name); err != nil {
			return err
		}
		if slices.ContainsFunc(s.Secrets[:i], func(other Secret) bool { return other.Name == given.Name }) {
			return fmt.Errorf("secret %q is given twice", given.Name)
		}
	}
	for _, m := range s.Mounts {
		if target := path.Clean(m.Target); target == SecretsDir || strings.HasPrefix(target, SecretsDir+"/") {
			return fmt.Errorf("mount at %s: %s is the place of secrets", m.Target, SecretsDir)
		}
	}
	return nil
}
