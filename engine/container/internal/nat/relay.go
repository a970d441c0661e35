package nat

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// maxOpen bounds the connections and exchanges of datagrams of one network, and
	// with them the files that this process opens for it.
	maxOpen = 4096

	// dialTime is how long the host may take to reach somebody. Linux gives up after
	// about two minutes.
	dialTime = 2 * time.Minute

	// datagramIdle is how long an exchange of datagrams lasts after its last one: the
	// least that RFC 4787, section 4.3, allows.
	datagramIdle = 2 * time.Minute
)

// connection serves a request for a connection. It is answered when the host has
// connected, so that the command sees who refuses. The stack calls it in a goroutine
// of its own.
func (n *Network) connection(r *tcp.ForwarderRequest) {
	to, ok := n.target(destination(r.ID()))
	if !ok || !n.acquire() {
		r.Complete(true)
		return
	}
	defer n.release()
	outside, err := n.dial(to)
	if err != nil {
		r.Complete(true)
		return
	}
	var queue waiter.Queue
	ep, terr := r.CreateEndpoint(&queue)
	if terr != nil {
		outside.Close()
		r.Complete(true)
		return
	}
	r.Complete(false)
	n.join(&inside{gonet.NewTCPConn(&queue, ep), ep}, outside)
}

func (n *Network) dial(to netip.AddrPort) (*peer, error) {
	d := net.Dialer{Timeout: dialTime}
	c, err := d.DialContext(n.ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		c.Close()
		return nil, errors.New("no TCP connection")
	}
	return &peer{tcp}, nil
}

// serveLent serves the connections to a lent port.
func (n *Network) serveLent(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		from, ok := c.(*net.TCPConn)
		if !ok || !n.acquire() {
			c.Close()
			continue
		}
		go func() {
			defer n.release()
			to, err := n.dial(l.Addr().(*net.TCPAddr).AddrPort())
			if err != nil {
				(&peer{from}).abort()
				return
			}
			n.join(&peer{from}, to)
		}()
	}
}

// passSize is how much is passed on at once, in bytes: a packet.
const passSize = mtu

// end is one end of a connection that is passed on.
type end interface {
	io.ReadWriteCloser
	CloseWrite() error
	abort() // closes, so that the other side knows that something is missing
}

// inside is a connection that ends in the stack.
type inside struct {
	*gonet.TCPConn
	ep tcpip.Endpoint
}

func (c *inside) abort() {
	c.ep.Abort()
	c.Close()
}

// peer is a connection of the kernel's.
type peer struct{ *net.TCPConn }

func (c *peer) abort() {
	_ = c.SetLinger(0)
	c.Close()
}

// join passes on what either end sends, until both have sent all or one fails. A
// connection that breaks on one side breaks on the other: it must not look as if it
// had ended.
func (n *Network) join(a, b end) {
	broken := func() { a.abort(); b.abort() }
	stop := context.AfterFunc(n.ctx, broken)
	defer stop()
	var both sync.WaitGroup
	for _, way := range [2]struct{ from, to end }{{a, b}, {b, a}} {
		both.Go(func() {
			_, err := io.CopyBuffer(struct{ io.Writer }{way.to}, struct{ io.Reader }{way.from}, make([]byte, passSize))
			if err == nil {
				err = way.to.CloseWrite()
			}
			if err != nil && !errors.Is(err, unix.ENOTCONN) {
				broken()
			}
		})
	}
	both.Wait()
	a.Close()
	b.Close()
}

// datagram begins an exchange of datagrams. It reports whether there is somebody to
// exchange them with: else the stack says that the port can't be reached.
func (n *Network) datagram(r *udp.ForwarderRequest) bool {
	to, ok := n.target(destination(r.ID()))
	if !ok || !n.acquire() {
		return false
	}
	out, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		n.release()
		return false
	}
	var queue waiter.Queue
	ep, terr := r.CreateEndpoint(&queue)
	if terr != nil {
		out.Close()
		n.release()
		return false
	}
	in := gonet.NewUDPConn(&queue, ep)
	go func() {
		defer n.release()
		n.exchange(in, out)
	}()
	return true
}

// exchange passes on datagrams until there were none for a while.
func (n *Network) exchange(in, out net.Conn) {
	end := func() { in.Close(); out.Close() }
	stop := context.AfterFunc(n.ctx, end)
	defer stop()
	idle := time.AfterFunc(datagramIdle, end)
	defer idle.Stop()
	var both sync.WaitGroup
	for _, way := range [2]struct{ from, to net.Conn }{{in, out}, {out, in}} {
		both.Go(func() {
			defer end()
			passDatagrams(way.from, way.to, idle)
		})
	}
	both.Wait()
}

// maxDatagram is the largest that there is, in bytes.
const maxDatagram = 1 << 16

// passDatagrams passes on until the one end is closed. What can't be sent is lost,
// as datagrams may be.
func passDatagrams(from, to net.Conn, idle *time.Timer) {
	buf := make([]byte, maxDatagram)
	for {
		size, err := from.Read(buf)
		if errors.Is(err, unix.ECONNREFUSED) {
			continue // of an earlier datagram
		}
		if err != nil {
			return
		}
		idle.Reset(datagramIdle)
		_, _ = to.Write(buf[:size])
	}
}
