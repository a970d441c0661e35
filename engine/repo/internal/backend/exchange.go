package backend

import (
	"context"
	"fmt"
	"time"
)

// rules say when an exchange gives its connection up.
type rules struct {
	server  string        // for messages
	silence time.Duration // after which a channel in which nothing moves is given up
	most    int64         // bytes that may pass it; 0: any number
	what    string        // the name of what is read, if most is not 0
}

// outcome is what an exchange returned.
type outcome[T any] struct {
	value T
	err   error
}

// exchange runs fn, one exchange with the server in the channel ch. Its caller
// has entered the session and acquired the channel; exchange leaves and
// releases them. When ctx ends it returns at once. Then the connection ends,
// too, if nobody else uses it; otherwise fn goes on by itself, and late, if it
// is not nil, gets what fn returns without an error.
//
// A server that moves nothing in the channel is given up. That sshd itself
// still answers keep-alives does not count: it is another process that serves
// the files.
func exchange[T any](ctx context.Context, s *session, ch *channel, r rules, fn func() (T, error), late func(T)) (T, error) {
	came, cancelled := make(chan outcome[T]), make(chan struct{})
	ok := s.background(func() {
		value, err := fn()
		s.release(ch)
		select {
		case came <- outcome[T]{value, err}:
		case <-cancelled:
			if err == nil && late != nil {
				late(value)
			}
		}
	})
	if !ok {
		s.release(ch)
		s.leave(nil)
		var none T
		return none, Mark(s.ended(), ErrUnreachable)
	}
	o, cause := await(ctx, s, ch, r, came)
	if cause != nil {
		close(cancelled)
		o.err = cause
		if r.most > 0 { // nobody would see how long the answer is
			s.abort(cause)
		}
	}
	s.leave(cause)
	return o.value, o.err
}

// await waits for the outcome, and gives the connection up when the rules say
// so. When ctx ends it returns why.
func await[T any](ctx context.Context, s *session, ch *channel, r rules, came <-chan outcome[T]) (o outcome[T], cause error) {
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
				s.abort(fmt.Errorf("connection to %s given up: nothing came from the server for %v", r.server, r.silence))
			}
			before = now
		case <-flood:
			if now := ch.stream.moved.Load(); s.shared(ch) { // what others move does not count
				begun = now
			} else if now-begun > r.most {
				s.abort(fmt.Errorf("%s: %w: its listing is longer than %d bytes", r.what, ErrDamaged, r.most))
			}
		}
	}
}
