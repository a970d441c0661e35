//go:build cgo && libvirt_dlopen

package libvirt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"libvirt.org/go/libvirt"

	"b9.build/b9/engine/container"
)

// A call of libvirt waits for the daemon's answer and can't be cancelled, and a daemon
// may accept connections and hang. So each call is made by a goroutine of its own. When
// the answer does not come in time the call is given up, and with it the connection: no
// other call is made then. The goroutine stays until there is an answer, or the process
// ends; it has to itself what it uses, and drops what comes too late.

// How long libvirtd may take to answer: in general, while a container ends, and when
// someone waits for that who has asked for it.
const (
	answerLimit = 30 * time.Second
	endLimit    = 10 * time.Second
	hasteLimit  = 2 * time.Second
)

// daemon is one connection to libvirtd.
type daemon struct {
	uri   string
	limit time.Duration
	conn  *libvirt.Connect
	deaf  atomic.Bool // an answer did not come in time
}

// silence is the error of a daemon that does not answer.
type silence struct {
	uri   string
	after time.Duration
}

func (s *silence) Error() string {
	return fmt.Sprintf("libvirtd at %s does not answer (waited %v): restart it, or use backend %s", s.uri, s.after, container.Embedded)
}

// connect opens a connection as the configuration says.
func connect(ctx context.Context, c container.Config) (*daemon, error) {
	d := &daemon{uri: c.LibvirtURI, limit: cmp.Or(c.LibvirtAnswer, answerLimit)}
	var err error
	d.conn, err = ask(ctx, d, d.limit, func() (*libvirt.Connect, error) { return libvirt.NewConnect(d.uri) }, func(late *libvirt.Connect) {
		_, _ = late.Close()
	})
	var deaf *silence
	if err != nil && ctx.Err() == nil && !errors.As(err, &deaf) {
		return nil, fmt.Errorf("libvirt at %s: %w: install it (apt-get install libvirt-daemon-system libvirt-daemon-driver-lxc) and start libvirtd, or use backend %s",
			d.uri, plain(err), container.Embedded)
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// ending is the limit of calls while a container ends.
func (d *daemon) ending(ctx context.Context) time.Duration {
	if ctx.Err() != nil {
		return min(d.limit, hasteLimit)
	}
	return min(d.limit, endLimit)
}

// ask makes calls of libvirt and returns their answer. The function must not share
// anything with the caller that the caller changes. What it returns after it was given
// up goes to drop, which may be nil.
func ask[T any](ctx context.Context, d *daemon, limit time.Duration, call func() (T, error), drop func(late T)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	if d.deaf.Load() {
		return none, &silence{d.uri, limit}
	}
	release := d.hold()
	answers, gone := make(chan answer), make(chan struct{})
	go func() {
		value, err := call()
		release() // what was returned keeps the connection for itself
		select {
		case answers <- answer{value, err}:
		case <-gone:
			if err == nil && drop != nil {
				drop(value)
			}
		}
	}()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-late.C:
		d.deaf.Store(true)
		close(gone)
		return none, &silence{d.uri, limit}
	case <-ctx.Done():
		close(gone)
		return none, context.Cause(ctx)
	}
}

// hold keeps the connection for a call, however long that takes: whoever has given the
// call up closes the connection, which would be freed beneath it. The connection ends with
// the last who gives it up, and may wait for the daemon then.
func (d *daemon) hold() (release func()) {
	if d.conn == nil || d.conn.Ref() != nil {
		return func() {}
	}
	return func() { _, _ = d.conn.Close() }
}

// tell is ask for calls that return nothing. It is not cancelled: it tidies up.
func (d *daemon) tell(limit time.Duration, call func() error) error {
	_, err := ask(context.Background(), d, limit, func() (struct{}, error) { return struct{}{}, call() }, nil)
	return err
}

// close gives the connection up. Whatever is left of its domains goes with it.
func (d *daemon) close() {
	_ = d.tell(min(d.limit, endLimit), func() error { _, err := d.conn.Close(); return err })
}

// plain leaves of an error of libvirt what it says to people; what it says to
// programs is for errors.As.
func plain(err error) error {
	var v libvirt.Error
	if errors.As(err, &v) {
		return &refusal{v}
	}
	return err
}

type refusal struct{ cause libvirt.Error }

func (l *refusal) Error() string { return strings.TrimSpace(l.cause.Message) }
func (l *refusal) Unwrap() error { return l.cause }
