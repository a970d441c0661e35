package backends

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"b9.build/b9/engine/fsys/fuse"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

// libvirtSocket is where libvirtd listens for lxc:///.
const libvirtSocket = "/run/libvirt/libvirt-sock"

// between stands between b9 and libvirtd and passes a number of the daemon's answers
// on; then the daemon hangs. With none it accepts connections and is silent.
type between struct {
	t        *testing.T
	listener *net.UnixListener

	mu      sync.Mutex
	left    int
	answers int // that were passed on
	conns   []*net.UnixConn
	serving sync.WaitGroup
}

// hangAfter starts a daemon that hangs after some answers, and returns its URI, too.
func hangAfter(t *testing.T, answers int) (*between, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "b9-hangs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	b := &between{t: t, listener: l, left: answers}
	b.serving.Go(b.accept)
	t.Cleanup(b.close)
	return b, "lxc+unix:///system?socket=" + path
}

func (b *between) close() {
	b.listener.Close()
	b.mu.Lock()
	for _, c := range b.conns {
		c.Close()
	}
	b.mu.Unlock()
	b.serving.Wait()
}

func (b *between) passed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.answers
}

func (b *between) keep(c *net.UnixConn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns = append(b.conns, c)
}

func (b *between) accept() {
	for {
		client, err := b.listener.AcceptUnix()
		if err != nil {
			return
		}
		b.keep(client)
		server, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: libvirtSocket, Net: "unix"})
		if err != nil {
			continue // nobody answers
		}
		b.keep(server)
		b.serving.Go(func() { ask(server, client) })
		b.serving.Go(func() { b.answer(client, server) })
	}
}

// ask passes on what a client sends, with the files that come with it.
func ask(server, client *net.UnixConn) {
	data, oob := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4*16))
	for {
		n, oobn, _, _, err := client.ReadMsgUnix(data, oob)
		if err != nil || n == 0 {
			server.Close()
			return
		}
		// A file comes with a byte of its own, which is the last that was read.
		head := n
		if oobn > 0 {
			head--
		}
		_, err = server.Write(data[:head])
		if err == nil && oobn > 0 {
			_, _, err = server.WriteMsgUnix(data[head:n], oob[:oobn], nil)
			closeReceived(oob[:oobn])
		}
		if err != nil {
			return
		}
	}
}

func closeReceived(oob []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for _, m := range messages {
		fds, _ := unix.ParseUnixRights(&m)
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
}

// answer passes on messages of the daemon, which begin with their length, as long as
// there are any left.
func (b *between) answer(client, server *net.UnixConn) {
	for {
		message := make([]byte, 4)
		if _, err := io.ReadFull(server, message); err != nil {
			client.Close()
			return
		}
		rest := make([]byte, binary.BigEndian.Uint32(message)-4)
		if _, err := io.ReadFull(server, rest); err != nil {
			client.Close()
			return
		}
		b.mu.Lock()
		pass := b.left > 0
		if pass {
			b.left--
			b.answers++
		}
		b.mu.Unlock()
		if !pass {
			continue
		}
		if _, err := client.Write(append(message, rest...)); err != nil {
			return
		}
	}
}

// TestLibvirtdThatIsSilent accepts and never answers: every method says so, and one
// that is cancelled ends at once.
func TestLibvirtdThatIsSilent(t *testing.T) {
	dir := t.TempDir()
	silent, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	uri := "lxc+unix:///system?socket=" + filepath.Join(dir, "s")
	spec := container.Spec{ID: newID(), Argv: []string{"true"}, Mounts: []container.Mount{{Source: dir, Target: "/", Kind: container.Dir}}}
	calls := map[string]func(context.Context, container.Backend) error{
		"Probe": func(ctx context.Context, b container.Backend) error { _, err := b.Probe(ctx); return err },
		"Run": func(ctx context.Context, b container.Backend) error {
			res, err := b.Run(ctx, spec, container.IO{})
			if res.Reason == container.Cancelled {
				err = errors.Join(err, context.Canceled)
			}
			return err
		},
		"Reap": func(ctx context.Context, b container.Backend) error { return b.Reap(ctx) },
	}
	if err := calls["Probe"](t.Context(), openAt(t, uri, time.Millisecond)); !strings.Contains(err.Error(), "does not answer") {
		t.Skip(err)
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			err := call(t.Context(), openAt(t, uri, time.Millisecond))
			if err == nil || !strings.Contains(err.Error(), "libvirtd at "+uri+" does not answer") {
				t.Errorf("got %v", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Millisecond, cancel)
			if err := call(ctx, openAt(t, uri, time.Hour)); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
		})
	}
}

func openAt(t *testing.T, uri string, answer time.Duration) container.Backend {
	t.Helper()
	b, err := Open(container.Libvirt, container.Config{RunDir: testRunDir(), FileSystems: fuse.FileSystems{}, LibvirtURI: uri, LibvirtAnswer: answer})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestLibvirtdThatHangs lets the daemon hang after each of its answers during a run:
// the run ends, with what the command did or with an error that names libvirtd.
func TestLibvirtdThatHangs(t *testing.T) {
	openBackend(t, container.Libvirt)
	image := rootImage(t)
	run := func(t *testing.T, answers int, limit time.Duration) (int, string, error) {
		b, uri := hangAfter(t, answers)
		backend, err := Open(container.Libvirt, container.Config{RunDir: testRunDir(), FileSystems: fuse.FileSystems{}, LibvirtURI: uri, LibvirtAnswer: limit})
		if err != nil {
			t.Fatal(err)
		}
		r := script(backend, copyImage(t, image), "echo done")
		_, err = backend.Run(t.Context(), r.spec, r.io)
		return b.passed(), r.out.String(), err
	}
	all, out, err := run(t, 1<<20, time.Minute)
	if err != nil || out != "done\n" || all < 5 {
		t.Fatalf("%d answers, %q, %v", all, out, err)
	}
	for n := range all {
		if os.Getenv("B9_LONG_TESTS") == "" && n%4 != 0 {
			continue
		}
		passed, out, err := run(t, n, time.Second)
		if err == nil && out != "done\n" || err != nil && !strings.Contains(err.Error(), "libvirtd at ") {
			t.Errorf("after %d of %d answers: %q, %v", passed, all, out, err)
		}
	}
}
