package nat

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/nested"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// The stack would answer every ping itself, for it has every address. So echo
// requests are taken before it sees them, and asked again from here; what comes back
// is the request with addresses exchanged and another type.

// pinger is the interface as the stack sees it.
type pinger struct {
	nested.Endpoint
	n *Network
}

func newPinger(n *Network, link stack.LinkEndpoint) *pinger {
	p := &pinger{n: n}
	p.Init(link, p)
	return p
}

// DeliverNetworkPacket implements stack.NetworkDispatcher.
func (p *pinger) DeliverNetworkPacket(protocol tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	view := pkt.ToView()
	e, ok := parseEcho(view.AsSlice())
	view.Release()
	if !ok {
		p.Endpoint.DeliverNetworkPacket(protocol, pkt)
		return
	}
	p.n.ping(e)
}

// echo is an echo request of ICMP (RFC 792) or ICMPv6 (RFC 4443).
type echo struct {
	packet  []byte // with its IP header
	message []byte // within packet
	six     bool
}

// Types of messages.
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
)

// echoHead is the length of a message without its data, in bytes.
const echoHead = 8

// parseEcho copies a packet that is an echo request, and whole.
func parseEcho(p []byte) (echo, bool) {
	switch header.IPVersion(p) {
	case header.IPv4Version:
		h := header.IPv4(p)
		if !h.IsValid(len(p)) || h.TransportProtocol() != header.ICMPv4ProtocolNumber || h.More() || h.FragmentOffset() != 0 {
			return echo{}, false
		}
		return newEcho(p[:h.TotalLength()], int(h.HeaderLength()), echoRequest4)
	case header.IPv6Version:
		h := header.IPv6(p)
		if !h.IsValid(len(p)) || h.TransportProtocol() != header.ICMPv6ProtocolNumber {
			return echo{}, false
		}
		return newEcho(p[:header.IPv6MinimumSize+int(h.PayloadLength())], header.IPv6MinimumSize, echoRequest6)
	}
	return echo{}, false
}

func newEcho(p []byte, at int, kind byte) (echo, bool) {
	if len(p) < at+echoHead || p[at] != kind {
		return echo{}, false
	}
	p = append([]byte(nil), p...)
	return echo{packet: p, message: p[at:], six: kind == echoRequest6}, true
}

// addresses are the places of the packet's source and destination.
func (e *echo) addresses() (src, dst []byte) {
	if e.six {
		return e.packet[8:24], e.packet[24:40]
	}
	return e.packet[12:16], e.packet[16:20]
}

// answer turns the request into its reply. Sums of addresses are the same when they
// are exchanged; of the message one word changes (RFC 1624).
func (e *echo) answer() {
	src, dst := e.addresses()
	for i := range src {
		src[i], dst[i] = dst[i], src[i]
	}
	e.retype()
}

// retype turns the type of a message into that of the reply.
func (e *echo) retype() {
	old := binary.BigEndian.Uint16(e.message)
	e.message[0] = echoReply4
	if e.six {
		e.message[0] = echoReply6
	}
	e.change(old, binary.BigEndian.Uint16(e.message))
}

// change keeps the checksum right where a word of the message has changed.
func (e *echo) change(from, to uint16) {
	sum := uint32(^binary.BigEndian.Uint16(e.message[2:])) + uint32(^from) + uint32(to)
	sum = sum&0xffff + sum>>16
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(e.message[2:], ^uint16(sum))
}

// pingTime is how long a reply may take.
const pingTime = 10 * time.Second

// ping asks whom an echo request is for, and answers for the stack's own addresses.
// What nobody answers stays unanswered.
func (n *Network) ping(e echo) {
	_, dst := e.addresses()
	ip, _ := netip.AddrFromSlice(dst)
	if ip == gateway4 || ip == gateway6 {
		e.answer()
		_, _ = unix.Write(n.tun, e.packet)
		return
	}
	if _, ok := n.target(netip.AddrPortFrom(ip, 0)); !ok || !n.acquire() {
		return
	}
	go func() {
		defer n.release()
		if n.replies(&e, ip) {
			e.answer()
			_, _ = unix.Write(n.tun, e.packet)
		}
	}()
}

// replies sends the message under another identifier, for many commands call
// themselves alike, and waits for the reply to it.
func (n *Network) replies(e *echo, ip netip.Addr) bool {
	network, kind := "ip4:icmp", byte(echoReply4)
	if e.six {
		network, kind = "ip6:ipv6-icmp", echoReply6
	}
	c, err := net.DialIP(network, nil, &net.IPAddr{IP: ip.AsSlice()})
	if err != nil {
		return false
	}
	defer c.Close()
	stop := context.AfterFunc(n.ctx, func() { c.Close() })
	defer stop()
	sent := echo{message: append([]byte(nil), e.message...), six: e.six}
	id := uint16(rand.Uint32())
	old := binary.BigEndian.Uint16(sent.message[4:])
	binary.BigEndian.PutUint16(sent.message[4:], id)
	sent.change(old, id)
	if c.SetDeadline(time.Now().Add(pingTime)) != nil {
		return false
	}
	if _, err := c.Write(sent.message); err != nil {
		return false
	}
	buf := make([]byte, maxDatagram)
	for {
		size, _, err := c.ReadFrom(buf)
		if err != nil {
			return false
		}
		if size >= echoHead && buf[0] == kind && string(buf[4:8]) == string(sent.message[4:8]) {
			return true
		}
	}
}
