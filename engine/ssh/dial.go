package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/ssh/config"
)

// How a server is reached:
//
// What the configuration says of the server is read first, then what the
// known_hosts files say of it, so that a fault of this machine shows before
// anything is sent. If the server is behind others (ProxyJump), these are
// connected to in the same way, the last of them first, each through the ones
// before it. Then the TCP connection is made, by this machine or by the last
// server on the way, and the handshake on it checks the host key before the
// server hears the user's name, and logs in. Each step has the configuration's
// time-out for itself, and ends when the context does. The time that a person
// takes to type a passphrase does not count.

// Dial connects to a server, checks its host key and logs in. Then it calls
// start, within the connection's time-out, which may open channels. The caller
// closes the client. ctx covers the connecting only; [Client.Close] ends all
// that is under way.
func Dial(ctx context.Context, to Target, o Options, start func(*Client) error) (*Client, error) {
	d := &dialer{o: &o}
	l, err := d.connect(ctx, to, nil, 0)
	if err != nil {
		return nil, err
	}
	c := &Client{link: l, done: make(chan struct{})}
	_, stop := guard(ctx, l.host.Timeout, l.client.Close)
	err = start(c)
	if cause := stop(); cause != nil {
		err = cause
	}
	if err != nil {
		l.close()
		return nil, fmt.Errorf("%s: %w", l.host, err)
	}
	c.watches.Go(c.await)
	if l.host.Alive > 0 {
		c.watches.Go(c.keepAlive)
	}
	return c, nil
}

// link is an authenticated connection and the one it goes through.
type link struct {
	host   *config.Host
	client *ssh.Client
	wire   *wire
	via    *link
}

// close closes the connection before the one that carries it.
func (l *link) close() {
	for ; l != nil; l = l.via {
		l.client.Close()
	}
}

// dialer makes one connection.
type dialer struct {
	o    *Options
	path []string // hosts being connected to, for the message about a circle
}

// maxJumps bounds the servers on the way to one.
const maxJumps = 8

// connect connects to a server through jumps, or through what the
// configuration says when jumps is nil.
func (d *dialer) connect(ctx context.Context, to Target, jumps []Target, depth int) (*link, error) {
	d.path = append(d.path, to.Host)
	if depth > maxJumps {
		return nil, fmt.Errorf("more than %d jumps: %s: is ProxyJump a circle?", maxJumps, strings.Join(d.path, " through "))
	}
	h, err := d.o.resolve(to)
	if err != nil {
		return nil, err
	}
	if jumps == nil {
		jumps = h.Jumps
	}
	h.Jumps = jumps
	known, err := readTrust(h)
	if err != nil {
		return nil, err
	}
	l := &link{host: h}
	if n := len(jumps); n > 0 {
		var before []Target // the first jump goes the way of its own configuration, as ssh(1) does it
		if n > 1 {
			before = jumps[:n-1]
		}
		if l.via, err = d.connect(ctx, jumps[n-1], before, depth+1); err != nil {
			return nil, fmt.Errorf("on the way to %s: %w", h, err)
		}
	}
	if err := l.open(ctx, d.o, known); err != nil {
		l.via.close()
		return nil, err
	}
	return l, nil
}

// open makes the connection itself.
func (l *link) open(ctx context.Context, o *Options, known *trust) error {
	conn, err := l.dial(ctx)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", l.host, err)
	}
	l.wire = newWire(conn)
	l.client, err = shakeHands(ctx, l.wire, l.host, o, known)
	if err != nil {
		conn.Close()
	}
	return err
}

// dial opens the byte stream to the server.
func (l *link) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, l.host.Timeout, fmt.Errorf("no answer within %v", l.host.Timeout))
	defer cancel()
	dialer := net.Dialer{}
	if l.host.Bind != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(l.host.Bind)}
	}
	dial, network := dialer.DialContext, l.host.Network
	if l.via != nil {
		dial, network = l.via.client.DialContext, "tcp"
	}
	conn, err := dial(ctx, network, l.host.Address())
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return conn, err
}

// shakeHands checks the host key and logs in.
func shakeHands(ctx context.Context, conn net.Conn, h *config.Host, o *Options, known *trust) (*ssh.Client, error) {
	l := &login{host: h, o: o}
	pause, stop := guard(ctx, h.Timeout, l.cut(conn))
	l.pause = pause
	defer l.close()
	var distrust error
	settings := clientConfig(h, known)
	settings.Auth = []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) { return l.signers(ctx), nil })}
	settings.HostKeyCallback = func(name string, remote net.Addr, key ssh.PublicKey) error {
		distrust = known.check(name, remote, key)
		return distrust
	}
	c, channels, requests, err := ssh.NewClientConn(conn, h.Address(), settings)
	cause := stop()
	switch {
	case distrust != nil:
		return nil, distrust
	case cause != nil:
		err = cause
	case err == nil:
		return ssh.NewClient(c, channels, requests), nil
	case l.failed != nil:
		err = l.failed
	case strings.Contains(err.Error(), "unable to authenticate"):
		return nil, l.refused()
	case errors.Is(err, io.EOF):
		err = errors.New("the server closed the connection before the login was done")
	}
	return nil, fmt.Errorf("log in to %s: %w", h, err)
}

// clientConfig has all but the callbacks.
func clientConfig(h *config.Host, known *trust) *ssh.ClientConfig {
	algorithms := ssh.SupportedAlgorithms()
	return &ssh.ClientConfig{
		Config: ssh.Config{
			Ciphers:      algorithmList(h.Ciphers, algorithms.Ciphers),
			MACs:         algorithmList(h.MACs, algorithms.MACs),
			KeyExchanges: algorithmList(h.KeyExchanges, algorithms.KeyExchanges),
		},
		User:              h.User,
		HostKeyAlgorithms: known.algorithms(),
		ClientVersion:     "SSH-2.0-b9",
	}
}

// wire counts the bytes that pass a connection, and acknowledges at once what
// arrives over TCP. An sshd sends a small packet only after the one before it was
// acknowledged (Nagle's algorithm is on there), and the kernel would delay the
// acknowledgement.
type wire struct {
	net.Conn
	raw            syscall.RawConn // nil where it is not TCP
	sent, received atomic.Int64
}

func newWire(conn net.Conn) *wire {
	w := &wire{Conn: conn}
	if tcp, ok := conn.(*net.TCPConn); ok {
		w.raw, _ = tcp.SyscallConn() // nil where it fails
	}
	return w
}

// quickAck has to be repeated: the kernel falls back by itself, see
// TCP_QUICKACK in tcp(7).
func (w *wire) quickAck() {
	if w.raw != nil {
		w.raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
	}
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.received.Add(int64(n))
	w.quickAck()
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.sent.Add(int64(n))
	w.quickAck()
	return n, err
}
