package backends

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"b9.build/b9/engine/container"
)

const aloneVariable = "B9_TEST_ALONE"

// alone reports whether this process has a /run and a network of its own. If not it
// runs the calling test again in such, after the commands of setUp.
func alone(t *testing.T, setUp string) bool {
	t.Helper()
	if os.Getenv(aloneVariable) != "" {
		return true
	}
	needTool(t, "unshare", "ip")
	enter := "set -e; mount -t tmpfs none /run; ip link set lo up; " + setUp + `; exec "$@"`
	cmd := exec.Command("unshare", "--mount", "--net", "--propagation", "private", "sh", "-c", enter, "sh",
		os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), aloneVariable+"=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("alone: %v", err)
	}
	return false
}

// A host with an address of either family, and a resolver on its loopback.
const (
	hostAddress4, hostAddress6 = "10.98.7.6", "fd98:7::6"
	resolverAddress            = "127.0.0.53"

	natHost = "ip link add name b9test0 type veth peer name b9test1; ip link set b9test0 up; ip link set b9test1 up; ip addr add " + hostAddress4 + "/24 dev b9test0; ip addr add " + hostAddress6 + "/64 dev b9test0 nodad; " +
		"echo nameserver " + resolverAddress + " >/run/resolv.conf; echo search b9.test >>/run/resolv.conf; mount --bind /run/resolv.conf /etc/resolv.conf"
)

// natWorld is a world on such a host.
type natWorld struct{ *world }

// peek is a run with a private network.
func (w natWorld) peek(text string) *run {
	r := w.world.peek(text)
	r.spec.Network = container.NetworkNAT
	return r
}

// TestNAT is the contract of private networks. It runs on a host of its own, of which
// it knows what listens where.
func TestNAT(t *testing.T) {
	needTool(t, "busybox", "mke2fs")
	if !alone(t, natHost) {
		return
	}
	root := rootImage(t)
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			b, f := openBackend(t, name)
			if !strings.Contains(strings.Join(f.Networks, " "), container.NetworkNAT) {
				t.Fatalf("it has only %q", f.Networks)
			}
			w := natWorld{&world{backend: b, features: f, root: root}}
			before := command(t, "ip", "-o", "link")
			for name, test := range map[string]func(*testing.T, natWorld){
				"out": testNATOut, "loopback": testNATLoopback, "abstract": testNATAbstract, "samePort": testNATSamePort,
				"names": testNATNames, "large": testNATLarge, "datagrams": testNATDatagrams,
				"ping": testNATPing, "lent": testNATLent, "ownerKilled": testNATOwnerKilled,
			} {
				t.Run(name, func(t *testing.T) { test(t, w) })
			}
			if after := command(t, "ip", "-o", "link"); after != before {
				t.Errorf("the host has\n%s\nand had\n%s", after, before)
			}
		})
	}
}

