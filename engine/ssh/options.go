package ssh

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"b9.build/b9/engine/ssh/config"
)

// Options say where the connection to a server finds what it needs. The
// zero value means what ssh(1) does for the current user. There is no option
// that leaves out the check of the host key.
type Options struct {
	// Config lists configuration files, the more important one first; one
	// that does not exist is passed over. Nil means ~/.ssh/config and
	// /etc/ssh/ssh_config.
	Config []string

	// KnownHosts replaces UserKnownHostsFile and GlobalKnownHostsFile of the
	// configuration, unless it is nil.
	KnownHosts []string

	// Identities replaces IdentityFile of the configuration, unless it is nil.
	Identities []string

	// Agent is the socket of the ssh agent. "" means IdentityAgent of the
	// configuration, else $SSH_AUTH_SOCK; "none" uses no agent.
	Agent string

	// Passphrase asks a person for the passphrase of the key in file. It is
	// called only for a key that the server would take, and is called again
	// after a wrong answer, at most three times. Nil means that protected
	// keys can only be used through the agent.
	Passphrase func(ctx context.Context, file string, again bool) ([]byte, error)

	// Keys holds the keys that were opened with a passphrase, for several
	// connections. Nil means that each asks anew.
	Keys *Keys

	// Timeout bounds the connecting and the handshake with each server on
	// the way. 0 means ConnectTimeout of the configuration, else 10 seconds.
	Timeout time.Duration

	// Alive is the time between questions to a silent server; after three
	// without an answer the connection counts as lost. 0 means
	// ServerAliveInterval of the configuration, else 15 seconds.
	Alive time.Duration

	// Home is the directory that "~" and "%d" stand for; "" means the
	// current user's.
	Home string
}

// Keys are protected keys that were opened, so that a person is asked for a
// passphrase once, and by one connection at a time. The zero value has none;
// it may be used by several goroutines.
type Keys struct {
	mu     sync.Mutex
	opened map[string]ssh.Signer // by file
}

// open returns the key in file, which open asks for when it is not here yet.
func (k *Keys) open(file string, open func() (ssh.Signer, error)) (ssh.Signer, error) {
	if k == nil {
		return open()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := k.opened[file]; s != nil {
		return s, nil
	}
	s, err := open()
	if err != nil {
		return nil, err
	}
	if k.opened == nil {
		k.opened = map[string]ssh.Signer{}
	}
	k.opened[file] = s
	return s, nil
}

// home returns the directory that "~" stands for, or "" when there is none.
func (o *Options) home() string {
	if o.Home != "" {
		return o.Home
	}
	dir, _ := os.UserHomeDir() // "" where it fails
	return dir
}

// configFiles lists the configuration files to read.
func (o *Options) configFiles() []string {
	if o.Config != nil {
		return o.Config
	}
	return []string{filepath.Join(o.home(), ".ssh", "config"), config.SystemFile}
}

// resolve evaluates the configuration for a server, and puts the caller's
// wishes over it.
func (o *Options) resolve(to Target) (*config.Host, error) {
	h, err := config.Resolve(to, o.configFiles(), o.home())
	if err != nil {
		return nil, err
	}
	if o.KnownHosts != nil {
		h.KnownHosts = o.KnownHosts
	}
	if o.Identities != nil {
		h.Identities, h.Certificates = o.Identities, nil
	}
	if h.Agent = cmp.Or(o.Agent, h.Agent); h.Agent == "none" {
		h.Agent = ""
	}
	h.Timeout = cmp.Or(max(o.Timeout, 0), h.Timeout)
	h.Alive = cmp.Or(max(o.Alive, 0), h.Alive)
	return h, nil
}
