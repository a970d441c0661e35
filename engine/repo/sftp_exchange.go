package repo

import (
	"context"
	"fmt"
	"time"
)

// rules say when the connection is given up on which an exchange takes place.
type rules struct {
	loc     Location
	silence time.Duration // in which nothing passes the channel
	most    int64         // bytes that may pass it; 0: any number
	what    string        // is being asked for, if most is not 0
}

// outcome is what came of an exchange.
type outcome[T any] struct {
	value T
	err   error
}

// exchange runs fn, one exchange with the server in the channel ch, which its
// caller has taken on a connection that it has entered; both end here. When
// ctx ends it returns at once. Then the connection ends, too, if nobody else
// uses it; otherwise fn goes on by itself, and late, if it is not nil, gets
// what it returns without an error.
//
// A server that moves nothing in the channel is given up. That sshd itself
// still answers keep-alives does not count: it is another process that serves
// the files.
func exchange[T any](ctx context.Context, conn *sftpConn, ch *channel, r rules, fn func() (T, error), late func(T)) (T, error) {
	came, cancelled := make(chan outcome[T]), make(chan struct{})
	ok := conn.background(func() {
		value, err := fn()
		conn.put(ch)
		select {
		case came <- outcome[T]{value, err}:
		case <-cancelled:
			if err == nil && late != nil {
				late(value)
			}
		}
	})
	if !ok {
		conn.put(ch)
		conn.leave(nil)
		var none T
		return none, mark(conn.ended(), ErrUnreachable)
	}
	o, cause := await(ctx, conn, ch, r, came)
	if cause != nil {
		close(cancelled)
		o.err = cause
		if r.most > 0 { // nobody would see how long the answer is
			conn.cut(cause)
		}
	}
	conn.leave(cause)
	return o.value, o.err
}

// await waits for the outcome, and keeps to the rules meanwhile. When ctx ends
// it returns why.
func await[T any](ctx context.Context, conn *sftpConn, ch *channel, r rules, came <-chan outcome[T]) (o outcome[T], cause error) {
	silence := time.NewTicker(r.silence)
	defer silence.Stop()
	var flood <-chan time.Time
	if r.most > 0 {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		flood = tick.C
	}
	begun := ch.stream.moved.Load()
	before := begun
	for {
		select {
		case o = <-came:
			return o, nil
		case <-ctx.Done():
			return o, context.Cause(ctx)
		case <-silence.C:
			now := ch.stream.moved.Load()
			if now == before {
				conn.cut(fmt.Errorf("connection to %s given up: nothing came from the server for %v", r.loc, r.silence))
			}
			before = now
		case <-flood:
			if now := ch.stream.moved.Load(); conn.shared(ch) { // what others move does not count
				begun = now
			} else if now-begun > r.most {
				conn.cut(fmt.Errorf("%s: %w: its listing is longer than %d bytes", r.what, ErrDamaged, r.most))
			}
		}
	}
}
