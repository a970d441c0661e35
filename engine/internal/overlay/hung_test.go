package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	nodefs "github.com/hanwen/go-fuse/v2/fs"
	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// silent is a file whose reads have no answer until it is told to go on: as one on a disk
// that hangs.
type silent struct {
	nodefs.Inode
	asked, goOn chan struct{}
}

type silentRoot struct {
	nodefs.Inode
	file *silent
}

func (r *silentRoot) OnAdd(ctx context.Context) {
	r.AddChild(name, r.NewPersistentInode(ctx, r.file, nodefs.StableAttr{Mode: unix.S_IFREG, Ino: 2}), false)
}

func (s *silent) Getattr(_ context.Context, _ nodefs.FileHandle, out *gofuse.AttrOut) unix.Errno {
	out.Mode, out.Size, out.Nlink = unix.S_IFREG|0o600, 1<<20, 1
	return 0
}

func (s *silent) Open(context.Context, uint32) (nodefs.FileHandle, uint32, unix.Errno) {
	return nil, gofuse.FOPEN_DIRECT_IO, 0
}

func (s *silent) Read(context.Context, nodefs.FileHandle, []byte, int64) (gofuse.ReadResult, unix.Errno) {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	<-s.goOn
	return nil, unix.EIO
}

// openSilent opens such a file, which this process serves.
func openSilent(t *testing.T) (*silent, *os.File) {
	t.Helper()
	mount, device, err := newMount()
	check(t, err)
	fd, err := unix.FcntlInt(device.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	check(t, errors.Join(err, device.Close()))
	file := &silent{asked: make(chan struct{}, 1), goOn: make(chan struct{})}
	o := &nodefs.Options{NullPermissions: true, Logger: log.New(io.Discard, "", 0)}
	o.MountOptions.Logger = o.Logger
	server, err := gofuse.NewServer(nodefs.NewNodeFS(&silentRoot{file: file}, o), fmt.Sprintf("/dev/fd/%d", fd), &o.MountOptions)
	check(t, err)
	ended := make(chan struct{})
	go func() { defer close(ended); server.Serve() }()
	at, err := unix.Openat(int(mount.Fd()), name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	check(t, err)
	f := os.NewFile(uintptr(at), "silent")
	t.Cleanup(func() {
		check(t, errors.Join(f.Close(), mount.Close()))
		<-ended
	})
	return file, f
}

// Of a server that hangs the connections are ended: whoever waits for it has an error, and
// stays in no wait that nothing ends, though the server can't be killed. That is so when it is
// seen that no request ends, and when the server is closed.
func TestServerHangs(t *testing.T) {
	for name, end := range map[string]func(s *Server, f *File) error{
		"seen":             func(*Server, *File) error { return nil },
		"the file closed":  func(_ *Server, f *File) error { return f.Close() },
		"the server, too":  func(s *Server, f *File) error { return errors.Join(f.Close(), s.Close()) },
		"the server alone": func(s *Server, _ *File) error { return s.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.limit = 200 * time.Millisecond
			file, base := openSilent(t)
			goOn := sync.OnceFunc(func() { close(file.goOn) })
			t.Cleanup(goOn)
			f := serveFile(t, s, Image{Files: []*os.File{base}, Difference: create(t, nil)})
			// So little is no splice(2), which a signal would end.
			reader := exec.Command("dd", "if="+f.Path(), "of=/dev/null", "bs=4096", "count=1")
			var said strings.Builder
			reader.Stderr = &said
			check(t, reader.Start())
			<-file.asked
			check(t, end(s, f))
			done := make(chan error, 1)
			go func() { done <- reader.Wait() }()
			select {
			case err := <-done:
				if err == nil || !strings.Contains(said.String(), "error reading") {
					t.Errorf("the reader ended with %v: %s", err, said.String())
				}
			case <-time.After(time.Minute):
				t.Fatal("the reader waits for a server that hangs")
			}
			if err := unix.Kill(s.Pid(), 0); err != nil {
				t.Errorf("the server did not hang: %v", err)
			}
			if _, err := os.ReadFile(f.Path()); err == nil {
				t.Error("what hung is read")
			}
			goOn()
			check(t, ended(s.Pid(), func() {}))
		})
	}
}

// A request that takes its time does not end a server for which others end.
func TestServerIsSlow(t *testing.T) {
	s := start(t)
	s.limit = 200 * time.Millisecond
	slow, base := openSilent(t)
	f := serveFile(t, s, Image{Files: []*os.File{base}, Difference: create(t, nil)})
	served := openServed(t, f, os.O_RDWR)
	check(t, errors.Join(func() error { _, err := served.WriteAt(make([]byte, 1<<16), 1<<17); return err }()))
	read := make(chan error)
	go func() { _, err := served.ReadAt(make([]byte, 1<<16), 0); read <- err }()
	<-slow.asked
	for until := time.Now().Add(3 * s.limit); time.Now().Before(until); {
		if _, err := served.ReadAt(make([]byte, 512), 1<<17); err != nil {
			t.Fatalf("a read beside a slow one: %v", err)
		}
	}
	close(slow.goOn)
	if err := <-read; !errors.Is(err, unix.EIO) {
		t.Errorf("the slow read: %v", err)
	}
	check(t, f.Finish())
}
