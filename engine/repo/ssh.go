package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// sshTarget is a server as a location names it.
type sshTarget struct {
	User string // "" leaves it to the configuration, else the current user
	Host string // a name, an address, or an alias from the configuration
	Port int    // 0 leaves it to the configuration, else 22
}

// sshConn is a connection to a server and the file transfer on it.
type sshConn struct {
	SFTP *sftp.Client

	first   *channel // that of SFTP
	link    *sshLink
	done    chan struct{} // closed by Close
	closed  sync.Once
	watches sync.WaitGroup

	mu  sync.Mutex
	err error
}

// dialSSH connects to a server, checks its host key, logs in and starts the
// file transfer subsystem, and reads e on the way, unless it is nil. The
// caller closes the connection. ctx covers the connecting only; Close ends
// every request that is under way.
func dialSSH(ctx context.Context, to sshTarget, o SSHOptions, e *early) (*sshConn, error) {
	d := &sshDialer{o: &o}
	link, err := d.connect(ctx, to, nil, 0)
	if err != nil {
		return nil, err
	}
	c := &sshConn{link: link, done: make(chan struct{})}
	if err := c.start(ctx, e); err != nil {
		link.close()
		return nil, fmt.Errorf("%s: %w", link.host, err)
	}
	c.watches.Go(c.await)
	if link.host.Alive > 0 {
		c.watches.Go(c.keepAlive)
	}
	return c, nil
}

// start opens the file transfer subsystem within the connection's time-out.
func (c *sshConn) start(ctx context.Context, e *early) error {
	g := guard(ctx, c.link.host.Timeout, c.link.client.Close)
	first, err := c.link.transfer(e)
	if cause := g.stop(); cause != nil {
		return cause
	}
	if err != nil {
		return err
	}
	c.first, c.SFTP = first, first.Client
	return nil
}

// await notes when the other side ends the connection.
func (c *sshConn) await() {
	err := c.link.client.Wait()
	if err == nil || errors.Is(err, io.EOF) {
		err = errors.New("the server closed the connection")
	}
	c.lose(err)
}

// keepAlive asks a server that may be gone.
func (c *sshConn) keepAlive() {
	host := c.link.host
	patience := host.Alive * time.Duration(host.AliveCount)
	for {
		select {
		case <-c.done:
			return
		case <-time.After(host.Alive):
		}
		bell := time.AfterFunc(patience, func() {
			c.lose(fmt.Errorf("no answer for %v", patience))
			c.link.client.Close()
		})
		_, _, err := c.link.client.SendRequest("keepalive@openssh.com", true, nil)
		bell.Stop()
		if err != nil {
			return
		}
	}
}

// Traffic counts the bytes that passed the network since the connecting
// began, encryption and handshakes included.
func (c *sshConn) Traffic() (sent, received int64) {
	link := c.link
	for link.via != nil {
		link = link.via
	}
	return link.wire.sent.Load(), link.wire.received.Load()
}

// lose notes the first reason for the end of the connection.
func (c *sshConn) lose(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.done:
		return
	default:
	}
	if c.err == nil {
		c.err = fmt.Errorf("connection to %s lost: %w", c.link.host, err)
	}
}

// Err is why the connection was lost; nil while it lasts and after Close.
func (c *sshConn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the file transfer and the connection, and what is under way on
// it. It may be called again, and from another goroutine.
func (c *sshConn) Close() error {
	c.hangUp()
	c.watches.Wait()
	return nil
}

// hangUp is Close, but for waiting.
func (c *sshConn) hangUp() {
	c.closed.Do(func() {
		c.mu.Lock()
		close(c.done)
		c.mu.Unlock()
		c.link.close()
		c.SFTP.Close()
	})
}

// sshLink is an authenticated connection and the one it goes through.
type sshLink struct {
	host   *sshHost
	client *ssh.Client
	wire   *countedConn
	via    *sshLink
}

// countedConn counts what passes it.
type countedConn struct {
	net.Conn
	sent, received atomic.Int64
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent.Add(int64(n))
	return n, err
}

// promptConn acknowledges what comes at once. An sshd sends a small packet
// only when the one before it was acknowledged, and the kernel would take its
// time with that.
type promptConn struct {
	net.Conn
	raw syscall.RawConn
}

func promptly(conn *net.TCPConn) net.Conn {
	raw, err := conn.SyscallConn()
	if err != nil {
		return conn
	}
	return promptConn{conn, raw}
}

// hurry has to be repeated: the kernel falls back by itself.
func (c promptConn) hurry() {
	c.raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
}

func (c promptConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.hurry()
	return n, err
}

func (c promptConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.hurry()
	return n, err
}

// close closes the connection before the one that carries it.
func (l *sshLink) close() {
	for ; l != nil; l = l.via {
		l.client.Close()
	}
}

// sshDialer makes one connection.
type sshDialer struct {
	o    *SSHOptions
	path []string // hosts being connected to, for the message about a circle
}

// maxJumps bounds the servers on the way to one.
const maxJumps = 8

// connect connects to a server through jumps, or through what the
// configuration says when jumps is nil.
func (d *sshDialer) connect(ctx context.Context, to sshTarget, jumps []sshTarget, depth int) (*sshLink, error) {
	d.path = append(d.path, to.Host)
	if depth > maxJumps {
		return nil, fmt.Errorf("more than %d jumps: %s: is ProxyJump a circle?", maxJumps, strings.Join(d.path, " through "))
	}
	h, err := resolveSSH(to, d.o)
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
	link := &sshLink{host: h}
	if n := len(jumps); n > 0 {
		if link.via, err = d.connect(ctx, jumps[n-1], before(jumps), depth+1); err != nil {
			return nil, fmt.Errorf("on the way to %s: %w", h, err)
		}
	}
	if err := link.open(ctx, d.o, known); err != nil {
		link.via.close()
		return nil, err
	}
	return link, nil
}

// open makes the connection itself.
func (l *sshLink) open(ctx context.Context, o *SSHOptions, known *trust) error {
	conn, err := l.dial(ctx)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", l.host, err)
	}
	l.wire = &countedConn{Conn: conn}
	l.client, err = shakeHands(ctx, l.wire, l.host, o, known)
	if err != nil {
		conn.Close()
	}
	return err
}

