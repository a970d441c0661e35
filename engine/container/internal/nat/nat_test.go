package nat

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// open makes a network or skips the test.
func open(t testing.TB, c Config) *Network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	n, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// within runs do on a thread in the network's namespace.
func within(t testing.TB, n *Network, do func() error) {
	t.Helper()
	var err error
	var thread sync.WaitGroup
	thread.Go(func() {
		runtime.LockOSThread()
		home, herr := ownNamespace()
		if herr != nil {
			err = herr
			return
		}
		defer home.Close()
		if err = unix.Setns(int(n.namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			return
		}
		err = do()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	})
	thread.Wait()
	if err != nil {
		t.Error(err)
	}
}

// hostAddress is one of this machine's that is not of loopback.
func hostAddress(t testing.TB) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			return p.Addr().String()
		}
	}
	t.Skip("this machine has no address but loopback's")
	return ""
}

// echoes sends back what it is sent, at an address of this machine, and counts the
// connections.
func echoes(t *testing.T, address string) (at string, count func() int) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var mu sync.Mutex
	n := 0
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			n++
			mu.Unlock()
			go func() {
				_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) // without splice, which keeps pipes
				c.Close()
			}()
		}
	}()
	return l.Addr().String(), func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// TestForgedLoopback: who may set up the namespace, or make packets, can send to
// 127.0.0.1 over the interface. The host's is still out of reach.
func TestForgedLoopback(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip (apt-get install iproute2)")
	}
	at, count := echoes(t, "127.0.0.1:0")
	n := open(t, Config{})
	defer n.Close()
	within(t, n, func() error {
		const setUp = "ip addr flush dev lo && ip route add 127.0.0.1/32 dev eth0 src 192.0.0.2 && echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet && ip route get 127.0.0.1"
		out, err := exec.Command("sh", "-ec", setUp).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "dev eth0") {
			return fmt.Errorf("%v: %s", err, out)
		}
		// Nobody answers, so it takes as long as it may.
		if c, err := net.DialTimeout("tcp", at, 2*time.Second); err == nil {
			c.Close()
			return errors.New("127.0.0.1 of the host was reached")
		}
		return nil
	})
	if count() != 0 {
		t.Error("a connection came")
	}
}

// TestDatagrams sends some of many sizes there and back.
func TestDatagrams(t *testing.T) {
	n := open(t, Config{})
	defer n.Close()
	conn, err := net.ListenPacket("udp", hostAddress(t)+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		buf := make([]byte, maxDatagram)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(buf[:n], from)
		}
	}()
	within(t, n, func() error {
		c, err := net.Dial("udp", conn.LocalAddr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		for _, size := range []int{0, 1, 1400, 9000, 65507} {
			sent, got := []byte(strings.Repeat("x", size)), make([]byte, maxDatagram)
			if _, err := c.Write(sent); err != nil {
				return err
			}
			if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				return err
			}
			if n, err := c.Read(got); err != nil || n != size {
				return fmt.Errorf("%d bytes came back as %d, %v", size, n, err)
			}
		}
		return nil
	})
}