// listen serves connections at an address until the test ends, and returns the port.
func listen(t *testing.T, address string, serve func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// says answers every connection with a word.
func says(word string) func(*net.TCPConn) {
	return func(c *net.TCPConn) { fmt.Fprintln(c, word) }
}

func testNATOut(t *testing.T, w natWorld) {
	four := listen(t, hostAddress4+":0", says("four"))
	six := listen(t, "["+hostAddress6+"]:0", says("six"))
	r := w.peek(fmt.Sprintf("grep -c : /proc/net/dev; nc %s %s </dev/null; nc %s %s </dev/null; nc %s 9 </dev/null || echo refused",
		hostAddress4, four, hostAddress6, six, hostAddress4))
	if got := r.output(t); got != "2\nfour\nsix\nrefused\n" {
		t.Errorf("got %q: %s", got, r.err.String())
	}
}

// testNATLoopback looks for the host's loopback wherever it might be.
func testNATLoopback(t *testing.T, w natWorld) {
	port := listen(t, "127.0.0.1:0", says("reached"))
	var script strings.Builder
	for _, at := range []string{"127.0.0.1", "127.0.0.53", "0.0.0.0", "192.0.0.1", "192.0.0.2", "192.0.0.3", "::1", "::ffff:127.0.0.1", "fdb9:6c3e:51d7::1", hostAddress4, hostAddress6} {
		fmt.Fprintf(&script, "nc -w 5 %s %s </dev/null 2>/dev/null\n", at, port)
	}
	if got := w.peek(script.String() + "echo end").output(t); got != "end\n" {
		t.Errorf("got %q", got)
	}
	host := w.world.peek("nc 127.0.0.1 " + port + " </dev/null")
	host.spec.Network = container.NetworkHost
	if got := host.output(t); got != "reached\n" {
		t.Errorf("network host: %q", got)
	}
}

func testNATAbstract(t *testing.T, w natWorld) {
	l, err := net.Listen("unix", "@b9-test-abstract")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for network, want := range map[string]string{container.NetworkHost: "1\n", container.NetworkNAT: "0\n"} {
		r := w.world.peek("grep -c @b9-test-abstract /proc/net/unix || true")
		r.spec.Network = network
		if got := r.output(t); got != want {
			t.Errorf("network %s: %q", network, got)
		}
	}
}

// testNATSamePort has two commands listen on one port at the same time, and the host
// as well.
func testNATSamePort(t *testing.T, w natWorld) {
	port := listen(t, "0.0.0.0:0", says("host"))
	text := fmt.Sprintf("nc -l -p %s >/dev/null & while ! grep -qE ':%04X 0+:0000 0A' /proc/net/tcp /proc/net/tcp6; do sleep 0.1; done; echo listening; read line; kill $!; test \"$line\" = on",
		port, mustPort(t, port))
	var waits []func() (container.Result, error)
	var holds []*os.File
	for range 2 {
		r := w.peek(text)
		hold, release, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer hold.Close()
		r.io.Stdin = hold
		waits, holds = append(waits, r.begin(t, context.Background())), append(holds, release)
	}
	for i, wait := range waits {
		fmt.Fprintln(holds[i], "on")
		holds[i].Close()
		if res, err := wait(); err != nil || res.Code != 0 {
			t.Errorf("got %+v, %v", res, err)
		}
	}
}

func mustPort(t *testing.T, port string) uint16 {
	t.Helper()
	at, err := netip.ParseAddrPort("127.0.0.1:" + port)
	if err != nil {
		t.Fatal(err)
	}
	return at.Port()
}

// testNATNames asks the resolver that the host has on its loopback.
func testNATNames(t *testing.T, w natWorld) {
	serveNames(t, net.JoinHostPort(resolverAddress, "53"))
	r, _ := w.script(t, "nslookup -type=a some.b9.test | grep -c 'Address.*10.98.7.77'; grep ^search /etc/resolv.conf; grep -c 127.0.0 /etc/resolv.conf || true")
	r.spec.Network = container.NetworkNAT
	if got := r.output(t); got != "1\nsearch b9.test\n0\n" {
		t.Errorf("got %q: %s", got, r.err.String())
	}
}

// serveNames is a resolver at an address, until the test ends.
func serveNames(t *testing.T, address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(resolve(buf[:n]), from)
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
}

// resolve answers a question with one address: RFC 1035, section 4.1.
func resolve(question []byte) []byte {
	a := bytes.Clone(question)
	a[2], a[3] = 0x81, 0x80 // a reply, without an error
	a[7] = 1                // answers
	a[11] = 0               // additional records, which the question may have had
	end := bytes.IndexByte(a[12:], 0) + 12 + 5
	return append(a[:end:end], 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 98, 7, 77)
}

func testNATLarge(t *testing.T, w natWorld) {
	data := make([]byte, 48<<20)
	for i := range data {
		data[i] = byte(i * i >> 8)
	}
	want := fmt.Sprintf("%x", sha256.Sum256(data))
	sums := make(chan string, 1)
	down := listen(t, hostAddress4+":0", func(c *net.TCPConn) { _, _ = c.Write(data) })
	up := listen(t, hostAddress4+":0", func(c *net.TCPConn) {
		h := sha256.New()
		_, _ = io.Copy(h, c)
		sums <- fmt.Sprintf("%x", h.Sum(nil))
		fmt.Fprintln(c, "all")
	})
	r := w.peek(fmt.Sprintf("nc %s %s </dev/null | sha256sum | cut -d ' ' -f 1; nc %s %s </dev/null | nc %s %s", hostAddress4, down, hostAddress4, down, hostAddress4, up))
	if got := r.output(t); got != want+"\nall\n" {
		t.Errorf("got %q", got)
	}
	if got := <-sums; got != want {
		t.Errorf("sent, it became %s", got)
	}
}

// testNATDatagrams asks a resolver at an address of the host.
func testNATDatagrams(t *testing.T, w natWorld) {
	for _, address := range []string{hostAddress4, hostAddress6} {
		serveNames(t, net.JoinHostPort(address, "53"))
		r := w.peek("nslookup -type=a some.b9.test " + address + " | grep -c 'Address.*10.98.7.77'")
		if got := r.output(t); got != "1\n" {
			t.Errorf("%s: %q: %s", address, got, r.err.String())
		}
	}
}

func testNATPing(t *testing.T, w natWorld) {
	r := w.peek("for a in 192.0.0.1 fdb9:6c3e:51d7::1 " + hostAddress4 + " " + hostAddress6 + " 10.98.7.200; do ping -q -c 1 -W 2 $a >/dev/null && echo $a; done; true")
	if got := r.output(t); got != "192.0.0.1\nfdb9:6c3e:51d7::1\n"+hostAddress4+"\n"+hostAddress6+"\n" {
		t.Errorf("answered: %q", got)
	}
}

func testNATLent(t *testing.T, w natWorld) {
	lent, other := listen(t, "127.0.0.1:0", says("lent")), listen(t, "127.0.0.1:0", says("other"))
	r := w.peek(fmt.Sprintf("nc 127.0.0.1 %s </dev/null; nc 127.0.0.1 %s </dev/null || echo refused", lent, other))
	r.io.Lent = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:" + lent), netip.MustParseAddrPort("[::1]:" + lent)}
	if got := r.output(t); got != "lent\nrefused\n" {
		t.Errorf("got %q: %s", got, r.err.String())
	}
}

// testNATOwnerKilled kills the process that passes everything on.
func testNATOwnerKilled(t *testing.T, w natWorld) {
	testOwnerKilled(t, w.world)
}

// TestNATWithoutTun says what is missing before anything starts.
func TestNATWithoutTun(t *testing.T) {
	if !alone(t, "mount -t tmpfs none /dev/net") {
		return
	}
	b, f := openBackend(t, container.Embedded)
	if strings.Contains(strings.Join(f.Networks, " "), container.NetworkNAT) {
		t.Errorf("networks %q", f.Networks)
	}
	r := script(b, filepath.Join(t.TempDir(), "none"), "true")
	r.spec.Mounts[0] = container.Mount{Source: t.TempDir(), Target: "/", Kind: container.Dir}
	r.refused(t, "/dev/net/tun")
	r.refused(t, "modprobe tun")
	r.refused(t, `use network="host"`)
	if _, err := r.backend.Run(t.Context(), r.spec, r.io); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one cause: %v", err)
	}
}
