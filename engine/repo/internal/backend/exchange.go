package backend

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/pkg/sftp"
)

// exchange runs fn, one exchange with the server about a file, in the channel ch.
// Its caller has entered the session and acquired the channel; exchange leaves and
// releases them. When ctx ends it returns at once. Then the connection ends, too,
// if nobody else uses it; otherwise fn goes on by itself, and a file that it opens
// is closed. If most is not 0, no more bytes than that may pass the channel.
//
// A server that moves nothing in the channel is given up. That sshd itself
// still answers keep-alives does not count: it is another process that serves
// the files.
func exchange[T any](ctx context.Context, s *session, ch *channel, name string, most int64, fn func(c *sftp.Client, name string) (T, error)) (T, error) {
	var value, none T
	var err error
	came, cancelled := make(chan struct{}), make(chan struct{})
	ok := s.background(func() {
		value, err = fn(ch.Client, name)
		err = explain(err, s, name)
		ch.busy.Add(-1)
		select {
		case came <- struct{}{}:
		case <-cancelled:
			if late, ok := any(value).(io.Closer); ok && err == nil {
				late.Close()
			}
		}
	})
	if !ok {
		ch.busy.Add(-1)
		s.leave(nil)
		return none, Mark(s.ended(), ErrUnreachable)
	}
	cause := await(ctx, s, ch, name, most, came)
	if cause == nil {
		s.leave(nil)
		return value, err
	}
	close(cancelled)
	if most > 0 { // nobody would see how long the answer is
		s.abort(cause)
	}
	s.leave(cause)
	return none, cause
}

// await waits for the end of an exchange, and gives the connection up where
// exchange says so. When ctx ends it returns why.
func await(ctx context.Context, s *session, ch *channel, name string, most int64, came <-chan struct{}) (cause error) {
	silence := time.NewTicker(s.silence)
	defer silence.Stop()
	var flood <-chan time.Time
	if most > 0 {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		flood = tick.C
	}
	begun := ch.stream.moved.Load()
	before := begun
	for {
		select {
		case <-came:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-silence.C:
			now := ch.stream.moved.Load()
			if now == before {
				s.abort(fmt.Errorf("connection to %s given up: nothing came from the server for %v", s.server, s.silence))
			}
			before = now
		case <-flood:
			if now := ch.stream.moved.Load(); ch.busy.Load() > 1 { // what others move does not count
				begun = now
			} else if now-begun > most {
				s.abort(fmt.Errorf("%s: %w: its listing is longer than %d bytes", name, ErrDamaged, most))
			}
		}
	}
}
