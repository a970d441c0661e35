package overlay

import (
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"time"

	nodefs "github.com/hanwen/go-fuse/v2/fs"
	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/internal/layer"
)

// serveAll is the work of the server. It ends when the other end of its socket is
// closed, be it by a death, and everything that is served ends with it.
func serveAll() int {
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE)
	// Where it is not allowed the server works, but can be short of memory of its own.
	_ = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	control, err := connection(os.NewFile(3, "socket"))
	if err != nil {
		return 1
	}
	for {
		m, files, err := receive(control)
		if err != nil {
			return 0
		}
		go serve(m, files)
	}
}

// serve serves one image until its mount is gone and its socket closed.
func serve(m message, files []*os.File) {
	defer closeAll(files)
	if len(files) < 4 {
		return
	}
	wire, err := connection(files[1])
	if err != nil {
		return
	}
	defer wire.Close()
	n, err := open(m, files[2:])
	if err == nil {
		err = n.start(files[0])
	}
	if err != nil {
		_ = send(wire, message{Error: err.Error()})
		return
	}
	n.converse(wire)
	<-n.ended
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// open puts together what is to be served.
func open(m message, files []*os.File) (*node, error) {
	diff := files[len(files)-1]
	base, err := blob.FromFile(files[0])
	if err != nil {
		return nil, err
	}
	var layers []layer.Layer
	for _, f := range files[1 : len(files)-1] {
		t, err := layer.Read(f)
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer.Layer{Trailer: t, File: f})
	}
	n := &node{ended: make(chan struct{})}
	if err := unix.Fstatfs(int(diff.Fd()), &n.below); err != nil {
		return nil, os.NewSyscallError("fstatfs", err)
	}
	image, err := layer.Compose(base, layers...)
	if err != nil {
		return nil, err
	}
	if m.Continue {
		n.fork, err = layer.Continue(image, diff)
	} else {
		n.fork, err = layer.New(image, m.Of, diff)
	}
	return n, err
}

// start answers the requests that come from device, which it takes over.
func (n *node) start(device *os.File) error {
	fd, err := unix.FcntlInt(device.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("dup", err)
	}
	long := time.Hour // nobody else changes the file
	o := &nodefs.Options{EntryTimeout: &long, AttrTimeout: &long, NullPermissions: true, Logger: log.New(io.Discard, "", 0)}
	o.MaxWrite, o.MaxBackground = largest, 64
	o.MountOptions.Logger = o.Logger
	server, err := gofuse.NewServer(nodefs.NewNodeFS(&root{image: n}, o), fmt.Sprintf("/dev/fd/%d", fd), &o.MountOptions)
	if err != nil {
		return fmt.Errorf("FUSE: %w", err)
	}
	go func() {
		defer close(n.ended)
		server.Serve()
	}()
	return nil
}

// converse answers over the image's socket until that is closed.
func (n *node) converse(wire *net.UnixConn) {
	answer := message{}
	for {
		if err := send(wire, answer); err != nil {
			return
		}
		question, _, err := receive(wire)
		if err != nil {
			return
		}
		if question.Progress {
			answer = n.report()
			continue
		}
		answer = message{}
		if _, err := n.fork.Finish(); err != nil {
			answer.Error = err.Error()
		}
	}
}
