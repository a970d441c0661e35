package nat

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inNamespace runs furnish in a network namespace, a new one for nil, and returns it.
// It works on a thread of its own, which goes back afterwards, or ends if it can't.
func inNamespace(given *os.File, furnish func() error) (ns *os.File, err error) {
	var thread sync.WaitGroup
	thread.Go(func() {
		runtime.LockOSThread()
		var home *os.File
		if home, err = ownNamespace(); err != nil {
			return
		}
		defer home.Close()
		if given == nil {
			err = unix.Unshare(unix.CLONE_NEWNET)
		} else {
			err = unix.Setns(int(given.Fd()), unix.CLONE_NEWNET)
		}
		if err != nil {
			err = fmt.Errorf("network nat: a network namespace: %w: it takes root", err)
			return
		}
		defer func() {
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
		}()
		if ns, err = ownNamespace(); err == nil {
			err = furnish()
		}
	})
	thread.Wait()
	return ns, err
}

// ownNamespace opens the network namespace of this thread.
func ownNamespace() (*os.File, error) { return os.Open("/proc/thread-self/ns/net") }

// family is a version of IP as the namespace has it.
type family struct {
	address netip.Prefix // of the interface
	gateway netip.Addr   // the stack
	way     bool         // whether there is a route to everywhere
}

// The addresses. 192.0.0.0/29 is for hosts that get at IPv4 through something else
// (RFC 7335), so that no network to be reached has them; the IPv6 prefix is a unique
// local one (RFC 4193).
var (
	address4 = netip.MustParsePrefix("192.0.0.2/29")
	gateway4 = netip.MustParseAddr("192.0.0.1")
	address6 = netip.MustParsePrefix("fdb9:6c3e:51d7::2/64")
	gateway6 = netip.MustParseAddr("fdb9:6c3e:51d7::1")
)

// hostFamilies are those that the host has addresses of, so that programs try no
// other. The resolver may need IPv4 all the same.
func hostFamilies() []family {
	v4, v6 := family{address: address4, gateway: gateway4}, family{address: address6, gateway: gateway6}
	addresses, _ := net.InterfaceAddrs() // none, if they can't be read
	for _, a := range addresses {
		p, err := netip.ParsePrefix(a.String())
		switch ip := p.Addr(); {
		case err != nil || ip.IsLoopback() || ip.Is6() && ip.IsLinkLocalUnicast():
		case ip.Is4():
			v4.way = true
		default:
			v6.way = true
		}
	}
	if !v6.way {
		return []family{v4}
	}
	return []family{v4, v6}
}

// interfaceName is that of the interface in the namespace.
const interfaceName = "eth0"

// furnish puts the interface and the lent ports into the namespace of this thread.
func (n *Network) furnish(families []family, lent []netip.AddrPort) error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("network nat: loopback: %w", err)
	}
	if err := n.makeInterface(); err != nil {
		return err
	}
	if err := configure(families); err != nil {
		return fmt.Errorf("network nat: its interface: %w", err)
	}
	for _, at := range lent {
		l, err := net.Listen("tcp", at.String())
		if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT) {
			continue // no IPv6 here, and so none on the host
		}
		if err != nil {
			return fmt.Errorf("network nat: lend %s: %w", at, err)
		}
		n.lent = append(n.lent, l)
	}
	return nil
}

const tunDevice = "/dev/net/tun"

// openTun opens the device that makes interfaces. What it makes belongs to the
// namespace that it was opened in.
func openTun() (int, error) {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		err = &os.PathError{Op: "open", Path: tunDevice, Err: err}
		return -1, fmt.Errorf(`network nat: %w: load the kernel's module with "modprobe tun", in a container give it the device (docker run --device %s), or use network="host"`, err, tunDevice)
	}
	return fd, nil
}

// makeInterface makes the interface. It goes with the namespace, and not when it is closed:
// the kernel, which takes it away in the background then, would have Close wait 10 to 20 ms
// for that.
func (n *Network) makeInterface() error {
	fd, err := openTun()
	if err != nil {
		return err
	}
	n.tun = fd
	ifr, err := unix.NewIfreq(interfaceName)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return fmt.Errorf("network nat: make an interface with %s: %w", tunDevice, err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		return fmt.Errorf("network nat: leave the interface to its namespace: %w", err)
	}
	return nil
}

// configure gives the interface its addresses and routes.
func configure(families []family) error {
	link, err := netlink.LinkByName(interfaceName)
	if err != nil {
		return err
	}
	// A host may be set up so that new interfaces have no IPv6. Where they can't have
	// it at all there is no such file.
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+interfaceName+"/disable_ipv6", []byte("0"), 0)
	if err := errors.Join(netlink.LinkSetMTU(link, mtu), netlink.LinkSetUp(link)); err != nil {
		return err
	}
	for _, f := range families {
		addr := &netlink.Addr{IPNet: ipNet(f.address)}
		if f.address.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD // it is used at once
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return err
		}
		if !f.way {
			continue
		}
		everywhere := netip.PrefixFrom(f.gateway, 0).Masked()
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(everywhere), Gw: f.gateway.AsSlice()}); err != nil {
			return err
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
