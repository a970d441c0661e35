package ssh

import (
	"context"
	"fmt"
	"time"
)

// guard calls close, which interrupts something, when ctx ends or the limit is
// up. pause stops the clock until resume is called, which starts it anew. stop
// ends the watch and returns why close was called, or nil.
func guard(ctx context.Context, limit time.Duration, close func() error) (pause func() (resume func()), stop func() error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(limit, func() { cancel(fmt.Errorf("no answer within %v", limit)) })
	unwatch := context.AfterFunc(ctx, func() { close() })
	pause = func() func() {
		timer.Stop()
		return func() { timer.Reset(limit) }
	}
	stop = func() error {
		timer.Stop()
		unwatch()
		defer cancel(nil)
		return context.Cause(ctx)
	}
	return pause, stop
}
