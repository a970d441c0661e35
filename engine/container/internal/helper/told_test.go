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
	heard := make(chan error, 1)
	if d.told == nil {
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
