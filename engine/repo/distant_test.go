package repo

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/sshdtest"
)

// A distant server is an sshd in a network namespace of its own. Each side
// has a TUN device, and every packet takes its time from one to the other, so
// that TCP, with its handshake and its slow start, is the kernel's. The
// namespace and the devices end with the processes and files that hold them.

// tun opens a device in the thread's namespace, with an address on a link to
// another one.
func tun(t testing.TB, address, peer string) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatalf("no TUN device: %v", err)
	}
	request, err := unix.NewIfreq("b9line%d")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		unix.Close(fd)
		t.Fatalf("no TUN device may be made: %v", err)
	}
	f := os.NewFile(uintptr(fd), request.Name())
	for _, args := range [][]string{
		{"addr", "add", address, "peer", peer, "dev", request.Name()},
		{"link", "set", request.Name(), "up"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			f.Close()
			t.Fatalf("ip %q: %v: %s", args, err, out)
		}
	}
	return f
}

// farAway runs fn in a thread with a new network namespace, to which the
// processes belong that fn starts.
func farAway(t testing.TB, fn func()) {
	t.Helper()
	var g sync.WaitGroup
	g.Go(func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Fatalf("a network namespace takes root: %v", err)
		}
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			t.Fatalf("ip: %v: %s", err, out)
		}
		fn()
	})
	g.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// newDistant starts an sshd that is a round trip away.
func newDistant(t testing.TB, roundTrip time.Duration) (s *sshdtest.Server, cut *atomic.Bool) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("a network namespace takes root")
	}
	n := rand.IntN(1 << 14)
	address := func(last int) string { return fmt.Sprintf("198.18.%d.%d", n>>6, n&63<<2|last) }
	near := tun(t, address(1), address(2))
	s, cut = sshdtest.Prepare(t, address(2)), new(atomic.Bool)
	var far *os.File
	farAway(t, func() {
		far = tun(t, address(2), address(1))
		s.Listen()
	})
	var g sync.WaitGroup
	g.Go(func() { travel(near, far, roundTrip/2, cut) })
	g.Go(func() { travel(far, near, roundTrip/2, cut) })
	t.Cleanup(func() {
		s.Kill() // they would never learn that the line is gone
		near.Close()
		far.Close()
		g.Wait()
	})
	return s, cut
}

// travel carries packets until from is closed. More than the buffer holds are
// lost, as they are anywhere, and all while the line is cut.
func travel(from, to *os.File, takes time.Duration, cut *atomic.Bool) {
	type parcel struct {
		data []byte
		due  time.Time
	}
	way := make(chan parcel, 1<<14)
	var g sync.WaitGroup
	g.Go(func() {
		for p := range way {
			time.Sleep(time.Until(p.due))
			to.Write(p.data)
		}
	})
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if err != nil {
			break
		}
		if cut.Load() {
			continue
		}
		select {
		case way <- parcel{append([]byte(nil), buf[:n]...), time.Now().Add(takes)}:
		default:
		}
	}
	close(way)
	g.Wait()
}

// distantSite is a place for a repository on a distant server. cut stops the
// line.
func distantSite(t testing.TB, roundTrip time.Duration) (s site, server *sshdtest.Server, cut *atomic.Bool) {
	server, cut = newDistant(t, roundTrip)
	return siteOn(t, server), server, cut
}

// TestDistant publishes, lists and pulls a long way off, and once more after
// the line was cut in the middle of a push.
func TestDistant(t *testing.T) {
	t.Parallel()
	s, _, cut := distantSite(t, distant)
	r := s.create(t)
	image := noise(t, 1, 48<<20)
	v, tr := push(t, r, "web", image)
	if tr.New != 48<<20 {
		t.Errorf("%+v", tr)
	}
	other := noise(t, 2, 48<<20)
	impatient := newRepo(s.loc, Options{SSH: s.opts.SSH, Timeout: time.Second})
	defer impatient.Close()
	impatient.state = r.state
	ended := make(chan struct{})
	var g sync.WaitGroup
	g.Go(func() {
		for sent := int64(0); sent < 10<<20; sent, _ = impatient.files.Traffic() {
			select {
			case <-ended: // on a machine so slow that a second without an answer came first
				return
			case <-time.After(time.Millisecond):
			}
		}
		cut.Store(true)
	})
	_, _, err := impatient.Push(t.Context(), PushSpec{Name: "web", Path: other})
	close(ended)
	g.Wait()
	if err == nil || !strings.Contains(err.Error(), "nothing came from the server for 1s") {
		t.Errorf("push over a line that was cut: %v", err)
	}
	cut.Store(false)
	if list, err := r.List(t.Context(), ""); err != nil || len(list) != 1 || list[0].Digest != v.Digest {
		t.Errorf("%+v, %v", list, err)
	}
	push(t, r, "web", other)
	if list := intact(t, s.elsewhere(t)); len(list) != 2 {
		t.Errorf("%+v", list)
	}
}
