package ssh

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// deadline closes a connection when the context ends or the time is up.
type deadline struct {
	limit   time.Duration
	timer   *time.Timer
	expired atomic.Bool
	ctx     func() error // why the context ended
	unwatch func() bool
}

// guard begins to watch over something that close interrupts.
func guard(ctx context.Context, limit time.Duration, close func() error) *deadline {
	d := &deadline{limit: limit}
	d.timer = time.AfterFunc(limit, func() {
		d.expired.Store(true)
		close()
	})
	d.unwatch = context.AfterFunc(ctx, func() { close() })
	d.ctx = func() error { return context.Cause(ctx) }
	return d
}

// pause stops the clock until resume is called.
func (d *deadline) pause() (resume func()) {
	d.timer.Stop()
	return func() { d.timer.Reset(d.limit) }
}

// stop ends the watch and returns why it struck, if it did.
func (d *deadline) stop() error {
	d.timer.Stop()
	d.unwatch()
	if err := d.ctx(); err != nil {
		return err
	}
	if d.expired.Load() {
		return fmt.Errorf("no answer within %v", d.limit)
	}
	return nil
}