// dial opens the byte stream to the server.
func (l *sshLink) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, l.host.Timeout, fmt.Errorf("no answer within %v", l.host.Timeout))
	defer cancel()
	var conn net.Conn
	var err error
	if l.via != nil {
		conn, err = l.via.client.DialContext(ctx, "tcp", l.host.address())
	} else {
		dialer := net.Dialer{}
		if l.host.Bind != "" {
			dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(l.host.Bind)}
		}
		conn, err = dialer.DialContext(ctx, l.host.Network, l.host.address())
		if tcp, ok := conn.(*net.TCPConn); ok {
			conn = promptly(tcp)
		}
	}
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return conn, err
}

// shakeHands checks the host key and logs in.
func shakeHands(ctx context.Context, conn net.Conn, h *sshHost, o *SSHOptions, known *trust) (*ssh.Client, error) {
	g := guard(ctx, h.Timeout, conn.Close)
	l := &login{host: h, o: o, pause: g.pause}
	defer l.close()
	var distrust error
	algorithms := ssh.SupportedAlgorithms()
	config := &ssh.ClientConfig{
		Config: ssh.Config{
			Ciphers:      algorithmList(h.Ciphers, algorithms.Ciphers),
			MACs:         algorithmList(h.MACs, algorithms.MACs),
			KeyExchanges: algorithmList(h.KeyExchanges, algorithms.KeyExchanges),
		},
		User:              h.User,
		Auth:              []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) { return l.signers(ctx), nil })},
		HostKeyAlgorithms: known.algorithms(),
		HostKeyCallback: func(name string, remote net.Addr, key ssh.PublicKey) error {
			distrust = known.check(name, remote, key)
			return distrust
		},
		ClientVersion: "SSH-2.0-b9",
	}
	c, channels, requests, err := ssh.NewClientConn(conn, h.address(), config)
	cause := g.stop()
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

// refused tells which keys the server did not take.
func (l *login) refused() error {
	if len(l.tried) == 0 {
		return fmt.Errorf("log in to %s: there is no key to log in with, neither a file nor in an agent: make one with `ssh-keygen -t ed25519`, and add its public half to ~/.ssh/authorized_keys there", l.host)
	}
	return fmt.Errorf("log in to %s: the server takes none of the keys (%s): add a public one to ~/.ssh/authorized_keys there, for example with `ssh-copy-id`",
		l.host, strings.Join(l.tried, "; "))
}

// deadline closes a connection when the context ends or the time is up.
type deadline struct {
	limit   time.Duration
	timer   *time.Timer
	expired atomic.Bool
	ctx     func() error // why the context ended
	unwatch func() bool
}

// guard begins to watch over something that close interrupts.
func guard(ctx context.Context, limit time.Duration, close func() error) *deadline {
	d := &deadline{limit: limit}
	d.timer = time.AfterFunc(limit, func() {
		d.expired.Store(true)
		close()
	})
	d.unwatch = context.AfterFunc(ctx, func() { close() })
	d.ctx = func() error { return context.Cause(ctx) }
	return d
}

// pause stops the clock until resume is called.
func (d *deadline) pause() (resume func()) {
	d.timer.Stop()
	return func() { d.timer.Reset(d.limit) }
}

// stop ends the watch and returns why it struck, if it did.
func (d *deadline) stop() error {
	d.timer.Stop()
	d.unwatch()
	if err := d.ctx(); err != nil {
		return err
	}
	if d.expired.Load() {
		return fmt.Errorf("no answer within %v", d.limit)
	}
	return nil
}

// before is the way to the last of several jumps. The first jump goes the
// way that its own configuration says, as ssh(1) does it.
func before(jumps []sshTarget) []sshTarget {
	if len(jumps) == 1 {
		return nil
	}
	return jumps[:len(jumps)-1]
}
