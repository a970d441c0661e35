//go:build cgo

package helper

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

// deaf is a first process that holds its end of the wire and reads nothing from it.
type deaf struct {
	remote *os.File
	told   func() // after the request was read; nil to read none
	lacks  bool   // the kernel can't take files on their way to it
	killed chan struct{}
	once   sync.Once
}

func (d *deaf) Complete(*Request) {}
func (d *deaf) Kill()             { d.once.Do(func() { close(d.killed) }) }

// Wait implements FirstProcess. A helper that nobody kills waits for ever.
func (d *deaf) Wait(context.Context) (string, bool) {
	<-d.killed
	d.remote.Close()
	return "", false
}

// listen reads the request if it is to, and then is deaf.
func (d *deaf) listen() error {
	if d.told != nil {
		fd, err := unix.Dup(int(d.remote.Fd()))
		if err != nil {
			return err
		}
		w, err := newWire(os.NewFile(uintptr(fd), "copy"))
		if err != nil {
			return err
		}
		_, files, err := w.receive()
		closeAll(files)
		if err = errors.Join(err, w.close()); err != nil {
			return err
		}
	}
	return unix.Shutdown(int(d.remote.Fd()), unix.SHUT_RD)
}

// TestAHelperThatCanNotBeTold would wait for ever, and b9 with it: for the outcome of a
// command that the helper does not know, or of one that it can't be asked to stop. No
// test of this waits: the grace is an hour.
func TestAHelperThatCanNotBeTold(t *testing.T) {
	spec := container.Spec{ID: "deaf", Grace: time.Hour}
	t.Run("to run", func(t *testing.T) {
		d := &deaf{killed: make(chan struct{})}
		res, err := talk(t.Context(), spec, d)
		if res.Reason != container.BackendLost || !errors.Is(err, unix.EPIPE) || !strings.Contains(err.Error(), "tell the container what to run") {
			t.Errorf("%+v, %v", res, err)
		}
	})
	t.Run("where the kernel has no memory for files", func(t *testing.T) {
		d := &deaf{killed: make(chan struct{}), lacks: true}
		res, err := talk(t.Context(), spec, d)
		if res.Reason != container.BackendLost || !errors.Is(err, unix.ENOBUFS) || !strings.Contains(err.Error(), "tell the container what to run") {
			t.Errorf("%+v, %v", res, err)
		}
	})
	t.Run("to stop", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		d := &deaf{killed: make(chan struct{}), told: cancel}
		if res, err := talk(ctx, spec, d); res.Reason != container.Cancelled || err != nil {
			t.Errorf("%+v, %v", res, err)
		}
	})
}

// talk runs the caller's side against the process.
func talk(ctx context.Context, spec container.Spec, d *deaf) (container.Result, error) {
	wire, remote, err := newWires()
	if err != nil {
		return Failed, err
	}
	defer wire.close()
	d.remote = remote
	ends, err := newStreams(container.IO{})
	if err != nil {
		return Failed, err
	}
	s := &session{spec: spec, stage: &stage{}, ends: ends, wire: wire, firstProcess: d}
	if d.lacks {
		if err := errors.Join(exhaust(wire), addTrees(s.stage, 50)); err != nil {
			return Failed, err
		}
	}
	heard := make(chan error, 1)
	if d.lacks {
		heard <- nil
	} else if d.told == nil {
		heard <- d.listen()
	} else {
		go func() {
			err := d.listen()
			d.told()
			heard <- err
		}()
	}
	res, err := s.converse(ctx, &Request{Spec: spec})
	return res, errors.Join(err, ends.finish(), <-heard)
}

// exhaust uses up what the kernel lets a socket have beside its data (net.core.optmem_max),
// of which a filter takes what its instructions need: sendmsg(2) has none left for
// descriptors then, as on a machine without memory, and says ENOBUFS.
func exhaust(w *wire) error {
	raw, err := w.conn.SyscallConn()
	if err != nil {
		return err
	}
	least, most := 1, 4096 // BPF_MAXINSNS; the first fits, the last may
	filter := func(fd uintptr, n int) error {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
		code := make([]unix.SockFilter, n)
		for i := range code {
			code[i] = unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS} // many instructions of the kernel's own
		}
		code[n-1] = unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1}
		return unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(n), Filter: &code[0]})
	}
	cerr := raw.Control(func(fd uintptr) {
		for least < most {
			if middle := (least + most + 1) / 2; filter(fd, middle) == nil {
				least = middle
			} else {
				most = middle - 1
			}
		}
		err = filter(fd, least)
	})
	return errors.Join(cerr, err)
}

// addTrees adds files to what is sent with the request.
func addTrees(s *stage, n int) error {
	for range n {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return err
		}
		s.trees = append(s.trees, f)
	}
	return nil
}
