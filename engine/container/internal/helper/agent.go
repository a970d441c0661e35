package helper

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// agentVariable names the socket of a user's ssh-agent.
const agentVariable = "SSH_AUTH_SOCK"

// agentProxy lends an ssh-agent: it listens on a socket, and passes on what a command
// may ask. It ends with the run, and so does every connection.
type agentProxy struct {
	upstream string
	listener *net.UnixListener
	serving  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]bool
}

// agentPatience is how long an agent may take to accept a connection.
const agentPatience = 10 * time.Second

// newAgentProxy lends the agent at the socket upstream on a new socket.
func newAgentProxy(ctx context.Context, upstream, socket string) (*agentProxy, error) {
	if upstream == "" {
		return nil, fmt.Errorf("an ssh-agent is to be lent, and %s is not set: start one (eval $(ssh-agent); ssh-add), and let the variable through where b9 is started by sudo (sudo --preserve-env=%s b9 ...)", agentVariable, agentVariable)
	}
	dialer := net.Dialer{Timeout: agentPatience}
	try, err := dialer.DialContext(ctx, "unix", upstream)
	if err != nil {
		return nil, fmt.Errorf("no ssh-agent answers at %s=%s: %w: start one (eval $(ssh-agent); ssh-add)", agentVariable, upstream, err)
	}
	try.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("a socket for the ssh-agent: %w", err)
	}
	l.SetUnlinkOnClose(false) // it goes with its file system
	if err := os.Chmod(socket, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	p := &agentProxy{upstream: upstream, listener: l, open: map[net.Conn]bool{}}
	p.serving.Go(p.accept)
	return p, nil
}

func (p *agentProxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.serving.Go(func() { p.serve(conn) })
	}
}

// serve answers one client. What goes wrong there is the client's to tell.
func (p *agentProxy) serve(conn net.Conn) {
	if !p.hold(conn) {
		return
	}
	defer p.drop(conn)
	up, err := net.DialTimeout("unix", p.upstream, agentPatience)
	if err != nil || !p.hold(up) {
		return
	}
	defer p.drop(up)
	_ = relayAgent(conn, up)
}

// hold has the connection closed with the proxy; false once that is closed.
func (p *agentProxy) hold(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.Close()
		return false
	}
	p.open[c] = true
	return true
}

func (p *agentProxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
	c.Close()
}

// close ends all connections, and returns when nobody is served any more.
func (p *agentProxy) close() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	p.closed = true
	for c := range p.open {
		c.Close()
	}
	p.mu.Unlock()
	err := p.listener.Close()
	p.serving.Wait()
	return err
}

// Messages of the agent's protocol (draft-ietf-sshm-ssh-agent, section 5): a length of
// 32 bits, big-endian, then a byte that says what it is.
const (
	agentFailure   = 5
	agentList      = 11
	agentSign      = 13
	agentExtension = 27

	longestAgentMessage = 256 << 10 // bytes, as in OpenSSH
)

// sessionBind is the extension by which a client says which host it talks to, which keys
// that are for some hosts alone need: PROTOCOL.agent of OpenSSH.
const sessionBind = "session-bind@openssh.com"

// relayAgent passes requests on to an agent, and its answers back: to list keys, to
// sign, and to say for which host. Everything else it refuses, such as to add keys, to
// remove them and to lock them.
func relayAgent(client, up io.ReadWriter) error {
	for {
		request, err := readAgentMessage(client)
		if err != nil {
			return err
		}
		answer := []byte{0, 0, 0, 1, agentFailure}
		if agentMay(request[4:]) {
			if _, err := up.Write(request); err != nil {
				return err
			}
			if answer, err = readAgentMessage(up); err != nil {
				return err
			}
		}
		if _, err := client.Write(answer); err != nil {
			return err
		}
	}
}

// readAgentMessage returns a message with its length before it; it is not empty.
func readAgentMessage(r io.Reader) ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head)
	if size == 0 || size > longestAgentMessage {
		return nil, fmt.Errorf("message of %d bytes", size)
	}
	message := append(head, make([]byte, size)...)
	_, err := io.ReadFull(r, message[4:])
	return message, err
}

// agentMay reports whether a client may send the message.
func agentMay(message []byte) bool {
	switch message[0] {
	case agentList, agentSign:
		return true
	case agentExtension:
		name := message[1:]
		return len(name) >= 4+len(sessionBind) && binary.BigEndian.Uint32(name) == uint32(len(sessionBind)) &&
			string(name[4:4+len(sessionBind)]) == sessionBind
	}
	return false
}
