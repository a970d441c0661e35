package trial

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"b9.build/b9/engine/vm"
	"b9.build/b9/engine/vm/qemu"
)

// sshPort is that of sshd in the guest.
const sshPort = 22

// The channels by which a command gets into a machine.
const (
	byAgent = "guest agent"
	bySSH   = "ssh"
)

// access runs commands in a machine: through QEMU's guest agent where the guest has one,
// else through ssh as root, with a key that is made for this run and handed in as a
// credential of systemd. Which one it is is known when the first of them answers.
type access struct {
	key  ssh.Signer // nil without ssh
	name string     // of the channel, "" before it is known
	host ssh.PublicKey

	mu     sync.Mutex
	client *ssh.Client
}

// newAccess adds to how the machine is started what commands and servers need.
func newAccess(m *vm.Machine, checks []Check, o *qemu.Options) (*access, error) {
	a := &access{}
	lent := map[int]bool{}
	lend := func(port int) {
		if !lent[port] {
			lent[port] = true
			o.Network.Forwards = append(o.Network.Forwards, qemu.Forward{Guest: port})
		}
	}
	for i := range checks {
		switch c := &checks[i]; c.Kind {
		case kindHTTP:
			lend(c.Port)
		case kindCommand, kindReboot, kindPoweroff:
			if len(m.NICs) == 0 || a.key != nil {
				continue
			}
			_, private, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				return nil, err
			}
			if a.key, err = ssh.NewSignerFromKey(private); err != nil {
				return nil, err
			}
			lend(sshPort)
			public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(a.key.PublicKey())))
			o.Credentials = map[string]string{"ssh.authorized_keys.root": public}
		}
	}
	return a, nil
}

// used is the channel that commands went through, "" for none.
func (a *access) used() string { return a.name }

// agentFirst is how long the guest agent may take after ssh answered: a guest that has both
// starts them at about the same time.
const agentFirst = 10 * time.Second

// ready waits until commands get in.
func (a *access) ready(ctx context.Context, t *trial) error {
	switch a.name {
	case byAgent:
		return t.Agent(ctx)
	case bySSH:
		return a.connect(ctx, t)
	}
	trying, cancel := context.WithCancel(ctx)
	defer cancel()
	agent, login := make(chan error, 1), make(chan error, 1)
	go func() { agent <- t.serves(trying) }()
	go func() { login <- a.connect(trying, t) }()
	var err error
	select {
	case err = <-agent:
		if a.name = byAgent; err != nil && a.key != nil && trying.Err() == nil {
			a.name = bySSH // the agent answers, and runs nothing
			err = <-login
			break
		}
		cancel()
		<-login
	case err = <-login:
		a.name = bySSH
		patience, done := t.clock.limit(trying, agentFirst, errors.New("there is none"))
		select {
		case aerr := <-agent:
			if aerr == nil {
				a.name, err = byAgent, nil
			}
		case <-patience.Done():
			cancel()
			<-agent
		}
		done()
	}
	if err != nil {
		a.name = ""
		return err
	}
	t.log.say("commands get into the machine through %s", map[string]string{byAgent: "QEMU's guest agent", bySSH: "ssh, since no guest agent runs them"}[a.name])
	return nil
}

// serves waits until the guest's agent runs commands, which it may be forbidden to.
func (t *trial) serves(ctx context.Context) error {
	if err := t.Agent(ctx); err != nil {
		return err
	}
	_, err := t.Exec(ctx, "/bin/sh", "-c", ":")
	return err
}

// run runs a command in the machine as root.
func (a *access) run(ctx context.Context, t *trial, argv []string) (qemu.Exited, error) {
	if err := a.ready(ctx, t); err != nil {
		return qemu.Exited{}, err
	}
	if a.name == byAgent {
		return t.Exec(ctx, argv...)
	}
	return a.session(ctx, argv)
}

// forget ends what a reboot has ended on the other side.
func (a *access) forget() { a.close() }

func (a *access) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client != nil {
		_ = a.client.Close() // the other end may be gone
		a.client = nil
	}
}

// connect logs in, again and again until it gets in. Without ssh it waits for ctx.
func (a *access) connect(ctx context.Context, t *trial) error {
	if a.key == nil {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client != nil {
		return nil
	}
	return again(ctx, true, func() error {
		ports, err := t.Ports(ctx)
		if err != nil {
			return err
		}
		one, done := t.clock.limit(ctx, attempt, errSilent)
		defer done()
		a.client, err = a.dial(one, ports[sshPort])
		return err
	})
}

// dial logs in once. The port itself is QEMU's, and always open.
func (a *access) dial(ctx context.Context, port int) (*ssh.Client, error) {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c, channels, requests, err := ssh.NewClientConn(conn, address, &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(a.key)}, HostKeyCallback: a.known,
	})
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

// known believes the first key that the machine shows: its port is that of the QEMU which
// was just started.
func (a *access) known(_ string, _ net.Addr, key ssh.PublicKey) error {
	if a.host != nil && !bytes.Equal(a.host.Marshal(), key.Marshal()) {
		return errors.New("the machine has another host key than before")
	}
	a.host = key
	return nil
}

// session runs a command through ssh.
func (a *access) session(ctx context.Context, argv []string) (qemu.Exited, error) {
	a.mu.Lock()
	client := a.client
	a.mu.Unlock()
	// A machine that is off or stands still never answers, with its connection open.
	stop := context.AfterFunc(ctx, func() { _ = client.Close() })
	defer stop()
	s, err := client.NewSession()
	if err != nil {
		a.close() // so that the next command logs in anew
		return qemu.Exited{}, err
	}
	defer s.Close()
	var out, errs bytes.Buffer
	s.Stdout, s.Stderr = &limited{&out}, &limited{&errs}
	words := make([]string, len(argv))
	for i, w := range argv {
		words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	err = s.Run(strings.Join(words, " "))
	got := qemu.Exited{Output: out.Bytes(), Errors: errs.Bytes()}
	var status *ssh.ExitError
	switch {
	case ctx.Err() != nil:
		a.close()
		return got, context.Cause(ctx)
	case errors.As(err, &status):
		got.Status = status.ExitStatus()
		return got, nil
	case err != nil:
		a.close()
		return got, fmt.Errorf("ssh: %w", err)
	}
	return got, nil
}

// maxOutput bounds what is kept of a stream of a command, in bytes.
const maxOutput = 16 << 20

// limited keeps the beginning of what is written.
type limited struct{ to *bytes.Buffer }

// Write implements io.Writer.
func (l *limited) Write(data []byte) (int, error) {
	_, _ = l.to.Write(data[:min(len(data), max(0, maxOutput-l.to.Len()))]) // which never fails
	return len(data), nil
}