// TestBroken: a transfer that breaks off must not look as if it had ended.
func TestBroken(t *testing.T) {
	l, err := net.Listen("tcp", hostAddress(t)+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n := open(t, Config{})
	defer n.Close()
	for _, outside := range []bool{true, false} {
		var here, there net.Conn
		within(t, n, func() (err error) {
			there, err = net.Dial("tcp", l.Addr().String())
			return err
		})
		if here, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		breaks, reads := here, there
		if !outside {
			breaks, reads = there, here
		}
		if _, err := breaks.Write([]byte("half")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(reads, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		if err := breaks.(*net.TCPConn).SetLinger(0); err != nil {
			t.Fatal(err)
		}
		breaks.Close()
		if _, err := reads.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("broken outside %v: it reads %v", outside, err)
		}
		reads.Close()
	}
}

// TestClose ends what is open, and leaves nothing.
func TestClose(t *testing.T) {
	at, _ := echoes(t, hostAddress(t)+":0")
	before, files := interfaces(t), openFiles(t)
	n := open(t, Config{ResolvConf: []byte("nameserver 127.0.0.53\n"), Lent: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9")}})
	var conn net.Conn
	within(t, n, func() (err error) {
		if conn, err = net.Dial("tcp", at); err != nil {
			return err
		}
		if _, err = conn.Write([]byte("x")); err == nil {
			_, err = io.ReadFull(conn, make([]byte, 1))
		}
		return err
	})
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if conn != nil {
		conn.Close()
	}
	if after := interfaces(t); after != before {
		t.Errorf("the host has %s and had %s", after, before)
	}
	// The server's side of the connection may still be on its way.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left := slices.DeleteFunc(openFiles(t), func(f string) bool { return slices.Contains(files, f) })
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("files are open: %q", left)
		}
	}
	buf := make([]byte, 1<<20)
	if stacks := string(buf[:runtime.Stack(buf, true)]); strings.Contains(stacks, "gvisor.dev") {
		t.Errorf("goroutines are left:\n%s", stacks)
	}
}

// TestCloseLeavesInterface has the kernel take the interface away with its namespace: a
// process that is in there still has one that carries nothing.
func TestCloseLeavesInterface(t *testing.T) {
	n := open(t, Config{})
	held, err := unix.Dup(int(n.namespace.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	carries := func() (up bool) {
		within(t, n, func() error {
			eth, err := netlink.LinkByName(interfaceName)
			if err == nil {
				up = eth.Attrs().RawFlags&unix.IFF_LOWER_UP != 0
			}
			return err
		})
		return up
	}
	if !carries() {
		t.Error("the interface of an open network carries nothing")
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	n.namespace = os.NewFile(uintptr(held), "namespace")
	defer n.namespace.Close()
	if carries() {
		t.Error("the interface of a closed network carries packets")
	}
}

func interfaces(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/proc/thread-self/net/dev")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		if name, _, ok := strings.Cut(line, ":"); ok {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return strings.Join(names, " ")
}

// openFiles are those of this process, by what they are.
func openFiles(t *testing.T) []string {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range list {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.Contains(to, "/proc/") {
			all = append(all, to)
		}
	}
	return all
}

// TestEchoReply compares replies with what the checksums should be.
func TestEchoReply(t *testing.T) {
	four := []byte{0x45, 0, 0, 31, 0, 1, 0, 0, 64, 1, 0, 0, 192, 0, 0, 2, 10, 0, 0, 1, 8, 0, 0, 0, 0, 7, 0, 1, 'a', 'b', 'c'}
	six := append([]byte{0x60, 0, 0, 0, 0, 10, 58, 64}, make([]byte, 32)...)
	six[8], six[23], six[24], six[39] = 0xfd, 2, 0x20, 1
	six = append(six, 128, 0, 0, 0, 0, 7, 0, 1, 'a', 'b')
	for name, p := range map[string][]byte{"4": four, "6": six} {
		e, ok := parseEcho(p)
		if !ok {
			t.Fatalf("IPv%s: no echo request", name)
		}
		put := ^sum(e)
		e.message[2], e.message[3] = byte(put>>8), byte(put)
		e.change(7, 0xbeef)
		e.message[4], e.message[5] = 0xbe, 0xef
		e.answer()
		if got := sum(e); got != 0xffff {
			t.Errorf("IPv%s: the checksum is wrong: %#x", name, got)
		}
		src, dst := e.addresses()
		wantSrc, wantDst := p[16:20], p[12:16]
		if e.six {
			wantSrc, wantDst = p[24:40], p[8:24]
		}
		if !slices.Equal(src, wantSrc) || !slices.Equal(dst, wantDst) || e.message[0] == p[len(p)-len(e.message)] {
			t.Errorf("IPv%s: %x", name, e.packet)
		}
	}
	for _, p := range [][]byte{nil, four[:20], four[:10], six[:42], append([]byte{0x45, 0, 0, 31, 0, 1, 0x20}, four[7:]...)} {
		if _, ok := parseEcho(p); ok {
			t.Errorf("%x is taken for an echo request", p)
		}
	}
}

// sum is the Internet checksum (RFC 1071) over a message, and in IPv6 over its
// pseudo-header: all ones where the message's own is right.
func sum(e echo) uint16 {
	data := slices.Clone(e.message)
	if e.six {
		data = slices.Concat(e.packet[8:40], []byte{0, 0, 0, byte(len(e.message)), 0, 0, 0, 58}, data)
	}
	if len(data)%2 == 1 {
		data = append(data, 0)
	}
	total := uint32(0)
	for i := 0; i < len(data); i += 2 {
		total += uint32(data[i])<<8 | uint32(data[i+1])
	}
	for total>>16 != 0 {
		total = total&0xffff + total>>16
	}
	return uint16(total)
}
