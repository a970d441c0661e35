// Package nat gives a container a network of its own that has a way out.
//
// It hides a network namespace with one interface, and the TCP/IP stack at the
// interface's other end, which is gVisor's netstack in this process. Nothing is
// routed: the stack ends each connection that a command makes, and a socket of this
// process makes it again, as any program of the host would. So nothing of the host is
// changed, neither interfaces nor rules nor settings, and with this process, however
// it ends, goes all that there was.
//
//	Open     the namespace, the interface and the stack
//	Network  what Open returned: the namespace to enter, the resolver to name there
//
// The host's loopback is out of reach (target, in target.go), but for what is lent:
// resolvers that listen on it, of which relays and addresses are in resolv.go, and the
// ports that Config names. The namespace is made in namespace.go, connections and
// datagrams are passed on in relay.go, pings in ping.go.
//
// The package knows nothing of containers, and whoever can open an interface in a
// namespace could give it another one than the one that it makes as root.
package nat

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// Config is what a network needs to know of the host.
type Config struct {
	// ResolvConf is the content of the host's /etc/resolv.conf, nil for none.
	ResolvConf []byte

	// Lent are ports of the host's loopback that are found at the same address
	// and port of the namespace's. TCP only.
	Lent []netip.AddrPort

	// Namespace is the network namespace to furnish, nil for a new one. It stays the
	// caller's to close.
	Namespace *os.File
}

// Network is a network namespace and its way out. Close ends it.
type Network struct {
	namespace *os.File
	tun       int // the interface, -1 for none
	resolv    []byte
	relayed   map[netip.AddrPort]netip.AddrPort // of the namespace, and of the host
	lent      []net.Listener                    // in the namespace

	stack  *stack.Stack
	ctx    context.Context // done when the network is closed
	cancel context.CancelFunc

	mu   sync.Mutex
	open int            // connections and the like that are passed on
	all  sync.WaitGroup // of these
}

// nic is the stack's only interface.
const nic tcpip.NICID = 1

// Open makes a network. The error says what to do about a host that can't have one.
func Open(c Config) (n *Network, err error) {
	n = &Network{tun: -1}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.resolv, n.relayed = rewriteResolvConf(c.ResolvConf)
	defer func() {
		if err != nil {
			n, err = nil, errors.Join(err, n.Close())
		}
	}()
	families := hostFamilies()
	n.namespace, err = inNamespace(c.Namespace, func() error { return n.furnish(families, c.Lent) })
	if err != nil {
		return n, err
	}
	if err := n.startStack(); err != nil {
		return n, err
	}
	for _, l := range n.lent {
		n.all.Go(func() { n.serveLent(l) })
	}
	return n, nil
}

// Namespace is the network namespace. It stays the Network's to close.
func (n *Network) Namespace() *os.File { return n.namespace }

// ResolvConf is the host's resolver configuration as it is in the namespace: with
// other addresses for resolvers that listen on the host's loopback.
func (n *Network) ResolvConf() []byte { return n.resolv }

// Close ends all connections, and nobody answers at the interface from here on. The
// namespace goes with the last process in it, and the interface with the namespace.
func (n *Network) Close() error {
	n.mu.Lock() // nobody acquires from here on
	n.cancel()
	n.mu.Unlock()
	for _, l := range n.lent {
		l.Close()
	}
	n.endAll()
	if n.stack != nil {
		n.stack.Destroy()
	}
	var errs []error
	if n.tun >= 0 {
		errs = append(errs, os.NewSyscallError("close", unix.Close(n.tun)))
	}
	if n.namespace != nil {
		errs = append(errs, n.namespace.Close())
	}
	return errors.Join(errs...)
}

// endAll waits for all that is passed on to end. A connection that the command had
// only begun to make ends when the stack's side of it is aborted.
func (n *Network) endAll() {
	ended := make(chan struct{})
	go func() { n.all.Wait(); close(ended) }()
	for {
		if n.stack != nil {
			for _, e := range n.stack.RegisteredEndpoints() {
				e.Abort()
			}
		}
		select {
		case <-ended:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// acquire reports whether one more connection may be passed on. Then it counts, and
// Close waits for it, until release.
func (n *Network) acquire() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.open == maxOpen || n.ctx.Err() != nil {
		return false
	}
	n.open++
	n.all.Add(1)
	return true
}

func (n *Network) release() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open--
	n.all.Done()
}

// mtu is that of the interface, in bytes. Packets do not go farther than to this
// process, whose own sockets know what the host's networks carry.
const mtu = 65520

// startStack makes the stack at the interface's other end. It answers for every
// address, and routes everything to the interface.
func (n *Network) startStack() error {
	log.SetLevel(log.Warning) // what the stack notes of odd packets has no reader
	link, err := fdbased.New(&fdbased.Options{FDs: []int{n.tun}, MTU: mtu, RXChecksumOffload: true})
	if err != nil {
		return fmt.Errorf("network nat: %w", err)
	}
	n.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	n.stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic}})
	n.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(n.stack, 0, maxOpen, n.connection).HandlePacket)
	n.stack.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(n.stack, n.datagram).HandlePacket)
	sack, moderate := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true)
	for _, set := range []func() tcpip.Error{
		func() tcpip.Error { return n.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &sack) },
		func() tcpip.Error { return n.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &moderate) },
		func() tcpip.Error {
			return n.stack.CreateNICWithOptions(nic, newPinger(n, link), stack.NICOptions{Disabled: true})
		},
		func() tcpip.Error { return n.stack.SetPromiscuousMode(nic, true) },
		func() tcpip.Error { return n.stack.SetSpoofing(nic, true) },
		func() tcpip.Error { return n.stack.EnableNIC(nic) }, // packets come from here on
	} {
		if e := set(); e != nil {
			return fmt.Errorf("network nat: %s", e)
		}
	}
	return nil
}

// Usable reports why a network can't be made on this machine, without making one.
func Usable() error {
	fd, err := openTun()
	if err != nil {
		return err
	}
	return os.NewSyscallError("close", unix.Close(fd))
}
